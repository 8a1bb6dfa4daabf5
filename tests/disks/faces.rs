//! The two faces of a disk volume exclude each other.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::Mount;
use crate::support::proc::loop_devices_under;
use crate::{assert_clean, attach, create, eventually, image, last_error, names};

/// Whether another process can open the image; `how` is the shell's word.
fn another_opens(mount: &Mount, name: &str, how: &str) -> bool {
    let script = format!("exec 3{how} \"$0\"");
    let opened = Command::new("bash")
        .args(["-c", &script])
        .arg(image(mount, name))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&opened.stderr);
    assert!(opened.status.success() || said.contains("busy"), "{said}");
    opened.status.success()
}

#[test]
fn one_face_at_a_time() {
    let mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    fs::write(dir.join("file"), "text").unwrap();

    // Directory in use, then attach.
    let held = File::open(dir.join("file")).unwrap();
    let busy = attach(&mount, "db").unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    let own = std::process::id().to_string();
    assert!(last_error(&mount).contains(&own), "{}", last_error(&mount));
    drop(held);

    // Readers share; a writer is alone; the directory is closed.
    let reader = eventually("read", || File::open(image(&mount, "db")));
    assert_eq!(loop_devices_under(mount.store()), [""; 0]);
    let another = File::open(image(&mount, "db")).unwrap();
    assert!(!another_opens(&mount, "db", "<>"));
    assert!(another_opens(&mount, "db", "<"));
    let busy = names(&dir).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    assert!(last_error(&mount).contains(&own), "{}", last_error(&mount));
    assert!(fs::metadata(&dir).unwrap().is_dir(), "ls of the root works");
    drop((reader, another));
    eventually("the directory again", || names(&dir));

    // Attached: neither removed nor attached twice, but renamed.
    let writer = eventually("attach", || attach(&mount, "db"));
    assert!(!another_opens(&mount, "db", "<>") && !another_opens(&mount, "db", "<"));
    // But its own process may open it again, as QEMU does.
    drop(File::open(image(&mount, "db")).unwrap());
    let busy = mount.volfs().fails(1, &["rm", "db"]);
    assert!(busy.contains(&own), "{busy}");
    fs::rename(&dir, mount.join("db2")).unwrap();
    assert!(image(&mount, "db2").exists() && !image(&mount, "db").exists());
    let inspected = mount.volfs().ok(&["inspect", "db2"]);
    assert!(inspected.contains(&own), "{inspected}");
    drop(writer);
}

#[test]
fn the_image_is_a_file_like_the_stores() {
    for arguments in [&[][..], &["--no-passthrough"]] {
        let mount = Mount::builder().args(arguments).start();
        create(&mount, "db", "64M");
        let path = mount.volfs().ok(&["path", "db", "--disk"]);
        assert_eq!(Path::new(path.trim_end()), image(&mount, "db"));
        let mut raw = attach(&mount, "db").unwrap();
        assert_eq!(raw.metadata().unwrap().len(), 64 << 20);
        let at = 32 << 20;
        raw.write_all_at(&[7; 8192], at).unwrap();
        raw.sync_all().unwrap();
        let store = mount.volfs().list()[0]["disk"]["path"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut seen = [0; 8192];
        File::open(&store)
            .unwrap()
            .read_exact_at(&mut seen, at)
            .unwrap();
        assert_eq!(seen, [7; 8192], "{arguments:?}");
        let punch = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
            | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        nix::fcntl::fallocate(&raw, punch, at as i64, 4096).unwrap();
        raw.seek(SeekFrom::Start(at)).unwrap();
        raw.read_exact(&mut seen).unwrap();
        assert_eq!((seen[0], seen[4096]), (0, 7));
        assert!(raw.set_len(1 << 20).is_err(), "its size is the volume's");
        assert!(
            File::create(image(&mount, "db")).is_err(),
            "nor is it emptied"
        );
        assert_eq!(raw.metadata().unwrap().len(), 64 << 20);
        drop(raw);
        let direct = eventually("O_DIRECT", || {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECT)
                .open(image(&mount, "db"))
        });
        assert_eq!(direct.metadata().unwrap().len(), 64 << 20);
    }
}

/// Whoever opens an image that a dead daemon's server has not let go of waits
/// for that, and nobody else with him.
#[test]
fn a_wait_for_an_image_holds_up_nobody() {
    let mount = Mount::new();
    create(&mount, "db", "64M");
    let list = || mount.volfs().list();
    let path = list()[0]["disk"]["path"].as_str().unwrap().to_owned();
    // As fuse2fs has it.
    let server = File::open(path).unwrap();
    server.try_lock().unwrap();
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| File::open(image(&mount, "db")));
        for _ in 0..5 {
            assert_eq!(list()[0]["name"], "db");
            assert!(!opened.is_finished(), "it waits");
        }
        drop(server);
        opened.join().unwrap().unwrap();
    });
}

