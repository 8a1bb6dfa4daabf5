//! Ways around a limit, each tried on a real mount: refused, or charged.

mod contents;
mod directories;
mod limits;
mod names;
mod removed;
#[path = "../support/mod.rs"]
mod support;

use std::io::{self};
use std::path::{Path, PathBuf};

use support::{Mount, tree, wait_for};

const LIMIT: u64 = 1 << 20;

#[track_caller]
fn refused<T>(result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("should be refused with {errno}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error}"),
    }
}

fn errno<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}

/// A mount with the volume `v`, limited to 1 MiB and 100 inodes.
struct World {
    mount: Mount,
    v: PathBuf,
}

impl World {
    fn new() -> Self {
        let mount = Mount::new();
        mount.volfs().ok(&[
            "create",
            "v",
            "--quota",
            "1M",
            "--quota-inodes",
            "100",
            "--owner",
            "1000:1000",
        ]);
        let v = mount.join("v");
        Self { mount, v }
    }

    fn used(&self) -> (u64, u64) {
        used(&self.v)
    }

    /// Usage is a walk's, and what the host stores for the volume is no more
    /// than it is charged and what directories and inodes themselves take.
    fn check(&self) {
        let host = self.mount.host_path("v");
        wait_for("usage is a walk's", || self.used() == tree::charged(&host));
        assert!(
            self.used().0 <= LIMIT && self.used().1 <= 100,
            "{:?}",
            self.used()
        );
        assert_eq!(self.mount.daemon_complaints(), "");
    }
}

fn attribute(path: &Path, name: &str) -> rustix::io::Result<String> {
    let mut buffer = [0; 256];
    let len = rustix::fs::getxattr(path, name, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

fn used(volume: &Path) -> (u64, u64) {
    let of = |name| attribute(volume, name).unwrap().parse().unwrap();
    (of("volfs.used.bytes"), of("volfs.used.inodes"))
}
