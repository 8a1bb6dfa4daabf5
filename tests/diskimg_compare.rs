//! Our images beside those of `mkfs.ext4`: what `dumpe2fs -h` says of both,
//! field by field, and images that must be equal to the byte.

mod diskimg_common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use diskimg_common::{allocated, fixed, mib, must, run, scratch, text};
use volfs::diskimg::{Layout, Options, format, format_file, format_store};

/// The fields of `dumpe2fs -h`.
fn fields(image: &Path) -> BTreeMap<String, String> {
    must("dumpe2fs", &["-h", text(image)])
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Fields that differ between any two images of mkfs.ext4, too.
const ACCIDENTAL: [&str; 7] = [
    "Filesystem UUID",
    "Filesystem created",
    "Last write time",
    "Last checked",
    "Directory Hash Seed",
    "Checksum",
    // Written by the tool during its work: mke2fs writes tables that we leave
    // as holes.
    "Lifetime writes",
];

/// Fields that differ on purpose.
const INTENDED: [(&str, &str); 9] = [
    (
        "Filesystem features",
        "metadata_csum_seed, a default of mke2fs since 1.47.0 that Debian 12 turned off",
    ),
    ("Checksum seed", "goes with metadata_csum_seed"),
    (
        "Journal features",
        "the journal superblock has its checksum from the start; mke2fs leaves that to the first mount",
    ),
    ("Journal checksum type", "goes with the journal's checksum"),
    ("Journal checksum", "goes with the journal's checksum"),
    (
        "Reserved GDT blocks",
        "64 or as many as doubling takes, where mke2fs reserves up to 1024: they must be written",
    ),
    (
        "Overhead clusters",
        "less by the reserved GDT blocks and their copies: checked below",
    ),
    (
        "Free blocks",
        "more by the reserved GDT blocks and their copies: checked below",
    ),
    (
        "Flex block group size",
        "more than 16 past 128 GiB, so that there are fewer places to write",
    ),
];

#[test]
fn dumpe2fs_tells_the_same_of_ours_and_of_mke2fs() {
    let dir = scratch();
    for size in [
        8,
        9,
        16,
        63,
        64,
        65,
        127,
        128,
        129,
        130,
        131,
        132,
        133,
        257,
        511,
        512,
        1023,
        1025,
        2049,
        10_240,
        102_400,
        1 << 20,
        4 << 20,
    ] {
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        format(&ours, &fixed(mib(size))).expect("an image");
        // mke2fs takes blocks of 1 KiB below 512 MiB; ours are always 4 KiB.
        must(
            "mkfs.ext4",
            &["-q", "-F", "-b", "4096", text(&theirs), &format!("{size}M")],
        );
        let (a, b) = (fields(&ours), fields(&theirs));
        let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let known = ACCIDENTAL.contains(&name.as_str())
                || INTENDED.iter().any(|(known, _)| known == name);
            assert!(
                known || a.get(name) == b.get(name),
                "{size} MiB: {name}: {:?}, not {:?}",
                a.get(name),
                b.get(name)
            );
        }
        let features = |fields: &BTreeMap<String, String>| -> Vec<String> {
            let mut names: Vec<String> = fields["Filesystem features"]
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            names.retain(|name| name != "metadata_csum_seed");
            names.sort();
            names
        };
        assert_eq!(features(&a), features(&b), "{size} MiB");
        let number = |fields: &BTreeMap<String, String>, name: &str| -> i64 {
            fields
                .get(name)
                .map_or(0, |value| value.parse().expect("a number"))
        };
        let difference = |name: &str| number(&b, name) - number(&a, name);
        let groups = Layout::plan(&fixed(mib(size)))
            .expect("a layout")
            .geometry()
            .groups_count();
        let power = |base: u32| {
            (1..20)
                .filter(move |n| base.checked_pow(*n).is_some_and(|power| power < groups))
                .count() as i64
        };
        let copies = 1 + i64::from(groups > 1) + power(3) + power(5) + power(7);
        assert_eq!(
            difference("Overhead clusters"),
            difference("Reserved GDT blocks") * copies,
            "{size} MiB"
        );
        assert_eq!(
            -difference("Free blocks"),
            difference("Reserved GDT blocks") * copies,
            "{size} MiB"
        );
        fs::remove_file(&ours).expect("removed");
        fs::remove_file(&theirs).expect("removed");
    }
}

#[test]
fn no_size_that_mke2fs_accepts_fails() {
    // The planner alone: every MiB to 3 GiB, then a stride to 64 TiB.
    for size in (8..3072).chain((3072..64 << 20).step_by(400_009)) {
        let layout = Layout::plan(&Options::new(mib(size)))
            .unwrap_or_else(|error| panic!("{size} MiB: {error}"));
        let geometry = layout.geometry();
        assert_eq!(
            geometry.blocks_count() + layout.dropped_blocks(),
            size * 256,
            "{size} MiB"
        );
        assert!(
            layout.dropped_blocks() < u64::from(geometry.blocks_per_group()),
            "{size} MiB"
        );
        assert!(
            layout.free_blocks() > 0 && layout.free_inodes() > 0,
            "{size} MiB"
        );
    }
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let dir = scratch();
    for (index, options) in [
        fixed(mib(64)),
        fixed(mib(1025)).quota(true).orphan_file(true),
        fixed(mib(300)).label("same").expect("a label"),
    ]
    .iter()
    .enumerate()
    {
        let (one, two) = (
            dir.path().join(format!("{index}-one")),
            dir.path().join(format!("{index}-two")),
        );
        format(&one, options).expect("an image");
        let file = fs::File::create_new(&two).expect("a file");
        format_file(&file, options).expect("an image");
        assert!(
            run("cmp", &[text(&one), text(&two)]).status.success(),
            "{options:?}"
        );
        let mut store =
            fs::File::create_new(dir.path().join(format!("{index}-three"))).expect("a file");
        format_store(&mut store, options).expect("an image");
        assert!(
            run(
                "cmp",
                &[text(&one), text(&dir.path().join(format!("{index}-three")))]
            )
            .status
            .success()
        );
    }
    let random = [dir.path().join("random-one"), dir.path().join("random-two")];
    for image in &random {
        format(image, &Options::new(mib(8))).expect("an image");
    }
    assert!(
        fs::read(&random[0]).expect("bytes") != fs::read(&random[1]).expect("bytes"),
        "UUIDs are random"
    );
}

#[test]
fn images_take_a_tenth_of_the_space() {
    let dir = scratch();
    for size in [1 << 10, 10 << 10, 100 << 10, 1 << 20] {
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        format(&ours, &fixed(mib(size))).expect("an image");
        must(
            "mkfs.ext4",
            &["-q", "-F", text(&theirs), &format!("{size}M")],
        );
        let (a, b) = (allocated(&ours), allocated(&theirs));
        println!(
            "{size} MiB: {a} bytes allocated, mkfs.ext4 {b}: {:.3}",
            a as f64 / b as f64
        );
        assert!(a * 10 <= b, "{size} MiB: {a} bytes, mkfs.ext4 {b}");
        fs::remove_file(&ours).expect("removed");
        fs::remove_file(&theirs).expect("removed");
    }
}
