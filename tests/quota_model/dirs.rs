//! Directories of the model: what they are charged, and what a name in one must
//! find room for.

use nix::errno::Errno;

use super::model::{BLOCK, Id, Kind, Model, ROOT, charge};

/// The file system that the volume is on: how its directories grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFs {
    Ext4,
    Btrfs,
    Xfs,
}

impl HostFs {
    /// What a directory of `size` bytes is charged more, at most, with one name
    /// more.
    fn growth(self, size: u64, name: &str) -> u64 {
        match self {
            Self::Ext4 if size <= BLOCK => 2 * BLOCK,
            Self::Ext4 => 3 * BLOCK,
            Self::Btrfs => of_dir(size + 2 * name.len() as u64) - of_dir(size),
            // In the inode.
            Self::Xfs if size <= 1024 => 0,
            Self::Xfs => BLOCK,
        }
    }
}

/// What a directory of `size` bytes is charged.
pub fn of_dir(size: u64) -> u64 {
    charge(size).max(BLOCK)
}

impl Model {
    /// Room for what is new, and for its name in `dir`. A name needs none where
    /// it surely fits into the first block of ext4: free bytes are after each
    /// name, and if it fitted nowhere they would be fewer than there are. Names
    /// are taken for as long as encryption may make them.
    pub fn check_name(&self, dir: Id, name: &str, bytes: u64, inodes: u64) -> Result<(), Errno> {
        let size = self.inodes[&dir].host_size;
        let growth = match self.bytes {
            Some(_) => self.host.growth(size, name),
            None => 0,
        };
        let with_growth = self.check(bytes + growth, inodes);
        if with_growth.is_ok() || growth == 0 || self.host != HostFs::Ext4 || size > BLOCK {
            return with_growth;
        }
        let entry = |len: usize| 16 + len.div_ceil(32) * 32;
        let names = self.entries(dir).keys().map(String::len).chain([1, 2]);
        let (taken, count) = names.fold((0, 0), |(sum, n), len| (sum + entry(len), n + 1));
        if 4084 - taken.min(4084) > count * (entry(name.len()) - 1) {
            self.check(bytes, inodes)
        } else {
            with_growth
        }
    }

    /// As [`check_name`](Self::check_name), by path.
    pub fn check_path(&self, path: &str, bytes: u64, inodes: u64) -> Result<(), Errno> {
        let (dir, name, _) = self.find(path);
        self.check_name(dir, &name, bytes, inodes)
    }

    /// All directories, by path.
    pub fn dirs(&self) -> Vec<(String, Id)> {
        let mut found = vec![(String::new(), ROOT)];
        let mut at = 0;
        while let Some((path, dir)) = found.get(at).cloned() {
            for (name, &id) in self.entries(dir) {
                if matches!(self.inodes[&id].kind, Kind::Dir(_)) {
                    found.push((format!("{path}{name}/"), id));
                }
            }
            at += 1;
        }
        found
    }

    /// The sizes of directories, as the host has them now.
    pub fn look_at(&mut self, host: &std::path::Path) {
        for (path, id) in self.dirs() {
            let found = host.join(path).metadata().unwrap().len();
            self.inodes.get_mut(&id).unwrap().host_size = found;
        }
    }
}
