//! Nothing inside a volume leads the daemon outside it: not symlinks, not
//! `..`, not a directory that is swapped for a symlink while it is used.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::Mount;

/// A directory outside that an attack must neither read nor change.
fn target(mount: &Mount) -> PathBuf {
    let outside = mount.dir().mkdir("outside");
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::create_dir(outside.join("dir")).unwrap();
    outside
}

fn assert_untouched(outside: &Path) {
    let mut names: Vec<_> = fs::read_dir(outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["dir", "secret"],
        "something was made or removed outside"
    );
    assert_eq!(
        fs::read_to_string(outside.join("secret")).unwrap(),
        "secret"
    );
    let stat = fs::metadata(outside.join("secret")).unwrap();
    assert_eq!(
        (stat.uid(), stat.nlink(), stat.mode() & 0o7777),
        (0, 1, 0o644)
    );
    assert_eq!(fs::read_dir(outside.join("dir")).unwrap().count(), 0);
}

/// A symlink is followed by whoever uses the path, in its own name space: the
/// daemon only tells what the link says.
#[test]
fn symlinks_mean_what_they_mean_to_the_caller() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    fs::write(volume.join("inside"), "inside").unwrap();
    for (target, name) in [
        ("/etc/hostname", "absolute"),
        ("../../../../../../etc/hostname", "relative"),
        ("/proc/self/root/etc/hostname", "magic"),
        ("/proc/self/exe", "exe"),
        ("inside", "fine"),
    ] {
        symlink(target, volume.join(name)).unwrap();
        assert_eq!(fs::read_link(volume.join(name)).unwrap(), Path::new(target));
    }
    // /proc/self is the test, not the daemon.
    let seen = fs::canonicalize(volume.join("exe")).unwrap();
    assert_eq!(
        seen,
        std::env::current_exe().unwrap().canonicalize().unwrap()
    );
    assert_eq!(fs::read_to_string(volume.join("fine")).unwrap(), "inside");
}

/// What is put in a volume's directory behind the daemon's back cannot lead it
/// out: a directory of the volume becomes a symlink on the host.
#[test]
fn a_directory_swapped_on_the_host_leads_nowhere() {
    let mount = Mount::new();
    let outside = target(&mount);
    let volume = mount.volume("v");
    fs::create_dir(volume.join("dir")).unwrap();
    fs::write(volume.join("dir/secret"), "harmless").unwrap();
    let open = fs::File::open(volume.join("dir")).unwrap();
    fs::metadata(volume.join("dir/secret")).unwrap();

    let host = mount.host_path("v");
    fs::rename(host.join("dir"), host.join("away")).unwrap();
    symlink(&outside, host.join("dir")).unwrap();

    // The kernel may know the old directory still; never the one outside.
    if let Ok(content) = fs::read_to_string(volume.join("dir/secret"))
        && !fs::symlink_metadata(volume.join("dir"))
            .unwrap()
            .is_symlink()
    {
        assert_eq!(content, "harmless");
    }
    let through = |name: &str| {
        rustix::fs::openat(
            &open,
            name,
            rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            0o600.into(),
        )
    };
    drop(through("new"));
    let _ = rustix::fs::mkdirat(&open, "new-dir", 0o755.into());
    let _ = rustix::fs::unlinkat(&open, "secret", rustix::fs::AtFlags::empty());
    let _ = fs::remove_dir(volume.join("dir/dir"));
    assert_untouched(&outside);
}

/// The same as a race, from inside the mount: one thread exchanges a directory
/// and a symlink to the outside all the time, the others use the path in every
/// way. A root that followed the link itself is shown to be able to get out;
/// with O_NOFOLLOW in the last place and `openat` from an open directory the
/// caller stays inside, and so must the daemon.
#[test]
fn a_directory_swapped_in_a_race_leads_nowhere() {
    let mount = Mount::new();
    let outside = target(&mount);
    let volume = mount.volume("v");
    fs::create_dir(volume.join("dir")).unwrap();
    fs::write(volume.join("dir/secret"), "harmless").unwrap();
    fs::create_dir(volume.join("dir/dir")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    let host = mount.host_path("v");

    let stop = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        // Once through the mount and once on the host, where no kernel cache
        // of the mount stands in between.
        for place in [&volume, &host] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (a, b) = (place.join("dir"), place.join("link"));
                    let _ = renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
                }
            });
        }
        let mut round = 0;
        while Instant::now() < until {
            round += 1;
            attack(&volume, round);
        }
        stop.store(true, Ordering::Relaxed);
        println!("{round} rounds");
    });
    assert_untouched(&outside);
}

/// Every operation on names in a directory that may be a symlink by the time
/// the daemon gets to it. The caller itself never follows a symlink.
fn attack(volume: &Path, round: u32) {
    use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
    let root =
        rustix::fs::open(volume, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    // The caller's kernel refuses symlinks on the way, so that whatever ends up
    // outside was brought there by the daemon.
    let inside = |name: &str, flags: OFlags| {
        rustix::fs::openat2(
            &root,
            name,
            flags | OFlags::CLOEXEC,
            if flags.contains(OFlags::CREATE) {
                0o600.into()
            } else {
                Mode::empty()
            },
            ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
        )
    };
    if let Ok(file) = inside("dir/secret", OFlags::RDONLY) {
        let mut content = [0; 16];
        let n = rustix::io::read(&file, &mut content).unwrap_or(0);
        assert!(
            !content[..n].starts_with(b"secret"),
            "the daemon read outside"
        );
    }
    drop(inside(
        &format!("dir/new-{round}"),
        OFlags::CREATE | OFlags::RDWR,
    ));
    let Ok(dir) = inside("dir", OFlags::DIRECTORY) else {
        return;
    };
    let name = format!("made-{round}");
    let _ = rustix::fs::mkdirat(&dir, &name, 0o755.into());
    let _ = rustix::fs::symlinkat("x", &dir, format!("link-{round}"));
    let _ = rustix::fs::renameat(&dir, &name, &dir, format!("moved-{round}"));
    let _ = rustix::fs::unlinkat(&dir, format!("moved-{round}"), AtFlags::REMOVEDIR);
    let _ = rustix::fs::chmodat(&dir, "secret", 0o644.into(), AtFlags::empty());
    if let Ok(stat) = rustix::fs::statat(&dir, "secret", AtFlags::SYMLINK_NOFOLLOW) {
        assert_eq!(stat.st_size, 8, "the daemon looked outside");
    }
}
