//! An independent reader, the `ext4-view` crate, reads our images: fresh, and
//! after the kernel has filled them.

mod diskimg_common;

use std::path::Path;

use diskimg_common::{Mounted, fixed, mib, scratch};
use ext4_view::Ext4;
use volfs::diskimg::format;

#[test]
fn ext4_view_reads_fresh_images() {
    let dir = scratch();
    for size in [8, 64, 129, 1025, 8192] {
        let image = dir.path().join(format!("{size}.img"));
        format(&image, &fixed(mib(size)).label("reader").expect("a label")).expect("an image");
        let fs = Ext4::load_from_path(&image).expect("ext4-view loads it");
        assert_eq!(fs.label().to_str(), Ok("reader"));
        let names: Vec<String> = fs
            .read_dir("/")
            .expect("the root")
            .map(|entry| entry.expect("an entry").file_name().display().to_string())
            .collect();
        assert_eq!(names, [".", "..", "lost+found"]);
        assert_eq!(
            fs.metadata("/lost+found").expect("metadata").mode() & 0o777,
            0o700
        );
    }
}

#[test]
fn ext4_view_reads_what_the_kernel_wrote() {
    let dir = scratch();
    let image = dir.path().join("filled.img");
    format(&image, &fixed(mib(129))).expect("an image");
    let mounted = Mounted::new(&image, &dir.path().join("mnt"), "rw");
    let big: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    std::fs::create_dir(mounted.dir.join("sub")).expect("a directory");
    for number in 0..2000 {
        std::fs::write(
            mounted.dir.join(format!("sub/file-{number}")),
            number.to_string(),
        )
        .expect("a file");
    }
    std::fs::write(mounted.dir.join("big"), &big).expect("a file");
    std::os::unix::fs::symlink("big", mounted.dir.join("link")).expect("a link");
    mounted.unmount();

    let fs = Ext4::load_from_path(Path::new(&image)).expect("ext4-view loads it");
    assert!(fs.read("/link").expect("the target") == big);
    for number in (0..2000).step_by(97) {
        assert_eq!(
            fs.read_to_string(format!("/sub/file-{number}").as_str())
                .expect("a file"),
            number.to_string()
        );
    }
    assert_eq!(fs.read_dir("/sub").expect("a directory").count(), 2002);
}
