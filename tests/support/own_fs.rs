//! A file system that a test has for itself.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::dir::TestDir;
use super::run::run;
use super::wait::poll;

/// A file system of its own in a file, on a loop device.
pub struct OwnFs {
    path: PathBuf,
    // Last, so that it is removed after it is unmounted.
    _dir: TestDir,
}

impl OwnFs {
    /// Made by `mkfs`, at most `size` bytes.
    pub fn new(mkfs: &[&str], size: u64) -> Self {
        let dir = TestDir::new();
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(size).unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image));
        let path = dir.mkdir("fs");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&path));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path, _dir: dir }
    }

    /// A tmpfs with mount options.
    pub fn tmpfs(options: &str) -> Self {
        let dir = TestDir::new();
        let path = dir.mkdir("fs");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&path));
        Self { path, _dir: dir }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are free, everything written.
    pub fn free(&self) -> u64 {
        nix::unistd::syncfs(File::open(&self.path).unwrap()).unwrap();
        let stat = nix::sys::statvfs::statvfs(&self.path).unwrap();
        stat.blocks_free() * stat.fragment_size()
    }
}

impl Drop for OwnFs {
    fn drop(&mut self) {
        // Whoever looks at all mounts just then holds it for a moment.
        let unmounted = || nix::mount::umount(&self.path).is_ok().then_some(());
        if poll(Duration::from_secs(10), unmounted).is_none() {
            eprintln!("{:?} is busy", self.path);
        }
        // A mount namespace that was copied just then goes on having the device.
        let detached = || {
            super::proc::loop_devices_under(self._dir.path())
                .is_empty()
                .then_some(())
        };
        if poll(Duration::from_secs(10), detached).is_none() {
            eprintln!("the loop device of {:?} stays", self.path);
        }
    }
}
