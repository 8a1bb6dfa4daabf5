//! The command line on a store that no daemon serves: what each command prints
//! and changes, in text and in JSON, its exit codes, and what it says about
//! input that makes no sense.

mod support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use serde_json::Value;
use support::{TestDir, Volfs};

/// A store with nothing in it yet, not even itself.
fn fixture() -> (TestDir, Volfs) {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    (dir, volfs)
}

/// What a command prints with `--json`.
fn json(volfs: &Volfs, arguments: &[&str]) -> Value {
    let text = volfs.ok(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text:?}"))
}

/// The error that a command prints with `--json`, and its exit code.
fn json_error(volfs: &Volfs, code: i32, arguments: &[&str]) -> Value {
    let text = volfs.fails(code, &[arguments, &["--json"]].concat());
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text:?}"));
    value["error"].clone()
}

#[test]
fn create_prints_names_and_makes_what_was_asked_for() {
    let (_dir, volfs) = fixture();
    assert_eq!(volfs.ok(&["create", "a", "b"]), "a\nb\n");
    assert_eq!(volfs.ok(&["create", "-q", "c"]), "");
    let made = json(
        &volfs,
        &[
            "create",
            "d",
            "--quota",
            "1.5G",
            "--quota-inodes",
            "7",
            "--label",
            "k=v=w",
            "--label",
            "e=",
            "--owner",
            "1234:5678",
            "--mode",
            "1777",
        ],
    );
    let made = &made[0];
    assert_eq!(made["name"], "d");
    assert_eq!(made["kind"], "directory");
    assert_eq!(made["limits"]["bytes"], 3_u64 << 29);
    assert_eq!(made["limits"]["inodes"], 7);
    assert_eq!(made["labels"], serde_json::json!([["k", "v=w"], ["e", ""]]));
    assert_eq!(made["used"], serde_json::json!({"bytes": 0, "inodes": 0}));
    let root = fs::metadata(made["path"].as_str().unwrap()).unwrap();
    assert_eq!((root.uid(), root.gid()), (1234, 5678));
    assert_eq!(root.mode() & 0o7777, 0o1777);
    assert_eq!(volfs.names(), ["a", "b", "c", "d"]);
}

#[test]
fn ls_shows_the_newest_first_with_limits_and_labels() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "old", "--label", "team=build"]);
    volfs.ok(&["create", "new", "--quota", "512M", "--quota-inodes", "10"]);
    volfs.ok(&["set", "old", "--pin"]);
    let text = volfs.ok(&["ls"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "NAME", "KIND", "USED", "LIMIT", "USE%", "INODES", "CREATED", "LABELS"
        ]
    );
    assert_eq!(
        lines[1][..7],
        ["new", "directory", "0", "B", "512", "MiB", "0%"]
    );
    assert_eq!(lines[1][7], "0/10");
    assert_eq!(lines[2][..6], ["old", "directory", "0", "B", "-", "-"]);
    assert_eq!(lines[2][8..], ["(pinned)", "team=build"]);
    assert!(!text.contains('\u{1b}'), "no colours into a pipe: {text:?}");
    assert_eq!(volfs.ok(&["list"]), text, "the alias");
    let list = volfs.list();
    assert_eq!(list[0]["name"], "new");
    let created = list[0]["created"].as_str().unwrap();
    assert!(
        created.ends_with('Z') && created.as_bytes()[10] == b'T',
        "{created}"
    );
}

#[test]
fn an_empty_store_lists_nothing() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    volfs.ok(&["rm", "--purge", "a"]);
    assert_eq!(volfs.ok(&["ls"]).lines().count(), 1, "only the head");
    assert_eq!(json(&volfs, &["ls"]), serde_json::json!([]));
    assert_eq!(json(&volfs, &["trash", "ls"]), serde_json::json!([]));
}

