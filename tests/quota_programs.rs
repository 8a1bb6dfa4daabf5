//! Programs at the limit of a volume: they are told, nothing breaks, and
//! removing always works.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Mount, output, run, run_in, tree};

/// A volume with these limits.
fn limited(bytes: &str, inodes: &str) -> (Mount, PathBuf) {
    let mount = Mount::new();
    mount
        .volfs()
        .ok(&["create", "v", "--quota", bytes, "--quota-inodes", inodes]);
    let volume = mount.join("v");
    (mount, volume)
}

fn info(mount: &Mount) -> serde_json::Value {
    mount
        .volfs()
        .list()
        .into_iter()
        .find(|v| v["name"] == "v")
        .unwrap()
}

fn used(mount: &Mount) -> (u64, u64) {
    let info = info(mount);
    (
        info["used"]["bytes"].as_u64().unwrap(),
        info["used"]["inodes"].as_u64().unwrap(),
    )
}

/// Bytes that no compression makes fewer.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn fill(path: &Path) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[7; 64 << 10]) {
            break error;
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
}

#[test]
fn removing_and_emptying_at_the_limit() {
    let (mount, v) = limited("4M", "10");
    for n in 0..9 {
        fs::write(v.join(n.to_string()), vec![1; 100_000]).unwrap();
    }
    fill(&v.join("full"));
    assert_eq!(used(&mount), (4 << 20, 10));
    let said = output(
        Command::new("sh")
            .args(["-c", "echo x > more"])
            .current_dir(&v),
    );
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("No space left on device"), "{said}");
    run_in(&v, "truncate", &["-s", "0", "full"]);
    assert_eq!(used(&mount), (9 * 102_400, 10));
    fill(&v.join("full"));
    run_in(&v, "sh", &["-c", ": > full"]);
    fill(&v.join("full"));
    run_in(&v, "rm", &["full", "1", "2"]);
    assert_eq!(used(&mount), (7 * 102_400, 7));
    // Below what is used: nothing grows, all can go.
    mount
        .volfs()
        .ok(&["set", "v", "--quota", "100K", "--quota-inodes", "2"]);
    run_in(&v, "truncate", &["-s", "50000", "3"]);
    run_in(&v, "rm", &["0", "4", "5", "6", "7", "8"]);
    fs::write(v.join("new"), "fits").unwrap();
    assert_eq!(used(&mount), (53_248 + 4096, 2));
    assert_eq!(tree::charged(&mount.host_path("v")), used(&mount));
}

#[test]
fn git_gc_at_the_limit() {
    let (mount, v) = limited("200M", "100000");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"];
        output(
            Command::new("git")
                .args(identity)
                .args(arguments)
                .current_dir(&v),
        )
    };
    let ok = |arguments: &[&str]| {
        let out = git(arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "git {arguments:?}: {said}");
    };
    ok(&["init", "-q", "-b", "main"]);
    ok(&["config", "gc.auto", "0"]);
    for n in 0..12 {
        fs::write(v.join(format!("f{n}")), noise(n + 1, 300_000)).unwrap();
        ok(&["add", "."]);
        ok(&["commit", "-q", "-m", &format!("commit {n}")]);
    }
    let (bytes, inodes) = used(&mount);
    let limit = (bytes + 100_000).to_string();
    mount.volfs().ok(&["set", "v", "--quota", &limit]);
    let gc = git(&["gc", "--quiet"]);
    let said = String::from_utf8_lossy(&gc.stderr).into_owned();
    assert!(
        !gc.status.success(),
        "gc of {bytes} bytes, {inodes} inodes, had room: {said}"
    );
    assert!(
        said.contains("Out of diskspace") || said.contains("No space left"),
        "{said}"
    );
    ok(&["fsck", "--strict"]);
    assert_eq!(
        git(&["log", "--oneline"])
            .stdout
            .iter()
            .filter(|&&b| b == b'\n')
            .count(),
        12
    );
    mount.volfs().ok(&["set", "v", "--quota", "200M"]);
    ok(&["gc", "--quiet"]);
    ok(&["fsck", "--strict"]);
    mount.volfs().ok(&["verify", "v"]);
}

#[test]
fn sqlite_at_the_limit() {
    for journal in ["delete", "wal"] {
        let (mount, v) = limited("4M", "100");
        let sqlite = |sql: &str| output(Command::new("sqlite3").arg(v.join("db")).arg(sql));
        let made = sqlite(&format!(
            "PRAGMA journal_mode={journal}; CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB);"
        ));
        assert!(made.status.success());
        let mut rows = 0;
        let refusal = loop {
            let out = sqlite("INSERT INTO t(b) VALUES (randomblob(200000));");
            if !out.status.success() {
                break String::from_utf8_lossy(&out.stderr).into_owned();
            }
            rows += 1;
            assert!(rows < 100, "{journal}: nothing was refused");
        };
        assert!(
            refusal.contains("database or disk is full"),
            "{journal}: {refusal}"
        );
        let told = |sql| String::from_utf8(sqlite(sql).stdout).unwrap();
        assert_eq!(told("PRAGMA integrity_check;"), "ok\n", "{journal}");
        assert_eq!(
            told("SELECT count(*) FROM t;"),
            format!("{rows}\n"),
            "{journal}"
        );
        mount.volfs().ok(&["set", "v", "--quota", "16M"]);
        assert!(
            sqlite("INSERT INTO t(b) VALUES (randomblob(200000));")
                .status
                .success()
        );
        assert_eq!(told("PRAGMA integrity_check;"), "ok\n", "{journal}");
        mount.volfs().ok(&["verify", "v"]);
    }
}

