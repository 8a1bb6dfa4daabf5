//! What all users of a mount have together, and none of them alone: the
//! descriptors and the memory of the daemon.

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::user::{ALICE, BOB, as_user};
use support::{Mount, poll, proc, wait_for};

/// The descriptors of these daemons, what open files may take of them, and a
/// volume that is alone.
const LIMIT: u32 = 600;
const FILES: usize = 300;
const SHARE: usize = FILES / 2;
const WAIT: Duration = Duration::from_secs(20);

/// A volume whose files go through the daemon, with one that anybody may open.
fn limited(mount: &Mount, name: &str) -> PathBuf {
    mount.volfs().ok(&["create", name, "--quota", "64M"]);
    let file = mount.join(name).join("f");
    fs::write(&file, "text").unwrap();
    for path in [&mount.join(name), &file] {
        let mode = fs::metadata(path).unwrap().mode_for_all();
        fs::set_permissions(path, mode).unwrap();
    }
    file
}

trait ForAll {
    fn mode_for_all(&self) -> fs::Permissions;
}

impl ForAll for fs::Metadata {
    fn mode_for_all(&self) -> fs::Permissions {
        fs::Permissions::from_mode(
            self.permissions().mode() | 0o666 | if self.is_dir() { 0o111 } else { 0 },
        )
    }
}

/// A file of its own for each open: opens of one share a descriptor.
fn one_of(file: &Path, n: usize) -> PathBuf {
    file.with_file_name(format!("f{n}"))
}

/// As many files beside `file` as a volume may have open, and one more.
fn make_more(file: &Path) {
    for n in 0..=SHARE {
        let file = one_of(file, n);
        fs::write(&file, "text").unwrap();
        let mode = fs::metadata(&file).unwrap().mode_for_all();
        fs::set_permissions(&file, mode).unwrap();
    }
}

/// Opens until that is refused.
fn open_all(mut open: impl FnMut(usize) -> io::Result<File>) -> (Vec<File>, io::Error) {
    let mut files = Vec::new();
    loop {
        match open(files.len()) {
            Ok(file) => files.push(file),
            Err(error) => return (files, error),
        }
        assert!(files.len() < 10_000, "no limit");
    }
}

fn used(mount: &Mount, name: &str) -> serde_json::Value {
    let all = mount.volfs().list();
    let volume = all.into_iter().find(|volume| volume["name"] == name);
    volume.unwrap()["used"].clone()
}

fn verified(mount: &Mount) {
    mount.volfs().ok(&["verify"]);
}

#[test]
fn a_volume_leaves_descriptors_to_all_others() {
    let mount = Mount::builder().descriptors(LIMIT).start();
    let greedy = limited(&mount, "greedy");
    let other = limited(&mount, "other");
    make_more(&greedy);
    make_more(&other);
    let before = used(&mount, "greedy");
    as_user(ALICE, || {
        let (mut files, error) = open_all(|n| File::open(one_of(&greedy, n)));
        assert_eq!(error.raw_os_error(), Some(libc::ENFILE), "{error}");
        assert_eq!(files.len(), SHARE);
        let said = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
        assert!(
            said.starts_with("150 files of volume \"greedy\" are open"),
            "{said}"
        );
        // What cannot be opened is not made either.
        let new = mount.join("greedy/new");
        let made = File::create_new(&new).unwrap_err();
        assert_eq!(made.raw_os_error(), Some(libc::ENFILE), "{made}");
        assert!(!new.exists());
        // Each that is closed can be opened again.
        files.pop();
        files.push(File::create_new(&new).unwrap());
        fs::remove_file(&new).unwrap();
        assert!(File::open(one_of(&greedy, SHARE)).is_err());
        // Others are not kept out.
        assert_eq!(fs::read_to_string(&other).unwrap(), "text");
        assert_eq!(
            fs::read_dir(mount.join("other")).unwrap().count(),
            SHARE + 2
        );
        let (others, _) = open_all(|n| File::create(one_of(&other, n)));
        assert_eq!(others.len(), SHARE / 2);
        drop(files);
    });
    fs::create_dir(mount.join("third")).unwrap();
    fs::write(mount.join("third/f"), "text").unwrap();
    assert_eq!(mount.volfs().names(), ["greedy", "other", "third"]);
    assert!(mount.daemon_log().contains("an open is refused"));
    // All of it again: none has been lost.
    wait_for("all are closed", || {
        open_all(|n| File::open(one_of(&greedy, n))).0.len() == SHARE
    });
    wait_for("usage is as before", || used(&mount, "greedy") == before);
    verified(&mount);
}

