//! Commands while the serving process is killed: what only looks is answered; a
//! change is made or not, never in part, and who is not told which can see it.
//!
//! `VOLFS_LONG=1` kills 200 times.

use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::killing::{StopOnPanic, killing, kills};
use crate::support::{Mount, TestDir, output, wait_for};

fn said(mount: &Mount, arguments: &[&str]) -> Output {
    output(&mut mount.volfs().command(arguments))
}

/// Runs what changes nothing.
fn look(mount: &Mount, arguments: &[&str]) -> String {
    let said = said(mount, arguments);
    assert!(said.status.success(), "{arguments:?}: {said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Runs a change until it is made; `is_made` sees whether it is. Returns how often
/// nobody said whether it was.
fn change(mount: &Mount, arguments: &[&str], is_made: impl Fn() -> bool) -> usize {
    let mut unsaid = 0;
    loop {
        let said = said(mount, arguments);
        if said.status.success() {
            assert!(is_made(), "{arguments:?}");
            return unsaid;
        }
        let why = String::from_utf8(said.stderr).unwrap();
        assert!(why.contains("before it replied"), "{arguments:?}: {why}");
        unsaid += 1;
        if is_made() {
            return unsaid;
        }
    }
}

#[test]
fn commands_under_way() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("v");
    fs::write(dir.join("f"), vec![7; 5000]).unwrap();
    let found = |name: &str| {
        let all: serde_json::Value =
            serde_json::from_str(&look(&mount, &["ls", "--json"])).unwrap();
        let all = all.as_array().unwrap();
        all.iter().find(|volume| volume["name"] == name).cloned()
    };
    let stop = AtomicBool::new(false);
    let (unsaid, rounds) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let _stop = StopOnPanic(&stop);
            let (mut unsaid, mut rounds) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let (old, new) = (format!("a{rounds}"), format!("b{rounds}"));
                unsaid += change(&mount, &["create", &old, "--label", "k=v"], || {
                    found(&old).is_some_and(|volume| volume["labels"][0][1] == "v")
                });
                unsaid += change(&mount, &["set", &old, "--quota", "1M"], || {
                    found(&old).unwrap()["limits"]["bytes"] == 1 << 20
                });
                unsaid += change(&mount, &["mv", &old, &new], || {
                    assert!(found(&old).is_none() || found(&new).is_none());
                    found(&new).is_some()
                });
                unsaid += change(&mount, &["rm", "--purge", &new], || found(&new).is_none());
                look(&mount, &["df"]);
                look(&mount, &["stats"]);
                look(&mount, &["inspect", "v"]);
                // Never the directory in the store, as without a mount.
                assert_eq!(look(&mount, &["path", "v"]).trim(), dir.to_str().unwrap());
                rounds += 1;
            }
            (unsaid, rounds)
        });
        killing("commands", &mount, kills(30), &stop);
        worker.join().unwrap()
    });
    println!("{unsaid} of {} changes were not answered", rounds * 4);
    assert_eq!(mount.volfs().names(), ["v"]);
    mount.volfs().ok(&["verify"]);
    assert_eq!(fs::read(dir.join("f")).unwrap(), [7; 5000]);
    assert_eq!(mount.daemon_complaints().matches("panicked").count(), 0);
}

/// The kernel has what was there before when the process that made a change dies
/// before it has told of it.
#[test]
fn what_was_not_told_is_asked_for_again() {
    let armed = TestDir::new();
    let arm = armed.join("armed");
    let mount = Mount::builder()
        .supervised()
        .env("VOLFS_FAILPOINT_FILE", arm.to_str().unwrap())
        .start();
    let names = || {
        let entries = fs::read_dir(mount.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    mount.volfs().ok(&["create", "kept"]);
    let steps: [(&str, &[&str], &str, &str); 5] = [
        ("create.committed", &["create", "a"], "", "a"),
        ("rename.committed", &["mv", "a", "b"], "a", "b"),
        ("remove.committed", &["rm", "b"], "b", ""),
        ("restore.committed", &["trash", "restore", "b"], "", "b"),
        ("remove.committed", &["rm", "--purge", "b"], "b", ""),
    ];
    let is_there = |name: &str| fs::metadata(mount.join(name)).is_ok();
    for (step, command, before, after) in steps {
        // The kernel knows what is there and what is not.
        for name in ["a", "b"] {
            assert_eq!(is_there(name), name == before, "{name} before {command:?}");
        }
        names();
        names();
        fs::write(&arm, step).unwrap();
        let serving = mount.serving_pid();
        said(&mount, command);
        wait_for("another process", || {
            mount.serving_pid().is_some_and(|pid| Some(pid) != serving)
        });
        wait_for(step, || {
            names().contains(&after.to_owned()) || after.is_empty()
        });
        wait_for(step, || !names().contains(&before.to_owned()));
        for name in ["a", "b"] {
            wait_for(step, || is_there(name) == (name == after));
        }
        assert!(!arm.exists(), "{step}");
    }
    assert_eq!(names(), ["kept"]);
}