/// The last line of `df`, its figures.
fn df(path: &Path, arguments: &[&str]) -> Vec<u64> {
    let text = run(Command::new("df").args(arguments).arg(path));
    let line = text.lines().last().unwrap().to_owned();
    line.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn df_and_ls_say_the_same() {
    let (mount, v) = limited("8M", "50");
    fs::create_dir_all(v.join("a/b")).unwrap();
    fs::write(v.join("a/b/f"), vec![1; 5_000_000]).unwrap();
    let (bytes, inodes) = used(&mount);
    assert_eq!((bytes, inodes), (5_001_216 + 8192, 3));
    for dir in [&v, &v.join("a/b"), &v.join("a/b/f")] {
        let of_bytes = df(dir, &["-B1", "--output=size,used,avail"]);
        assert_eq!(of_bytes, [8 << 20, bytes, (8 << 20) - bytes], "{dir:?}");
        let of_inodes = df(dir, &["--output=itotal,iused,iavail"]);
        assert_eq!(of_inodes, [50, inodes, 50 - inodes], "{dir:?}");
    }
    let attributes = run(Command::new("getfattr")
        .args([
            "--absolute-names",
            "--only-values",
            "-n",
            "volfs.used.bytes",
        ])
        .arg(&v));
    assert_eq!(attributes, bytes.to_string());
    let listing = mount.volfs().ok(&["ls"]);
    let line = listing.lines().find(|line| line.starts_with("v ")).unwrap();
    for figure in ["4.8 MiB", "8 MiB", "60%", "3/50"] {
        assert!(line.contains(figure), "{figure} is not in {listing}");
    }
    // Without a limit: the host's figures.
    mount
        .volfs()
        .ok(&["set", "v", "--quota", "none", "--quota-inodes", "none"]);
    let host = df(mount.store(), &["-B1", "--output=size"]);
    assert_eq!(df(&v, &["-B1", "--output=size"]), host);
    let listing = mount.volfs().ok(&["ls"]);
    let line = listing.lines().find(|line| line.starts_with("v ")).unwrap();
    assert!(!line.contains('%') && line.contains("4.8 MiB"), "{listing}");
    let info = info(&mount);
    assert_eq!(info["used"]["bytes"], bytes);
    assert_eq!(info["used_is_exact"], true);
}

#[test]
fn default_limits_of_mkdir() {
    let mount = Mount::builder()
        .args(&["--default-quota", "64K", "--default-quota-inodes", "3"])
        .start();
    let v = mount.volume("v");
    fill(&v.join("f"));
    assert_eq!(used(&mount), (64 << 10, 1));
    assert_eq!(info(&mount)["limits"]["inodes"], 3);
}

#[test]
fn a_warning_once_per_crossing() {
    let (mut mount, v) = limited("1M", "100");
    let events = |mount: &Mount| -> Vec<(String, u64)> {
        let text = mount.volfs().ok(&["events", "--json"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let brief = |e: &serde_json::Value| {
            assert_eq!(e["volume"], "v");
            (
                e["event"].as_str().unwrap().to_owned(),
                e["percent"].as_u64().unwrap(),
            )
        };
        all.iter().map(brief).collect()
    };
    let bytes = |percent| ("quota-bytes".to_owned(), percent);
    let write =
        |percent: usize| fs::write(v.join("f"), vec![1; (1 << 20) / 100 * percent]).unwrap();
    write(70);
    assert_eq!(events(&mount), []);
    // Seen although it is over at once.
    write(85);
    fs::remove_file(v.join("f")).unwrap();
    assert_eq!(events(&mount), [bytes(80)]);
    write(97);
    let expected = [bytes(80), bytes(80), bytes(95)];
    let jumped = [bytes(80), bytes(95)];
    let seen = events(&mount);
    assert!(seen == expected || seen == jumped, "{seen:?}");
    for n in 0..85 {
        fs::write(v.join(format!("i{n}")), "").unwrap();
    }
    assert_eq!(
        events(&mount).last(),
        Some(&("quota-inodes".to_owned(), 80))
    );
    let all = events(&mount);
    let file = fs::read_to_string(mount.join(".volfs/events.jsonl")).unwrap();
    assert_eq!(file.lines().count(), all.len());
    assert!(
        mount.daemon_log().contains("has reached 80% of its quota"),
        "{}",
        mount.daemon_log()
    );
    let text = mount.volfs().ok(&["events"]);
    assert!(
        text.contains("volume v has reached 95% of its quota"),
        "{text}"
    );
    // Kept over a restart, and not told again by it.
    mount.remount();
    assert_eq!(events(&mount), all);
    mount.stop();
    assert_eq!(events(&mount), all);
    mount.start();
}