#[test]
fn inspect_shows_everything() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a", "--quota", "1G", "--label", "k=v"]);
    let text = volfs.ok(&["inspect", "a"]);
    for part in [
        "Name:       a",
        "Kind:       directory",
        "Quota:      1 GiB (1073741824 bytes)",
        "Inodes:     no limit",
        "Labels:     k=v",
        "Pinned:     no",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let shown = json(&volfs, &["inspect", "a"]);
    assert_eq!(shown[0]["limits"]["bytes"], 1 << 30);
    assert_eq!(shown[0]["mounted_at"], Value::Null);
    assert_eq!(shown[0]["holders"], serde_json::json!([]));
    assert_eq!(shown[0]["id"].as_str().unwrap().len(), 32);
}

#[test]
fn path_is_the_directory_in_the_store() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    let path = volfs.ok(&["path", "a"]);
    assert!(fs::metadata(path.trim_end()).unwrap().is_dir());
    let shown = json(&volfs, &["path", "a"]);
    assert_eq!(shown["path"], path.trim_end());
    assert_eq!(shown["mounted"], false);
}

#[test]
fn rm_goes_through_the_trash_and_purge_does_not() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a", "b"]);
    let path = volfs.ok(&["path", "a"]);
    fs::write(format!("{}/f", path.trim_end()), "kept").unwrap();
    assert_eq!(volfs.ok(&["rm", "a"]), "a\n");
    assert_eq!(volfs.names(), ["b"]);
    let trash = json(&volfs, &["trash", "ls"]);
    assert_eq!(trash[0]["info"]["name"], "a");
    assert_eq!(trash[0]["orphan"], false);
    let line = volfs.ok(&["trash", "ls"]);
    assert!(line.lines().nth(1).unwrap().starts_with("a "), "{line}");
    assert_eq!(volfs.ok(&["trash", "restore", "a"]), "a\n");
    let path = volfs.ok(&["path", "a"]);
    assert_eq!(fs::read(format!("{}/f", path.trim_end())).unwrap(), b"kept");
    let removed = json(&volfs, &["rm", "--purge", "a"]);
    assert_eq!(
        removed,
        serde_json::json!([{"name": "a", "removed": "purge"}])
    );
    assert_eq!(json(&volfs, &["trash", "ls"]), serde_json::json!([]));
    assert!(!fs::exists(path.trim_end()).unwrap());
}

#[test]
fn trash_restores_under_another_name_and_empties() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a"]);
    volfs.ok(&["rm", "a"]);
    volfs.ok(&["create", "a"]);
    let taken = json_error(&volfs, 1, &["trash", "restore", "a"]);
    assert_eq!(taken["code"], "exists");
    let message = taken["message"].as_str().unwrap();
    assert!(
        message.contains("volfs trash restore a --as NEW"),
        "{message}"
    );
    assert_eq!(
        json(&volfs, &["trash", "restore", "a", "--as", "b"])["name"],
        "b"
    );
    volfs.ok(&["rm", "a", "b"]);
    assert_eq!(volfs.ok(&["trash", "empty", "a"]), "1 volume deleted\n");
    volfs.ok(&["create", "a"]);
    volfs.ok(&["rm", "a"]);
    assert_eq!(
        json(&volfs, &["trash", "empty"]),
        serde_json::json!({"deleted": 2})
    );
    assert_eq!(volfs.ok(&["trash", "empty"]), "0 volumes deleted\n");
    for arguments in [["trash", "restore", "a"], ["trash", "empty", "a"]] {
        assert_eq!(json_error(&volfs, 1, &arguments)["code"], "not-in-trash");
    }
}

#[test]
fn mv_renames() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a", "c"]);
    assert_eq!(volfs.ok(&["mv", "a", "b"]), "b\n");
    assert_eq!(json(&volfs, &["mv", "b", "d/"])["name"], "d");
    assert_eq!(volfs.names(), ["c", "d"]);
    assert_eq!(json_error(&volfs, 1, &["mv", "d", "c"])["code"], "exists");
    assert_eq!(
        json_error(&volfs, 1, &["mv", "gone", "e"])["code"],
        "not-found"
    );
    assert_eq!(
        json_error(&volfs, 2, &["mv", "d", ".e"])["code"],
        "invalid-name"
    );
    assert_eq!(volfs.names(), ["c", "d"]);
}

