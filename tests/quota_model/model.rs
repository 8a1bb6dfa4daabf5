//! The reference: what a volume holds and what it must accept, by the words of
//! the rule alone. It shares no code with what it is compared with.

use std::collections::{BTreeMap, HashMap};

use nix::errno::Errno;

use super::dirs::{HostFs, of_dir};

/// Charged in units of this many bytes.
pub const BLOCK: u64 = 4096;

/// An inode of the model.
pub type Id = u32;

/// One step of a sequence. Paths are relative to the volume's root; `h` is a
/// number that the generator gives to a handle.
#[derive(Clone, Debug)]
pub enum Act {
    Create {
        h: u32,
        path: String,
    },
    Open {
        h: u32,
        path: String,
        write: bool,
        append: bool,
        truncate: bool,
    },
    Close {
        h: u32,
    },
    Write {
        h: u32,
        offset: u64,
        len: u64,
    },
    Truncate {
        path: String,
        size: u64,
    },
    TruncateOpen {
        h: u32,
        size: u64,
    },
    Fallocate {
        h: u32,
        mode: i32,
        offset: u64,
        len: u64,
    },
    Mkdir {
        path: String,
    },
    Symlink {
        path: String,
    },
    Mknod {
        path: String,
    },
    Link {
        old: String,
        new: String,
    },
    Unlink {
        path: String,
    },
    Rmdir {
        path: String,
    },
    Rename {
        old: String,
        new: String,
        flags: u32,
    },
    Copy {
        from: u32,
        from_offset: u64,
        to: u32,
        to_offset: u64,
        len: u64,
    },
    Limits {
        bytes: Option<u64>,
        inodes: Option<u64>,
    },
}

/// How an act ends: a count of bytes (0 where there is none to tell), or why
/// it was refused.
pub type Outcome = Result<u64, Errno>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `charged` is the size that the account knows: behind the size only
    /// while the kernel writes by itself.
    File {
        size: u64,
        charged: u64,
    },
    Dir(BTreeMap<String, Id>),
    Other,
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub kind: Kind,
    /// Of a directory, on the host: what nobody else can know.
    pub host_size: u64,
    pub links: u32,
    pub opens: u32,
    /// Open by passthrough, or through the page cache; until the last close.
    pub backing: bool,
    pub cached: bool,
}

/// The data path of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Cached,
    Direct,
    Passthrough,
}

#[derive(Clone, Copy, Debug)]
pub struct Handle {
    pub inode: Id,
    pub write: bool,
    pub append: bool,
    pub path: Path,
}

pub const ROOT: Id = 0;

pub struct Model {
    pub inodes: HashMap<Id, Inode>,
    pub handles: BTreeMap<u32, Handle>,
    pub bytes: Option<u64>,
    pub limit_inodes: Option<u64>,
    /// Whether volumes without a limit are written by the kernel itself.
    pub passthrough: bool,
    pub host: HostFs,
    next: Id,
}

pub fn charge(size: u64) -> u64 {
    size.div_ceil(BLOCK) * BLOCK
}

impl Model {
    pub fn new(passthrough: bool, host: HostFs) -> Self {
        let mut model = Self {
            inodes: HashMap::new(),
            handles: BTreeMap::new(),
            bytes: None,
            limit_inodes: None,
            passthrough,
            host,
            next: ROOT,
        };
        model.add(Kind::Dir(BTreeMap::new()));
        model
    }

    fn add(&mut self, kind: Kind) -> Id {
        let id = self.next;
        self.next += 1;
        self.inodes.insert(
            id,
            Inode {
                kind,
                host_size: 0,
                links: 1,
                opens: 0,
                backing: false,
                cached: false,
            },
        );
        id
    }

    /// Bytes and inodes charged: the sum over all that is there, each time
    /// anew. Of the volume's root only what it takes beyond a block.
    pub fn usage(&self) -> (u64, u64) {
        let charged = self.inodes.iter().filter(|&(&id, _)| id != ROOT);
        let root = of_dir(self.inodes[&ROOT].host_size) - BLOCK;
        charged.fold((root, 0), |(bytes, inodes), (_, inode)| {
            let more = match &inode.kind {
                Kind::File { charged, .. } => charge(*charged),
                Kind::Dir(_) => of_dir(inode.host_size),
                Kind::Other => 0,
            };
            (bytes + more, inodes + 1)
        })
    }

