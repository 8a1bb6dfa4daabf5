//! What each command does to volumes, and prints of them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::{fixture, json, json_error};

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
        "Inodes:     at most 262144, by the quota",
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
    // Who asks for it wants to write there, uncounted.
    let said = volfs.fails(1, &["path", "a"]);
    assert!(
        said.contains("not mounted") && said.contains("--unmounted"),
        "{said}"
    );
    let path = volfs.ok(&["path", "--unmounted", "a"]);
    assert!(fs::metadata(path.trim_end()).unwrap().is_dir());
    let shown = json(&volfs, &["path", "--unmounted", "a"]);
    assert_eq!(shown["path"], path.trim_end());
    assert_eq!(shown["mounted"], false);
}

#[test]
fn rm_goes_through_the_trash_and_purge_does_not() {
    let (_dir, volfs) = fixture();
    volfs.ok(&["create", "a", "b"]);
    let path = volfs.ok(&["path", "--unmounted", "a"]);
    fs::write(format!("{}/f", path.trim_end()), "kept").unwrap();
    assert_eq!(volfs.ok(&["rm", "a"]), "a\n");
    assert_eq!(volfs.names(), ["b"]);
    let trash = json(&volfs, &["trash", "ls"]);
    assert_eq!(trash[0]["info"]["name"], "a");
    assert_eq!(trash[0]["orphan"], false);
    let line = volfs.ok(&["trash", "ls"]);
    assert!(line.lines().nth(1).unwrap().starts_with("a "), "{line}");
    assert_eq!(volfs.ok(&["trash", "restore", "a"]), "a\n");
    let path = volfs.ok(&["path", "--unmounted", "a"]);
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
        json(&volfs, &["trash", "empty", "--yes"]),
        serde_json::json!({"deleted": 2})
    );
    assert_eq!(
        volfs.ok(&["trash", "empty", "--yes"]),
        "0 volumes deleted\n"
    );
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
                .contains("volfs unpin a")
        );
    }
    assert_eq!(volfs.ok(&["unpin", "a"]), "a\n");
    assert_eq!(json(&volfs, &["pin", "a"])[0]["pinned"], true);
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
