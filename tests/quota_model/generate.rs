//! Random acts that a kernel could ask for, chosen by what the model holds.

use nix::errno::Errno;

use super::model::{Act, BLOCK, Id, Kind, Model, ROOT};

/// SplitMix64 (Steele, Lea, Flood 2014): all of a sequence follows from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.below(from.len() as u64) as usize])
    }
}

/// What the world that acts are played in can do.
#[derive(Clone, Copy)]
pub struct Able {
    /// FALLOC_FL_INSERT_RANGE and COLLAPSE_RANGE: the kernel refuses them on
    /// FUSE, the operations have them.
    pub insert_range: bool,
}

pub struct Generator {
    pub random: Random,
    able: Able,
    next_handle: u32,
    /// Links that are still to be made, to fill a directory.
    filling: Option<(String, u64)>,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Generator {
    pub fn new(seed: u64, able: Able) -> Self {
        Self {
            random: Random::new(seed),
            able,
            next_handle: 0,
            filling: None,
        }
    }

    /// The next act; `None` when what was drawn is not possible now.
    pub fn act(&mut self, model: &Model) -> Option<Act> {
        if let Some((dir, left)) = self.filling.take()
            && left > 0
        {
            let act = self.link_into(model, &dir);
            self.filling = Some((dir, left - 1)).filter(|_| act.is_some());
            return act;
        }
        Some(match self.random.below(101) {
            0..11 => Act::Create {
                h: self.handle(model)?,
                path: self.free_path(model)?,
            },
            11..20 => self.open(model)?,
            20..28 => Act::Close {
                h: self.any_handle(model, false)?,
            },
            28..47 => self.write(model)?,
            47..52 => Act::Truncate {
                path: self.path_of(model, is_file)?,
                size: self.size(),
            },
            52..57 => Act::TruncateOpen {
                h: self.any_handle(model, true)?,
                size: self.size(),
            },
            57..63 => self.fallocate(model)?,
            63..67 => Act::Mkdir {
                path: self.free_path(model)?,
            },
            67..69 => Act::Symlink {
                path: self.free_path(model)?,
            },
            69..71 => Act::Mknod {
                path: self.free_path(model)?,
            },
            71..75 => Act::Link {
                old: self.path_of(model, |kind| !matches!(kind, Kind::Dir(_)))?,
                new: self.free_path(model)?,
            },
            75..82 => Act::Unlink {
                path: self.path_of(model, |k| !matches!(k, Kind::Dir(_)))?,
            },
            82..84 => Act::Rmdir {
                path: self.path_of(model, |k| matches!(k, Kind::Dir(_)))?,
            },
            84..92 => self.rename(model)?,
            92..97 => self.copy(model)?,
            100 => return self.fill(model),
            _ => self.limits(model)?,
        })
    }

    /// Many links with long names follow, in one directory: it grows.
    fn fill(&mut self, model: &Model) -> Option<Act> {
        let mut dirs = model.dirs();
        // The root stays as large as it once was.
        dirs.retain(|(path, _)| !path.is_empty() || self.random.one_in(20));
        let (dir, _) = self.random.pick(&dirs)?.clone();
        self.filling = Some((dir, 10 + self.random.below(30)));
        None
    }

    fn link_into(&mut self, model: &Model, dir: &str) -> Option<Act> {
        let old = self.path_of(model, |kind| !matches!(kind, Kind::Dir(_)))?;
        if !model.dirs().iter().any(|(path, _)| path == dir) {
            return None;
        }
        let len = 200 + self.random.below(50) as usize;
        let new = format!("{dir}{:0>len$}", self.random.below(1_000_000));
        model
            .find(&new)
            .2
            .is_none()
            .then_some(Act::Link { old, new })
    }

    fn handle(&mut self, model: &Model) -> Option<u32> {
        if model.handles.len() >= 8 {
            return None;
        }
        self.next_handle += 1;
        Some(self.next_handle)
    }

    fn any_handle(&mut self, model: &Model, write: bool) -> Option<u32> {
        let handles: Vec<u32> = model
            .handles
            .iter()
            .filter(|(_, handle)| handle.write || !write)
            .map(|(&h, _)| h)
            .collect();
        self.random.pick(&handles).copied()
    }

    /// Often around the ends of blocks, sometimes far out.
    fn size(&mut self) -> u64 {
        match self.random.below(12) {
            0 => 0,
            1..=5 => self.random.below(12) * BLOCK,
            6 => self.random.below(12) * BLOCK + 1,
            7 => (self.random.below(12) + 1) * BLOCK - 1,
            8 if self.random.one_in(3) => 1 << (20 + self.random.below(22)),
            _ => self.random.below(40_000),
        }
    }

    fn open(&mut self, model: &Model) -> Option<Act> {
        let path = self.path_of(model, is_file)?;
        let write = !self.random.one_in(3);
        Some(Act::Open {
            h: self.handle(model)?,
            path,
            write,
            append: write && self.random.one_in(4),
            truncate: write && self.random.one_in(5),
        })
    }

    fn write(&mut self, model: &Model) -> Option<Act> {
        let h = self.any_handle(model, true)?;
        let handle = model.handles[&h];
        let size = model.size(handle.inode);
        let offset = match self.random.below(4) {
            _ if handle.append => size,
            0 => size,
            1 => size.saturating_sub(self.random.below(5000)),
            _ => self.size(),
        };
        let len = match self.random.below(3) {
            0 => 1 + self.random.below(20),
            1 => BLOCK * (1 + self.random.below(6)),
            _ => 1 + self.random.below(30_000),
        };
        Some(Act::Write { h, offset, len })
    }

    fn fallocate(&mut self, model: &Model) -> Option<Act> {
        let h = self.any_handle(model, true)?;
        let size = model.size(model.handles[&h].inode);
        let (keep, punch) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE);
        let blocks = size / BLOCK;
        let (mode, offset, len) = match self.random.below(7) {
            5 if self.able.insert_range && blocks > 0 && size < 1 << 20 => {
                let at = self.random.below(blocks) * BLOCK;
                if at >= size {
                    return None;
                }
                (
                    libc::FALLOC_FL_INSERT_RANGE,
                    at,
                    BLOCK * (1 + self.random.below(3)),
                )
            }
            6 if self.able.insert_range && blocks > 1 && size < 1 << 20 => {
                let at = self.random.below(blocks - 1) * BLOCK;
                if at + BLOCK >= size {
                    return None;
                }
                (libc::FALLOC_FL_COLLAPSE_RANGE, at, BLOCK)
            }
            kind => {
                let mode = match kind {
                    0 => keep,
                    1 => keep | punch,
                    2 => libc::FALLOC_FL_ZERO_RANGE,
                    3 => libc::FALLOC_FL_ZERO_RANGE | keep,
                    _ => 0,
                };
                (
                    mode,
                    self.random.below(30_000),
                    1 + self.random.below(30_000),
                )
            }
        };
        Some(Act::Fallocate {
            h,
            mode,
            offset,
            len,
        })
    }

