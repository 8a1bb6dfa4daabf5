//! Nothing leads out of a volume: no path, no link, no race.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use volfs::volume::Error;
use volfs::{Volume, VolumeFs};

use crate::{World, both, name, support};

#[test]
fn nothing_leads_out() {
    both(|world| {
        let outside = world
            .dir
            .mkdir(if world.mount.is_some() { "m" } else { "o" });
        fs::write(outside.join("secret"), "secret").unwrap();
        let volume = Volume::builder("v").create(&world.volumes).unwrap();
        let other = Volume::builder("other").create(&world.volumes).unwrap();
        other.fs().unwrap().write("theirs", "theirs").unwrap();
        let inside = world.path("v");
        let files = volume.fs().unwrap();
        files.mkdir("real").unwrap();
        files.write("real/f", "inside").unwrap();
        symlink(&outside, inside.join("abs")).unwrap();
        symlink("/etc/passwd", inside.join("passwd")).unwrap();
        symlink("../other", inside.join("up")).unwrap();
        symlink("../../../../../../../../..", inside.join("far")).unwrap();
        symlink("real/../../other/theirs", inside.join("winding")).unwrap();
        symlink("nowhere", inside.join("dangling")).unwrap();
        symlink(outside.join("new"), inside.join("dangling-out")).unwrap();
        symlink("real", inside.join("near")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();

        let out = |error: Error, what: &str| {
            assert!(matches!(error, Error::Outside { .. }), "{what}: {error:?}");
        };
        for path in [
            "..",
            "../other/theirs",
            "/../other",
            "real/../../other",
            "abs/secret",
            "passwd",
            "up/theirs",
            "far/etc/passwd",
            "winding",
            "magic/etc/passwd",
            "dangling-out",
        ] {
            out(files.read(path).unwrap_err(), path);
            out(files.write(path, "x").unwrap_err(), path);
            out(files.stat(path).unwrap_err(), path);
            out(files.exists(path).unwrap_err(), path);
            out(files.list(path).unwrap_err(), path);
            out(files.copy("real/f", path).unwrap_err(), path);
            out(files.copy(path, "real/g").unwrap_err(), path);
            out(files.mkdir(format!("{path}/x")).unwrap_err(), path);
            out(files.remove(format!("{path}/x")).unwrap_err(), path);
            out(files.remove_dir(format!("{path}/x")).unwrap_err(), path);
            out(
                files.rename("real/f", format!("{path}/x")).unwrap_err(),
                path,
            );
            out(
                files.rename(format!("{path}/x"), "real/h").unwrap_err(),
                path,
            );
        }
        // Refused before anything is made on the way.
        out(files.write("nope/../../escaped", "x").unwrap_err(), "nope");
        out(files.mkdir("nope/../../escaped").unwrap_err(), "nope");
        assert!(!inside.join("nope").exists());
        assert!(!world.path("v").join("../escaped").exists());

        // What stays inside is followed, as everywhere.
        assert_eq!(files.read_to_string("near/f").unwrap(), "inside");
        files.write("dangling", "made through a link").unwrap();
        assert_eq!(
            files.read_to_string("nowhere").unwrap(),
            "made through a link"
        );
        // A link itself is a name like any other.
        files.rename("abs", "real/abs").unwrap();
        files.remove("real/abs").unwrap();
        files.remove("passwd").unwrap();
        files.remove_dir("real").unwrap();
        files.remove_dir("near").unwrap_err();
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "secret"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(other.fs().unwrap().list("").unwrap().len(), 1);
        // A fifo does not hang it, a device does nothing.
        support::run(std::process::Command::new("mkfifo").arg(inside.join("fifo")));
        for error in [
            files.read("fifo").unwrap_err(),
            files.write("fifo", "x").unwrap_err(),
        ] {
            assert!(
                matches!(
                    error,
                    Error::Io {
                        errno: libc::EOPNOTSUPP,
                        ..
                    }
                ),
                "{error:?}"
            );
        }
    });
}

/// A directory and a symbolic link out of the volume change places all the
/// time. What meets the link is refused quickly, so that most tries do.
#[test]
fn a_directory_that_is_swapped_for_a_link() {
    race(&World::offline(), 500_000);
    let long = std::env::var_os("VOLFS_LONG").is_some();
    race(&World::mounted(), if long { 100_000 } else { 5_000 });
}

fn race(world: &World, tries: usize) {
    let outside = world.dir.mkdir("outside");
    fs::write(outside.join("f"), "untouched").unwrap();
    fs::create_dir(outside.join("sub")).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let volume = Volume::builder("v").create(&world.volumes).unwrap();
    let inside = world.path("v");
    let files = volume.fs().unwrap();
    files.mkdir("dir/sub").unwrap();
    files.mkdir("aside").unwrap();
    symlink(&outside, inside.join("link")).unwrap();
    // Offline, nobody has seen the link being made.
    world.volumes.verify(&name("v"), true).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut done, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (inside.join("dir"), inside.join("link"));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                let so_far = swaps.fetch_add(1, Ordering::Relaxed);
                // Now and then long enough for a whole call, so that it comes
                // at every moment of one.
                for _ in 0..(so_far % 50) * 400 {
                    std::hint::spin_loop();
                }
            }
        });
        let _stop = StopAtEnd(&stop);
        let mut i = 0;
        while i < tries || swaps.load(Ordering::Relaxed) < 1000 {
            i += 1;
            let result = attempt(&files, i);
            match result {
                Ok(()) => done += 1,
                Err(Error::Outside { .. }) => refused += 1,
                // What is asked for may be where the other is just now.
                Err(error)
                    if matches!(
                        error.io_kind(),
                        Some(
                            std::io::ErrorKind::NotFound
                                | std::io::ErrorKind::NotADirectory
                                | std::io::ErrorKind::IsADirectory
                                | std::io::ErrorKind::DirectoryNotEmpty
                        )
                    ) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "untouched");
    let left: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(fs::read_dir(outside.join("sub")).unwrap().next().is_none());
    let swaps = swaps.into_inner();
    println!("at least {tries} tries, {swaps} swaps: {done} done inside, {refused} refused");
    drop(files);
    let verified = world.volumes.verify(&name("v"), false).unwrap();
    assert_eq!(verified.accounted, verified.found);
}

