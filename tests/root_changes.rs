//! What commands change in the root of the mount is seen there as what programs
//! change: in listings that the kernel has, in its times, and by who watches it.

mod support;

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use support::Mount;
use support::user::{ALICE, as_user};
use support::wait::clock_tick;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A watch on a directory.
struct Watch(OwnedFd);

impl Watch {
    fn new(dir: &Path) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let wanted = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&fd, dir, wanted).unwrap();
        Self(fd)
    }

    /// The events since the last call, which are there: a command returns after them.
    fn events(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.0.as_fd(), &mut buffer);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let kinds = [
                (ReadFlags::CREATE, "made"),
                (ReadFlags::DELETE, "removed"),
                (ReadFlags::MOVED_FROM, "from"),
                (ReadFlags::MOVED_TO, "to"),
                (ReadFlags::DELETE_SELF, "gone"),
                (ReadFlags::MOVE_SELF, "moved"),
            ];
            let kind = kinds
                .iter()
                .find(|(flag, _)| event.events().contains(*flag));
            let Some((_, kind)) = kind else { continue };
            let name = event.file_name().map_or("", |name| name.to_str().unwrap());
            events.push(format!("{kind} {name}").trim_end().to_owned());
        }
        events
    }
}

/// All commands that change the root, with what it holds then and the events.
const COMMANDS: [(&[&str], &[&str], &[&str]); 13] = [
    (&["create", "a"], &["a"], &["made a"]),
    (
        &["create", "b", "c"],
        &["a", "b", "c"],
        &["made b", "made c"],
    ),
    (&["mv", "b", "d"], &["a", "c", "d"], &["from b", "to d"]),
    (&["rm", "a"], &["c", "d"], &["removed a"]),
    (&["trash", "restore", "a"], &["a", "c", "d"], &["made a"]),
    (&["clone", "a", "e"], &["a", "c", "d", "e"], &["made e"]),
    (&["export", "e", "-o", "e.tar"], &["a", "c", "d", "e"], &[]),
    (
        &["import", "f", "e.tar"],
        &["a", "c", "d", "e", "f"],
        &["made f"],
    ),
    (
        &["rm", "--purge", "--wait", "e"],
        &["a", "c", "d", "f"],
        &["removed e"],
    ),
    (&["trash", "empty", "--yes"], &["a", "c", "d", "f"], &[]),
    (
        &["create", "--disk", "--size", "16M", "k"],
        &["a", "c", "d", "f", "k"],
        &["made k"],
    ),
    (&["rm", "k"], &["a", "c", "d", "f"], &["removed k"]),
    (
        &["prune", "--filter", "name=[cd]"],
        &["a", "f"],
        &["removed d", "removed c"],
    ),
];

/// Runs them all, with `look` before and after each.
fn run_all(mount: &Mount) {
    let watch = Watch::new(mount.path());
    for (command, holds, events) in COMMANDS {
        // The kernel keeps a listing when it has seen one whole.
        names(mount.path());
        names(mount.path());
        let before = fs::metadata(mount.path()).unwrap();
        mount.volfs().env("PWD", "/").ok(&rooted(mount, command));
        assert_eq!(names(mount.path()), holds, "{command:?}");
        let mut seen = watch.events();
        let mut wanted = events.to_vec();
        seen.sort();
        wanted.sort_unstable();
        assert_eq!(seen, wanted, "{command:?}\n{}", mount.daemon_log());
        let after = fs::metadata(mount.path()).unwrap();
        let changed = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec());
        assert_eq!(
            changed(&after) > changed(&before),
            !events.is_empty(),
            "{command:?}"
        );
        assert_eq!(changed(&after), (after.ctime(), after.ctime_nsec()));
        assert_eq!(after.nlink(), 2 + holds.len() as u64);
    }
    assert_eq!(mount.daemon_complaints(), "");
}

/// Archives are beside the mount.
fn rooted(mount: &Mount, command: &[&str]) -> Vec<String> {
    let path = mount.dir().join("e.tar").display().to_string();
    let word = |&word: &&str| {
        if word == "e.tar" {
            path.clone()
        } else {
            word.to_owned()
        }
    };
    command.iter().map(word).collect()
}

#[test]
fn every_command_shows_in_listing_times_and_watches() {
    run_all(&Mount::new());
}

#[test]
fn with_a_supervisor_and_one_thread() {
    run_all(
        &Mount::builder()
            .supervised()
            .args(&["--threads", "1"])
            .start(),
    );
}

#[test]
fn without_root() {
    let _device = support::fuse_device::OpenDevice::new();
    let mount = Mount::builder().user(ALICE).start();
    let listed = || as_user(ALICE, || names(mount.path()));
    let watch = as_user(ALICE, || Watch::new(mount.path()));
    listed();
    mount.volfs().ok(&["create", "a"]);
    assert_eq!(listed(), ["a"]);
    mount.volfs().ok(&["mv", "a", "b"]);
    mount.volfs().ok(&["rm", "b"]);
    assert_eq!(listed(), [""; 0]);
    assert_eq!(watch.events(), ["made a", "from a", "to b", "removed b"]);
}

