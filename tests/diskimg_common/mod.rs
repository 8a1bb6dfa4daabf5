//! What the disk image tests share: scratch directories, the reference tools
//! (e2fsck, dumpe2fs), and mounts that undo themselves, also when a test
//! fails. A missing tool or a missing loop device fails the test.
#![allow(dead_code)] // each test target uses its part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use volfs::diskimg::{ImageSize, Options, Timestamp, Uuid};

/// A directory that goes away with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("volfs-test-diskimg-")
        .tempdir()
        .expect("a scratch directory")
}

/// A size that is known to be possible.
pub fn mib(mib: u64) -> ImageSize {
    ImageSize::from_mib(mib).expect("a possible size")
}

/// Options of a reproducible image.
pub fn fixed(size: ImageSize) -> Options {
    Options::new(size)
        .uuid(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))
        .created(Timestamp::from_seconds(1_700_000_000).expect("a time"))
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"))
}

/// Runs a program that must succeed, and returns what it printed.
pub fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// What `e2fsck -fn` has to say beyond its banner, passes and summary; `None`
/// when it is content.
pub fn e2fsck_complaint(image: &Path) -> Option<String> {
    let output = run("e2fsck", &["-fn", text(image)]);
    let all = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let expected = |line: &str| {
        line.starts_with("e2fsck ")
            || line.starts_with("Pass ")
            || (line.contains(" files (") && line.ends_with(" blocks"))
    };
    let strange: Vec<&str> = all.lines().filter(|line| !expected(line)).collect();
    (!output.status.success() || !strange.is_empty()).then(|| format!("{}\n{all}", output.status))
}

/// Asserts that e2fsck finds nothing to say about an image.
pub fn assert_clean(image: &Path, about: &str) {
    if let Some(complaint) = e2fsck_complaint(image) {
        panic!("{about}: e2fsck -fn: {complaint}");
    }
}

/// A file's allocated bytes.
pub fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).expect("the image").blocks() * 512
}

/// A loop device with a file behind it; detached on drop.
pub struct Loop {
    pub device: String,
}

impl Loop {
    pub fn attach(image: &Path) -> Loop {
        // Another process may take the free device first: losetup is tried again.
        for _ in 0..20 {
            let output = run("losetup", &["--find", "--show", text(image)]);
            if output.status.success() {
                return Loop {
                    device: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
                };
            }
        }
        panic!("no loop device for {}", image.display());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.device]);
    }
}

/// A mounted image; unmounted and detached on drop.
pub struct Mounted {
    pub dir: PathBuf,
    pub loop_device: Loop,
    mounted: bool,
}

impl Mounted {
    /// Mounts `image` at `dir`, which is made if it is missing.
    pub fn new(image: &Path, dir: &Path, options: &str) -> Mounted {
        std::fs::create_dir_all(dir).expect("a mount point");
        let loop_device = Loop::attach(image);
        let mut mounted = Mounted {
            dir: dir.to_owned(),
            loop_device,
            mounted: false,
        };
        must(
            "mount",
            &["-o", options, &mounted.loop_device.device, text(dir)],
        );
        mounted.mounted = true;
        mounted
    }

    /// Unmounts, and fails the test if that does not work. A child that another
    /// test is starting holds our files until its exec: busy is tried again.
    pub fn unmount(mut self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let output = run("umount", &[text(&self.dir)]);
            if output.status.success() {
                break;
            }
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                reason.contains("busy") && std::time::Instant::now() < end,
                "umount: {reason}"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.mounted = false;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            run("umount", &["--lazy", text(&self.dir)]);
        }
    }
}

/// A host file system without ext4's file size limit, for images of 16 TiB
/// and more: XFS in a sparse file, mounted. Goes away on drop.
pub struct LargeFileHost {
    mount: Option<Mounted>,
    _backing: tempfile::TempDir,
}

impl LargeFileHost {
    pub fn new() -> LargeFileHost {
        let backing = scratch();
        let file = backing.path().join("xfs.img");
        std::fs::File::create(&file)
            .and_then(|f| f.set_len(16 << 30))
            .expect("a sparse file");
        must("mkfs.xfs", &["-q", text(&file)]);
        let mount = Mounted::new(&file, &backing.path().join("xfs"), "loop");
        LargeFileHost {
            mount: Some(mount),
            _backing: backing,
        }
    }

    pub fn dir(&self) -> &Path {
        &self.mount.as_ref().expect("mounted until drop").dir
    }
}

impl Drop for LargeFileHost {
    fn drop(&mut self) {
        drop(self.mount.take()); // before its backing directory
    }
}
