//! Names, values and stores that make no sense: an error each, and nothing
//! changed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;

use super::support::{TestDir, Volfs};
use super::{fixture, json_error};

#[test]
fn a_bad_name_is_refused_before_anything_is_done() {
    let (dir, volfs) = fixture();
    let long = "n".repeat(256);
    let in_no_store = [
        ("", "cannot be empty"),
        (".hidden", "must start with a letter or digit"),
        ("../etc", "must start with a letter or digit"),
        ("a/b", "contains '/'"),
        ("a\n", "contains '\\n'"),
        (long.as_str(), "has 256 bytes; the most is 255"),
    ];
    let refuses = |(name, part): (&str, &str)| {
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
    };
    in_no_store.into_iter().for_each(refuses);
    let not_utf8 = OsString::from_vec(b"a\xff".to_vec());
    let said = volfs.fails(2, &[OsStr::new("create"), OsStr::new("good"), &not_utf8]);
    assert!(said.contains("not valid UTF-8"), "{said}");
    assert!(!dir.join("store").exists(), "nothing was made");

    // Names that a store can be set to take are the store's own to refuse.
    volfs.ok(&["create", "there"]);
    let in_a_portable_store = [("a b", "contains ' '"), ("naïve", "contains 'ï'")];
    for (name, part) in in_a_portable_store {
        for arguments in [
            vec!["create", "good", name],
            vec!["mv", "there", name],
            vec!["clone", "there", name],
        ] {
            let error = json_error(&volfs, 2, &arguments);
            assert_eq!(error["code"], "invalid-name", "{arguments:?}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
    }
    in_no_store.into_iter().for_each(refuses);
    assert_eq!(volfs.names(), ["there"]);
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
