//! Mounting and unmounting: in the background, by mount(8), by signal, while
//! it is in use, twice, and after a daemon that was killed.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::mount::answers;
use support::{Mount, TestDir, Volfs, output, proc, run, wait_for};

/// Unmounts what a test has mounted without a guard, also when it fails.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        while proc::mount_on(self.0).is_some() {
            let _ = nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
        }
        let dir = self.0.parent().unwrap();
        let gone = || proc::processes_naming(dir).is_empty();
        support::poll(std::time::Duration::from_secs(10), || gone().then_some(()));
    }
}

/// The daemon of a store: the supervisor, not the process that it has started.
fn daemon_of(dir: &TestDir) -> i32 {
    let mut all = proc::processes_naming(dir.path());
    all.retain(|process| !process.command.contains("--kept-by"));
    assert_eq!(all.len(), 1, "one daemon");
    all[0].pid
}

#[test]
fn mount_returns_when_it_is_ready_and_umount_when_it_is_over() {
    let dir = TestDir::new();
    let (store, mnt) = (dir.mkdir("store"), dir.mkdir("mnt"));
    let _guard = Unmount(&mnt);
    let volfs = Volfs::new(&store);
    for _ in 0..5 {
        volfs.ok(&[Path::new("mount"), &mnt]);
        let name = format!("v{}", proc::pids().count());
        fs::create_dir(mnt.join(&name)).unwrap();
        assert_eq!(proc::mount_on(&mnt).unwrap().0, "fuse.volfs");
        assert_eq!(proc::mount_on(&mnt).unwrap().1, store.to_str().unwrap());
        fs::remove_dir(mnt.join(&name)).unwrap();
        volfs.ok(&[Path::new("umount"), &mnt]);
        assert_eq!(proc::mount_on(&mnt), None);
        // The store is free at once.
        assert!(volfs.names().is_empty());
    }
    // The daemon ends on its own soon after.
    wait_for("the daemon is gone", || {
        proc::processes_naming(dir.path()).is_empty()
    });
    assert_eq!(fs::read_dir(&mnt).unwrap().count(), 0);
}

#[test]
fn mount_8_and_umount_8() {
    let dir = TestDir::new();
    let (store, mnt) = (dir.mkdir("store"), dir.mkdir("mnt"));
    let _guard = Unmount(&mnt);
    // mount(8) finds mount.fuse.volfs in /sbin only; libfuse's own
    // mount.fuse3 would look for "volfs" in PATH. The entry point itself:
    let helper = dir.join("mount.fuse.volfs");
    symlink(support::cli::binary(), &helper).unwrap();
    run(Command::new(&helper)
        .args([&store, &mnt])
        .args(["-o", "rw,nosuid,nodev"]));
    fs::create_dir(mnt.join("v")).unwrap();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table
        .lines()
        .find(|l| l.contains(mnt.to_str().unwrap()))
        .unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    run(Command::new("umount").arg(&mnt));
    wait_for("the daemon is gone", || {
        proc::processes_naming(dir.path()).is_empty()
    });
    assert_eq!(Volfs::new(&store).names(), ["v"]);
}

#[test]
fn signals_unmount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mount = Mount::new();
        mount.volume("v");
        kill(Pid::from_raw(mount.pid()), signal).unwrap();
        let status = mount.wait_for_daemon();
        assert!(status.success(), "{signal}: {status}");
        assert_eq!(proc::mount_on(mount.path()), None, "{signal}");
        assert_eq!(mount.volfs().names(), ["v"]);
    }
}

#[test]
fn umount_of_a_mount_in_use_says_by_whom() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    let mut user = Command::new("cat")
        .current_dir(&volume)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let path = mount.path().to_owned();
    let complaint = mount.volfs().fails(1, &[Path::new("umount"), &path]);
    assert!(complaint.contains(&user.id().to_string()), "{complaint}");
    assert!(complaint.contains("cat"), "{complaint}");
    // It goes on as if nothing had been asked.
    fs::write(volume.join("f"), "x").unwrap();
    assert!(answers(&path).is_ok());
    drop(user.stdin.take());
    user.wait().unwrap();
    mount.stop();
}

