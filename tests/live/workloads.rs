//! Programs, some in a sandbox, while the serving process is killed at random
//! moments: they see at most a pause.
//!
//! `VOLFS_LONG=1` kills 200 times a row.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::killing::{StopOnPanic, killing, kills};
use crate::storm::check_usage;
use crate::support::{Mount, run};

/// A program in a sandbox that sees `volume` as `/work`.
fn sandbox(volume: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    for dir in ["/usr", "/bin", "/lib", "/lib64", "/etc"] {
        if Path::new(dir).exists() {
            command.args(["--ro-bind", dir, dir]);
        }
    }
    command
        .args([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind",
        ])
        .arg(volume)
        .args([
            "/work",
            "--chdir",
            "/work",
            "--unshare-all",
            "--die-with-parent",
        ])
        .args(["--", program])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Runs `work` again and again while the serving process is killed.
fn under_kills(what: &str, mount: &Mount, few: usize, work: impl Fn(usize) + Send + Sync) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, work) = (&stop, &work);
        scope.spawn(move || {
            let _stop = StopOnPanic(stop);
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                work(round);
                round += 1;
            }
            assert!(round > 0);
        });
        killing(what, mount, kills(few), stop);
    });
    assert_eq!(mount.daemon_complaints().matches("panicked").count(), 0);
}

/// Volumes of each data path: with passthrough, with a quota, on a disk.
fn volumes(mount: &Mount) -> Vec<(&'static str, PathBuf)> {
    let volfs = mount.volfs();
    let plain = mount.volume("plain");
    volfs.ok(&["create", "limited", "--quota", "2G"]);
    volfs.ok(&["create", "disk", "--disk", "--size", "512M"]);
    vec![
        ("plain", plain),
        ("limited", mount.join("limited")),
        ("disk", mount.join("disk")),
    ]
}

#[test]
fn fio_verifies_what_it_wrote() {
    let mount = Mount::builder().supervised().start();
    for (name, dir) in volumes(&mount) {
        under_kills(&format!("fio, {name}"), &mount, 8, |_| {
            run(Command::new("fio").current_dir(&dir).args([
                "--name=live",
                "--numjobs=4",
                "--rw=randwrite",
                "--size=4m",
                "--bsrange=512-64k",
                "--ioengine=psync",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--do_verify=1",
                "--unlink=1",
                "--group_reporting",
                "--minimal",
                "--verify_state_save=0",
            ]));
        });
        if name != "disk" {
            check_usage(&mount, name);
        }
    }
}

#[test]
fn fio_through_the_daemon_with_mappings() {
    let mount = Mount::builder()
        .supervised()
        .args(&["--no-passthrough"])
        .start();
    let dir = mount.volume("cached");
    under_kills("fio with mappings, cached", &mount, 8, |_| {
        run(Command::new("fio").current_dir(&dir).args([
            "--name=live",
            "--numjobs=4",
            "--rw=randwrite",
            "--size=2m",
            "--bs=4k",
            "--ioengine=mmap",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--unlink=1",
            "--minimal",
            "--verify_state_save=0",
        ]));
    });
    check_usage(&mount, "cached");
}

const GIT: &str = "set -e
rm -rf repo clone; git init -q repo; cd repo
git config user.email a@example.org; git config user.name a
for i in 1 2 3 4 5 6; do
  for f in a b c d; do echo $i$f >> $f; mkdir -p dir/$f; echo $i > dir/$f/$i; done
  git add -A; git commit -qm $i
done
git checkout -q -b other HEAD~3; echo x > x; git add x; git commit -qm x
git merge -q -m m master 2>/dev/null || git merge -q -m m main
git gc -q; git fsck --full --strict
cd ..; git clone -q repo clone; cd clone; git status --porcelain; git fsck
test \"$(git rev-list --count HEAD)\" = 8";

const SQLITE: &str = "set -e
rm -f db db-wal db-shm
sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, n INTEGER);' >/dev/null
for i in 1 2 3 4 5 6 7 8; do
  sqlite3 -cmd '.timeout 20000' db \"BEGIN; INSERT INTO t(v, n) SELECT hex(randomblob(50)), $i FROM generate_series(1, 50); UPDATE t SET n = n + 1; COMMIT;\" &
  sqlite3 -cmd '.timeout 20000' db 'SELECT count(*) FROM t;' >/dev/null
