//! The command as a process: which store, who else has it, where its output
//! goes, what it says of itself and of the machine.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use super::support::{self, TestDir, Volfs};
use super::{fixture, json_error};

#[test]
fn the_store_comes_from_option_environment_and_xdg() {
    let (dir, volfs) = fixture();
    volfs.ok(&["create", "by-environment"]);
    let other = dir.join("other");
    volfs.ok(&["create", "by-option", "--store", other.to_str().unwrap()]);
    assert_eq!(volfs.names(), ["by-environment"]);
    assert_eq!(Volfs::new(&other).names(), ["by-option"]);
    let said = volfs.fails(2, &["ls", "--store", ""]);
    assert!(said.contains("--store"), "{said}");
    let relative = volfs
        .command(&["create", "relative", "--store", "other"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(relative.status.success());
    assert_eq!(Volfs::new(&other).names(), ["by-option", "relative"]);
    let home = dir.mkdir("home");
    std::os::unix::fs::chown(&home, Some(support::user::ALICE.uid), Some(0)).unwrap();
    let program = support::cli::copy_of_binary(dir.path());
    support::run(
        support::user::command_as(support::user::ALICE, &program)
            .args(["create", "mine"])
            .env_remove("VOLFS_STORE")
            .env_remove("XDG_DATA_HOME")
            .env("HOME", &home),
    );
    let store = home.join(".local/share/volfs");
    assert_eq!(Volfs::new(&store).names(), ["mine"]);
    assert_eq!(
        fs::metadata(&store).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn two_commands_at_once_wait_for_each_other() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "first"]);
    let children: Vec<_> = (0..8)
        .map(|number| {
            volfs
                .command(&["create", &format!("v{number}")])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(volfs.names().len(), 9);
}

#[test]
fn a_locked_store_is_said_after_a_while() {
    let (dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    let lock = fs::File::open(dir.join("store/lock")).unwrap();
    lock.lock().unwrap();
    let error = json_error(&volfs, 1, &["ls"]);
    assert_eq!(error["code"], "locked");
    let doctor: Value = serde_json::from_str(&volfs.run(&["doctor", "--json"]).out).unwrap();
    let check = doctor["checks"].as_array().unwrap().iter();
    let check = check
        .clone()
        .find(|c| c["check"] == "store's lock")
        .unwrap();
    assert_eq!(check["state"], "missing", "{check}");
    drop(lock);
    volfs.ok(&["ls"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (_dir, volfs) = fixture();
    let names: Vec<String> = (0..300)
        .map(|n| format!("{n}{}", "x".repeat(200)))
        .collect();
    volfs.ok(&[vec!["create".to_owned()], names].concat());
    for arguments in [&["ls"][..], &["ls", "--json"], &["--help"]] {
        let mut child = volfs
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{arguments:?}: {status}, {said}");
        assert_eq!(said, "");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = volfs.command(&["ls"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn help_and_version_are_no_errors() {
    let (_dir, volfs) = fixture();
    let version = volfs.ok(&["--version"]);
    assert_eq!(version, concat!("volfs ", env!("CARGO_PKG_VERSION"), "\n"));
    for command in [
        "mount", "umount", "create", "ls", "inspect", "rm", "mv", "path", "set", "trash", "doctor",
    ] {
        let help = volfs.ok(&[command, "--help"]);
        assert!(help.contains(&format!("Usage: volfs {command}")), "{help}");
        assert!(help.contains("Examples:"), "{command} --help");
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }
    assert!(
        volfs
            .ok(&["--help"])
            .contains("Exit codes: 0 done, 1 failed, 2")
    );
}

#[test]
fn doctor_says_what_it_found() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    let answer = volfs.run(&["doctor", "--json"]);
    assert_eq!(answer.code, Some(0), "{}{}", answer.out, answer.err);
    let report: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(report["can_mount"], true);
    let checks = report["checks"].as_array().unwrap();
    for name in [
        "kernel",
        "/dev/fuse",
        "fusermount3",
        "user_allow_other",
        "disk volumes",
        "store",
        "store's file system",
        "file handles",
        "handles of the mount",
        "free space",
        "store's lock",
        "daemon",
        "stale mounts",
    ] {
        let check = checks.iter().find(|check| check["check"] == name);
        let check = check.unwrap_or_else(|| panic!("no check {name}"));
        assert!(!check["found"].as_str().unwrap().is_empty(), "{name}");
        if check["state"] != "ok" {
            assert!(
                check["means"].is_string() && check["fix"].is_string(),
                "{check}"
            );
        }
    }
    let text = volfs.ok(&["doctor"]);
    assert!(text.lines().next().unwrap().starts_with("STATE"), "{text}");
}

#[test]
fn doctor_exits_with_1_only_if_a_mount_would_fail() {
    let dir = TestDir::new();
    let foreign = dir.mkdir("foreign");
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let said = Volfs::new(&foreign).fails(1, &["doctor"]);
    assert!(said.contains("a mount would fail"), "{said}");
    let new = Volfs::new(&dir.join("not/there/yet"));
    assert!(new.ok(&["doctor"]).contains("'volfs mount' makes it"));
    assert!(!dir.join("not").exists());
}

#[test]
fn umount_says_what_is_there_instead() {
    let (dir, volfs) = fixture();
    let plain = dir.mkdir("plain");
    let said = volfs.fails(1, &["umount", plain.to_str().unwrap()]);
    assert!(said.contains("nothing is mounted on"), "{said}");
    let said = volfs.fails(1, &["umount", "/proc"]);
    assert!(said.contains("of type proc"), "{said}");
    let error = json_error(&volfs, 1, &["umount", "/nowhere/at/all"]);
    assert_eq!(error["code"], "not-mounted");
}

#[test]
fn the_log_is_silent_unless_asked() {
    let (_dir, volfs) = fixture();
    let answer = volfs.run(&["create", "a"]);
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    let loud = volfs.env("RUST_LOG", "trace").run(&["ls", "-q"]);
    assert_eq!(loud.code, Some(0));
}

#[test]
fn doctor_makes_a_lost_catalogue_anew() {
    let (dir, volfs) = fixture();
    volfs.ok(&["create", "a", "b", "--label", "k=v", "--quota", "1G"]);
    volfs.ok(&["rm", "b"]);
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(dir.join("store").join(name));
    }
    let said = volfs.fails(1, &["ls"]);
    assert!(said.contains("volfs doctor --rebuild-catalogue"), "{said}");
    let said = volfs.run(&["doctor"]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("--rebuild-catalogue"), "{}", said.out);
    let said = volfs.ok(&["doctor", "--rebuild-catalogue"]);
    assert!(said.contains("1 volume under their own names"), "{said}");
    let a = &volfs.list()[0];
    assert_eq!(a["name"], "a");
    assert_eq!(a["limits"]["bytes"], 1 << 30);
    assert_eq!(a["labels"], serde_json::json!([["k", "v"]]));
    fs::write(dir.join("store/meta.db"), "not a database, by any means").unwrap();
    assert_eq!(json_error(&volfs, 1, &["ls"])["code"], "catalogue");
    let done = super::json(&volfs, &["doctor", "--rebuild-catalogue"]);
    assert_eq!((&done["volumes"], &done["trashed"]), (&1.into(), &1.into()));
    assert!(fs::exists(done["kept"].as_str().unwrap()).unwrap());
    assert_eq!(volfs.names(), ["a"]);
}

#[test]
fn doctor_reads_what_it_judges() {
    let (dir, volfs) = fixture();
    volfs.ok(&["create", "a", "b"]);
    volfs.ok(&["rm", "b"]);
    let check = |code: i32, name: &str| -> serde_json::Value {
        let answer = volfs.run(&["doctor", "--json"]);
        assert_eq!(answer.code, Some(code), "{}{}", answer.out, answer.err);
        let all: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
        assert_eq!(all["can_mount"], code == 0);
        let found = all["checks"].as_array().unwrap();
        let found = found.iter().find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("{all}")).clone()
    };
    let sound = check(0, "catalogue");
    assert_eq!(
        (&sound["state"], &sound["found"]),
        (&"ok".into(), &"sound: 1 volumes, 1 in the trash".into())
    );
    // A row that no version has written, in a file that SQLite finds sound.
    let catalogue = dir.join("store/meta.db");
    let saved = fs::read(&catalogue).unwrap();
    rusqlite::Connection::open(&catalogue)
        .unwrap()
        .execute_batch("PRAGMA ignore_check_constraints = ON; UPDATE volume SET kind = 'tape'")
        .unwrap();
    assert!(
        check(1, "catalogue")["found"]
            .as_str()
            .unwrap()
            .contains("tape")
    );
    // Pages of noise in the middle.
    let mut noise = saved.clone();
    for (at, byte) in noise.iter_mut().enumerate().skip(4096) {
        *byte = (at * 131 + at / 7) as u8;
    }
    fs::write(&catalogue, noise).unwrap();
    let damaged = check(1, "catalogue");
    assert!(
        damaged["fix"]
            .as_str()
            .unwrap()
            .contains("--rebuild-catalogue")
    );
    fs::write(&catalogue, &saved).unwrap();
    // What cannot be written, whoever asks (root is not kept by modes).
    let immutable = |flag: &str, file: &std::path::Path| {
        support::run(std::process::Command::new("chattr").arg(flag).arg(file));
    };
    immutable("+i", &catalogue);
    let refused = check(1, "catalogue");
    immutable("-i", &catalogue);
    assert!(
        refused["found"]
            .as_str()
            .unwrap()
            .contains("cannot be written")
    );
    immutable("+i", &dir.join("store"));
    let refused = check(1, "store");
    immutable("-i", &dir.join("store"));
    assert!(
        refused["found"].as_str().unwrap().contains("not permitted"),
        "{refused}"
    );
    // Volumes that it does not know.
    let id = "0123456789abcdef0123456789abcdef";
    fs::create_dir_all(dir.join("store/volumes").join(id).join("data")).unwrap();
    let unknown = check(0, "catalogue");
    assert_eq!(unknown["state"], "degraded");
    assert!(unknown["found"].as_str().unwrap().contains(id), "{unknown}");
}

#[test]
fn a_store_on_a_read_only_file_system_can_be_looked_at() {
    let (dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    let store = dir.join("store");
    let mount = |options: &[&str]| {
        support::run(
            std::process::Command::new("mount")
                .args(options)
                .arg(&store),
        );
    };
    mount(&["--bind", store.to_str().unwrap()]);
    let unmount = Unmount(&store);
    mount(&["-o", "remount,bind,ro"]);
    assert_eq!(volfs.names(), ["a"]);
    volfs.ok(&["inspect", "a"]);
    for arguments in [&["create", "b"][..], &["rm", "a"], &["set", "a", "--pin"]] {
        let said = volfs.fails(1, arguments);
        assert!(said.contains("read-only"), "{said}");
    }
    drop(unmount);
    assert_eq!(volfs.names(), ["a"]);
}

/// Unmounts in the end.
struct Unmount<'a>(&'a std::path::Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = nix::mount::umount(self.0);
    }
}

#[test]
fn a_table_fits_the_terminal_and_colours_can_be_refused() {
    let (_dir, volfs) = fixture();
    let label = format!("long={}", "x".repeat(200));
    volfs.ok(&["create", "a", "--label", &label]);
    // script(1) gives the command a terminal.
    let on_terminal = |environment: &str| {
        let command = format!("stty cols 90; {environment} {} ls", support::cli::BINARY);
        support::run(
            std::process::Command::new("script")
                .args(["-q", "-e", "-c", &command, "/dev/null"])
                .env("VOLFS_STORE", volfs.store()),
        )
    };
    let plain = on_terminal("NO_COLOR=1");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert_eq!(plain.lines().count(), 2, "a line each: {plain}");
    assert!(
        plain
            .lines()
            .all(|line| line.trim_end().chars().count() <= 90),
        "{plain}"
    );
    assert!(on_terminal("NO_COLOR=").contains("\u{1b}[1m"));
}