#[test]
fn a_signal_while_it_is_in_use() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    let file = fs::File::create(volume.join("f")).unwrap();
    kill(Pid::from_raw(mount.pid()), Signal::SIGTERM).unwrap();
    // Whether it waits for the user or detaches at once, the data that was
    // written is there, and it ends when the user has gone.
    let _ = std::io::Write::write_all(&mut &file, b"written");
    drop(file);
    let _ = kill(Pid::from_raw(mount.pid()), Signal::SIGTERM);
    let status = mount.wait_for_daemon();
    assert!(status.success(), "{status}\n{}", mount.daemon_log());
    assert_eq!(proc::mount_on(mount.path()), None);
}

#[test]
fn a_stale_mountpoint_is_cleaned_by_the_next_mount() {
    let mut mount = Mount::new();
    fs::write(mount.volume("v").join("f"), "kept").unwrap();
    for _ in 0..3 {
        mount.kill();
        assert_eq!(answers(mount.path()), Err(rustix::io::Errno::NOTCONN));
        mount.start();
        assert_eq!(fs::read_to_string(mount.join("v/f")).unwrap(), "kept");
        assert_eq!(proc::mounts_under(mount.path()).len(), 1, "mounted on top");
    }
    // And by umount.
    mount.kill();
    let path = mount.path().to_owned();
    mount.volfs().ok(&[Path::new("umount"), &path]);
    assert_eq!(proc::mount_on(mount.path()), None);
    assert_eq!(mount.volfs().names(), ["v"]);
}

#[test]
fn a_second_daemon_says_who_has_the_store() {
    let mount = Mount::new();
    mount.volume("v");
    let other = mount.dir().mkdir("other");
    let volfs = mount.volfs();
    for how in [&["mount"][..], &["mount", "--foreground"]] {
        let arguments: Vec<&Path> = how.iter().map(Path::new).chain([other.as_path()]).collect();
        let complaint = volfs.fails(1, &arguments);
        assert!(complaint.contains(&mount.pid().to_string()), "{complaint}");
        assert!(
            complaint.contains(mount.store().to_str().unwrap()),
            "{complaint}"
        );
    }
    assert_eq!(proc::mount_on(&other), None);
    // The first one has not been disturbed.
    fs::write(mount.join("v/f"), "x").unwrap();
    assert_eq!(volfs.names(), ["v"]);
}

