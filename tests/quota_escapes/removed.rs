//! What was removed and is still referred to: it is not charged, and so must not
//! take the host's space.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use crate::support::{Mount, OwnFs, output, run, wait_for};
use crate::{attribute, used};

/// A descriptor that refers to an inode without opening it.
fn refer(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Bytes of the host that inodes without a name take, because the daemon has a
/// descriptor of each.
fn kept_by_daemon(mount: &Mount) -> u64 {
    let device = mount.store().metadata().unwrap().dev();
    let all = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    all.filter_map(|fd| fs::metadata(fd.unwrap().path()).ok())
        .filter(|inode| inode.dev() == device && inode.nlink() == 0)
        .map(|inode| inode.blocks() * 512)
        .sum()
}

/// Files of which each takes a descriptor of the daemon when it is open: more than it has.
fn openable(volume: &Path) -> Vec<PathBuf> {
    let files: Vec<_> = (0..300).map(|n| volume.join(format!("o{n}"))).collect();
    for file in &files {
        fs::write(file, "x").unwrap();
    }
    files
}

/// Opens `files`, as many as are open in `openers` already left out, until the daemon has no
/// descriptor left.
fn take_descriptors(files: &[PathBuf], openers: &mut Vec<File>) {
    for file in &files[openers.len()..] {
        match File::open(file) {
            Ok(file) => openers.push(file),
            Err(_) => return,
        }
    }
    panic!("no descriptor is taken");
}

/// A process that takes descriptors for itself must not make the daemon keep what
/// others (or it itself) have removed.
#[test]
fn files_when_the_daemon_has_no_descriptors() {
    const FILES: usize = 24;
    const EACH: usize = 1 << 20;
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "100M"]);
    let v = mount.join("v");
    let path = |n: usize| v.join(n.to_string());
    let mut referred = Vec::new();
    for n in 0..FILES {
        fs::write(path(n), vec![1; EACH]).unwrap();
        referred.push(refer(&path(n)));
    }
    let files = openable(&v);
    let before = used(&v);
    wait_for("closes", || kept_by_daemon(&mount) == 0);
    run(Command::new("prlimit").args(["--pid", &mount.pid().to_string(), "--nofile=200:200"]));
    let mut openers = Vec::new();
    take_descriptors(&files, &mut openers);
    for n in 0..FILES {
        // One after the other, so that all numbers of free ones occur.
        while let Err(error) = fs::remove_file(path(n)) {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            drop(openers.pop().expect("descriptors for a removal"));
        }
    }
    drop(openers);
    // The kernel sends a close after close(2) has returned.
    let mut after = None;
    wait_for("descriptors", || {
        after = attribute(&v, "volfs.used.bytes").ok();
        after.is_some()
    });
    let freed = before.0 - after.unwrap().parse::<u64>().unwrap();
    assert_eq!(freed, (FILES * EACH) as u64);
    assert_eq!(kept_by_daemon(&mount), 0);
    drop(referred);
}

/// The same where the last close comes after the removal.
#[test]
fn open_files_when_the_daemon_has_no_descriptors() {
    const FILES: usize = 24;
    const EACH: usize = 1 << 20;
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "100M"]);
    let v = mount.join("v");
    let path = |n: usize| v.join(n.to_string());
    let mut held = Vec::new();
    for n in 0..FILES {
        fs::write(path(n), vec![1; EACH]).unwrap();
        held.push((refer(&path(n)), File::open(path(n)).unwrap()));
        fs::remove_file(path(n)).unwrap();
    }
    let files = openable(&v);
    let left = used(&v).0.checked_sub((FILES * EACH) as u64);
    let left = left.expect("what is open is charged").to_string();
    run(Command::new("prlimit").args(["--pid", &mount.pid().to_string(), "--nofile=200:200"]));
    let mut openers = Vec::new();
    let mut referred = Vec::new();
    for (refers, open) in held {
        take_descriptors(&files, &mut openers);
        drop(open);
        referred.push(refers);
    }
    drop(openers);
    let charged = || attribute(&v, "volfs.used.bytes").ok();
    wait_for("closes", || charged().is_some_and(|it| it == left));
    assert_eq!(kept_by_daemon(&mount), 0);
}

/// A directory that was large is large until the host frees it, also without names.
#[test]
fn directories_that_were_large() {
    const NAMES: usize = 1000;
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "1M"]);
    let v = mount.join("v");
    fs::write(v.join("f"), "").unwrap();
    let mut referred = Vec::new();
    for how in ["removed", "replaced"].iter().cycle().take(8) {
        let dir = v.join("d");
        fs::create_dir(&dir).unwrap();
        let name = |n: usize| dir.join(format!("{n:0>255}"));
        for n in 0..NAMES {
            fs::hard_link(v.join("f"), name(n)).unwrap();
        }
        assert!(used(&v).0 > 200_000, "{:?}", used(&v));
        for n in 0..NAMES {
            fs::remove_file(name(n)).unwrap();
        }
        let refers = refer(&dir);
        if *how == "removed" {
            fs::remove_dir(&dir).unwrap();
        } else {
            fs::create_dir(v.join("small")).unwrap();
            fs::rename(v.join("small"), &dir).unwrap();
            fs::remove_dir(&dir).unwrap();
        }
        let gone = rustix::fs::fstat(&refers).unwrap();
        assert_eq!(gone.st_nlink, 0);
        referred.push(refers);
    }
    assert_eq!(used(&v), (0, 1));
    let kept = kept_by_daemon(&mount);
    // The small ones are held, so that their numbers are not given again.
    assert!(kept <= 8 * 4096, "{kept} bytes");
    assert_eq!(mount.daemon_complaints(), "");
}

/// What a process sees that stands in a directory that is removed.
const STANDING: &str = r#"
    mkdir "$0" && cd "$0" || exit
    i=0
    while [ $i -lt 300 ]; do
        ln ../f "$(printf %0255d $i)" || exit
        i=$((i+1))
    done
    rm -f 0*
    rmdir "$PWD"
    stat -c '%h %s %F %a %u' .
    stat -c %h /proc/self/cwd
    ls -a; echo $?
    true > x
    mkdir x
    mv ../f x
    ln ../f x
    cat x
    cat ../f
    stat ./x
    cd ../"$0"
    /bin/pwd
    stat -f -c %l .
"#;

#[test]
fn a_process_in_a_large_directory_that_is_removed() {
    // Of its own: what else makes files may be given the inode's number, and the
    // directory is EIO then.
    let own = OwnFs::new(&["mkfs.ext4", "-q"], 64 << 20);
    let mount = Mount::builder().parent(own.path()).start();
    mount.volfs().ok(&["create", "v", "--quota", "1M"]);
    let host = mount.dir().mkdir("host");
    let [there, here] = [host, mount.join("v")].map(|dir| {
        fs::write(dir.join("f"), "text\n").unwrap();
        let out = output(
            Command::new("sh")
                .args(["-c", STANDING, "large"])
                .current_dir(&dir)
                .env("LC_ALL", "C"),
        );
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        said.replace(dir.to_str().unwrap(), "DIR")
    });
    assert_eq!(here, there);
    assert!(there.contains("text"), "{there}");
    assert_eq!(mount.daemon_complaints(), "");
}
