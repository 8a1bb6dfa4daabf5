//! Bad input: sizes, options, targets, disks, and files that are no image.

mod diskimg_common;

use std::fs::{self, File};
use std::path::Path;

use diskimg_common::{fixed, mib, must, run, scratch, text};
use proptest::prelude::*;
use volfs::diskimg::*;

#[test]
fn impossible_sizes_are_refused() {
    for bytes in [0, 1, 7 * MIB, 8 * MIB - 4096] {
        assert!(
            matches!(
                ImageSize::from_bytes(bytes),
                Err(SizeError::TooSmall { .. })
            ),
            "{bytes}"
        );
    }
    for bytes in [(64 << 40) + 4096, u64::MAX] {
        assert!(
            matches!(
                ImageSize::from_bytes(bytes),
                Err(SizeError::TooLarge { .. })
            ),
            "{bytes}"
        );
    }
    assert!(matches!(
        ImageSize::from_mib(u64::MAX),
        Err(SizeError::TooLarge { .. })
    ));
    for bytes in [8 * MIB + 1, 8 * MIB + 512, 9 * MIB - 1] {
        assert!(
            matches!(
                ImageSize::from_bytes(bytes),
                Err(SizeError::NotBlocks { .. })
            ),
            "{bytes}"
        );
    }
}

#[test]
fn impossible_options_are_refused() {
    let options = || Options::new(mib(64));
    assert!(options().label("seventeen bytes!!").is_err());
    assert!(options().label("zero\0byte").is_err());
    assert!(options().inodes(InodeDensity::BytesPerInode(4095)).is_err());
    assert!(
        options()
            .inodes(InodeDensity::BytesPerInode((64 << 20) + 1))
            .is_err()
    );
    assert!(options().inodes(InodeDensity::PerGroup(0)).is_err());
    assert!(options().inodes(InodeDensity::PerGroup(32769)).is_err());
    assert!(options().reserved_basis_points(5001).is_err());
    assert!(
        options()
            .root(RootDirectory {
                uid: 0,
                gid: 0,
                mode: 0o10_000
            })
            .is_err()
    );
    for blocks in [1, 1023, 16_384, u64::MAX] {
        let planned = Layout::plan(&options().journal(JournalSize::Blocks(blocks)));
        assert!(
            matches!(
                planned,
                Err(PlanError::Option(OptionError::JournalSize { .. }))
            ),
            "{blocks}"
        );
    }
    let planned = Layout::plan(&options().journal(JournalSize::None).orphan_file(true));
    assert!(matches!(
        planned,
        Err(PlanError::Option(OptionError::OrphanFileWithoutJournal))
    ));
    let planned = Layout::plan(
        &Options::new(mib(8))
            .inodes(InodeDensity::PerGroup(32768))
            .expect("allowed"),
    );
    assert!(matches!(planned, Err(PlanError::NoRoomForGroup { .. })));
}

#[test]
fn targets_that_exist_are_not_touched() {
    let dir = scratch();
    let target = dir.path().join("file");
    fs::write(&target, "precious").expect("a file");
    assert!(matches!(
        format(&target, &fixed(mib(8))),
        Err(FormatError::TargetExists { .. })
    ));
    assert_eq!(fs::read_to_string(&target).expect("a file"), "precious");
    assert!(matches!(
        format(dir.path(), &fixed(mib(8))),
        Err(FormatError::TargetExists { .. })
    ));
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).expect("a link");
    assert!(matches!(
        format(&dangling, &fixed(mib(8))),
        Err(FormatError::TargetExists { .. })
    ));
    assert!(matches!(
        format(Path::new("/"), &fixed(mib(8))),
        Err(FormatError::NotAFileName { .. })
    ));
    assert!(matches!(
        format(Path::new(""), &fixed(mib(8))),
        Err(FormatError::NotAFileName { .. })
    ));
    let missing = dir.path().join("missing/image");
    let error = format(&missing, &fixed(mib(8))).expect_err("no directory");
    assert!(error.to_string().contains("missing/image"), "{error}");
    assert!(matches!(
        format_file(&File::open(&target).expect("a file"), &fixed(mib(8))),
        Err(FormatError::NotEmpty)
    ));
}

/// A small tmpfs; unmounted on drop.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(dir: &'a Path, options: &str) -> Self {
        must(
            "mount",
            &["-t", "tmpfs", "-o", options, "volfs-test", text(dir)],
        );
        Tmpfs(dir)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        run("umount", &["--lazy", text(self.0)]);
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_are_reported() {
    let dir = scratch();
    {
        let _full = Tmpfs::mount(dir.path(), "size=64k");
        let error = format(&dir.path().join("image"), &fixed(mib(1024))).expect_err("full");
        assert!(error.to_string().contains("free space"), "{error}");
        assert_eq!(
            fs::read_dir(dir.path()).expect("a directory").count(),
            0,
            "nothing is left"
        );
        let mut filler = File::create(dir.path().join("filler")).expect("a file");
        std::io::copy(&mut std::io::repeat(0), &mut filler).expect_err("full");
        assert!(format(&dir.path().join("image"), &fixed(mib(8))).is_err());
    }
    let _read_only = Tmpfs::mount(dir.path(), "ro");
    let error = format(&dir.path().join("image"), &fixed(mib(8))).expect_err("read-only");
    assert!(error.to_string().contains("can be written"), "{error}");
}

fn image_bytes(size: u64) -> Vec<u8> {
    let dir = scratch();
    let image = dir.path().join("image");
    format(&image, &fixed(mib(size))).expect("an image");
    fs::read(&image).expect("its bytes")
}

