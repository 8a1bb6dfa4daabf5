//! O_DIRECT in a disk volume: what it takes is what the store's file system takes.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::proc::loop_devices_under;
use crate::support::{Mount, TestDir, run};
use crate::{assert_clean, create};

/// What direct reads and writes of various lengths and places say.
fn outcome(file: &Path) -> Vec<String> {
    fs::write(file, [1; 16384]).unwrap();
    let open = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(file)
        .unwrap();
    // Aligned as far as any device asks for.
    let mut memory = vec![2; 3 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let memory = &mut memory[start..start + 8192];
    let mut said = Vec::new();
    for (len, offset) in [
        (512, 0),
        (512, 512),
        (1024, 7 * 512),
        (4096, 512),
        (4096, 4096),
        (511, 0),
        (512, 511),
    ] {
        let written = nix::sys::uio::pwrite(&open, &memory[..len], offset);
        let read = nix::sys::uio::pread(&open, &mut memory[..len], offset);
        said.push(format!("{len} at {offset}: {written:?} {read:?}"));
    }
    drop(open);
    let written = fs::read(file).unwrap();
    let ends = written.chunk_by(|a, b| a == b).map(<[u8]>::len);
    said.push(format!("runs of {:?}", ends.collect::<Vec<_>>()));
    said
}

fn same_as_in(parent: &Path) -> Vec<String> {
    let mut mount = Mount::builder().parent(parent).start();
    let dir = create(&mount, "db", "64M");
    let host = parent.join("host");
    let expected = outcome(&host);
    fs::remove_file(host).unwrap();
    assert_eq!(outcome(&dir.join("file")), expected);
    // And what is written is not cached twice.
    for device in loop_devices_under(mount.store()) {
        let direct = fs::read_to_string(format!("/sys/block/{device}/loop/dio"));
        assert_eq!(direct.unwrap().trim(), "1", "{device}");
    }
    mount.stop();
    assert_clean(mount.store());
    expected
}

/// A file system on a disk with sectors of 4 KiB.
struct LargeSectors {
    device: String,
    path: PathBuf,
    _dir: TestDir,
}

impl LargeSectors {
    fn new() -> Self {
        let dir = TestDir::new();
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let device = run(Command::new("losetup")
            .args(["-f", "--show", "--sector-size", "4096"])
            .arg(&image));
        let path = dir.mkdir("fs");
        let large = Self {
            device: device.trim().to_owned(),
            path,
            _dir: dir,
        };
        run(Command::new("mkfs.ext4").arg("-q").arg(&large.device));
        run(Command::new("mount").arg(&large.device).arg(&large.path));
        large
    }
}

impl Drop for LargeSectors {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

#[test]
fn direct_io_takes_what_the_host_takes() {
    let dir = TestDir::new();
    let small = same_as_in(dir.path());
    let large = LargeSectors::new();
    let large = same_as_in(&large.path);
    println!("{small:#?} {large:#?}");
    assert!(large[0].contains("EINVAL"));
    assert!(large[4].contains("Ok(4096) Ok(4096)"));
}
