//! Contents stay right whichever way they go: straight to the host's file
//! (passthrough), through the daemon, and through the daemon under a quota.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::map::{Map, Sharing};
use support::{Mount, OwnFs, run, wait_for};

/// Runs a case on each way that contents can go.
fn on_each_path(case: impl Fn(&Mount, &Path)) {
    let ways: [(&str, &[&str], bool); 3] = [
        ("passthrough", &[], false),
        ("through the daemon", &["--no-passthrough"], false),
        ("under a quota", &[], true),
    ];
    for (name, options, limited) in ways {
        println!("{name}");
        let mount = Mount::builder().args(options).start();
        let volume = mount.volume("v");
        if limited {
            mount.volfs().ok(&["set", "v", "--quota", "1T"]);
        }
        case(&mount, &volume);
    }
}

#[test]
fn fio_verifies_what_two_processes_write_at_random() {
    on_each_path(|_, volume| {
        for direct in ["0", "1"] {
            run(Command::new("fio").args([
                "--name=verify",
                &format!("--directory={}", volume.display()),
                "--rw=randrw",
                "--bsrange=512-128k",
                "--blockalign=512",
                "--size=16m",
                "--numjobs=2",
                "--ioengine=psync",
                "--verify=crc32c",
                "--verify_fatal=1",
                // No state file in the working directory.
                "--verify_state_save=0",
                "--fallocate=none",
                &format!("--direct={direct}"),
            ]));
        }
    });
}

#[test]
fn a_mapping_and_reads_and_writes_see_the_same() {
    on_each_path(|_, volume| {
        let path = volume.join("f");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(64 << 10).unwrap();
        let map = Map::new(&file, 64 << 10, Sharing::Shared, true).unwrap();
        let other = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut buffer = [0; 100];
        for round in 0..200_usize {
            let at = round * 311;
            map.write(at, &[round as u8; 100]);
            other.read_exact_at(&mut buffer, at as u64).unwrap();
            assert_eq!(
                buffer, [round as u8; 100],
                "read of what was mapped, at {at}"
            );
            other
                .write_all_at(&[!(round as u8); 100], at as u64)
                .unwrap();
            assert_eq!(
                map.read(at, 100),
                [!(round as u8); 100],
                "mapping of what was written"
            );
        }
        map.sync().unwrap();
        drop((map, file, other));
        let text = fs::read(&path).unwrap();
        assert_eq!(text[199 * 311..][..100], [!199_u8; 100]);
    });
}

#[test]
fn what_truncate_cuts_off_a_mapping_comes_back_as_zeros() {
    on_each_path(|_, volume| {
        let path = volume.join("f");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all_at(&[7; 16384], 0).unwrap();
        let map = Map::new(&file, 16384, Sharing::Shared, true).unwrap();
        assert_eq!(map.read(16000, 8), [7; 8]);
        file.set_len(5000).unwrap();
        file.set_len(16384).unwrap();
        assert_eq!(map.read(4990, 20), [[7; 10], [0; 10]].concat());
        assert_eq!(map.read(16000, 8), [0; 8]);
        map.write(8000, &[9; 4]);
        let mut read = [0; 4];
        File::open(&path)
            .unwrap()
            .read_exact_at(&mut read, 8000)
            .unwrap();
        assert_eq!(read, [9; 4]);
    });
}

