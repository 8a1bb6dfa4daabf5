//! A directory of one test, and the check that nothing of it is left: no
//! mount, no process, no loop device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::proc;

/// A fresh directory that other users can enter. Dropping it takes down every
/// mount inside, then removes it, then looks for what was left.
pub struct TestDir {
    path: PathBuf,
}

impl TestDir {
    /// Makes one in `VOLFS_TEST_DIR`, or in the system's temporary directory.
    pub fn new() -> Self {
        let parent =
            std::env::var_os("VOLFS_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::new_in(&parent)
    }

    /// Makes one in `parent`.
    pub fn new_in(parent: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("volfs-test-")
            .tempdir_in(parent)
            .unwrap_or_else(|e| panic!("cannot make a directory in {parent:?}: {e}"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = fs::canonicalize(dir.keep()).unwrap();
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory inside, with mode 0755.
    pub fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // What a guard inside has cleaned up already is not here any more;
        // whatever still is has been forgotten by the test or by volfs.
        let mut left = Vec::new();
        for mount in proc::mounts_under(&self.path).into_iter().rev() {
            left.push(format!("mount {mount:?}"));
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        for process in proc::processes_naming(&self.path) {
            left.push(format!("process {} ({})", process.pid, process.command));
            proc::kill(process.pid);
        }
        for device in proc::loop_devices_under(&self.path) {
            left.push(format!("loop device {device}"));
        }
        if let Err(e) = fs::remove_dir_all(&self.path) {
            left.push(format!("files: {e}"));
        }
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left over in {:?}: {}", self.path, left.join(", "));
        }
    }
}
