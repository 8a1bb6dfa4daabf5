//! Exports, imports and clones that are interrupted, killed, or that outlive
//! the daemon.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tar::Header;

use crate::support::{Mount, TestDir, Volfs, wait_for};
use crate::{args, assert_exact, assert_nothing_left};

/// An import that has got the first of two files, and waits for more.
struct Half {
    import: Child,
    rest: Vec<u8>,
}

impl Half {
    fn start(volfs: &Volfs) -> Self {
        let mut archive = tar::Builder::new(Vec::new());
        for name in ["first", "second"] {
            let mut header = Header::new_gnu();
            header.set_size(300_000);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, &vec![b'x'; 300_000][..])
                .unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let (start, rest) = bytes.split_at(400_000);
        let mut import = volfs
            .command(&["import", "new", "-", "--quota", "10M"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.as_mut().unwrap().write_all(start).unwrap();
        let half = Self {
            import,
            rest: rest.to_vec(),
        };
        let tmp = volfs.store().join("tmp");
        wait_for("something is built", || {
            fs::read_dir(&tmp).is_ok_and(|mut entries| {
                entries.any(|it| it.unwrap().path().join("data/first").exists())
            })
        });
        half
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.import.id().cast_signed()), signal).unwrap();
    }

    /// Sends the rest, and returns whether it was done and what was said.
    fn finish(mut self) -> (Option<i32>, String) {
        // It may not want it.
        let _ = self.import.stdin.take().unwrap().write_all(&self.rest);
        let out = self.import.wait_with_output().unwrap();
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    }
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let dir = TestDir::new();
    let offline = Volfs::new(&dir.join("store"));
    offline.ok(&["create", "other"]);
    let mount = Mount::new();
    mount.volume("other");
    for volfs in [offline, mount.volfs()] {
        let half = Half::start(&volfs);
        half.signal(Signal::SIGINT);
        let (code, said) = half.finish();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("interrupted; nothing is left of it"),
            "{said}"
        );
        assert_eq!(volfs.names(), ["other"]);
        assert_nothing_left(volfs.store());
    }
}

#[test]
fn a_killed_import_is_swept_away() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    let mut half = Half::start(&volfs);
    half.signal(Signal::SIGKILL);
    assert_eq!(half.import.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(volfs.names(), Vec::<String>::new());
    mount.remount();
    assert_nothing_left(mount.store());
    // The same without a daemon: the next command finds it.
    mount.stop();
    let mut half = Half::start(&volfs);
    half.signal(Signal::SIGKILL);
    half.import.wait().unwrap();
    assert_eq!(volfs.names(), Vec::<String>::new());
    assert_nothing_left(volfs.store());
}

#[test]
fn an_import_outlives_the_daemon() {
    let mut mount = Mount::new();
    let half = Half::start(&mount.volfs());
    mount.remount();
    mount.kill();
    mount.start();
    let (code, said) = half.finish();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(mount.join("new/second")).unwrap().len(), 300_000);
    assert_exact(&mount.volfs(), "new");
    // What is built has its name only when it is taken over: somebody else may
    // be first.
    mount.volfs().ok(&["rm", "--purge", "--wait", "new"]);
    let half = Half::start(&mount.volfs());
    mount.volfs().ok(&["create", "new"]);
    let (code, said) = half.finish();
    assert_eq!(code, Some(1));
    assert!(said.contains("\"new\" already exists"), "{said}");
    assert_nothing_left(mount.store());
    assert!(fs::read_dir(mount.join("new")).unwrap().next().is_none());
}

#[test]
fn an_interrupted_export_leaves_the_old_archive() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), vec![1; 8 << 20]).unwrap();
    // A pipe that nobody empties holds it up.
    let mut export = volfs
        .command(&["export", "v", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("it has begun", || !volfs.holders("v").is_empty());
    kill(Pid::from_raw(export.id().cast_signed()), Signal::SIGTERM).unwrap();
    let mut out = export.stdout.take().unwrap();
    let sent = std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let ended = export.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(sent < 8 << 20, "{sent}");
    // To a file: the part is gone, what was there stays.
    let archive = mount.dir().join("v.tar");
    fs::write(&archive, "old").unwrap();
    let fifo = mount.dir().join("fifo");
    crate::support::run(std::process::Command::new("mkfifo").arg(&fifo));
    let before = fs::read_dir(mount.dir().path()).unwrap().count();
    volfs.fails(1, &args!["export", "gone", "-o", archive]);
    assert_eq!(fs::read(&archive).unwrap(), b"old");
    assert_eq!(fs::read_dir(mount.dir().path()).unwrap().count(), before);
}

/// The process is killed between the steps of taking a volume over.
#[test]
#[cfg(feature = "failpoints")]
fn an_import_that_is_cut_is_there_whole_or_not_at_all() {
    for (point, there) in [
        ("adopt.synced", false),
        ("create.renamed", false),
        ("create.committed", true),
    ] {
        let dir = TestDir::new();
        let volfs = Volfs::new(&dir.join("store"));
        volfs.ok(&["create", "src"]);
        let data = crate::data_of(&volfs, "src");
        fs::write(data.join("f"), "whole").unwrap();
        for what in [&["clone", "src", "new"][..], &["import", "new", "a.tar"]] {
            let archive = dir.join("a.tar");
            volfs.ok(&args!["export", "src", "-o", archive]);
            let status = volfs
                .env("VOLFS_FAILPOINT", point)
                .command(what)
                .current_dir(dir.path())
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(libc::SIGKILL), "{point}: {status}");
            let names = volfs.names();
            assert_eq!(
                names.contains(&"new".to_owned()),
                there,
                "{point}: {names:?}"
            );
            assert_nothing_left(volfs.store());
            if there {
                let file = crate::data_of(&volfs, "new").join("f");
                assert_eq!(fs::read_to_string(file).unwrap(), "whole");
                assert_exact(&volfs, "new");
                volfs.ok(&["rm", "--purge", "new"]);
            } else {
                // In the place of a volume without a row: the trash.
                volfs.ok(&["trash", "empty", "--yes"]);
            }
        }
    }
}
