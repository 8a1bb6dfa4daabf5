//! The two faces of a disk volume exclude each other.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

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

#[test]
fn many_hands_never_both_faces() {
    let mut mount = Mount::builder().args(&["--trust-guest-images"]).start();
    let dir = create(&mount, "db", "64M");
    fs::write(dir.join("file"), "text").unwrap();
    // How many have the image open for writing, as far as they know; those who
    // have the directory must never see one.
    let attached = std::sync::atomic::AtomicUsize::new(0);
    let (dir, mount_ref, attached) = (&dir, &mount, &attached);
    std::thread::scope(|scope| {
        for hand in 0..8_u32 {
            scope.spawn(move || {
                let mut seed = hand.wrapping_mul(2_654_435_761) | 1;
                for _ in 0..25 {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match seed >> 30 {
                        0 => {
                            if let Ok(raw) = attach(mount_ref, "db") {
                                attached.fetch_add(1, Ordering::SeqCst);
                                assert!(loop_devices_under(mount_ref.store()).is_empty());
                                attached.fetch_sub(1, Ordering::SeqCst);
                                drop(raw);
                            }
                        }
                        1 => {
                            if let Ok(raw) = File::open(image(mount_ref, "db")) {
                                assert!(loop_devices_under(mount_ref.store()).is_empty());
                                drop(raw);
                            }
                        }
                        _ => {
                            if let Ok(mut file) = File::options()
                                .append(true)
                                .create(true)
                                .open(dir.join(format!("hand-{hand}")))
                            {
                                assert_eq!(attached.load(Ordering::SeqCst), 0);
                                file.write_all(b"x").unwrap();
                                assert_eq!(loop_devices_under(mount_ref.store()).len(), 1);
                            }
                        }
                    }
                }
            });
        }
    });
    eventually("the directory again", || {
        fs::read_to_string(dir.join("file"))
    });
    mount.stop();
    assert_clean(mount.store());
}
