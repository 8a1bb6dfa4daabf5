//! The trash: retention over restarts, deletion in the background and over
//! crashes, coming back with the right quota; and pins.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Mount, TestDir, Volfs, poll, wait_for};

fn json_of(volfs: &Volfs, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&volfs.ok(&all)).unwrap()
}

fn trashed(volfs: &Volfs) -> Vec<String> {
    let trash = json_of(volfs, &["trash", "ls"]);
    let names = trash.as_array().unwrap().iter();
    names
        .map(|it| it["info"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn purging(volfs: &Volfs) -> Vec<Value> {
    json_of(volfs, &["trash", "progress"])
        .as_array()
        .unwrap()
        .clone()
}

/// Directories in the store's `trash/`.
fn directories(store: &Path) -> usize {
    fs::read_dir(store.join("trash")).unwrap().count()
}

/// Puts `count` files into a volume's directory in the store.
fn many_files(volfs: &Volfs, name: &str, count: usize) {
    let inspected = json_of(volfs, &["inspect", name]);
    let data = Path::new(inspected[0]["path"].as_str().unwrap());
    for i in 0..count {
        if i % 100 == 0 {
            fs::create_dir(data.join(format!("d{}", i / 100))).unwrap();
        }
        fs::write(data.join(format!("d{}/f{i}", i / 100)), "").unwrap();
    }
}

#[test]
fn what_nobody_may_change_is_purged() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let v = mount.volume("v");
    for dir in ["plain", "immutable/deep", "adding"] {
        fs::create_dir_all(v.join(dir)).unwrap();
        fs::write(v.join(dir).join("f"), "text").unwrap();
        fs::write(v.join(dir).join("logged"), "text").unwrap();
    }
    let chattr = |change: &str, names: &[&str]| {
        let mut command = std::process::Command::new("chattr");
        let done = command.arg(change).args(names).current_dir(&v).status();
        assert!(done.unwrap().success(), "chattr {change} {names:?}");
    };
    chattr(
        "+i",
        &["plain/f", "immutable/deep/f", "immutable/deep", "immutable"],
    );
    chattr("+a", &["plain/logged", "adding/logged", "adding"]);
    chattr("+i", &["."]);
    fs::remove_file(v.join("plain/f")).unwrap_err();
    // It is moved to the trash and back, and read and copied.
    volfs.ok(&["rm", "v"]);
    volfs.ok(&["trash", "restore", "v"]);
    volfs.ok(&["clone", "v", "copy"]);
    volfs.ok(&["verify"]);
    for name in ["v", "copy"] {
        volfs.ok(&["rm", "--purge", "--wait", name]);
    }
    assert_eq!(directories(mount.store()), 0);
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn retention_is_honoured_over_a_restart() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    assert_eq!(
        json_of(&volfs, &["config"])["trash.retention"],
        "none",
        "nothing is lost by default"
    );
    assert_eq!(
        volfs.ok(&["config", "trash.retention", "3s"]),
        "trash.retention  3s\n"
    );
    assert_eq!(volfs.ok(&["config", "trash.retention"]), "3s\n");
    fs::write(mount.volume("old").join("f"), "x").unwrap();
    mount.volume("kept");
    let removed = Instant::now();
    volfs.ok(&["rm", "old"]);
    assert_eq!(trashed(&volfs), ["old"]);
    mount.remount();
    assert_eq!(volfs.ok(&["config", "trash.retention"]), "3s\n");
    let gone = poll(Duration::from_secs(20), || {
        trashed(&volfs).is_empty().then_some(())
    });
    assert!(gone.is_some(), "it is still there");
    assert!(
        removed.elapsed() >= Duration::from_secs(3),
        "{:?}",
        removed.elapsed()
    );
    wait_for("its files are gone", || directories(mount.store()) == 0);
    assert_eq!(volfs.names(), ["kept"]);
    let log = mount.daemon_log();
    assert!(!log.contains("ERROR"), "{log}");

    // Long enough is long enough, and a mount may have its own.
    volfs.ok(&["config", "trash.retention", "30d"]);
    volfs.ok(&["rm", "kept"]);
    mount.kill();
    mount.start();
    // The look at the start has been.
    wait_for("the daemon looks at the trash", || {
        !trashed(&volfs).is_empty()
    });
    mount.stop();
    let strict = Mount::builder().args(&["-o", "trash_retention=1s"]).start();
    let said = strict.volfs().ok(&["config"]);
    assert!(
        said.contains("none") && said.contains("was told 1s"),
        "{said}"
    );
    strict.volume("v");
    strict.volfs().ok(&["rm", "v"]);
    wait_for("the mount's own retention", || {
        trashed(&strict.volfs()).is_empty()
    });
    // Without a daemon nothing goes by itself.
    assert_eq!(trashed(&volfs), ["kept"]);
}

#[test]
fn settings_and_their_errors() {
    let mount = Mount::new();
    let dir = TestDir::new();
    let offline = Volfs::new(&dir.join("store"));
    offline.ok(&["create", "v"]);
    for volfs in [mount.volfs(), offline] {
        assert_eq!(
            volfs.ok(&["config"]),
            "trash.retention  none\nnames            portable\n"
        );
        volfs.ok(&["config", "trash.retention", "2w"]);
        assert_eq!(
            json_of(&volfs, &["config", "trash.retention"])["trash.retention"],
            "2w"
        );
        for bad in ["soon", "30", "1.5d", "1y"] {
            let said = volfs.fails(2, &["config", "trash.retention", bad]);
            assert!(said.contains("none"), "{said}");
        }
        let said = volfs.fails(2, &["config", "colour", "red"]);
        assert!(said.contains("trash.retention"), "{said}");
        volfs.ok(&["config", "trash.retention", "none"]);
        assert_eq!(volfs.ok(&["config", "trash.retention"]), "none\n");
    }
    let said = mount
        .volfs()
        .fails(2, &["mount", "/mnt", "-o", "trash_retention=soon"]);
    assert!(
        said.contains("trash_retention") && said.contains("soon"),
        "{said}"
    );
}

#[test]
fn a_large_volume_is_deleted_in_the_background() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    mount.volume("large");
    mount.stop();
    many_files(&volfs, "large", 30_000);
    volfs.ok(&["verify", "--repair"]);
    mount.start();
    mount.volume("other");
    let start = Instant::now();
    volfs.ok(&["rm", "--purge", "large"]);
    let answered = start.elapsed();
    // Its name is free at once, and everything else goes on.
    fs::write(mount.volume("large").join("f"), "new").unwrap();
    let seen = purging(&volfs);
    println!("rm --purge of 30,000 files answered in {answered:?}; then {seen:?}");
    assert_eq!(seen.len(), 1, "it was faster than this test");
    assert_eq!(seen[0]["name"], "large");
    assert_eq!(seen[0]["total"], 30_000 + 300 + 2);
    // It gets on.
    let first = seen[0]["deleted"].as_u64().unwrap();
    wait_for("more is deleted", || {
        purging(&volfs)
            .first()
            .is_none_or(|it| it["deleted"].as_u64().unwrap() > first)
    });
    let table = volfs.ok(&["trash", "progress"]);
    assert!(table.starts_with("NAME"), "{table}");

    // Killed in the middle: the next start does not wait for the rest.
    mount.kill();
    let left = count(&mount.store().join("trash"));
    assert!(left > 1000, "{left} are left: it was faster than this test");
    let start = Instant::now();
    mount.start();
    let mounted = start.elapsed();
    let left_then = count(&mount.store().join("trash"));
    println!(
        "{left} files were left when it was killed; mounted again in {mounted:?} with {left_then} left"
    );
    // And an end in order does not either.
    mount.stop();
    assert_eq!(volfs.names(), ["large", "other"]);
    mount.start();
    wait_for("all is deleted", || purging(&volfs).is_empty());
    assert_eq!(directories(mount.store()), 0);
    assert_eq!(fs::read_to_string(mount.join("large/f")).unwrap(), "new");

    // A command without a daemon waits for the end; so does --wait.
    volfs.ok(&["rm", "--purge", "--wait", "other"]);
    assert_eq!(directories(mount.store()), 0);
    mount.stop();
    many_files(&volfs, "large", 5_000);
    volfs.ok(&["rm", "large"]);
    assert_eq!(
        json_of(&volfs, &["trash", "empty", "--yes"]),
        json!({"deleted": 1})
    );
    assert_eq!(directories(mount.store()), 0);
}

fn count(dir: &Path) -> usize {
    let mut found = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            found += 1;
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_deletion_without_a_daemon_can_be_interrupted() {
    use nix::sys::signal::{Signal, kill};

    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "large", "keep"]);
    many_files(&volfs, "large", 30_000);
    let before = count(volfs.store());
    let rm = volfs
        .command(&["rm", "--purge", "large"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("it deletes", || count(volfs.store()) < before - 100);
    kill(
        nix::unistd::Pid::from_raw(rm.id().cast_signed()),
        Signal::SIGINT,
    )
    .unwrap();
    let out = rm.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the rest is deleted when the store is next used"),
        "{said}"
    );
    assert_eq!(directories(volfs.store()), 1);
    assert_eq!(volfs.names(), ["keep"]);
    volfs.ok(&["trash", "empty", "--yes"]);
    assert_eq!(directories(volfs.store()), 0);
}

/// Killed before the N-th file of a deletion, the next start goes on with it,
/// and touches nothing else.
#[test]
#[cfg(feature = "failpoints")]
fn a_deletion_is_cut_at_any_file() {
    use std::os::unix::process::ExitStatusExt;
    for step in [1, 2, 7, 50, 101, 150] {
        let dir = TestDir::new();
        let volfs = Volfs::new(&dir.join("store"));
        volfs.ok(&["create", "keep", "doomed"]);
        many_files(&volfs, "keep", 10);
        many_files(&volfs, "doomed", 150);
        let point = format!("purge.step:{step}");
        let cut = volfs.env("VOLFS_FAILPOINT", &point);
        let status = cut
            .command(&["rm", "--purge", "doomed"])
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{point}: {status}");
        // Cut again while the rest is deleted.
        let cut = volfs.env("VOLFS_FAILPOINT", "purge.step:3");
        let _ = cut.command(&["trash", "empty", "--yes"]).output();
        assert_eq!(volfs.names(), ["keep"]);
        volfs.ok(&["trash", "empty", "--yes"]);
        assert_eq!(directories(volfs.store()), 0, "{point}");
        assert!(trashed(&volfs).is_empty());
        assert!(purging(&volfs).is_empty());
        let kept = json_of(&volfs, &["inspect", "keep"]);
        assert_eq!(count(Path::new(kept[0]["path"].as_str().unwrap())), 11);
    }
}

/// Each step of a volume's way to the trash, back, and to its end, with the
/// daemon killed after it.
#[test]
fn a_full_life_with_a_kill_after_every_step() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    let cut = |mount: &mut Mount| {
        mount.kill();
        mount.start();
    };
    volfs.ok(&[
        "create",
        "v",
        "--quota",
        "64K",
        "--quota-inodes",
        "20",
        "--label",
        "a=1",
    ]);
    cut(&mut mount);
    fs::write(mount.join("v/f"), vec![1; 40 << 10]).unwrap();
    cut(&mut mount);
    volfs.ok(&["rm", "v"]);
    cut(&mut mount);
    assert_eq!((volfs.names(), trashed(&volfs)), (vec![], vec!["v".into()]));
    // A new one has the name meanwhile.
    fs::write(mount.volume("v").join("g"), "second").unwrap();
    cut(&mut mount);
    let said = volfs.fails(1, &["trash", "restore", "v"]);
    assert!(
        said.contains("already exists") && said.contains("--as NEW"),
        "{said}"
    );
    volfs.ok(&["trash", "restore", "v", "--as", "back"]);
    cut(&mut mount);
    assert_eq!(volfs.names(), ["back", "v"]);
    assert_eq!(fs::read_to_string(mount.join("v/g")).unwrap(), "second");
    let back = json_of(&volfs, &["inspect", "back"])[0].clone();
    assert_eq!(back["limits"], json!({"bytes": 64 << 10, "inodes": 20}));
    assert_eq!(back["labels"], json!([["a", "1"]]));
    // The quota of what came back is exact to the page.
    fs::write(mount.join("back/more"), vec![2; 24 << 10]).unwrap();
    let full = fs::write(mount.join("back/one"), "x").unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    let verified = json_of(&volfs, &["verify", "back"]);
    assert_eq!(verified[0]["found"]["bytes"], 64 << 10);
    assert_eq!(verified[0]["accounted"], verified[0]["found"]);
    // At the limit it goes and comes, as before.
    volfs.ok(&["rm", "back"]);
    cut(&mut mount);
    volfs.ok(&["trash", "restore", "back"]);
    let full = fs::write(mount.join("back/one"), "x").unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    fs::remove_file(mount.join("back/more")).unwrap();
    fs::write(mount.join("back/one"), "x").unwrap();
    volfs.ok(&["rm", "back"]);
    cut(&mut mount);
    volfs.ok(&["trash", "empty", "--wait", "--yes"]);
    cut(&mut mount);
    assert!(trashed(&volfs).is_empty());
    assert!(
        volfs
            .fails(1, &["trash", "restore", "back"])
            .contains("back")
    );
    assert_eq!(directories(mount.store()), 0);
    assert_eq!(volfs.names(), ["v"]);
}

