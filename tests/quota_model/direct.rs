//! The operations themselves, without a mount. The test is the kernel: it
//! looks names up, and writes to the host's file where it was given one.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use volfs::fuse::MountOptions;
use volfs::fuse::error::OpError;
use volfs::fuse::fs::FileSystem;
use volfs::fuse::node::NodeId;
use volfs::fuse::ops::FileRange;
use volfs::fuse::passthrough::{BackingFiles, Register};
use volfs::fuse::types::{Caller, DataPath, Fh, Found, Opened, SetAttr};
use volfs::model::{Bytes, Limits, VolumeSpec};
use volfs::volume::{Store, StoreOptions, Volume, Volumes};

use super::dirs::HostFs;
use super::model::{Act, Outcome, Path};
use super::world::{Df, World};

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

/// Keeps the host's files as the kernel does.
#[derive(Clone, Debug, Default)]
pub struct AsKernel(Arc<Mutex<HashMap<u32, OwnedFd>>>);

impl BackingFiles for AsKernel {
    fn close(&self, id: u32) {
        assert!(self.0.lock().unwrap().remove(&id).is_some());
    }
}

impl Register for AsKernel {
    fn register(&self, file: BorrowedFd<'_>) -> std::io::Result<u32> {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&file)
            ))?;
        let file = OwnedFd::from(file);
        let id = std::os::fd::AsRawFd::as_raw_fd(&file).cast_unsigned() + 1;
        self.0.lock().unwrap().insert(id, file);
        Ok(id)
    }
}

pub struct Direct {
    pub fs: FileSystem,
    kernel: AsKernel,
    volume: Arc<Volume>,
    root: NodeId,
    handles: HashMap<u32, (NodeId, Opened)>,
    lookups: BTreeMap<NodeId, u64>,
    host_fs: HostFs,
    _dir: tempfile::TempDir,
}

type Op<T> = Result<T, OpError>;

impl Direct {
    pub fn new(passthrough: bool) -> Self {
        Self::new_in(&std::env::temp_dir(), HostFs::Ext4, passthrough)
    }

