//! Every size gives an image that `e2fsck -fn` has nothing to say about: a
//! dense sample here, everything with `VOLFS_SWEEP=long` (scripts/sweep-ext4).

mod diskimg_common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use diskimg_common::{LargeFileHost, assert_clean, e2fsck_complaint, fixed, mib, scratch};
use volfs::diskimg::{InodeDensity, JournalSize, Options, RootDirectory, format, grow, inspect};

/// Whether the long sweep is wanted.
fn long() -> bool {
    std::env::var_os("VOLFS_SWEEP").is_some_and(|value| value == "long")
}

/// A name and what it changes.
type Variant = (&'static str, fn(Options) -> Options);

/// The sizes in MiB that must be clean.
fn sizes() -> Vec<u64> {
    let mut sizes: Vec<u64> = Vec::new();
    let neighbours = |at: u64| [at - 2, at - 1, at, at + 1, at + 2];
    if long() {
        sizes.extend(8..=600);
        sizes.extend((1..=512).flat_map(|group| neighbours(group * 128)));
    } else {
        sizes.extend(8..=72);
        sizes.extend((72..600).step_by(23));
        sizes.extend([
            127, 128, 129, 130, 131, 255, 256, 257, 258, 259, 1023, 1024, 1025, 1026, 1027, 2047,
            2048, 2049,
        ]);
        sizes.extend(
            [4, 8, 9, 16, 25, 26, 27, 28, 49, 50, 81, 82, 128, 512]
                .into_iter()
                .flat_map(|g| neighbours(g * 128)),
        );
    }
    sizes.extend((3..24).map(|power| 1u64 << power)); // to 8 TiB
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Formats each size with two threads and gathers complaints.
fn sweep(sizes: &[u64], dir: &std::path::Path, options: impl Fn(u64) -> Options + Sync) {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (next, complaints, options) = (&next, &complaints, &options);
            scope.spawn(move || {
                let image = dir.join(format!("sweep-{worker}.img"));
                while let Some(size) = sizes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let made = format(&image, &options(*size)).map_err(|error| error.to_string());
                    let found = made.err().or_else(|| e2fsck_complaint(&image));
                    let found = found.or_else(|| {
                        let file = std::fs::File::open(&image).expect("the image");
                        let summary = inspect(&file).expect("an image");
                        (!summary.is_sound()).then(|| format!("{summary:?}"))
                    });
                    if let Some(found) = found {
                        complaints
                            .lock()
                            .expect("no panic")
                            .push(format!("{size} MiB: {found}"));
                    }
                    let _ = std::fs::remove_file(&image);
                }
            });
        }
    });
    let complaints = complaints.into_inner().expect("no panic");
    assert!(
        complaints.is_empty(),
        "{} of {} sizes: {complaints:#?}",
        complaints.len(),
        sizes.len()
    );
}

#[test]
fn every_size_is_clean() {
    let dir = scratch();
    sweep(&sizes(), dir.path(), |size| fixed(mib(size)));
}

#[test]
fn every_option_is_clean() {
    let dir = scratch();
    let root = RootDirectory {
        uid: 70_000,
        gid: 80_000,
        mode: 0o1777,
    };
    let variants: [Variant; 10] = [
        ("quota", |o| o.quota(true)),
        ("orphan file", |o| o.orphan_file(true)),
        ("quota and orphan file", |o| o.quota(true).orphan_file(true)),
        ("no journal", |o| o.journal(JournalSize::None)),
        ("no lost+found", |o| o.lost_and_found(false).quota(true)),
        ("no reserve", |o| {
            o.reserved_basis_points(0).expect("allowed")
        }),
        ("fewest inodes", |o| {
            o.inodes(InodeDensity::BytesPerInode(64 << 20))
                .expect("allowed")
        }),
        ("16 inodes per group", |o| {
            o.inodes(InodeDensity::PerGroup(16))
                .expect("allowed")
                .quota(true)
                .orphan_file(true)
        }),
        ("most inodes", |o| {
            o.inodes(InodeDensity::BytesPerInode(4096))
                .expect("allowed")
        }),
        ("32768 inodes per group", |o| {
            o.inodes(InodeDensity::PerGroup(32768)).expect("allowed")
        }),
    ];
    for (name, variant) in variants {
        println!("{name}");
        // A whole group's inodes do not fit the two smallest.
        let sizes = &[8, 9, 64, 129, 257, 1025, 8193, 131_073]
            [if name.starts_with("32768") { 2 } else { 0 }..];
        sweep(sizes, dir.path(), |size| {
            variant(fixed(mib(size)))
                .root(root)
                .expect("allowed")
                .label("a label of 16 b.")
                .expect("allowed")
        });
    }
}

#[test]
fn journals_of_any_size_are_clean() {
    let dir = scratch();
    for (size, blocks) in [
        (64, 1024),
        (64, 5000),
        (2048, 100_000),
        (65536, 1_000_000),
        (1 << 20, 10_240_000),
    ] {
        let image = dir.path().join("journal.img");
        let layout = format(
            &image,
            &fixed(mib(size)).journal(JournalSize::Blocks(blocks)),
        )
        .expect("an image");
        assert_eq!(layout.journal_blocks(), blocks);
        assert_clean(
            &image,
            &format!("a journal of {blocks} blocks in {size} MiB"),
        );
        std::fs::remove_file(&image).expect("the image");
    }
}

#[test]
fn sizes_beyond_the_hosts_limit_are_clean() {
    // ext4 hosts end at 16 TiB less one block, hence a host of XFS.
    let host = LargeFileHost::new();
    let tib = 1 << 20;
    let sizes: &[u64] = match long() {
        true => &[16 * tib - 1, 16 * tib, 16 * tib + 1, 32 * tib, 64 * tib],
        false => &[16 * tib - 1, 16 * tib],
    };
    for size in sizes {
        let image = host.dir().join("large.img");
        format(&image, &fixed(mib(*size))).expect("an image");
        assert_clean(&image, &format!("{size} MiB"));
        if *size < 32 * tib {
            grow(&image, mib(size + 2 * tib)).expect("grown");
            assert_clean(&image, &format!("{size} MiB and 2 TiB more"));
        }
        std::fs::remove_file(&image).expect("the image");
    }
}