/// A shell that appends numbered lines, one write each.
fn appender(path: &Path, name: u8, lines: u32) -> Child {
    Command::new("bash")
        .arg("-euc")
        .arg(format!(
            "exec >> \"$1\"; for ((i = 0; i < {lines}; i++)); do printf '{name} %06d\\n' $i; done"
        ))
        .args(["append".as_ref(), path.as_os_str()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn four_processes_append_and_no_byte_is_lost() {
    const LINES: u32 = 3000;
    on_each_path(|_, volume| {
        let path = volume.join("log");
        File::create(&path).unwrap();
        let writers: Vec<Child> = (1..=4).map(|name| appender(&path, name, LINES)).collect();
        for mut writer in writers {
            assert!(writer.wait().unwrap().success());
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut next = [0_u32; 5];
        for line in text.lines() {
            let (name, number) = line.split_once(' ').unwrap();
            let name: usize = name.parse().unwrap();
            assert_eq!(
                number.parse::<u32>().unwrap(),
                next[name],
                "of writer {name}"
            );
            next[name] += 1;
        }
        assert_eq!(next, [0, LINES, LINES, LINES, LINES]);
    });
}

/// A shell in a mount namespace of its own in which the volume is bound.
fn namespace(volume: &Path, at: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "bash", "-euc"])
        .arg(format!("mount --bind \"$1\" \"$2\"; cd \"$2\"; {script}"))
        .args(["namespace".as_ref(), volume.as_os_str(), at.as_os_str()]);
    command
}

#[test]
fn two_bind_mounts_in_two_namespaces_read_what_the_other_wrote() {
    on_each_path(|mount, volume| {
        let places: Vec<PathBuf> = ["a", "b"].map(|name| mount.dir().mkdir(name)).into();
        // Each waits for the other's line, answers, and so on; what is read
        // must be there as soon as the name is.
        let script = |me: &str, other: &str| {
            format!(
                "for ((i = 0; i < 50; i++)); do
                     [ {me} = a ] || until [ -e {other}.$i ]; do :; done
                     printf '%s' \"{me} says $i\" > .{me}; mv .{me} {me}.$i
                     until [ -e {other}.$i ]; do :; done
                     [ \"$(cat {other}.$i)\" = '{other} says '$i ]
                 done"
            )
        };
        let mut first = namespace(volume, &places[0], &script("a", "b"))
            .spawn()
            .unwrap();
        run(&mut namespace(volume, &places[1], &script("b", "a")));
        assert!(first.wait().unwrap().success());
        assert_eq!(fs::read_dir(volume).unwrap().count(), 100);
    });
}

#[test]
fn the_daemon_path_keeps_its_pages_over_an_open() {
    let mount = Mount::builder().args(&["--no-passthrough"]).start();
    let path = mount.volume("v").join("f");
    fs::write(&path, vec![5; 1 << 20]).unwrap();
    let reads = || {
        let stats: serde_json::Value =
            serde_json::from_str(&mount.volfs().ok(&["stats", "--json"])).unwrap();
        stats["operations"]["read"]["count"].as_u64().unwrap_or(0)
    };
    fs::read(&path).unwrap();
    let before = reads();
    for _ in 0..10 {
        assert_eq!(fs::read(&path).unwrap().len(), 1 << 20);
    }
    assert_eq!(reads(), before);
    // And lets them go when the file changes.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"new").unwrap();
    let mut text = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut text).unwrap();
    assert_eq!(&text[999..1004], b"\x05new\x05");
}

/// A file whose last name is gone is still there for whoever has got as far as its
/// inode: by O_PATH here, in the middle of an open elsewhere.
#[test]
fn a_file_without_a_name_can_be_opened() {
    let open_again = |dir: &Path| {
        let path = dir.join("f");
        fs::write(&path, "contents").unwrap();
        let flags = rustix::fs::OFlags::PATH;
        let held = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
        fs::remove_file(&path).unwrap();
        let again = PathBuf::from(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&held)
        ));
        let mut read = String::new();
        let mut file = OpenOptions::new().read(true).write(true).open(&again)?;
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "contents");
        file.write_all(&[b'x'; 10_000]).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10_008);
        assert_eq!(
            std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap()),
            0
        );
        drop(file);
        fs::metadata(&again).map(|found| found.len())
    };
    let host = support::TestDir::new();
    assert_eq!(open_again(host.path()).unwrap(), 10_008);
    for (options, quota) in [
        (&[][..], false),
        (&["--no-passthrough"][..], false),
        (&[][..], true),
    ] {
        let mount = Mount::builder().args(options).start();
        let volume = mount.volume("v");
        if quota {
            mount.volfs().ok(&["set", "v", "--quota", "1G"]);
            // What is no longer charged takes no space: it is empty.
            let refused = open_again(&volume).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ESTALE));
        } else {
            open_again(&volume).unwrap();
        }
        wait_for("the account is what a walk finds", || {
            mount.volfs().run(&["verify"]).code == Some(0)
        });
    }
}

/// Opens beside removals and replacements get what is there, or that nothing is.
#[test]
fn opens_beside_removals_get_no_stale_file() {
    for options in [&[][..], &["--no-passthrough"]] {
        let mount = Mount::builder().args(options).start();
        let volume = mount.volume("v");
        let path = volume.join("f");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
        let running = || std::time::Instant::now() < until;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while running() {
                    fs::write(volume.join("new"), "new").unwrap();
                    fs::rename(volume.join("new"), &path).unwrap();
                    let _ = fs::remove_file(&path);
                }
            });
            for n in 0..3 {
                let path = &path;
                scope.spawn(move || {
                    while running() {
                        let opened = OpenOptions::new()
                            .read(true)
                            .write(n > 0)
                            .create(n > 0)
                            .truncate(n == 2)
                            .open(path);
                        if let Err(error) = opened {
                            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
                            assert_eq!(n, 0, "O_CREAT makes it");
                        }
                    }
                });
            }
        });
        wait_for("the account is what a walk finds", || {
            mount.volfs().run(&["verify"]).code == Some(0)
        });
    }
}

/// Copies all of `from` into a new file, as cp does; the most that one call copied.
fn copy_all(from: &Path, to: &Path) -> usize {
    let (from, to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut most = 0;
    loop {
        match nix::fcntl::copy_file_range(&from, None, &to, None, 1 << 30) {
            Ok(0) => return most,
            Ok(copied) => most = most.max(copied),
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// A request that copied all would keep a thread from others: so many processes as
/// there are threads would stop the mount.
#[test]
fn one_request_copies_no_more_than_others_can_wait_for() {
    on_each_path(|_, volume| {
        let (source, copy) = (volume.join("source"), volume.join("copy"));
        let file = File::create(&source).unwrap();
        file.set_len(200 << 20).unwrap();
        file.write_all_at(b"some text", 77 << 20).unwrap();
        let most = copy_all(&source, &copy);
        assert!(most <= 64 << 20, "{most} bytes in one request");
        run(Command::new("cmp").args([&source, &copy]));
    });
}

/// Where the host copies by reference, it still does.
#[test]
fn copies_on_btrfs_share_what_they_are_copied_from() {
    let own = OwnFs::new(&["mkfs.btrfs", "-q", "-m", "single"], 256 << 20);
    let mount = Mount::builder().parent(own.path()).start();
    let volume = mount.volume("v");
    let (source, copy) = (volume.join("source"), volume.join("copy"));
    let mut content = vec![0; 100 << 20];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut content))
        .unwrap();
    fs::write(&source, &content).unwrap();
    File::open(&source).unwrap().sync_all().unwrap();
    // Four of them would not fit.
    for n in 0..4 {
        copy_all(&source, &copy.with_extension(n.to_string()));
    }
    assert!(fs::read(copy.with_extension("3")).unwrap() == content);
}