#[test]
fn a_pinned_volume_is_never_removed() {
    let mount = Mount::builder().args(&["--rmdir", "trash"]).start();
    let volfs = mount.volfs();
    mount.volume("empty");
    fs::write(mount.volume("full").join("f"), "x").unwrap();
    assert_eq!(volfs.ok(&["pin", "empty", "full"]), "empty\nfull\n");
    for name in ["empty", "full"] {
        let refused = fs::remove_dir(mount.join(name)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{name}");
        let told = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
        assert!(
            told.contains("pinned") && told.contains("volfs unpin"),
            "{told}"
        );
        for how in [
            &["rm", name][..],
            &["rm", "--purge", name],
            &["rm", "--force", name],
        ] {
            assert!(volfs.fails(1, how).contains("pinned"), "{how:?}");
        }
    }
    volfs.run(&["prune", "--filter", "name=*"]);
    assert_eq!(volfs.names(), ["empty", "full"]);
    // It may be renamed, and becomes a disk volume that is pinned.
    fs::rename(mount.join("full"), mount.join("moved")).unwrap();
    volfs.ok(&["set", "empty", "--size", "16M"]);
    assert!(volfs.fails(1, &["rm", "empty"]).contains("pinned"));
    assert_eq!(json_of(&volfs, &["inspect", "moved"])[0]["pinned"], true);
    // One that is not there does not keep the others from it.
    let answer = volfs.run(&["unpin", "moved", "gone", "empty"]);
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (Some(1), "moved\nempty\n")
    );
    fs::remove_dir(mount.join("moved")).unwrap();
    volfs.ok(&["rm", "empty"]);
}