#[test]
fn opens_of_one_file_share_a_descriptor() {
    const OPENS: usize = 2 * SHARE;
    let mount = Mount::builder().descriptors(LIMIT).supervised().start();
    let file = limited(&mount, "v");
    let text: String = (0..OPENS + 10).map(|n| format!("{:x}", n % 16)).collect();
    fs::write(&file, &text).unwrap();
    let descriptors = || {
        let pid = poll(WAIT, || mount.serving_pid());
        proc::descriptors(pid.expect("a process serves"))
    };
    let before = descriptors();
    let flags = [0, libc::O_DSYNC, libc::O_APPEND, libc::O_DIRECT];
    let open = |n: usize| {
        let how = flags[n % flags.len()];
        let mut options = File::options();
        options.read(true).write(n.is_multiple_of(3));
        options.custom_flags(how).open(&file)
    };
    let mut files: Vec<File> = (0..OPENS).map(|n| open(n).unwrap()).collect();
    for (n, file) in files.iter_mut().enumerate() {
        file.seek(SeekFrom::Start(n as u64)).unwrap();
    }
    for round in 0..3 {
        // To read, and to read and write, each with and without O_DSYNC.
        let more = descriptors().saturating_sub(before);
        assert!(more < 16, "{more} more descriptors for {OPENS} open files");
        for (n, file) in files.iter_mut().enumerate() {
            // Each has an offset of its own, over deaths of the daemon.
            let mut byte = [0];
            file.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], text.as_bytes()[n + round], "open file {n}");
        }
        mount.kill_serving();
    }
    let appending = files.iter().enumerate().filter(|(n, _)| n % 12 == 6);
    let appended = appending.map(|(_, mut file)| file.write_all(b"more").unwrap());
    let appended = 4 * appended.count();
    assert_ne!(appended, 0);
    assert_eq!(
        files[0].metadata().unwrap().len(),
        (text.len() + appended) as u64
    );
    files[0].sync_all().unwrap();
    drop(files);
    wait_for("all are closed", || descriptors() <= before + 8);
    verified(&mount);
}

