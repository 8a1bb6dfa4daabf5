//! `lost+found` in the root of a disk volume: not shown while it is empty, however
//! the files are had, and kept in the image for e2fsck.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use crate::support::user::ALICE;
use crate::support::{Mount, as_user, output};
use crate::{assert_clean, attach, create, eventually, images, last_error, names};

/// The directory of a volume looks empty, and nobody can make one of that name.
pub fn is_not_shown(dir: &Path) {
    assert_eq!(names(dir).unwrap(), [""; 0]);
    let hidden = dir.join("lost+found");
    let looked = fs::symlink_metadata(&hidden).unwrap_err();
    assert_eq!(looked.kind(), ErrorKind::NotFound);
    let opened = File::open(&hidden).unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::NotFound);
}

fn cannot_be_made(dir: &Path) {
    let hidden = dir.join("lost+found");
    let file = dir.join("file");
    fs::write(&file, "text").unwrap();
    for (how, refused) in [
        ("mkdir", fs::create_dir(&hidden)),
        ("create", fs::write(&hidden, "text")),
        ("symlink", std::os::unix::fs::symlink("file", &hidden)),
        ("link", fs::hard_link(&file, &hidden)),
        ("rename", fs::rename(&file, &hidden)),
    ] {
        let errno = refused.unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::EPERM), "{how}");
    }
    for (how, missing) in [
        ("rmdir", fs::remove_dir(&hidden)),
        ("unlink", fs::remove_file(&hidden)),
        ("rename", fs::rename(&hidden, dir.join("other"))),
    ] {
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound, "{how}");
    }
    // Only there: below, it is a name like any other.
    fs::create_dir_all(dir.join("below/lost+found")).unwrap();
    assert_eq!(names(&dir.join("below")).unwrap(), ["lost+found"]);
    fs::remove_dir_all(dir.join("below")).unwrap();
    fs::remove_file(&file).unwrap();
}

/// What debugfs says of the only image of the store.
fn debugfs(mount: &Mount, request: &str) -> String {
    let image = images(mount.store()).pop().unwrap();
    let mut command = Command::new("debugfs");
    let out = output(command.args(["-w", "-R", request]).arg(image));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn an_empty_one_is_not_shown_and_kept() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "16M");
    is_not_shown(&dir);
    cannot_be_made(&dir);
    let refused = fs::create_dir(dir.join("lost+found"));
    refused.unwrap_err();
    let why = last_error(&mount);
    assert!(
        why.contains("e2fsck") && why.contains("another name"),
        "{why}"
    );
    // The owner of the volume reads all of it.
    std::os::unix::fs::chown(&dir, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
    as_user(ALICE, || {
        let out = Command::new("find").arg(&dir).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    });
    let tar = crate::support::user::command_as(ALICE, "tar")
        .args(["-cf", "/dev/null", "-C"])
        .args([&dir, Path::new(".")])
        .output()
        .unwrap();
    assert!(tar.status.success(), "{tar:?}");
    mount.stop();
    assert!(debugfs(&mount, "ls -l /").contains("lost+found"));
    assert_clean(mount.store());
    mount.start();
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn one_that_holds_something_is_shown() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "16M");
    is_not_shown(&dir);
    mount.stop();
    debugfs(&mount, "mkdir lost+found/#12");
    mount.start();
    assert_eq!(names(&dir).unwrap(), ["lost+found"]);
    let refused = fs::remove_dir(&dir).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DirectoryNotEmpty);
    fs::rename(dir.join("lost+found/#12"), dir.join("found")).unwrap();
    assert_eq!(names(&dir).unwrap(), ["found"]);
    fs::remove_dir(dir.join("found")).unwrap();
    assert_eq!(names(&dir).unwrap(), [""; 0]);
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn of_a_guest_s_image_it_is_shown_when_it_holds_something() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "16M");
    drop(eventually("attach", || attach(&mount, "db")));
    eventually("looked at", || names(&dir));
    is_not_shown(&dir);
    mount.stop();
    debugfs(&mount, "mkdir lost+found/#12");
    mount.start();
    assert_eq!(names(&dir).unwrap(), ["lost+found"]);
    assert_eq!(names(&dir.join("lost+found")).unwrap(), ["#12"]);
}