done
wait
test \"$(sqlite3 db 'PRAGMA integrity_check;')\" = ok
test \"$(sqlite3 db 'SELECT count(*) FROM t;')\" = 400
sqlite3 db 'PRAGMA journal_mode=DELETE; DELETE FROM t WHERE id % 2; VACUUM;' >/dev/null
test \"$(sqlite3 db 'SELECT count(*) FROM t;')\" = 200
test \"$(sqlite3 db 'PRAGMA integrity_check;')\" = ok";

fn in_sandboxes(what: &str, script: &str) {
    let mount = Mount::builder().supervised().start();
    for (name, dir) in volumes(&mount) {
        under_kills(&format!("{what}, {name}"), &mount, 8, |_| {
            run(&mut sandbox(&dir, "/bin/sh", &["-c", script]));
        });
        if name != "disk" {
            check_usage(&mount, name);
        }
    }
}

#[test]
fn git_in_a_sandbox() {
    in_sandboxes("git", GIT);
}

#[test]
fn sqlite_in_a_sandbox() {
    in_sandboxes("SQLite", SQLITE);
}

/// Holds open, mapped and unlinked files and a working directory, and does
/// nothing until it is asked.
const IDLE: &str = r#"
import mmap, os, sys
os.makedirs("cwd/inner"); os.chdir("cwd")
open_file = open("../open", "w+"); open_file.write("open"); open_file.flush()
gone = open("../gone", "w+"); gone.write("gone"); gone.flush(); os.unlink("../gone")
mapped = open("../mapped", "w+"); mapped.write("m" * 8192); mapped.flush()
shared = mmap.mmap(mapped.fileno(), 8192)
unlinked_map = open("../um", "w+"); unlinked_map.write("u" * 8192); unlinked_map.flush()
um = mmap.mmap(unlinked_map.fileno(), 8192); os.unlink("../um")
os.mkdir("dead"); dead = os.open("dead", os.O_RDONLY); os.rmdir("dead")
reader = open("../open")
append = open("../log", "a")
print("ready", flush=True)
for n, line in enumerate(sys.stdin):
    word = str(n)
    assert sorted(os.listdir(".")) == ["inner"], os.listdir(".")
    assert os.getcwd() == "/work/cwd"
    assert os.fstat(open_file.fileno()).st_nlink == 1
    assert os.fstat(gone.fileno()).st_nlink == 0
    assert os.fstat(dead).st_nlink == 0
    try:
        os.stat("dead"); raise SystemExit("it is back")
    except FileNotFoundError:
        pass
    gone.seek(0); text = gone.read(); assert text == "gone" + "+" * n, text
    gone.write("+"); gone.flush(); os.fsync(gone.fileno())
    open_file.seek(0); open_file.write("open" + word); open_file.flush()
    reader.seek(0); assert reader.read() == "open" + word
    shared[n] = 88; shared.flush()
    mapped.seek(n); assert mapped.read(1) == "X"
    um[n] = 89; um.flush()
    unlinked_map.seek(n); assert unlinked_map.read(1) == "Y", n
    append.write(word + "\n"); append.flush()
    assert open("../log").read() == "".join(f"{i}\n" for i in range(n + 1))
    with open("inner/new", "x") as new: new.write(word)
    os.rename("inner/new", "inner/moved"); assert open("inner/moved").read() == word
    os.unlink("inner/moved")
    print("good", flush=True)
"#;

fn idle(mount: &Mount, dir: &Path, times: usize) {
    let mut child = sandbox(dir, "/usr/bin/python3", &["-c", IDLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "ready");
    // A directory that is removed is kept for the next process only when the
    // kernel has not forgotten it after a moment.
    std::thread::sleep(Duration::from_millis(200));
    for round in 0..times {
        // Sometimes twice before it notices.
        for _ in 0..=round % 2 {
            mount.kill_serving();
        }
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        writeln!(ask, "go").unwrap();
        let answer = answers.next();
        let good = matches!(&answer, Some(Ok(answer)) if answer == "good");
        assert!(good, "round {round}: {answer:?}");
    }
    drop(ask);
    assert!(child.wait().unwrap().success());
    fs::remove_dir_all(dir.join("cwd")).unwrap();
}

#[test]
fn an_idle_sandbox_with_open_mapped_and_unlinked_files() {
    let mount = Mount::builder().supervised().start();
    for (name, dir) in volumes(&mount) {
        idle(&mount, &dir, kills(12));
        if name != "disk" {
            check_usage(&mount, name);
        }
    }
}

#[test]
fn an_idle_sandbox_through_the_daemon() {
    let mount = Mount::builder()
        .supervised()
        .args(&["--no-passthrough"])
        .start();
    idle(&mount, &mount.volume("cached"), kills(12));
    check_usage(&mount, "cached");
}