#[test]
fn protected_files_stay_open_over_a_death() {
    let mount = Mount::builder().supervised().start();
    let log = limited(&mount, "v");
    let fixed = log.with_file_name("fixed");
    fs::write(&fixed, "text").unwrap();
    let open = |file: &Path, flags| {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(flags);
        options.open(file)
    };
    let mut appending = open(&log, libc::O_APPEND).unwrap();
    let writing = open(&fixed, 0).unwrap();
    let chattr = |change: &str, file: &Path| {
        let done = Command::new("chattr").arg(change).arg(file).status();
        assert!(done.unwrap().success(), "chattr {change} {file:?}");
    };
    chattr("+a", &log);
    chattr("+i", &fixed);
    for n in 0..2 {
        appending.write_all(b"more").unwrap();
        assert_eq!(appending.metadata().unwrap().len(), 4 + 4 * (n + 1));
        assert!(writing.write_at(b"x", 0).is_err());
        let mut text = [0; 4];
        writing.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"text");
        assert_eq!(
            open(&fixed, 0).unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
        assert_eq!(open(&log, 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        open(&log, libc::O_APPEND).unwrap();
        mount.kill_serving();
    }
    chattr("-a", &log);
    chattr("-i", &fixed);
    drop((appending, writing));
    fs::write(&fixed, "other").unwrap();
    verified(&mount);
    let complaints = mount.daemon_complaints();
    assert!(!complaints.contains("lost"), "{complaints}");
}

#[test]
fn a_successor_goes_on_with_all_that_is_open() {
    let mount = Mount::builder().descriptors(LIMIT).supervised().start();
    let file = limited(&mount, "v");
    make_more(&file);
    let before = used(&mount, "v");
    // Without names: the supervisor keeps each of them, too.
    let at = |n: usize| mount.join(format!("v/{n}"));
    let (files, _) = open_all(|n| {
        let file = File::create_new(at(n))?;
        fs::remove_file(at(n))?;
        Ok(file)
    });
    assert_eq!(files.len(), SHARE);
    for _ in 0..2 {
        mount.kill_serving();
        for file in &files {
            file.set_len(5).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 5);
        }
        let refused = File::open(mount.join("v/f")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
    }
    drop(files);
    wait_for("all are closed", || {
        open_all(|n| File::open(one_of(&file, n))).0.len() == SHARE
    });
    wait_for("usage is as before", || used(&mount, "v") == before);
    verified(&mount);
    let complaints = mount.daemon_complaints();
    assert!(!complaints.contains("lost"), "{complaints}");
}

#[test]
fn a_volume_whose_open_file_is_lost_is_counted_again() {
    let mount = Mount::builder().supervised().start();
    let file = limited(&mount, "v");
    let open = File::open(&file).unwrap();
    // Behind the daemon's back, so that a successor cannot open it.
    fs::remove_file(mount.host_path("v").join("f")).unwrap();
    mount.kill_serving();
    wait_for("it is lost", || {
        mount.path().join("v").metadata().unwrap();
        mount.daemon_log().contains("is lost")
    });
    wait_for("it is counted again", || used(&mount, "v")["inodes"] == 0);
    drop(open);
    verified(&mount);
}

#[test]
fn commands_are_served_without_a_descriptor_left() {
    let mount = Mount::new();
    mount.volume("v");
    let pid = mount.pid();
    let limit = |most: usize| {
        let pid = pid.to_string();
        let most = format!("--nofile={most}:");
        let out = Command::new("prlimit")
            .args(["--pid", &pid, &most])
            .output();
        assert!(out.unwrap().status.success());
    };
    // Connections that say nothing take what is free below the last. One is left,
    // which is not seen: accept(2) takes the number before it waits.
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = all.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let highest: usize = numbers.max().unwrap();
    limit(highest + 1);
    let mut silent = Vec::new();
    while proc::descriptors(pid) < highest && silent.len() < 20 {
        let before = proc::descriptors(pid);
        silent.push(UnixStream::connect(mount.store().join("control.sock")).unwrap());
        wait_for("it is accepted", || proc::descriptors(pid) != before);
    }
    for _ in 0..3 {
        let answer = poll(std::time::Duration::from_secs(10), || {
            let answer = mount.volfs().run(&["ls", "-q"]);
            assert!(!answer.err.contains("ended"), "{}", answer.err);
            (answer.code == Some(0)).then_some(answer.out)
        });
        assert_eq!(answer.as_deref(), Some("v\n"), "{}", mount.daemon_log());
    }
    limit(1024);
}

#[test]
fn one_user_has_a_part_of_the_control_tree() {
    let mount = Mount::new();
    for n in 0..200 {
        mount.volume(&format!("a-volume-with-a-name-{n}"));
    }
    let volumes = mount.join(".volfs/volumes.json");
    let before = proc::anonymous_memory(mount.pid());
    let (open, error) = as_user(ALICE, || open_all(|_| File::open(&volumes)));
    assert_eq!(error.raw_os_error(), Some(libc::ENFILE), "{error}");
    assert_eq!(open.len(), 64);
    let more = proc::anonymous_memory(mount.pid()).saturating_sub(before);
    assert!(more < 32 << 20, "{more} bytes for {} files", open.len());
    // Neither other users nor root are kept out.
    as_user(BOB, || assert!(fs::read(&volumes).is_ok()));
    assert!(fs::read(mount.join(".volfs/stats.json")).is_ok());
    drop(open);
    wait_for("they are closed", || {
        as_user(ALICE, || File::open(&volumes)).is_ok()
    });
    let said = as_user(ALICE, || {
        fs::read_to_string(mount.join(".volfs/last_error"))
    });
    assert!(
        said.unwrap()
            .starts_with("you have as many files of .volfs open")
    );
}