    pub fn new_in(parent: &std::path::Path, host_fs: HostFs, passthrough: bool) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let options = StoreOptions {
            create: true,
            read_only: false,
        };
        let store = Arc::new(Store::open(&dir.path().join("store"), &options).unwrap());
        let name = "v".parse().unwrap();
        store.create(&VolumeSpec::directory(name)).unwrap();
        let fs = FileSystem::new(Arc::clone(&store), MountOptions::default()).unwrap();
        let kernel = AsKernel::default();
        fs.kernel().set_files(Arc::new(kernel.clone()));
        if passthrough {
            fs.kernel().offer_passthrough();
        }
        let volume = store.volume(&"v".parse().unwrap()).unwrap();
        let Found::Entry(root) = fs.lookup(NodeId::ROOT, OsStr::new("v")).unwrap() else {
            panic!("the volume is not there");
        };
        Self {
            fs,
            kernel,
            volume,
            root: root.attr.node,
            handles: HashMap::new(),
            lookups: BTreeMap::new(),
            host_fs,
            _dir: dir,
        }
    }

    fn saw(&mut self, node: NodeId) -> NodeId {
        *self.lookups.entry(node).or_default() += 1;
        node
    }

    fn node(&mut self, path: &str) -> Op<NodeId> {
        let mut node = self.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match self.fs.lookup(node, OsStr::new(name))? {
                Found::Entry(entry) => node = self.saw(entry.attr.node),
                Found::Nothing => return Err(Errno::ENOENT.into()),
            }
        }
        Ok(node)
    }

    fn parent<'a>(&mut self, path: &'a str) -> Op<(NodeId, &'a OsStr)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.node(dir)?, OsStr::new(name)))
    }

    fn set_size(&self, node: NodeId, fh: Option<Fh>, size: u64) -> Op<u64> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        let (attr, _) = self.fs.setattr(ROOT, node, fh, &set)?;
        assert_eq!(attr.size, size);
        Ok(0)
    }

    fn try_act(&mut self, act: &Act) -> Op<u64> {
        match act {
            Act::Create { h, path } => {
                let (parent, name) = self.parent(path)?;
                let flags = OFlag::O_RDWR;
                let (entry, opened) =
                    self.fs
                        .create(ROOT, parent, name, 0o644, 0, flags, &self.kernel)?;
                self.saw(entry.attr.node);
                self.handles.insert(*h, (entry.attr.node, opened));
            }
            Act::Open {
                h,
                path,
                write,
                truncate,
                ..
            } => {
                let node = self.node(path)?;
                let flags = if *write {
                    OFlag::O_RDWR
                } else {
                    OFlag::O_RDONLY
                };
                let opened = self.fs.open(ROOT, node, flags, &self.kernel)?;
                self.handles.insert(*h, (node, opened));
                if *truncate {
                    // As the kernel does it, without a handle.
                    self.set_size(node, None, 0)?;
                }
            }
            Act::Close { h } => {
                let (_, opened) = self.handles.remove(h).unwrap();
                self.fs.release(opened.fh);
            }
            Act::Write { h, offset, len } => {
                let (node, opened) = &self.handles[h];
                let data = vec![b'x'; usize::try_from(*len).unwrap()];
                if let DataPath::Passthrough(backing) = &opened.path {
                    let files = self.kernel.0.lock().unwrap();
                    let file = &files[&backing.id()];
                    let at = i64::try_from(*offset).unwrap();
                    return Ok(nix::sys::uio::pwrite(file, &data, at)? as u64);
                }
                let written = self
                    .fs
                    .write(ROOT, *node, opened.fh, *offset, &data, false)?;
                return Ok(written as u64);
            }
            Act::Truncate { path, size } => {
                let node = self.node(path)?;
                return self.set_size(node, None, *size);
            }
            Act::TruncateOpen { h, size } => {
                let (node, opened) = &self.handles[h];
                return self.set_size(*node, Some(opened.fh), *size);
            }
            Act::Fallocate {
                h,
                mode,
                offset,
                len,
            } => {
                let range = self.range(*h, *offset);
                self.fs.fallocate(ROOT, range, *len, *mode)?;
            }
            Act::Mkdir { path } => {
                let (parent, name) = self.parent(path)?;
                let entry = self.fs.mkdir(ROOT, parent, name, 0o755, 0)?;
                self.saw(entry.attr.node);
            }
            Act::Symlink { path } => {
                let (parent, name) = self.parent(path)?;
                let entry = self.fs.symlink(ROOT, parent, name, OsStr::new("target"))?;
                self.saw(entry.attr.node);
            }
            Act::Mknod { path } => {
                let (parent, name) = self.parent(path)?;
                let entry = self
                    .fs
                    .mknod(ROOT, parent, name, libc::S_IFIFO | 0o644, 0, 0)?;
                self.saw(entry.attr.node);
            }
            Act::Link { old, new } => {
                let node = self.node(old)?;
                let (parent, name) = self.parent(new)?;
                self.fs.link(node, parent, name)?;
                self.saw(node);
            }
            Act::Unlink { path } => {
                let (parent, name) = self.parent(path)?;
                self.fs.unlink(ROOT, parent, name)?;
            }
            Act::Rmdir { path } => {
                let (parent, name) = self.parent(path)?;
                self.fs.rmdir(ROOT, parent, name)?;
            }
            Act::Rename { old, new, flags } => {
                let old = self.parent(old)?;
                let new = self.parent(new)?;
                self.fs.rename(ROOT, old, new, *flags)?;
            }
            Act::Copy {
                from,
                from_offset,
                to,
                to_offset,
                len,
            } => {
                let (from, to) = (self.range(*from, *from_offset), self.range(*to, *to_offset));
                return Ok(self.fs.copy_file_range(ROOT, from, to, *len)? as u64);
            }
            Act::Limits { bytes, inodes } => {
                let limits = Limits {
                    bytes: bytes.map(Bytes),
                    inodes: *inodes,
                };
                self.volume.account().set_limits(limits);
            }
        }
        Ok(0)
    }

    fn range(&self, h: u32, offset: u64) -> FileRange {
        let (node, opened) = &self.handles[&h];
        FileRange {
            node: *node,
            fh: opened.fh,
            offset,
        }
    }
}

impl World for Direct {
    fn act(&mut self, act: &Act) -> Outcome {
        self.try_act(act).map_err(|error| error.errno())
    }

    fn usage(&mut self, _expected: (u64, u64)) -> (u64, u64) {
        let usage = self.volume.usage();
        (usage.bytes.0, usage.inodes)
    }

    fn settles_only_at_close(&self) -> bool {
        true
    }

    fn size(&mut self, h: u32) -> Option<u64> {
        let (node, opened) = &self.handles[&h];
        // Asking settles what the kernel has written, which is looked at
        // elsewhere.
        if matches!(opened.path, DataPath::Passthrough(_)) {
            return None;
        }
        Some(self.fs.getattr(*node, Some(opened.fh)).unwrap().0.size)
    }

    fn path(&self, h: u32) -> Option<Path> {
        Some(match self.handles[&h].1.path {
            DataPath::Cached { .. } => Path::Cached,
            DataPath::Direct(_) => Path::Direct,
            DataPath::Passthrough(_) => Path::Passthrough,
        })
    }

    fn df(&mut self) -> Df {
        let fs = self.fs.statfs(self.root).unwrap();
        Df {
            block: u64::from(fs.block_size),
            blocks: fs.blocks,
            free: fs.free,
            inodes: fs.inodes,
            free_inodes: fs.free_inodes,
        }
    }

    fn walk(&mut self) -> (u64, u64) {
        assert!(
            self.volume.account().is_trusted(),
            "the account contradicts itself"
        );
        let found = self.fs.store().recount(&self.volume).unwrap();
        (found.bytes.0, found.inodes)
    }

    fn host(&self) -> std::path::PathBuf {
        self.fs.store().data_dir(&self.volume)
    }

    fn host_fs(&self) -> HostFs {
        self.host_fs
    }

    fn end_sequence(&mut self) {
        for (node, count) in std::mem::take(&mut self.lookups) {
            self.fs.forget(node, count);
        }
    }
}
