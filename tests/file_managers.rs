//! Desktop file managers, by way of the library that most of them use: `gio`
//! at the root of the mount and inside a volume.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use support::user::{ALICE, User, command_as};
use support::{Mount, output, run};

/// gio without a desktop session, with a home directory of its own.
fn gio(user: User, home: &Path, arguments: &[&str], paths: &[&Path]) -> Command {
    let mut command = command_as(user, "gio");
    command
        .args(arguments)
        .args(paths)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join(".local/share"))
        .env("GIO_USE_VFS", "local");
    command
}

const ROOT: User = User {
    uid: 0,
    gid: 0,
    groups: &[],
};

fn refused(command: &mut Command) -> String {
    let out = output(command);
    assert!(!out.status.success(), "{command:?} should fail");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn volumes_are_made_renamed_and_removed() {
    let mount = Mount::new();
    let home = mount.dir().mkdir("home");
    let gio = |arguments: &[&str], paths: &[&Path]| gio(ROOT, &home, arguments, paths);
    let (a, b) = (mount.join("photos"), mount.join("pictures"));
    run(&mut gio(&["mkdir"], &[&a]));
    assert_eq!(mount.volfs().names(), ["photos"]);
    run(&mut gio(&["rename"], &[&a, Path::new("pictures")]));
    assert_eq!(mount.volfs().names(), ["pictures"]);
    run(&mut gio(&["move"], &[&b, &a]));
    assert_eq!(mount.volfs().names(), ["photos"]);

    fs::write(a.join("f"), "x").unwrap();
    let complaint = refused(&mut gio(&["remove"], &[&a]));
    assert!(complaint.contains("not empty"), "{complaint}");
    fs::remove_file(a.join("f")).unwrap();
    run(&mut gio(&["remove"], &[&a]));
    assert_eq!(mount.volfs().names(), [""; 0]);

    let listing = run(&mut gio(&["list", "--hidden"], &[mount.path()]));
    assert_eq!(listing, "");
}

#[test]
fn files_cannot_be_put_at_the_root() {
    let mount = Mount::new();
    let home = mount.dir().mkdir("home");
    let gio = |arguments: &[&str], paths: &[&Path]| gio(ROOT, &home, arguments, paths);
    let volume = mount.volume("v");
    let file = volume.join("f");
    fs::write(&file, "content").unwrap();
    for act in ["copy", "move"] {
        let complaint = refused(&mut gio(&[act], &[&file, mount.path()]));
        assert!(complaint.contains("not permitted"), "{act}: {complaint}");
        let complaint = refused(&mut gio(&[act], &[&file, &mount.join("g")]));
        assert!(complaint.contains("not permitted"), "{act}: {complaint}");
    }
    refused(&mut gio(&["mkdir"], &[&mount.join(".hidden")]));
    refused(&mut gio(&["mkdir"], &[&mount.join("New Folder")]));
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    assert_eq!(mount.volfs().names(), ["v"]);
}

#[test]
fn files_inside_a_volume() {
    let mount = Mount::new();
    let home = mount.dir().mkdir("home");
    let gio = |arguments: &[&str], paths: &[&Path]| gio(ROOT, &home, arguments, paths);
    let (v, w) = (mount.volume("v"), mount.volume("w"));
    run(&mut gio(&["mkdir", "--parent"], &[&v.join("a/b/c")]));
    let file = v.join("a/f");
    fs::write(&file, "content").unwrap();
    let old = fs::metadata(&file).unwrap().ino();
    run(&mut gio(&["rename"], &[&file, Path::new("g")]));
    assert_eq!(fs::metadata(v.join("a/g")).unwrap().ino(), old);
    run(&mut gio(
        &["copy", "--preserve"],
        &[&v.join("a/g"), &v.join("a/b")],
    ));
    assert_eq!(fs::read_to_string(v.join("a/b/g")).unwrap(), "content");
    run(&mut gio(&["move"], &[&v.join("a/b/g"), &v.join("h")]));
    assert!(!v.join("a/b/g").exists());

    // Between volumes a move is a copy and a removal.
    run(&mut gio(&["move"], &[&v.join("h"), &w]));
    assert!(!v.join("h").exists());
    assert_eq!(fs::read_to_string(w.join("h")).unwrap(), "content");
    run(&mut gio(&["copy"], &[&w.join("h"), &home]));
    run(&mut gio(&["move"], &[&home.join("h"), &v]));
    assert_eq!(fs::read_to_string(v.join("h")).unwrap(), "content");
    run(&mut gio(&["remove"], &[&v.join("h")]));
    let info = run(&mut gio(&["info"], &[&v.join("a/g")]));
    assert!(info.contains("standard::size: 7"), "{info}");
}

/// Trashing needs a directory for the trash at the root of the mount, which
/// would be a volume: it must be refused, or done elsewhere, with no loss.
fn trash_makes_no_volume(mount: &Mount, user: User) {
    let home = mount.dir().mkdir(&format!("home-{}", user.uid));
    let volume = mount.join(format!("of-{}", user.uid));
    run(command_as(user, "mkdir").arg(&volume));
    std::os::unix::fs::chown(&home, Some(user.uid), Some(user.gid)).unwrap();
    let file = volume.join("f");
    run(command_as(user, "sh")
        .args(["-c", "echo precious > \"$0\""])
        .arg(&file));
    let before = mount.volfs().names();
    for path in [&file, &volume] {
        let out = output(&mut gio(user, &home, &["trash"], &[path]));
        assert!(!out.status.success(), "trashed {path:?}");
        let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
        // "Not supported", at which file managers offer to delete for good.
        let offers = ["Unable to find or create trash directory", "not supported"];
        assert!(
            offers.iter().any(|it| complaint.contains(it)),
            "{complaint}"
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious\n");
    assert_eq!(mount.volfs().names(), before);
    for name in [".Trash", &format!(".Trash-{}", user.uid)] {
        assert!(!mount.join(name).exists(), "{name} is there");
        let by_hand = output(command_as(user, "mkdir").arg(mount.join(name)));
        assert!(!by_hand.status.success(), "{name} became a volume");
    }
    assert_eq!(mount.volfs().names(), before);
}

/// The trash that a volume has of its own, by the specification of
/// freedesktop.org: what is in it is restored by a rename.
#[test]
fn a_volume_can_hold_a_trash() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let trash = volume.join(".Trash-1000");
    std::os::unix::fs::chown(&volume, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
    support::as_user(ALICE, || {
        fs::write(volume.join("New File"), "precious").unwrap();
        fs::create_dir(&trash).unwrap();
        fs::create_dir(trash.join("files")).unwrap();
        fs::create_dir(trash.join("info")).unwrap();
        fs::rename(volume.join("New File"), trash.join("files/New File")).unwrap();
        fs::write(trash.join("info/New File.trashinfo"), "[Trash Info]\n").unwrap();
        fs::rename(trash.join("files/New File"), volume.join("New File")).unwrap();
    });
    assert_eq!(
        fs::read_to_string(volume.join("New File")).unwrap(),
        "precious"
    );
    assert_eq!(mount.volfs().names(), ["v"]);
}

#[test]
fn folders_are_called_as_people_call_them() {
    let mount = Mount::new();
    mount.volfs().ok(&["config", "names", "any"]);
    let home = mount.dir().mkdir("home");
    let gio = |arguments: &[&str], paths: &[&Path]| gio(ROOT, &home, arguments, paths);
    run(&mut gio(&["mkdir"], &[&mount.join("New Folder")]));
    run(&mut gio(
        &["rename"],
        &[&mount.join("New Folder"), Path::new("Entwürfe (2)")],
    ));
    assert_eq!(mount.volfs().names(), ["Entwürfe (2)"]);
    run(&mut gio(&["remove"], &[&mount.join("Entwürfe (2)")]));
    assert_eq!(mount.volfs().names(), [""; 0]);
}

#[test]
fn the_trash_of_root_is_no_volume() {
    let mount = Mount::new();
    trash_makes_no_volume(&mount, ROOT);
}

#[test]
fn the_trash_of_a_user_is_no_volume() {
    let mount = Mount::builder().args(&["--root-mode", "1777"]).start();
    trash_makes_no_volume(&mount, ALICE);
}
