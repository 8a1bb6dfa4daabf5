//! Every change is in the log: who made it, and what; by command with a daemon
//! and without one, and through the mount.

use std::fs;

use super::Place;
use super::support::wait_for;

/// The lines of the record.
fn record(place: &Place) -> Vec<String> {
    let log = place.log();
    let lines = log.lines().filter(|line| line.contains("volfs::audit]"));
    lines.map(str::to_owned).collect()
}

fn assert_recorded(place: &Place, what: &[&str]) {
    let found = |line: &String| what.iter().all(|part| line.contains(part));
    wait_for("the log has it", || record(place).iter().any(found));
}

#[test]
fn changes_by_command_are_recorded() {
    let place = Place::new();
    place.mount(&[]);
    let ok = |arguments: &[&str]| drop(place.volfs.ok(arguments));
    ok(&["create", "a"]);
    ok(&["set", "a", "--quota", "5M"]);
    ok(&["mv", "a", "b"]);
    ok(&["pin", "b"]);
    place.volfs.fails(1, &["rm", "b"]);
    ok(&["unpin", "b"]);
    ok(&["rm", "b"]);
    ok(&["trash", "restore", "b"]);
    ok(&["rm", "b"]);
    ok(&["trash", "empty", "--yes"]);
    ok(&["config", "trash.retention", "30d"]);
    let by = "user id 0, process ";
    let commands: [&[&str]; 9] = [
        &["volfs create a): create {", "\"name\":\"a\"", ": done"],
        &["volfs set a --quota 5M): change {", "5242880", ": done"],
        &["volfs mv a b): rename {", "\"to\":\"b\"", ": done"],
        &["volfs pin b): change {", "\"pinned\":true", ": done"],
        &["volfs rm b): remove {", ": refused: volume \"b\" is pinned"],
        &["volfs rm b): remove {", "\"name\":\"b\"", ": done"],
        &["volfs trash restore b): restore {", ": done"],
        &["volfs trash empty --yes): empty-trash {", ": done"],
        &["volfs config trash.retention 30d): set {", ": done"],
    ];
    for what in commands {
        assert_recorded(&place, &[&[by], what].concat());
    }
    // Looking is not recorded.
    let before = record(&place).len();
    ok(&["ls"]);
    ok(&["trash", "ls"]);
    ok(&["stats"]);
    assert_eq!(record(&place).len(), before);
    place.umount();
}

#[test]
fn changes_through_the_mount_are_recorded() {
    let place = Place::new();
    place.mount(&[]);
    let dir = place.mountpoint.join("a");
    fs::create_dir(&dir).unwrap();
    let by = format!("user id 0, process {} (", std::process::id());
    let setfattr = std::process::Command::new("setfattr")
        .args(["-n", "volfs.quota.bytes", "-v", "1M"])
        .arg(&dir)
        .status();
    assert!(setfattr.unwrap().success());
    fs::rename(&dir, place.mountpoint.join("b")).unwrap();
    fs::remove_dir(place.mountpoint.join("b")).unwrap();
    let by = by.as_str();
    let setfattr = "(setfattr), in the mount: set \"volfs.quota.bytes\" of volume Some(\"a\")";
    for what in [
        &[by, "in the mount: mkdir \"a\": done"][..],
        &[setfattr, "1M"],
        &[by, "in the mount: rename \"a\" to \"b\": done"],
        &[by, "in the mount: rmdir \"b\": done"],
    ] {
        assert_recorded(&place, what);
    }
    place.umount();
}

#[test]
fn without_a_daemon_they_go_where_there_is_a_log() {
    let place = Place::new();
    place.volfs.ok(&["create", "a"]);
    assert!(!place.volfs.store().join("daemon.log").exists());
    place.mount(&[]);
    place.umount();
    let before = record(&place).len();
    place.volfs.ok(&["rm", "a"]);
    place.volfs.fails(1, &["trash", "restore", "b"]);
    place.volfs.ok(&["ls"]);
    let record = &record(&place)[before..];
    assert_eq!(record.len(), 2, "{record:?}");
    let what = "volfs rm a), without a daemon: remove {\"how\":\"trash\",\"name\":\"a\"}: done";
    assert!(record[0].contains(what), "{record:?}");
    let what = "\"which\":\"b\"}: refused: nothing in the trash is called";
    assert!(record[1].contains(what), "{record:?}");
}
