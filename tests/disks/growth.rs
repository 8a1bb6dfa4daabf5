//! Growing a disk volume: while nobody uses it, while its files are open, and
//! not by writing past the end of its image.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::{Mount, wait_for};
use crate::{assert_clean, attach, create, eventually, image, last_error};

fn capacity(dir: &Path) -> u64 {
    let figures = nix::sys::statvfs::statvfs(dir).unwrap();
    figures.blocks() * figures.fragment_size()
}

/// Whether this process, and so a daemon that it starts, may resize a mounted
/// file system (CAP_SYS_RESOURCE, bit 24 of `CapEff`).
fn may_resize() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> 24 & 1 == 1
}

#[test]
fn growing_keeps_files() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    fs::write(dir.join("file"), "text").unwrap();
    let held = OpenOptions::new()
        .append(true)
        .open(dir.join("file"))
        .unwrap();
    // In use: by the kernel where the daemon may, otherwise with the reason
    // why not, and nothing has changed.
    if may_resize() {
        mount.volfs().ok(&["set", "db", "--size", "128M"]);
        assert!(capacity(&dir) > 100 << 20);
    } else {
        let busy = mount.volfs().fails(1, &["set", "db", "--size", "128M"]);
        let own = std::process::id().to_string();
        assert!(
            busy.contains("CAP_SYS_RESOURCE") && busy.contains(&own),
            "{busy}"
        );
        assert_eq!(mount.volfs().list()[0]["disk"]["size"], 64 << 20);
        assert!(capacity(&dir) < 64 << 20);
        let refused =
            rustix::fs::setxattr(&dir, "volfs.size", b"128M", rustix::fs::XattrFlags::empty());
        assert_eq!(refused, Err(rustix::io::Errno::BUSY));
        assert!(last_error(&mount).contains("CAP_SYS_RESOURCE"));
    }
    drop(held);
    // Mounted, but nobody uses it.
    mount.volfs().ok(&["set", "db", "--size", "256M"]);
    assert!(capacity(&dir) > 200 << 20);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    fs::write(dir.join("large"), vec![1; 100 << 20]).unwrap();
    assert_eq!(mount.volfs().list()[0]["disk"]["size"], 256 << 20);
    let shrunk = mount.volfs().fails(2, &["set", "db", "--size", "64M"]);
    assert!(shrunk.contains("smaller"), "{shrunk}");
    mount.stop();
    assert_clean(mount.store());
}

#[test]
fn an_image_is_not_made_longer_by_writing_past_its_end() {
    for arguments in [&[][..], &["--no-passthrough"]] {
        let mount = Mount::builder().args(arguments).start();
        create(&mount, "db", "64M");
        let length = || fs::metadata(image(&mount, "db")).unwrap().len();
        let raw = attach(&mount, "db").unwrap();
        raw.write_all_at(&[7; 4096], (64 << 20) - 4096).unwrap();
        // The kernel that writes by itself does not know where to stop: it is
        // put right, and said with the next fsync.
        let written = raw.write_at(&[7; 4096], 64 << 20);
        let synced = raw.sync_all();
        let refused = [written.map(drop), synced]
            .into_iter()
            .find_map(Result::err)
            .unwrap_or_else(|| panic!("{arguments:?}: nobody was told"));
        assert_eq!(refused.kind(), ErrorKind::StorageFull, "{arguments:?}");
        assert_eq!(length(), 64 << 20, "{arguments:?}");
        // Without fsync, too.
        let _ = raw.write_at(&[7; 4096], 80 << 20);
        wait_for("the image has its length", || length() == 64 << 20);
        let _ = raw.write_at(&[7; 4096], 80 << 20);
        // What is made longer on purpose is not cut.
        mount.volfs().ok(&["set", "db", "--size", "96M"]);
        raw.write_all_at(&[9; 4096], (96 << 20) - 4096).unwrap();
        raw.sync_all().unwrap();
        assert_eq!(length(), 96 << 20);
        let _ = raw.write_at(&[7; 4096], 128 << 20);
        drop(raw);
        let raw = eventually("closed", || attach(&mount, "db"));
        assert_eq!(length(), 96 << 20);
        let mut last = [0; 4096];
        raw.read_exact_at(&mut last, (96 << 20) - 4096).unwrap();
        assert_eq!(last, [9; 4096]);
        drop(raw);
        for how in [
            OpenOptions::new().append(true),
            OpenOptions::new().write(true).truncate(true),
        ] {
            let refused = how.open(image(&mount, "db")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        }
    }
}

#[test]
fn an_attached_image_grows_for_its_guest() {
    let mount = Mount::new();
    let dir = crate::guests::left_by_a_guest(&mount);
    let raw = eventually("attach", || attach(&mount, "db"));
    mount.volfs().ok(&["set", "db", "--size", "128M"]);
    assert_eq!(raw.metadata().unwrap().len(), 128 << 20);
    raw.write_all_at(b"end", (128 << 20) - 3).unwrap();
    drop(raw);
    eventually("detached", || File::open(dir.join("link")));
    mount.volfs().ok(&["disk", "trust", "db"]);
    // Nobody has resized the file system in it yet.
    assert!(capacity(&dir) < 64 << 20);
    mount.volfs().ok(&["set", "db", "--size", "128M"]);
    assert!(capacity(&dir) > 100 << 20);
    assert_eq!(fs::read_to_string(dir.join("link")).unwrap(), "text");
}