#[test]
fn set_changes_only_what_it_is_told() {
    let (_dir, volfs) = fixture();
    volfs.ok(&[
        "create", "a", "--quota", "1G", "--label", "x=1", "--label", "y=2",
    ]);
    let set = json(&volfs, &["set", "a", "--quota-inodes", "5"]);
    assert_eq!(
        set["limits"],
        serde_json::json!({"bytes": 1 << 30, "inodes": 5})
    );
    let set = json(
        &volfs,
        &[
            "set",
            "a",
            "--quota",
            "none",
            "--label",
            "z=3",
            "--unset-label",
            "x",
        ],
    );
    assert_eq!(
        set["limits"],
        serde_json::json!({"bytes": null, "inodes": 5})
    );
    assert_eq!(set["labels"], serde_json::json!([["y", "2"], ["z", "3"]]));
    assert_eq!(volfs.ok(&["set", "a", "--pin"]), "a\n");
    for how in [&["rm", "a"][..], &["rm", "--purge", "a"]] {
        let pinned = json_error(&volfs, 1, how);
        assert_eq!(pinned["code"], "pinned");
        assert!(
            pinned["message"]
                .as_str()
                .unwrap()
                .contains("volfs set a --unpin")
        );
    }
    volfs.ok(&["set", "a", "--unpin"]);
    volfs.ok(&["rm", "a"]);
}

#[test]
fn commands_on_many_names_go_on_past_a_failure() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "b"]);
    let answer = volfs.run(&["create", "a", "b", "c"]);
    assert_eq!(answer.code, Some(1));
    assert_eq!(answer.out, "a\nc\n");
    assert_eq!(answer.err, "volfs: volume \"b\" already exists\n");
    let answer = volfs.run(&["rm", "--json", "a", "gone", "c"]);
    assert_eq!(answer.code, Some(1));
    let removed: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(removed.as_array().unwrap().len(), 2);
    let error: Value = serde_json::from_str(&answer.err).unwrap();
    assert_eq!(error["error"]["detail"]["name"], "gone");
    let answer = volfs.run(&["inspect", "gone", "b"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.out.contains("Name:       b"));
    assert_eq!(volfs.names(), ["b"]);
}