#[test]
fn what_is_no_image_is_told_apart() {
    assert!(matches!(
        inspect(&&[][..]),
        Err(InspectError::TooShort { bytes: 0 })
    ));
    assert!(matches!(
        inspect(&&[0u8; 2047][..]),
        Err(InspectError::TooShort { .. })
    ));
    assert!(matches!(
        inspect(&&[0u8; 4096][..]),
        Err(InspectError::NotExt4 { found: 0 })
    ));
    let dir = scratch();
    let error = inspect(&File::open(dir.path()).expect("a directory")).expect_err("a directory");
    assert!(matches!(
        error,
        InspectError::Access(_) | InspectError::TooShort { .. } | InspectError::NotExt4 { .. }
    ));
}

#[test]
fn truncated_images_are_damaged_not_fatal() {
    let whole = image_bytes(300);
    for length in (0..20_000)
        .step_by(509)
        .chain((20_000..whole.len()).step_by(7_654_321))
    {
        match inspect(&&whole[..length]) {
            Ok(summary) => {
                assert!(!summary.is_sound() && length >= 2048, "{length}");
                assert!(matches!(summary.damage[0], Damage::Truncated { .. }));
            }
            Err(error) => assert!(
                matches!(error, InspectError::TooShort { .. }) && length < 2048,
                "{length}: {error}"
            ),
        }
    }
    assert!(inspect(&&whole[..]).expect("an image").is_sound());
}

#[test]
fn every_flipped_bit_of_a_superblock_is_found() {
    let mut bytes = image_bytes(8);
    for bit in 0..8192 {
        bytes[1024 + bit / 8] ^= 1 << (bit % 8);
        assert!(inspect(&&bytes[..]).is_err(), "bit {bit} of the superblock");
        bytes[1024 + bit / 8] ^= 1 << (bit % 8);
    }
    assert!(inspect(&&bytes[..]).expect("mended").is_sound());
}

#[test]
fn every_flipped_bit_of_a_descriptor_is_found() {
    let mut bytes = image_bytes(300);
    for bit in 0..3 * 512 {
        bytes[4096 + bit / 8] ^= 1 << (bit % 8);
        let summary = inspect(&&bytes[..]).expect("the superblock is right");
        let group = bit as u32 / 512;
        let found = summary
            .damage
            .iter()
            .any(|damage| matches!(damage, Damage::DescriptorChecksum { group: damaged } if damaged.get() == group));
        assert!(found, "bit {bit} of the descriptors");
        bytes[4096 + bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Random bytes, and random bytes behind a right magic number.
    #[test]
    fn random_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..6000), magic in any::<bool>()) {
        if magic && bytes.len() > 1082 {
            bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
        }
        let _ = inspect(&&bytes[..]);
    }
}

#[test]
fn the_fuzzers_corpus_does_not_panic() {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut seen = 0;
    for entry in fs::read_dir(regressions).expect("fuzz/regressions") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
        let _ = inspect(&&bytes[..]);
        seen += 1;
    }
    assert!(seen > 0, "the regressions are part of the repository");
}

#[test]
fn images_that_must_not_be_grown_are_not_changed() {
    let dir = scratch();
    let image = dir.path().join("image");
    format(&image, &fixed(mib(64))).expect("an image");
    let refused = |about: &str, size: u64| {
        let before = fs::read(&image).expect("its bytes");
        let error = grow(&image, mib(size)).expect_err(about);
        assert!(
            fs::read(&image).expect("its bytes") == before,
            "{about}: the image was changed"
        );
        error
    };
    assert!(matches!(refused("smaller", 63), GrowError::Shrink { .. }));
    assert!(matches!(
        refused("too many inodes", 40 << 20),
        GrowError::TooManyInodes { .. }
    ));
    let locked = File::open(&image).expect("the image");
    locked.lock().expect("a lock");
    assert!(matches!(refused("locked", 65), GrowError::Locked));
    drop(locked);
    let set = |commands: &str| must("debugfs", &["-w", "-R", commands, text(&image)]);
    set("set_super_value state 3");
    assert!(matches!(refused("errors", 65), GrowError::HasErrors));
    set("set_super_value state 0");
    assert!(matches!(refused("not unmounted", 65), GrowError::NotClean));
    set("set_super_value state 1");
    set("feature needs_recovery");
    assert!(matches!(
        refused("needs recovery", 65),
        GrowError::NeedsRecovery
    ));
    set("feature -needs_recovery");
    grow(&image, mib(65)).expect("grown");

    let other = dir.path().join("bitmap");
    format(&other, &fixed(mib(64))).expect("an image");
    let bitmap = must("debugfs", &["-R", "stats", text(&other)]);
    let block: u64 = bitmap
        .split("block bitmap at ")
        .nth(1)
        .and_then(|rest| rest.split(&[',', '\n', ' '][..]).next())
        .and_then(|number| number.parse().ok())
        .expect("where the bitmap is");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&other)
        .expect("the image");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xaa], block * 4096 + 2000).expect("damage");
    assert!(matches!(
        grow(&other, mib(65)),
        Err(GrowError::Damaged {
            what: "block bitmap",
            ..
        })
    ));
    file.set_len(40 << 20).expect("shorter");
    assert!(matches!(
        grow(&other, mib(65)),
        Err(GrowError::Truncated { .. })
    ));
    fs::write(dir.path().join("text"), "no image").expect("a file");
    assert!(matches!(
        grow(&dir.path().join("text"), mib(65)),
        Err(GrowError::Inspect(_))
    ));
}