/// Mounting and attaching at the same moment: one after the other, or one of
/// them is refused.
#[test]
fn attach_while_mounting() {
    let mut mount = Mount::builder().args(&["--trust-guest-images"]).start();
    let dir = create(&mount, "db", "64M");
    let (mut attached, mut written) = (0, 0);
    for round in 0..30 {
        // Nobody has it now.
        drop(eventually("attach", || attach(&mount, "db")));
        eventually("looked at", || File::open(image(&mount, "db")).map(drop));
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                together.wait();
                let mut file = File::create(dir.join(format!("file-{round}")))?;
                let device = loop_devices_under(mount.store()).len();
                file.write_all(b"text")?;
                Ok::<_, std::io::Error>(device)
            });
            together.wait();
            if let Ok(raw) = attach(&mount, "db") {
                assert_eq!(loop_devices_under(mount.store()), [""; 0], "both faces");
                attached += 1;
                drop(raw);
            }
            match writer.join().unwrap() {
                Ok(device) => {
                    assert_eq!(device, 1);
                    written += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}"),
            }
        });
    }
    println!("attached {attached} times, written {written} times of 30");
    assert!(attached + written >= 30, "{attached} {written}");
    mount.stop();
    assert_clean(mount.store());
}

/// A volume that goes by one of two names.
const NAMES: [&str; 2] = ["db", "db2"];

/// What one of many hands does; what is refused is refused as it should be.
fn one_of_many(mount: &Mount, hand: u32, choice: u32, attached: &AtomicUsize) {
    let name = NAMES[(choice >> 8) as usize % 2];
    let busy_or_gone = |error: &std::io::Error| {
        let known = [
            ErrorKind::ResourceBusy,
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::DirectoryNotEmpty,
            ErrorKind::StaleNetworkFileHandle,
        ];
        assert!(known.contains(&error.kind()), "{error:?}");
    };
    let devices = || loop_devices_under(mount.store());
    match choice % 10 {
        0 | 1 => match attach(mount, name) {
            Ok(raw) => {
                attached.fetch_add(1, Ordering::SeqCst);
                assert!(devices().is_empty(), "mounted while a writer has the image");
                assert_eq!(mounted_by_the_daemon(mount), 0);
                attached.fetch_sub(1, Ordering::SeqCst);
                drop(raw);
            }
            Err(error) => busy_or_gone(&error),
        },
        2 => match File::open(image(mount, name)) {
            Ok(raw) => {
                assert!(devices().is_empty(), "mounted while a reader has the image");
                drop(raw);
            }
            Err(error) => busy_or_gone(&error),
        },
        3 => {
            let other = NAMES[((choice >> 8) + 1) as usize % 2];
            if let Err(error) = fs::rename(mount.join(name), mount.join(other)) {
                busy_or_gone(&error);
            }
        }
        4 => {
            // It holds files: it is never removed.
            let refused = fs::remove_dir(mount.join(name)).unwrap_err();
            busy_or_gone(&refused);
        }
        5 => {
            let check = mount.volfs().run(&["disk", "check", name]);
            let refused = ["in use", "no volume", "try again"];
            let known = refused.iter().any(|part| check.err.contains(part));
            assert!(check.code == Some(0) || known, "{}{}", check.out, check.err);
        }
        _ => {
            let path = mount.join(name).join(format!("hand-{hand}"));
            match File::options().append(true).create(true).open(path) {
                Ok(mut file) => {
                    assert_eq!(attached.load(Ordering::SeqCst), 0, "a writer has the image");
                    file.write_all(b"x").unwrap();
                    assert_eq!(devices().len(), 1);
                }
                Err(error) => busy_or_gone(&error),
            }
        }
    }
}

/// The daemon's own word.
fn mounted_by_the_daemon(mount: &Mount) -> u64 {
    let stats = mount.volfs().ok(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    stats["attached_disks"].as_u64().unwrap()
}

/// Eight hands, 25 things each, in an order of chance.
#[test]
fn many_hands_never_both_faces() {
    let runs = if std::env::var_os("VOLFS_LONG").is_some() {
        20
    } else {
        2
    };
    for run in 0..runs {
        let mut mount = Mount::builder().args(&["--trust-guest-images"]).start();
        let dir = create(&mount, "db", "64M");
        fs::write(dir.join("file"), "text").unwrap();
        let attached = AtomicUsize::new(0);
        let (mount_ref, attached) = (&mount, &attached);
        std::thread::scope(|scope| {
            for hand in 0..8_u32 {
                scope.spawn(move || {
                    let mut seed = (hand + 8 * run).wrapping_mul(2_654_435_761) | 1;
                    for _ in 0..25 {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        one_of_many(mount_ref, hand, seed >> 12, attached);
                    }
                });
            }
        });
        eventually("the directory again", || {
            NAMES
                .iter()
                .map(|name| fs::read_to_string(mount.join(name).join("file")))
                .find(Result::is_ok)
                .unwrap_or_else(|| Err(ErrorKind::NotFound.into()))
        });
        mount.stop();
        assert_eq!(mount.daemon_complaints(), "");
        assert_clean(mount.store());
    }
}
