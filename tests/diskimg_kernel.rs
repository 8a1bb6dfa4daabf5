//! The kernel and resize2fs on our images: mounted, filled, emptied, filled
//! again, grown offline by resize2fs and by us. Growing while mounted needs
//! CAP_SYS_RESOURCE, which a sandbox keeps even from root: a virtual machine
//! shows it, in scripts/online-resize-vm.

mod diskimg_common;

use std::fs;
use std::path::Path;

use diskimg_common::{Mounted, assert_clean, fixed, mib, must, scratch, text};
use volfs::diskimg::{format, grow};

const FILES: u32 = 10_000;

/// What file `number` holds in round `round`: 0 to 8 KiB.
fn contents(number: u32, round: u32) -> Vec<u8> {
    let length = (number.wrapping_mul(2_654_435_761) >> 19) as usize; // below 8192
    vec![(number + round) as u8; length]
}

fn file(root: &Path, number: u32) -> std::path::PathBuf {
    root.join(format!("d{}", number % 37))
        .join(format!("f{number}"))
}

fn write_files(root: &Path, numbers: impl Iterator<Item = u32>, round: u32) {
    for number in numbers {
        let path = file(root, number);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, contents(number, round)).expect("a written file");
    }
}

fn check_files(root: &Path, numbers: impl Iterator<Item = u32>, round: u32) {
    for number in numbers {
        assert!(
            fs::read(file(root, number)).expect("a file") == contents(number, round),
            "file {number} differs"
        );
    }
}

#[test]
fn ten_thousand_files_are_written_deleted_and_rewritten() {
    let dir = scratch();
    for (name, size, orphan_file) in [("small", 200, false), ("large", 3000, true)] {
        let image = dir.path().join(name);
        format(&image, &fixed(mib(size)).orphan_file(orphan_file)).expect("an image");
        let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
        write_files(&mounted.dir, 0..FILES, 0);
        for number in (0..FILES).step_by(2) {
            fs::remove_file(file(&mounted.dir, number)).expect("removed");
        }
        write_files(&mounted.dir, 0..FILES, 1);
        mounted.unmount();
        assert_clean(&image, name);
        let mounted = Mounted::new(&image, &dir.path().join("mnt"), "ro");
        check_files(&mounted.dir, 0..FILES, 1);
        mounted.unmount();
    }
}

#[test]
fn a_full_image_is_full_at_its_layouts_figure() {
    let dir = scratch();
    let image = dir.path().join("full");
    let layout = format(
        &image,
        &fixed(mib(64)).reserved_basis_points(0).expect("allowed"),
    )
    .expect("an image");
    let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
    let stat = nix::sys::statvfs::statvfs(&mounted.dir).expect("statvfs");
    assert_eq!(stat.blocks_free(), layout.free_blocks());
    assert_eq!(stat.files_free(), u64::from(layout.free_inodes()));
    let mut filler = fs::File::create(mounted.dir.join("filler")).expect("a file");
    let written =
        std::io::copy(&mut std::io::repeat(7), &mut filler).expect_err("the image fills up");
    assert_eq!(written.kind(), std::io::ErrorKind::StorageFull);
    drop(filler);
    mounted.unmount();
    assert_clean(&image, "a full image");
}

#[test]
fn resize2fs_grows_our_images_offline() {
    let dir = scratch();
    let offline = dir.path().join("offline");
    format(&offline, &fixed(mib(64))).expect("an image");
    fill_then_check(&offline, dir.path(), 500, |image| {
        grow_file(image, 8 << 30);
        must("e2fsck", &["-fp", text(image)]);
        must("resize2fs", &[text(image)]);
    });
}

#[test]
fn our_grow_keeps_files_and_leaves_room_for_more() {
    let dir = scratch();
    for (index, (from, to)) in [
        (8, 9),
        (8, 8192),
        (64, 8192),
        (127, 128),
        (129, 300),
        (1000, 4097),
    ]
    .iter()
    .enumerate()
    {
        let image = dir.path().join(format!("grown{index}"));
        format(&image, &fixed(mib(*from))).expect("an image");
        fill_then_check(&image, dir.path(), 300, |image| {
            grow(image, mib(*to)).expect("grown");
        });
        fs::remove_file(&image).expect("removed");
    }
}

