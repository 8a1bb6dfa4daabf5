//! Images that a guest has written: looked at without the kernel, trusted only
//! after a check.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use crate::support::proc::loop_devices_under;
use crate::support::{Mount, poll};
use crate::{assert_clean, attach, create, eventually, image, last_error, names};

#[test]
fn what_a_guest_has_written_is_not_mounted_until_it_is_trusted() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    fs::write(dir.join("file"), "text").unwrap();
    let raw = eventually("attach", || attach(&mount, "db"));
    drop(raw);
    eventually("detached", || File::open(image(&mount, "db")));
    mount.remount();
    assert!(fs::write(dir.join("file"), "more").is_err());
    assert_eq!(
        loop_devices_under(mount.store()),
        [""; 0],
        "the kernel has it"
    );
    assert!(last_error(&mount).contains("volfs disk trust db"));
    assert_eq!(mount.volfs().list()[0]["disk"]["guest_written"], true);
    mount.volfs().ok(&["disk", "trust", "db"]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");

    // Mount options in an image would be obeyed by the kernel.
    mount.stop();
    let path = mount.volfs().list()[0]["disk"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    let tuned = std::process::Command::new("tune2fs")
        .args(["-E", "mount_opts=nobarrier", &path])
        .output()
        .unwrap();
    assert!(tuned.status.success(), "{tuned:?}");
    mount.start();
    drop(eventually("attach", || attach(&mount, "db")));
    let refused = poll(Duration::from_secs(10), || {
        let answer = mount.volfs().run(&["disk", "trust", "db"]);
        answer.out.contains("nobarrier").then_some(answer)
    });
    assert_eq!(refused.unwrap().code, Some(1));
    mount.volfs().ok(&["disk", "check", "--repair", "db"]);
    mount.volfs().ok(&["disk", "trust", "db"]);

    // One that is damaged stays untrusted, and is mended on request.
    let raw = eventually("attach", || attach(&mount, "db"));
    let inode_bitmap = damage_a_bitmap(&raw);
    assert!(inode_bitmap > 0);
    drop(raw);
    let refused = poll(Duration::from_secs(10), || {
        let answer = mount.volfs().run(&["disk", "trust", "db"]);
        answer.err.contains("has errors").then_some(answer.err)
    });
    assert!(refused.is_some());
    assert!(fs::write(dir.join("file"), "more").is_err());
    mount.volfs().fails(1, &["disk", "check", "db"]);
    mount.volfs().ok(&["disk", "check", "--repair", "db"]);
    mount.volfs().ok(&["disk", "trust", "db"]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    mount.stop();
    assert_clean(mount.store());
}

/// Overwrites the inode bitmap of the first group; says where it is.
fn damage_a_bitmap(raw: &File) -> u64 {
    let mut descriptor = [0; 64];
    raw.read_exact_at(&mut descriptor, 4096).unwrap();
    // bg_inode_bitmap_lo
    let block = u32::from_le_bytes(descriptor[4..8].try_into().unwrap());
    raw.write_all_at(&[0x55; 512], u64::from(block) * 4096)
        .unwrap();
    raw.sync_all().unwrap();
    block.into()
}

/// A volume with some files, as a guest leaves it behind.
pub fn left_by_a_guest(mount: &Mount) -> std::path::PathBuf {
    let dir = create(mount, "db", "64M");
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/file"), "text").unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(dir.join("large"), large).unwrap();
    symlink("a/b/file", dir.join("link")).unwrap();
    for number in 0..1000 {
        fs::write(dir.join(format!("a/n{number}")), number.to_string()).unwrap();
    }
    fs::set_permissions(dir.join("large"), fs::Permissions::from_mode(0o4711)).unwrap();
    drop(eventually("attach", || attach(mount, "db")));
    eventually("looked at", || names(&dir));
    dir
}

#[test]
fn an_image_of_a_guest_is_read_like_any_other() {
    let mut mount = Mount::new();
    let dir = left_by_a_guest(&mount);
    let large = fs::metadata(dir.join("large")).unwrap();
    let written = (large.mtime(), large.mtime_nsec());
    let now = std::time::SystemTime::now();
    let ago = now.duration_since(large.modified().unwrap()).unwrap();
    assert!(ago < Duration::from_secs(60), "its own time, {ago:?} ago");
    let numbers =
        || ["a/n7", "large", "a/b"].map(|name| fs::metadata(dir.join(name)).unwrap().ino());
    let seen = numbers();
    for _ in 0..2 {
        assert_eq!(numbers(), seen, "over a mount");
        assert_eq!(fs::read_to_string(dir.join("link")).unwrap(), "text");
        let large = fs::read(dir.join("large")).unwrap();
        assert!(
            large
                .iter()
                .enumerate()
                .all(|(n, &byte)| byte == (n % 251) as u8)
        );
        assert_eq!(large.len(), 3_000_000);
        assert_eq!(names(&dir.join("a")).unwrap().len(), 1001);
        for number in [0, 499, 999] {
            let text = fs::read_to_string(dir.join(format!("a/n{number}"))).unwrap();
            assert_eq!(text, number.to_string());
        }
        let large = fs::metadata(dir.join("large")).unwrap();
        let mode = large.permissions().mode();
        assert_eq!(mode & 0o7777, 0o711, "set-user-id of a guest");
        assert_eq!((large.mtime(), large.mtime_nsec()), written);
        assert_eq!(
            fs::metadata(dir.join("none")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        for refused in [
            fs::create_dir(dir.join("new")),
            fs::remove_file(dir.join("large")),
            fs::rename(dir.join("large"), dir.join("small")),
            File::create(dir.join("file")).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        }
        mount.remount();
    }
    // Open in the view: the other face is closed.
    let held = File::open(dir.join("large")).unwrap();
    assert_eq!(
        attach(&mount, "db").unwrap_err().kind(),
        ErrorKind::ResourceBusy
    );
    drop(held);
    drop(eventually("attach", || attach(&mount, "db")));
}