/// Names that the kernel does not know, and those that it knows not to be there.
#[test]
fn what_the_kernel_knew_before_does_not_matter() {
    let mut mount = Mount::new();
    mount.volfs().ok(&["create", "a", "b"]);
    mount.remount();
    let watch = Watch::new(mount.path());
    mount.volfs().ok(&["mv", "a", "c"]);
    mount.volfs().ok(&["rm", "b"]);
    assert_eq!(watch.events(), ["from a", "to c", "removed b"]);
    for name in ["d", "e"] {
        assert!(fs::metadata(mount.join(name)).is_err());
    }
    mount.volfs().ok(&["create", "d"]);
    mount.volfs().ok(&["mv", "d", "e"]);
    assert_eq!(watch.events(), ["made d", "from d", "to e"]);
    fs::write(mount.join("e/f"), "x").unwrap();
    assert_eq!(names(mount.path()), ["c", "e"]);
}

/// Who watches a volume learns that it is renamed or removed, and one that comes back
/// from the trash is whole.
#[test]
fn a_volume_itself_is_watched() {
    let mount = Mount::new();
    let path = mount.volume("a");
    fs::create_dir(path.join("dir")).unwrap();
    let watch = Watch::new(&path);
    mount.volfs().ok(&["mv", "a", "b"]);
    mount.volfs().ok(&["rm", "b"]);
    assert_eq!(watch.events(), ["moved", "gone"]);
    mount.volfs().ok(&["trash", "restore", "b"]);
    fs::write(mount.join("b/dir/f"), "x").unwrap();
    fs::create_dir(mount.join("b/other")).unwrap();
    assert_eq!(names(&mount.join("b")), ["dir", "other"]);
}

/// A bind mount in a volume, and who works there, stay where the volume goes.
#[test]
fn what_works_in_a_renamed_volume_goes_on() {
    let mount = Mount::new();
    let path = mount.volume("a");
    fs::create_dir(path.join("dir")).unwrap();
    let open = fs::File::open(path.join("dir")).unwrap();
    mount.volfs().ok(&["mv", "a", "b"]);
    let now = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    assert_eq!(fs::read_link(now).unwrap(), mount.join("b/dir"));
    assert_eq!(
        fs::metadata(&path).unwrap_err().raw_os_error(),
        Some(libc::ENOENT)
    );
}

#[test]
fn the_images_of_disk_volumes_are_listed_at_once() {
    let mount = Mount::new();
    let disks = mount.join(".volfs/disks");
    for (command, holds) in [
        (
            &["create", "--disk", "--size", "16M", "a"][..],
            &["a.raw"][..],
        ),
        (
            &["create", "--disk", "--size", "16M", "b"],
            &["a.raw", "b.raw"],
        ),
        (&["mv", "a", "c"], &["b.raw", "c.raw"]),
        (&["rm", "b"], &["c.raw"]),
    ] {
        names(&disks);
        names(&disks);
        mount.volfs().ok(command);
        assert_eq!(names(&disks), holds, "{command:?}");
    }
    // By the mount itself, too.
    fs::remove_dir(mount.join("c")).unwrap();
    assert_eq!(names(&disks), [""; 0]);
}

#[test]
fn the_time_of_the_root_is_that_of_the_last_change() {
    let start = SystemTime::now();
    let mut mount = Mount::new();
    let changed = |mount: &Mount| fs::metadata(mount.path()).unwrap().modified().unwrap();
    let made = changed(&mount);
    assert!(
        made >= start - std::time::Duration::from_millis(1),
        "{made:?} {start:?}"
    );
    mount.remount();
    assert_eq!(changed(&mount), made, "of an empty store");
    clock_tick();
    for change in ["create", "mv", "rm"] {
        let before = changed(&mount);
        match change {
            "create" => drop(mount.volume("a")),
            "mv" => fs::rename(mount.join("a"), mount.join("b")).unwrap(),
            _ => fs::remove_dir(mount.join("b")).unwrap(),
        }
        let now = changed(&mount);
        assert!(now > before, "{change}");
        mount.remount();
        assert_eq!(changed(&mount), now, "{change}");
        mount.kill();
        mount.start();
        assert_eq!(changed(&mount), now, "{change}");
    }
    mount.stop();
    // Without a daemon, which tells nobody.
    let before = SystemTime::now();
    mount.volfs().ok(&["create", "c"]);
    mount.start();
    assert!(changed(&mount) >= before);
    // What is not a name leaves it alone.
    let now = changed(&mount);
    mount
        .volfs()
        .ok(&["set", "c", "--label", "k=v", "--quota", "1G"]);
    fs::write(mount.join("c/f"), "x").unwrap();
    mount.volfs().ok(&["trash", "empty", "--yes"]);
    assert_eq!(changed(&mount), now);
    let control = fs::metadata(mount.join(".volfs")).unwrap().modified();
    assert_eq!(control.unwrap(), now);
}