#[test]
fn our_grow_continues_what_resize2fs_began_and_the_other_way_round() {
    let dir = scratch();
    let image = dir.path().join("both");
    format(&image, &fixed(mib(64))).expect("an image");
    fill_then_check(&image, dir.path(), 100, |image| {
        for step in 1..=4u64 {
            grow(image, mib(64 + 700 * step - 350)).expect("grown");
            assert_clean(image, "grown by us");
            grow_file(image, (64 + 700 * step) << 20);
            must("e2fsck", &["-fp", text(image)]);
            must("resize2fs", &[text(image)]);
            assert_clean(image, "grown by resize2fs");
        }
    });
}

#[test]
fn our_grow_goes_past_the_reserved_descriptors() {
    let dir = scratch();
    let image = dir.path().join("meta_bg");
    format(&image, &fixed(mib(8))).expect("an image");
    for (round, size) in [8200, 8400, 16_500, 100_000].into_iter().enumerate() {
        let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
        fs::write(
            mounted.dir.join(format!("before-{round}")),
            size.to_string(),
        )
        .expect("a file");
        mounted.unmount();
        grow(&image, mib(size)).expect("grown");
        assert_clean(&image, "grown with meta_bg");
        let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
        assert_eq!(
            fs::read_to_string(mounted.dir.join(format!("before-{round}"))).expect("a file"),
            size.to_string()
        );
        fs::write(
            mounted.dir.join(format!("large-{round}")),
            vec![1; 40 << 20],
        )
        .expect("a file");
        mounted.unmount();
        assert_clean(&image, "grown with meta_bg and written");
    }
    grow_file(&image, 150_000 << 20);
    must("e2fsck", &["-fp", text(&image)]);
    must("resize2fs", &[text(&image)]);
    assert_clean(&image, "grown by resize2fs from meta_bg");
}

#[test]
fn we_grow_what_mke2fs_made() {
    let dir = scratch();
    for (index, features) in [
        "",
        "^resize_inode",
        "^has_journal",
        "metadata_csum_seed",
        "quota,project",
        "^flex_bg",
        "meta_bg,^resize_inode",
    ]
    .iter()
    .enumerate()
    {
        let image = dir.path().join(format!("mke2fs{index}"));
        grow_file(&image, 200 << 20);
        let features = ["-O", features];
        let mut args = vec!["-q", "-F", "-b", "4096"];
        args.extend(features.iter().filter(|_| !features[1].is_empty()));
        args.push(text(&image));
        must("mkfs.ext4", &args);
        grow(&image, mib(5000)).expect("grown");
        assert_clean(&image, features[1]);
    }
}

#[test]
fn a_mounted_image_is_not_grown() {
    let dir = scratch();
    let image = dir.path().join("mounted");
    format(&image, &fixed(mib(64))).expect("an image");
    let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
    fs::write(mounted.dir.join("file"), "text").expect("a file");
    must("sync", &["--file-system", text(&mounted.dir)]);
    let refused = grow(&image, mib(128)).expect_err("refused");
    assert!(refused.to_string().contains("needs recovery"), "{refused}");
    mounted.unmount();
    grow(&image, mib(128)).expect("grown");
    assert_clean(&image, "grown after the unmount");
}

/// Lengthens (or makes) a file.
fn grow_file(image: &Path, bytes: u64) {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(image)
        .expect("the image");
    file.set_len(bytes).expect("longer");
}

/// Puts files in, runs `change`, and checks that they are there, that more
/// fit, and that e2fsck is content before and after.
fn fill_then_check(image: &Path, scratch: &Path, files: u32, change: impl FnOnce(&Path)) {
    let dir = scratch.join("mnt");
    let mounted = Mounted::new(image, &dir, "rw");
    write_files(&mounted.dir, 0..files, 0);
    mounted.unmount();
    change(image);
    assert_clean(image, "changed");
    let mounted = Mounted::new(image, &dir, "rw");
    check_files(&mounted.dir, 0..files, 0);
    write_files(&mounted.dir, files..files + 100, 0);
    mounted.unmount();
    assert_clean(image, "changed and written");
    let mounted = Mounted::new(image, &dir, "ro");
    check_files(&mounted.dir, 0..files + 100, 0);
    mounted.unmount();
}
