//! A process or machine that stops in the middle: every prefix of the writes
//! that formatting and growing make.

mod diskimg_common;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use diskimg_common::{Mounted, assert_clean, fixed, mib, must, run, scratch, text};
use volfs::diskimg::{
    FormatError, ImageStore, ReadAt, Timestamp, format, format_through, grow, grow_store, inspect,
};

/// One change that a store was asked to make.
#[derive(Clone)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    Length(u64),
    Sync,
}

impl Change {
    fn apply(&self, file: &File) {
        match self {
            Change::Write { offset, data } => file.write_all_at(data, *offset).expect("written"),
            Change::Length(bytes) => file.set_len(*bytes).expect("a length"),
            Change::Sync => {}
        }
    }
}

/// A file whose changes are recorded, and which fails after `allowed` of them.
struct Recorder {
    file: File,
    changes: Vec<Change>,
    allowed: usize,
}

impl Recorder {
    fn record(&mut self, change: Change) -> io::Result<()> {
        if self.changes.len() >= self.allowed {
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        change.apply(&self.file);
        self.changes.push(change);
        Ok(())
    }
}

impl ReadAt for Recorder {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        ReadAt::read_exact_at(&self.file, buffer, offset)
    }
}

impl ImageStore for Recorder {
    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.record(Change::Write {
            offset,
            data: data.to_vec(),
        })
    }

    fn set_length(&mut self, bytes: u64) -> io::Result<()> {
        self.record(Change::Length(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.record(Change::Sync)
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn a_format_that_fails_anywhere_leaves_nothing() {
    let dir = scratch();
    let target = dir.path().join("image");
    for allowed in 0.. {
        let made = format_through(&target, &fixed(mib(300)), |file| {
            assert!(
                !target.exists(),
                "nothing is at the target before the rename"
            );
            Recorder {
                file,
                changes: Vec::new(),
                allowed,
            }
        });
        match made {
            Ok(_) => {
                assert!(allowed > 10, "{allowed} changes made an image");
                assert_eq!(names_in(dir.path()), ["image"]);
                assert_clean(&target, "the finished image");
                return;
            }
            Err(error) => {
                assert!(matches!(error, FormatError::Target { .. }), "{error}");
                assert_eq!(
                    names_in(dir.path()),
                    Vec::<String>::new(),
                    "after {allowed} changes"
                );
            }
        }
    }
}

#[test]
fn a_target_that_appears_meanwhile_is_not_replaced() {
    let dir = scratch();
    let target = dir.path().join("image");
    let made = format_through(&target, &fixed(mib(8)), |file| {
        fs::write(&target, "somebody else's").expect("a file");
        file
    });
    assert!(
        matches!(made, Err(FormatError::TargetExists { .. })),
        "{made:?}"
    );
    assert_eq!(
        fs::read_to_string(&target).expect("a file"),
        "somebody else's"
    );
    assert_eq!(names_in(dir.path()), ["image"]);
}

/// An image with files in it, and what they hold.
fn filled_image(path: &Path, dir: &Path, size: u64) -> BTreeMap<String, Vec<u8>> {
    format(path, &fixed(mib(size))).expect("an image");
    let files: BTreeMap<String, Vec<u8>> = (0..40u32)
        .map(|i| {
            (
                format!("file-{i}"),
                vec![i as u8 ^ 0x5a; (i * 577) as usize],
            )
        })
        .collect();
    let mounted = Mounted::new(path, &dir.join("mnt"), "rw");
    for (name, contents) in &files {
        fs::write(mounted.dir.join(name), contents).expect("a file");
    }
    mounted.unmount();
    files
}

fn assert_intact(image: &Path, dir: &Path, files: &BTreeMap<String, Vec<u8>>, about: &str) {
    let mounted = Mounted::new(image, &dir.join("mnt"), "ro");
    for (name, contents) in files {
        assert!(
            &fs::read(mounted.dir.join(name)).expect(about) == contents,
            "{about}: {name} differs"
        );
    }
    mounted.unmount();
}

fn copy_sparse(from: &Path, to: &Path) {
    must("cp", &["--sparse=always", text(from), text(to)]);
}

#[test]
fn growing_that_stops_anywhere_leaves_the_old_size_or_the_new() {
    let dir = scratch();
    // Extends a short last group; adds groups; takes descriptor blocks from
    // the reserve; changes to meta_bg; has meta_bg already.
    for (from, before, to) in [
        (100, 100, 120),
        (100, 100, 700),
        (200, 200, 20_000),
        (8, 8, 9000),
        (8, 8500, 17_000),
    ] {
        let old = dir.path().join(format!("old-{before}-{to}"));
        let files = filled_image(&old, dir.path(), from);
        grow(&old, mib(before)).expect("grown before");
        let grown = dir.path().join("grown");
        copy_sparse(&old, &grown);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&grown)
            .expect("the image");
        let mut recorder = Recorder {
            file,
            changes: Vec::new(),
            allowed: usize::MAX,
        };
        let now = Timestamp::now();
        grow_store(&mut recorder, mib(to), now).expect("grown");
        assert_clean(&grown, "grown whole");
        let changes = recorder.changes;
        let superblock = changes
            .iter()
            .rposition(|change| matches!(change, Change::Write { .. }));
        let last = &changes[superblock.expect("a write")];
        assert!(
            matches!(last, Change::Write { offset: 1024, data } if data.len() == 1024),
            "the superblock is last"
        );

        for cut in 0..=changes.len() {
            let about = format!("{before} to {to} MiB, {cut} of {} changes", changes.len());
            let image = dir.path().join("cut");
            copy_sparse(&old, &image);
            let file = OpenOptions::new()
                .write(true)
                .open(&image)
                .expect("the image");
            changes[..cut].iter().for_each(|change| change.apply(&file));
            drop(file);
            let blocks = inspect(&File::open(&image).expect("the image"))
                .expect("an image")
                .blocks;
            let expected = if Some(cut) > superblock {
                mib(to).blocks()
            } else {
                mib(before).blocks()
            };
            assert_eq!(blocks, expected, "{about}");

            // Growing again completes it without e2fsck.
            let again = dir.path().join("again");
            copy_sparse(&image, &again);
            grow(&again, mib(to)).unwrap_or_else(|error| panic!("{about}: {error}"));
            assert_clean(&again, &format!("{about}, grown again"));

            // e2fsck mends it, to that size, with its files.
            let output = run("e2fsck", &["-fy", text(&image)]);
            let code = output.status.code();
            assert!(code == Some(0) || code == Some(1), "{about}: {output:?}");
            assert_clean(&image, &format!("{about}, mended"));
            let mended = inspect(&File::open(&image).expect("the image")).expect("an image");
            assert_eq!(mended.blocks, expected, "{about}, mended");
            if cut % 5 == 0 || cut + 3 > changes.len() {
                assert_intact(&image, dir.path(), &files, &format!("{about}, mended"));
                assert_intact(&again, dir.path(), &files, &format!("{about}, grown again"));
            }
        }
    }
}

/// Power loss: of the writes since the last sync, any may be missing.
#[test]
fn growing_that_loses_unsynced_writes_is_mended_by_growing_again() {
    let dir = scratch();
    for (from, to) in [(100, 120), (200, 20_000), (8, 9000)] {
        let old = dir.path().join(format!("old-{from}-{to}"));
        let files = filled_image(&old, dir.path(), from);
        let grown = dir.path().join("grown");
        copy_sparse(&old, &grown);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&grown)
            .expect("the image");
        let mut recorder = Recorder {
            file,
            changes: Vec::new(),
            allowed: usize::MAX,
        };
        grow_store(&mut recorder, mib(to), Timestamp::now()).expect("grown");
        let changes = recorder.changes;
        let syncs: Vec<usize> = changes
            .iter()
            .enumerate()
            .filter(|(_, c)| matches!(c, Change::Sync))
            .map(|(at, _)| at)
            .collect();
        let mut random = 0x9e37_79b9_7f4a_7c15u64 ^ to;
        for (start, end) in std::iter::once(0)
            .chain(syncs.iter().copied())
            .zip(syncs.iter().copied())
        {
            for round in 0..8 {
                let about = format!(
                    "{from} to {to} MiB, writes {start} to {end} lost in part, round {round}"
                );
                let image = dir.path().join("lost");
                copy_sparse(&old, &image);
                let file = OpenOptions::new()
                    .write(true)
                    .open(&image)
                    .expect("the image");
                for (at, change) in changes[..end].iter().enumerate() {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    if at < start || random >> 63 == 0 || matches!(change, Change::Length(_)) {
                        change.apply(&file);
                    }
                }
                drop(file);
                let again = dir.path().join("again");
                copy_sparse(&image, &again);
                grow(&again, mib(to)).unwrap_or_else(|error| panic!("{about}: {error}"));
                assert_clean(&again, &format!("{about}, grown again"));
                let output = run("e2fsck", &["-fy", text(&image)]);
                assert!(
                    matches!(output.status.code(), Some(0 | 1)),
                    "{about}: {output:?}"
                );
                assert_clean(&image, &format!("{about}, mended"));
                if round < 2 {
                    assert_intact(&image, dir.path(), &files, &format!("{about}, mended"));
                    assert_intact(&again, dir.path(), &files, &format!("{about}, grown again"));
                }
            }
        }
    }
}

#[test]
fn growing_on_a_failing_disk_reports_and_keeps_the_old_size() {
    let dir = scratch();
    let old = dir.path().join("old");
    let files = filled_image(&old, dir.path(), 100);
    for allowed in 0..8 {
        let image = dir.path().join("failing");
        copy_sparse(&old, &image);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&image)
            .expect("the image");
        let mut store = Recorder {
            file,
            changes: Vec::new(),
            allowed,
        };
        let now = Timestamp::now();
        grow_store(&mut store, mib(700), now).expect_err("the disk failed");
        grow(&image, mib(700)).expect("grown on a disk that works");
        assert_clean(&image, "grown at the second attempt");
        assert_intact(&image, dir.path(), &files, "grown at the second attempt");
    }
}