    fn copy(&mut self, model: &Model) -> Option<Act> {
        let from = self.any_handle(model, false)?;
        let to = self.any_handle(model, true)?;
        let (source, target) = (model.handles[&from], model.handles[&to]);
        // Overlapping ranges of one file and appending are errors of their own.
        if source.inode == target.inode || target.append {
            return None;
        }
        Some(Act::Copy {
            from,
            from_offset: self.random.below(10_000),
            to,
            to_offset: self.size(),
            len: 1 + self.random.below(30_000),
        })
    }

    fn limits(&mut self, model: &Model) -> Option<Act> {
        // Refused with EBUSY, which is another test's business.
        if model.has_uncounted_writers() {
            return None;
        }
        let bytes = match self.random.below(5) {
            0 => None,
            1 => Some(1 + self.random.below(100_000)),
            _ => Some(BLOCK * (1 + self.random.below(40))),
        };
        let inodes = (!self.random.one_in(3)).then(|| 1 + self.random.below(16));
        Some(Act::Limits { bytes, inodes })
    }

    fn rename(&mut self, model: &Model) -> Option<Act> {
        let old = self.path_of(model, |_| true)?;
        let source = model.find(&old).2?;
        let is_dir = |id: Id| matches!(model.inodes[&id].kind, Kind::Dir(_));
        let flags = match self.random.below(8) {
            0 => libc::RENAME_NOREPLACE,
            1 => libc::RENAME_EXCHANGE,
            2 => libc::RENAME_WHITEOUT,
            _ => 0,
        };
        let new = if self.random.one_in(2) || flags == libc::RENAME_EXCHANGE {
            self.path_of(model, |_| true)?
        } else {
            self.free_path(model)?
        };
        let target = model.find(&new).2;
        // Below itself: EINVAL or ENOTEMPTY by how the kernel looks at it.
        let below = |a: &str, b: &str| b.starts_with(&format!("{a}/"));
        if old == new || below(&old, &new) || below(&new, &old) {
            return None;
        }
        let dirs = is_dir(source) || target.is_some_and(is_dir);
        // The kernel refuses what does not go together before it asks.
        let plain = flags == 0 || flags == libc::RENAME_NOREPLACE;
        if (!plain && dirs && target.is_some()) || (flags != 0 && target == Some(source)) {
            return None;
        }
        Some(Act::Rename { old, new, flags })
    }

    /// All paths with what they lead to.
    fn paths(model: &Model) -> Vec<(String, Id)> {
        let mut found = Vec::new();
        let mut left = vec![(String::new(), ROOT)];
        while let Some((path, dir)) = left.pop() {
            for (name, &id) in model.entries(dir) {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                if matches!(model.inodes[&id].kind, Kind::Dir(_)) {
                    left.push((path.clone(), id));
                }
                found.push((path, id));
            }
        }
        found
    }

    fn path_of(&mut self, model: &Model, want: impl Fn(&Kind) -> bool) -> Option<String> {
        let mut paths = Self::paths(model);
        paths.retain(|(_, id)| want(&model.inodes[id].kind));
        self.random.pick(&paths).map(|(path, _)| path.clone())
    }

    fn free_path(&mut self, model: &Model) -> Option<String> {
        let mut dirs: Vec<String> = Self::paths(model)
            .into_iter()
            .filter(|(_, id)| matches!(model.inodes[id].kind, Kind::Dir(_)))
            .map(|(path, _)| path + "/")
            .filter(|path| path.len() < 10)
            .collect();
        dirs.push(String::new());
        dirs.push(String::new());
        let path = format!("{}{}", self.random.pick(&dirs)?, self.random.pick(&NAMES)?);
        model.find(&path).2.is_none().then_some(path)
    }
}

fn is_file(kind: &Kind) -> bool {
    matches!(kind, Kind::File { .. })
}

/// What is left to remove, deepest first.
pub fn removals(model: &Model) -> Vec<Act> {
    let mut paths = Generator::paths(model);
    paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.matches('/').count()));
    paths
        .into_iter()
        .map(|(path, id)| match model.inodes[&id].kind {
            Kind::Dir(_) => Act::Rmdir { path },
            _ => Act::Unlink { path },
        })
        .collect()
}

/// ENOTSUP and EOPNOTSUPP are one on Linux.
pub fn text(outcome: &Result<u64, Errno>) -> String {
    match outcome {
        Ok(count) => format!("ok {count}"),
        Err(errno) => format!("{errno:?}"),
    }
}