/// Ends the other thread, also when this one fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn attempt(files: &VolumeFs, i: usize) -> Result<(), Error> {
    match i % 8 {
        0 => files.write("dir/new", "escaped"),
        1 => files.write_stream("dir/f").map(drop),
        2 => files.mkdir("dir/sub/made"),
        3 => files.remove("dir/f"),
        4 => files.copy("dir/new", "dir/sub/copy").map(drop),
        5 => files
            .rename("dir/sub", "aside/sub")
            .and_then(|()| files.rename("aside/sub", "dir/sub")),
        6 => files.remove_dir("dir/sub/made"),
        _ => match files.read("dir/f") {
            Ok(read) if read == b"untouched" => panic!("it read outside"),
            other => other.map(drop),
        },
    }
}

/// A mount in the volume, of the same file system even, is not emptied.
#[test]
fn what_is_mounted_below_a_directory_is_not_removed_with_it() {
    both(|world| {
        let outside = world
            .dir
            .mkdir(if world.mount.is_some() { "m" } else { "o" });
        fs::write(outside.join("theirs"), "theirs").unwrap();
        let volume = Volume::builder("v").create(&world.volumes).unwrap();
        let files = volume.fs().unwrap();
        files.mkdir("d/there/mounted").unwrap();
        let there = world.path("v").join("d/there");
        let mut all = Vec::new();
        for at in [there.join("mounted"), there.clone()] {
            support::run(Command::new("mount").arg("--bind").arg(&outside).arg(&at));
            all.push(files.remove_dir("d"));
            all.push(files.remove_dir("d/there"));
            support::run(Command::new("umount").arg(&at));
        }
        for refused in all {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::Outside { .. }), "{error:?}");
        }
        assert_eq!(fs::read(outside.join("theirs")).unwrap(), b"theirs");
        files.remove_dir("d").unwrap();
    });
}