#[test]
fn a_bad_name_is_refused_before_anything_is_done() {
    let (dir, volfs) = fixture();
    let long = "n".repeat(256);
    for (name, part) in [
        ("", "cannot be empty"),
        (".hidden", "must start with a letter or digit"),
        ("../etc", "must start with a letter or digit"),
        ("a/b", "contains '/'"),
        ("a b", "contains ' '"),
        ("a\n", "contains '\\n'"),
        ("naïve", "contains 'ï'"),
        (long.as_str(), "has 256 bytes; the most is 255"),
    ] {
        for arguments in [
            vec!["create", "good", name],
            vec!["rm", "good", name],
            vec!["inspect", name],
            vec!["path", name],
            vec!["mv", "good", name],
            vec!["set", name, "--pin"],
            vec!["trash", "restore", "good", "--as", name],
        ] {
            let error = json_error(&volfs, 2, &arguments);
            assert_eq!(error["code"], "invalid-name", "{arguments:?}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
    }
    let not_utf8 = OsString::from_vec(b"a\xff".to_vec());
    let said = volfs.fails(2, &[OsStr::new("create"), OsStr::new("good"), &not_utf8]);
    assert!(said.contains("not valid UTF-8"), "{said}");
    assert!(!dir.join("store").exists(), "nothing was made");
}

#[test]
fn values_that_make_no_sense_are_usage_errors() {
    let (dir, volfs) = fixture();
    for (arguments, part) in [
        (&["create", "a", "--quota", "0"][..], "is zero"),
        (&["create", "a", "--quota", "-1G"], "is negative"),
        (&["create", "a", "--quota", "--disk"], "a size is missing"),
        (&["create", "a", "--quota", "1X"], "is not a unit"),
        (&["create", "a", "--quota", "much"], "is not a size"),
        (&["create", "a", "--quota", "9E"], "too large"),
        (&["create", "a", "--quota", ""], "is not a size"),
        (
            &["create", "a", "--quota-inodes", "0"],
            "would allow no file",
        ),
        (
            &["create", "a", "--quota-inodes", "1.5"],
            "not a number of inodes",
        ),
        (
            &["create", "a", "--size", "1G"],
            "a directory volume has no size",
        ),
        (&["create", "a", "--disk"], "needs a size"),
        (
            &["create", "a", "--disk", "--size", "1G", "--quota", "1G"],
            "a disk volume takes no quota",
        ),
        (&["create", "a", "--label", "k"], "write KEY=VALUE"),
        (&["create", "a", "--label", "=v"], "write KEY=VALUE"),
        (&["create", "a", "--mode", "888"], "octal"),
        (&["create", "a", "--mode", "77777"], "octal"),
        (
            &["create", "a", "--owner", "no-such-user"],
            "no user is named",
        ),
        (
            &["create", "a", "--owner", "root:no-such-group"],
            "no group is named",
        ),
        (
            &["create", "a", "--owner", "3999999"],
            "write 3999999:GROUP",
        ),
        (&["create"], "required"),
        (&["set", "a"], "required"),
        (&["set", "a", "--pin", "--unpin"], "cannot be used with"),
        (&["set", "a", "--quota", "0"], "is zero"),
        (
            &["set", "a", "--unset-label", "k=v"],
            "not the key of a label",
        ),
        (&["mv", "a"], "required"),
        (&["trash"], "Usage"),
        (&["teleport"], "unrecognized subcommand"),
        (&["ls", "--frobnicate"], "unexpected argument"),
        (
            &["mount", "/x", "-o", "frobnicate"],
            "unknown mount option \"frobnicate\"",
        ),
        (
            &["mount", "/x", "--rmdir", "never"],
            "possible values: empty, trash",
        ),
        (&["mount", "/x", "--root-mode", "9"], "octal"),
        (&["mount"], "required"),
    ] {
        let said = volfs.fails(2, arguments);
        assert!(
            said.contains(part),
            "{arguments:?} should say {part:?}: {said}"
        );
    }
    let usage = json_error(&volfs, 2, &["set", "a"]);
    assert_eq!(usage["code"], "usage");
    assert!(!dir.join("store").exists(), "nothing was made");
}

#[test]
fn what_is_no_store_is_said_and_left_alone() {
    let dir = TestDir::new();
    let missing = Volfs::new(&dir.join("missing"));
    for arguments in [
        &["ls"][..],
        &["inspect", "a"],
        &["rm", "a"],
        &["trash", "ls"],
    ] {
        let said = missing.fails(1, arguments);
        assert!(said.contains("does not exist"), "{said}");
        assert!(said.contains("volfs create"), "what to do: {said}");
    }
    assert!(!dir.join("missing").exists());
    fs::write(dir.join("file"), "").unwrap();
    let said = Volfs::new(&dir.join("file")).fails(1, &["create", "a"]);
    assert!(said.contains("not a directory"), "{said}");
    let foreign = dir.mkdir("foreign");
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    for arguments in [&["create", "a"][..], &["ls"], &["mount", "/"]] {
        let said = Volfs::new(&foreign).fails(1, arguments);
        assert!(
            said.contains("is no store and holds \"letter.txt\""),
            "{said}"
        );
    }
    let left: Vec<_> = fs::read_dir(&foreign).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

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
    // Where another user can execute it, whatever the build directory's mode.
    let program = dir.join("volfs");
    fs::copy(support::cli::BINARY, &program).unwrap();
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
        let example = if command == "doctor" {
            "missing"
        } else {
            "Examples:"
        };
        assert!(help.contains(example), "{command} --help has no examples");
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
        "loop devices",
        "store",
        "store's file system",
        "file handles",
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
