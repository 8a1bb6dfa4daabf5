//! The host runs out of space under a sparse image: an error for who writes,
//! and nothing worse.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Mount, TestDir, run};
use crate::{assert_clean, attach, create, eventually};

/// A small file system of the host, on a loop device.
struct SmallHost {
    at: PathBuf,
    _dir: TestDir,
}

impl SmallHost {
    fn new(mib: u64) -> Self {
        let dir = TestDir::new();
        let image = dir.join("host.img");
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image));
        let at = dir.mkdir("host");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &at]));
        let small = Self { at, _dir: dir };
        fs::set_permissions(
            &small.at,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        small
    }

    /// Leaves no block free.
    fn fill(&self) -> PathBuf {
        let filler = self.at.join("filler");
        let mut file = File::create(&filler).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let _ = file.sync_all();
        filler
    }
}

impl Drop for SmallHost {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
        crate::support::poll(std::time::Duration::from_secs(10), || {
            crate::support::proc::loop_devices_under(self._dir.path())
                .is_empty()
                .then_some(())
        });
    }
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::StorageFull || error.raw_os_error() == Some(libc::EIO)
}

/// Writes until it fails.
fn write_on(path: &Path) -> std::io::Error {
    let mut file = File::create(path).unwrap();
    for _ in 0..200 {
        if let Err(error) = file.write_all(&[7; 1 << 20]).and_then(|()| file.sync_all()) {
            return error;
        }
    }
    panic!("200 MiB went into a full disk");
}

#[test]
fn a_full_host_is_an_error_and_recovers() {
    let host = SmallHost::new(96);
    {
        let mut mount = Mount::builder().parent(&host.at).start();
        let dir = create(&mount, "db", "256M");
        let guests = create(&mount, "guests", "256M");
        let other = create(&mount, "other", "32M");
        let plain = mount.volume("plain");
        for dir in [&dir, &guests, &other, &plain] {
            fs::write(dir.join("kept"), "kept").unwrap();
            File::open(dir.join("kept")).unwrap().sync_all().unwrap();
        }
        fs::write(plain.join("room"), vec![3; 1 << 20]).unwrap();
        // The guest's own disk, attached before space runs out.
        let raw = eventually("attach", || attach(&mount, "guests"));
        let filler = host.fill();

        // Through the directory.
        let error = write_on(&dir.join("large"));
        assert!(is_full(&error), "{error}");
        // Through the image, as a virtual machine's disk.
        let mut told = None;
        for at in (64..192).map(|mib| mib << 20) {
            if let Err(error) = raw
                .write_all_at(&[9; 1 << 20], at)
                .and_then(|()| raw.sync_all())
            {
                told = Some(error);
                break;
            }
        }
        let error = told.expect("the image is larger than its host");
        assert!(is_full(&error), "{error}");

        // The daemon answers; other volumes are read, and written in place.
        for dir in [&other, &plain] {
            assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "kept");
        }
        let room = OpenOptions::new()
            .write(true)
            .open(plain.join("room"))
            .unwrap();
        room.write_all_at(&[4; 4096], 0).unwrap();
        room.sync_all().unwrap();
        drop(room);
        mount.volfs().ok(&["ls"]);

        // Space returns.
        fs::remove_file(filler).unwrap();
        raw.write_all_at(&[9; 4096], 64 << 20).unwrap();
        raw.sync_all().unwrap();
        drop(raw);
        fs::write(other.join("more"), "more").unwrap();
        fs::write(plain.join("more"), "more").unwrap();
        mount.remount();
        assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "kept");
        let _ = fs::remove_file(dir.join("large"));
        fs::write(dir.join("more"), vec![5; 1 << 20]).unwrap();
        File::open(dir.join("more")).unwrap().sync_all().unwrap();
        mount.volfs().ok(&["disk", "trust", "guests"]);
        assert_eq!(fs::read_to_string(guests.join("kept")).unwrap(), "kept");
        mount.stop();
        assert_clean(mount.store());
    }
}