    pub fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.limit_inodes.is_some()
    }

    /// Whether somebody writes without being counted as it happens.
    pub fn has_uncounted_writers(&self) -> bool {
        self.handles
            .values()
            .any(|h| h.write && h.path == Path::Passthrough)
    }

    pub fn size(&self, id: Id) -> u64 {
        match self.inodes[&id].kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The directory and the last name of a path, and what it leads to.
    pub fn find(&self, path: &str) -> (Id, String, Option<Id>) {
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap();
        let mut dir = ROOT;
        for part in parts {
            dir = self.entries(dir)[part];
        }
        (dir, name.to_owned(), self.entries(dir).get(name).copied())
    }

    pub fn entries(&self, dir: Id) -> &BTreeMap<String, Id> {
        match &self.inodes[&dir].kind {
            Kind::Dir(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn entries_mut(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.inodes.get_mut(&dir).unwrap().kind {
            Kind::Dir(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn room_bytes(&self) -> u64 {
        let used = self.usage().0;
        self.bytes
            .map_or(u64::MAX, |limit| limit.saturating_sub(used))
    }

    pub fn check(&self, bytes: u64, inodes: u64) -> Result<(), Errno> {
        let left = self
            .limit_inodes
            .map_or(u64::MAX, |l| l.saturating_sub(self.usage().1));
        // Nothing asked always fits.
        if (bytes > 0 && bytes > self.room_bytes()) || (inodes > 0 && inodes > left) {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn open(&mut self, h: u32, inode: Id, write: bool, append: bool) {
        let (limited, passthrough) = (self.is_limited(), self.passthrough);
        let it = self.inodes.get_mut(&inode).unwrap();
        let path = if it.backing {
            if limited && write {
                Path::Direct
            } else {
                Path::Passthrough
            }
        } else if it.cached || limited || !passthrough {
            Path::Cached
        } else {
            Path::Passthrough
        };
        it.opens += 1;
        it.backing |= path == Path::Passthrough;
        it.cached |= path == Path::Cached;
        self.handles.insert(
            h,
            Handle {
                inode,
                write,
                append,
                path,
            },
        );
    }

    fn drop_if_dead(&mut self, id: Id) {
        if self.inodes[&id].links == 0 && self.inodes[&id].opens == 0 {
            self.inodes.remove(&id);
        }
    }

    fn unlink_one(&mut self, id: Id) {
        self.inodes.get_mut(&id).unwrap().links -= 1;
        self.drop_if_dead(id);
    }

    fn resize(&mut self, id: Id, to: u64) {
        if let Kind::File { size, charged } = &mut self.inodes.get_mut(&id).unwrap().kind {
            (*size, *charged) = (to, to);
        }
    }

    /// All or nothing: the growth of a file to `to`.
    fn check_growth(&self, id: Id, to: u64) -> Result<(), Errno> {
        self.check(charge(to).saturating_sub(charge(self.charged(id))), 0)
    }

    fn charged(&self, id: Id) -> u64 {
        match self.inodes[&id].kind {
            Kind::File { charged, .. } => charged,
            _ => 0,
        }
    }

    /// What fits of a write, as on a full disk.
    fn write(&mut self, id: Id, offset: u64, len: u64) -> Outcome {
        if len == 0 {
            return Ok(0);
        }
        let size = self.size(id);
        if offset + len <= size {
            return Ok(len);
        }
        let before = charge(self.charged(id));
        let wanted = charge(size.max(offset + len)).saturating_sub(before);
        let room = self.room_bytes();
        let fits = if wanted <= room {
            len
        } else {
            let end = before + room / BLOCK * BLOCK;
            end.saturating_sub(offset).min(len)
        };
        if fits == 0 {
            // Refused or not, the account has looked at the size.
            self.resize(id, size);
            return Err(Errno::ENOSPC);
        }
        self.resize(id, size.max(offset + fits));
        Ok(fits)
    }

    /// What must become of an act. The model has done it then.
    pub fn apply(&mut self, act: &Act) -> Outcome {
        match act {
            Act::Create { h, path } => {
                self.check_path(path, 0, 1)?;
                let id = self.make(
                    path,
                    Kind::File {
                        size: 0,
                        charged: 0,
                    },
                );
                self.open(*h, id, true, false);
            }
            Act::Open {
                h,
                path,
                write,
                append,
                truncate,
            } => {
                let id = self.find(path).2.unwrap();
                if *truncate {
                    self.resize(id, 0);
                }
                self.open(*h, id, *write, *append);
            }
            Act::Close { h } => self.close(*h),
            Act::Write { h, offset, len } => {
                let handle = self.handles[h];
                if handle.path == Path::Passthrough {
                    let end = self.size(handle.inode).max(offset + len);
                    let it = self.inodes.get_mut(&handle.inode).unwrap();
                    if let (Kind::File { size, .. }, true) = (&mut it.kind, *len > 0) {
                        *size = end;
                    }
                    return Ok(*len);
                }
                return self.write(handle.inode, *offset, *len);
            }
            Act::Truncate { path, size } => {
                let id = self.find(path).2.unwrap();
                self.check_growth(id, *size)?;
                self.resize(id, *size);
            }
            Act::TruncateOpen { h, size } => {
                let id = self.handles[h].inode;
                self.check_growth(id, *size)?;
                self.resize(id, *size);
            }
            Act::Fallocate {
                h,
                mode,
                offset,
                len,
            } => self.fallocate(*h, *mode, *offset, *len)?,
            Act::Mkdir { path } => {
                self.check_path(path, BLOCK, 1)?;
                self.make(path, Kind::Dir(BTreeMap::new()));
            }
            Act::Symlink { path } | Act::Mknod { path } => {
                self.check_path(path, 0, 1)?;
                self.make(path, Kind::Other);
            }
            Act::Link { old, new } => {
                let id = self.find(old).2.unwrap();
                self.check_path(new, 0, 0)?;
                self.inodes.get_mut(&id).unwrap().links += 1;
                let (dir, name, _) = self.find(new);
                self.entries_mut(dir).insert(name, id);
            }
            Act::Unlink { path } => {
                let (dir, name, id) = self.find(path);
                let id = id.ok_or(Errno::ENOENT)?;
                self.entries_mut(dir).remove(&name);
                self.unlink_one(id);
            }
            Act::Rmdir { path } => {
                let (dir, name, id) = self.find(path);
                let id = id.ok_or(Errno::ENOENT)?;
                if !self.entries(id).is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                self.entries_mut(dir).remove(&name);
                self.unlink_one(id);
            }
            Act::Rename { old, new, flags } => self.rename(old, new, *flags)?,
            Act::Copy {
                from,
                from_offset,
                to,
                to_offset,
                len,
            } => {
                let there = self.size(self.handles[from].inode);
                let len = (*len).min(there.saturating_sub(*from_offset));
                let to = self.handles[to].inode;
                // Unlike a write, it looks at the size in any case.
                let copied = self.write(to, *to_offset, len)?;
                self.resize(to, self.size(to));
                return Ok(copied);
            }
            Act::Limits { bytes, inodes } => (self.bytes, self.limit_inodes) = (*bytes, *inodes),
        }
        Ok(0)
    }

    fn make(&mut self, path: &str, kind: Kind) -> Id {
        let (dir, name, there) = self.find(path);
        assert_eq!(there, None);
        let id = self.add(kind);
        self.entries_mut(dir).insert(name, id);
        id
    }

    fn close(&mut self, h: u32) {
        let handle = self.handles.remove(&h).unwrap();
        let it = self.inodes.get_mut(&handle.inode).unwrap();
        it.opens -= 1;
        if handle.path == Path::Passthrough
            && (handle.write || it.links == 0)
            && let Kind::File { size, charged } = &mut it.kind
        {
            *charged = *size;
        }
        if it.opens == 0 {
            (it.backing, it.cached) = (false, false);
        }
        self.drop_if_dead(handle.inode);
    }

    fn fallocate(&mut self, h: u32, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
        let id = self.handles[&h].inode;
        let (size, end) = (self.size(id), offset + len);
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let to = if mode & libc::FALLOC_FL_INSERT_RANGE != 0 {
            size + len
        } else if mode & libc::FALLOC_FL_COLLAPSE_RANGE != 0 {
            size - len
        } else if keep {
            let punch = mode & libc::FALLOC_FL_PUNCH_HOLE != 0;
            if !punch && end > size && self.bytes.is_some() {
                return Err(Errno::EOPNOTSUPP);
            }
            size
        } else {
            size.max(end)
        };
        self.check_growth(id, to)?;
        self.resize(id, to);
        Ok(())
    }

    fn rename(&mut self, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
        let (from_dir, from_name, source) = self.find(old);
        let (to_dir, to_name, target) = self.find(new);
        let source = source.ok_or(Errno::ENOENT)?;
        if flags & libc::RENAME_NOREPLACE != 0 && target.is_some() {
            return Err(Errno::EEXIST);
        }
        if flags & libc::RENAME_EXCHANGE != 0 {
            let target = target.ok_or(Errno::ENOENT)?;
            self.entries_mut(from_dir).insert(from_name, target);
            self.entries_mut(to_dir).insert(to_name, source);
            return Ok(());
        }
        if target == Some(source) {
            return Ok(());
        }
        if let Some(target) = target {
            let is_dir = |id: Id| matches!(self.inodes[&id].kind, Kind::Dir(_));
            match (is_dir(source), is_dir(target)) {
                (false, true) => return Err(Errno::EISDIR),
                (true, false) => return Err(Errno::ENOTDIR),
                (true, true) if !self.entries(target).is_empty() => {
                    // rename(2) leaves it open; xfs_rename says the other.
                    let xfs = self.host == HostFs::Xfs;
                    return Err(if xfs { Errno::EEXIST } else { Errno::ENOTEMPTY });
                }
                _ => {}
            }
        }
        let whiteout = flags & libc::RENAME_WHITEOUT != 0;
        let inodes = u64::from(whiteout);
        if target.is_some() {
            self.check(0, inodes)?;
        } else {
            self.check_name(to_dir, &to_name, 0, inodes)?;
        }
        self.entries_mut(from_dir).remove(&from_name);
        self.entries_mut(to_dir).insert(to_name, source);
        if let Some(target) = target {
            self.unlink_one(target);
        }
        if whiteout {
            let id = self.add(Kind::Other);
            self.entries_mut(from_dir).insert(from_name, id);
        }
        Ok(())
    }
}