#[test]
fn two_daemons_at_once_only_one_wins() {
    for _ in 0..5 {
        let dir = TestDir::new();
        let store = dir.mkdir("store");
        let mnts = [dir.mkdir("a"), dir.mkdir("b")];
        let _guards = (Unmount(&mnts[0]), Unmount(&mnts[1]));
        let volfs = Volfs::new(&store);
        let both: Vec<_> = mnts
            .iter()
            .map(|mnt| {
                let mut command = volfs.command(&[Path::new("mount"), mnt]);
                command
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let ends: Vec<_> = both
            .into_iter()
            .map(|c| c.wait_with_output().unwrap())
            .collect();
        let won = ends.iter().filter(|end| end.status.success()).count();
        let said: Vec<_> = ends
            .iter()
            .map(|e| String::from_utf8_lossy(&e.stderr))
            .collect();
        assert_eq!(won, 1, "{said:?}");
        assert!(
            ends.iter().any(|end| end.status.code() == Some(1)),
            "{said:?}"
        );
        let mounted: Vec<_> = mnts
            .iter()
            .filter(|m| proc::mount_on(m).is_some())
            .collect();
        assert_eq!(mounted.len(), 1);
        fs::create_dir(mounted[0].join("v")).unwrap();
        kill(Pid::from_raw(daemon_of(&dir)), Signal::SIGTERM).unwrap();
    }
}

#[test]
fn offline_commands_wait_for_nobody_and_never_write_beside_a_daemon() {
    let mut mount = Mount::new();
    mount.volume("v");
    let volfs = mount.volfs();
    // Through the daemon and without it: the same words.
    let strip = |text: String| text.replace(mount.path().to_str().unwrap(), "MNT");
    let (with, inspect) = (
        volfs.ok(&["ls", "--json"]),
        strip(volfs.ok(&["inspect", "v"])),
    );
    let missing = volfs.fails(1, &["rm", "missing"]);
    mount.stop();
    assert_eq!(volfs.ok(&["ls", "--json"]), with);
    assert_eq!(volfs.fails(1, &["rm", "missing"]), missing);
    let offline = volfs.ok(&["inspect", "v"]);
    assert!(offline.contains("directory") && inspect.contains("directory"));
    volfs.ok(&["create", "w"]);
    mount.start();
    assert!(mount.join("w").is_dir());

    // A frozen daemon does not answer; the command does not go behind its back.
    kill(Pid::from_raw(mount.pid()), Signal::SIGSTOP).unwrap();
    let started = mount
        .volfs()
        .command(&["create", "behind"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = started.id().cast_signed();
    wait_for("the command waits or gives up", || {
        !proc::is_alive(id)
            || fs::read_to_string(format!("/proc/{id}/wchan")).is_ok_and(|w| w != "0")
    });
    kill(Pid::from_raw(mount.pid()), Signal::SIGCONT).unwrap();
    let end = started.wait_with_output().unwrap();
    let made = mount.volfs().names().contains(&"behind".to_owned());
    assert_eq!(
        made,
        end.status.success(),
        "{}",
        String::from_utf8_lossy(&end.stderr)
    );
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), "content").unwrap();
    mount.stop();
    let store = mount.store().to_owned();
    let mnt = mount.dir().mkdir("ro");
    let _guard = Unmount(&mnt);
    let volfs = Volfs::new(&store);
    volfs.ok(&[Path::new("mount"), Path::new("--read-only"), &mnt]);
    assert_eq!(fs::read_to_string(mnt.join("v/f")).unwrap(), "content");
    let v = mnt.join("v");
    for act in [
        fs::create_dir(mnt.join("new")),
        fs::remove_dir(mnt.join("v")),
        fs::rename(mnt.join("v"), mnt.join("w")),
        fs::write(v.join("f"), "x"),
        fs::write(v.join("new"), "x"),
        fs::create_dir(v.join("dir")),
        fs::remove_file(v.join("f")),
        fs::rename(v.join("f"), v.join("g")),
        fs::hard_link(v.join("f"), v.join("g")),
        symlink("x", v.join("l")),
        fs::set_permissions(
            v.join("f"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        ),
        std::os::unix::fs::chown(v.join("f"), Some(1), None),
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(v.join("f"))
            .map(drop),
    ] {
        let error = act.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }
    let set = output(
        Command::new("setfattr")
            .args(["-n", "user.a", "-v", "b"])
            .arg(v.join("f")),
    );
    assert!(!set.status.success());
    for command in [
        &["create", "x"][..],
        &["rm", "v"],
        &["rm", "--purge", "v"],
        &["mv", "v", "w"],
        &["set", "v", "--pin"],
    ] {
        let complaint = volfs.fails(1, command);
        assert!(complaint.contains("read-only"), "{command:?}: {complaint}");
    }
    assert_eq!(volfs.names(), ["v"]);
    volfs.ok(&[Path::new("umount"), &mnt]);
    assert_eq!(volfs.names(), ["v"]);
}

#[test]
fn a_mount_with_many_threads_at_work_is_unmounted_cleanly() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let volume = &volume;
            scope.spawn(move || {
                for i in 0..200 {
                    let path = volume.join(format!("{worker}-{i}"));
                    fs::write(&path, [b'x'; 5000]).unwrap();
                    assert_eq!(fs::read(&path).unwrap().len(), 5000);
                    if i % 2 == 0 {
                        fs::remove_file(&path).unwrap();
                    }
                }
            });
        }
    });
    mount.remount();
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 400);
}

#[test]
fn a_store_where_two_files_may_have_one_number_is_refused() {
    let dir = TestDir::new();
    let (tmpfs, lower, merged, mnt) = (
        dir.mkdir("tmpfs"),
        dir.mkdir("lower"),
        dir.mkdir("merged"),
        dir.mkdir("mnt"),
    );
    let detach = |path: &Path| {
        let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
    };
    let _tmpfs = scopeguard(|| detach(&tmpfs));
    run(Command::new("mount")
        .args(["-t", "tmpfs", "volfs-test"])
        .arg(&tmpfs));
    for upper in ["upper", "work"] {
        fs::create_dir(tmpfs.join(upper)).unwrap();
    }
    let _merged = scopeguard(|| detach(&merged));
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        tmpfs.join("upper").display(),
        tmpfs.join("work").display()
    );
    run(Command::new("mount")
        .args(["-t", "overlay", "volfs-test", "-o", &layers])
        .arg(&merged));
    let volfs = Volfs::new(&merged.join("store"));
    volfs.ok(&["create", "v"]);
    let complaint = volfs.fails(1, &["mount", mnt.to_str().unwrap()]);
    assert!(complaint.contains("overlay"), "{complaint}");
    assert_eq!(proc::mount_on(&mnt), None);
}

/// Runs `undo` at the end of a test, also when it fails.
fn scopeguard(undo: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(undo)
}
