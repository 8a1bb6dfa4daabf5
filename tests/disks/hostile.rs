//! Images that a hostile guest has made: whatever is asked is answered within a
//! bounded time and in bounded memory, with an error at worst.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::guests::left_by_a_guest;
use crate::support::Mount;
use crate::support::proc::{anonymous_memory, loop_devices_under};
use crate::{attach, create, eventually, image, names};

const BLOCK: u64 = 4096;

/// An image that is being made.
struct Crafted<'a>(&'a Path);

impl Crafted<'_> {
    /// Without checksums, so that every lie is believed.
    fn make(&self) {
        File::create(self.0).unwrap().set_len(32 << 20).unwrap();
        let mkfs = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-O", "^metadata_csum,^dir_index"])
            .arg(self.0)
            .output()
            .unwrap();
        assert!(mkfs.status.success(), "{mkfs:?}");
        let data = self.0.with_extension("data");
        fs::write(&data, vec![7; 20_000]).unwrap();
        self.debugfs(&[
            "mkdir a",
            "mkdir a/b",
            "mkdir victim",
            &format!("write {} file", data.display()),
            &format!("write {} a/b/file", data.display()),
            "symlink link a/b/file",
        ]);
    }

    fn debugfs(&self, requests: &[&str]) -> String {
        let script = self.0.with_extension("requests");
        fs::write(&script, requests.join("\n")).unwrap();
        let out = Command::new("debugfs")
            .args(["-w", "-f"])
            .args([&script, self.0])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}");
        said
    }

    /// The first block of a file.
    fn block_of(&self, path: &str) -> u64 {
        let said = self.debugfs(&[&format!("blocks {path}")]);
        let blocks = said.lines().next_back().unwrap();
        let first = blocks.split_whitespace().next().unwrap();
        first.parse().unwrap_or_else(|_| panic!("{said}"))
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.0).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}

/// A node of an extent tree with one entry, which points at `child`.
fn extent_node(depth: u16, child: u64) -> Vec<u8> {
    let mut node = Vec::new();
    // eh_magic, eh_entries, eh_max, eh_depth, eh_generation
    for word in [0xf30a, 1, 340, depth, 0, 0] {
        node.extend(word.to_le_bytes());
    }
    // ei_block, ei_leaf_lo, ei_leaf_hi, ei_unused
    node.extend(0_u32.to_le_bytes());
    node.extend((child as u32).to_le_bytes());
    node.extend([0; 4]);
    node
}

/// What it says, what cannot be read because of that (everything, for a dot),
/// and how it is told.
type Lie = (&'static str, Option<&'static str>, fn(&Crafted<'_>));

const LIES: [Lie; 11] = [
    ("a directory that holds itself", None, |it| {
        // A long name, so that the longest path is soon reached.
        it.debugfs(&[&format!("link a a/b/{}", "loop".repeat(30))]);
    }),
    ("an extent tree that points at itself", Some("file"), |it| {
        let block = it.block_of("file");
        it.write(block * BLOCK, &extent_node(1, block));
        // The tree's root, in the inode: depth 1, and that block.
        it.debugfs(&[
            "set_inode_field file block[0] 0x0001f30a",
            "set_inode_field file block[1] 0x00010004",
            &format!("set_inode_field file block[4] {block}"),
        ]);
    }),
    (
        "an extent tree of a directory that points at itself",
        Some("victim"),
        |it| {
            let block = it.block_of("a/b/file");
            it.write(block * BLOCK, &extent_node(1, block));
            it.debugfs(&[
                "set_inode_field victim block[0] 0x0001f30a",
                "set_inode_field victim block[1] 0x00010004",
                &format!("set_inode_field victim block[4] {block}"),
            ]);
        },
    ),
    ("a file of 8 EiB", Some("file"), |it| {
        it.debugfs(&["set_inode_field file size 0x7ffffffffffff000"]);
    }),
    ("a directory of 8 EiB", Some("victim"), |it| {
        it.debugfs(&["set_inode_field victim size 0x7ffffffffffff000"]);
    }),
    ("a symbolic link of 8 EiB", Some("link"), |it| {
        it.debugfs(&["set_inode_field link size 0x7ffffffffffff000"]);
    }),
    ("entries without a length", Some("victim"), |it| {
        let block = it.block_of("victim");
        // The record length of the first entry.
        it.write(block * BLOCK + 4, &[0, 0]);
    }),
    ("an entry that is longer than its block", None, |it| {
        let block = it.block_of("victim");
        it.write(block * BLOCK + 4, &[0xff, 0xff]);
    }),
    ("no blocks in a group", Some("."), |it| {
        // s_blocks_per_group
        it.write(1024 + 0x20, &[0; 4]);
    }),
    ("2^48 blocks", Some("."), |it| {
        // s_blocks_count_hi
        it.write(1024 + 0x150, &0xffff_u32.to_le_bytes());
    }),
    ("a journal that is a directory", Some("."), |it| {
        // s_journal_inum, and that it must be replayed
        it.write(1024 + 0xe0, &2_u32.to_le_bytes());
        it.write(1024 + 0x60, &0x02c6_u32.to_le_bytes());
    }),
];

#[test]
fn lies_are_answered_in_bounded_time_and_memory() {
    let mount = Mount::new();
    let dir = create(&mount, "db", "32M");
    let honest = mount.volume("honest");
    let path = mount.dir().join("crafted");
    for (lie, victim, tell) in LIES {
        let crafted = Crafted(&path);
        crafted.make();
        tell(&crafted);
        let raw = eventually("attach", || attach(&mount, "db"));
        raw.write_all_at(&fs::read(&path).unwrap(), 0).unwrap();
        drop(raw);
        eventually("detached", || File::open(image(&mount, "db")));
        let start = Instant::now();
        // As deep as it goes: every name is looked at, every file is read.
        let all = Command::new("timeout")
            .args(["60", "find"])
            .arg(&dir)
            .args(["-size", "-99", "-type", "f", "-exec", "cat", "{}", "+"])
            .output()
            .unwrap();
        assert_ne!(all.status.code(), Some(124), "{lie}: find goes on and on");
        walk(&dir, 0);
        if let Some(victim) = victim {
            let victim = dir.join(victim);
            let read = match fs::symlink_metadata(&victim) {
                Ok(found) if found.is_symlink() => fs::read_link(&victim).map(drop),
                Ok(found) if found.is_dir() => names(&victim).map(drop),
                Ok(_) => {
                    File::open(&victim).and_then(|file| file.read_at(&mut [0; 10], 0).map(drop))
                }
                Err(error) => Err(error),
            };
            let errno = read.map_err(|error| error.raw_os_error().unwrap());
            assert!(
                matches!(errno, Err(libc::EIO | libc::EUCLEAN)),
                "{lie}: {errno:?}"
            );
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{lie}: {:?}",
            start.elapsed()
        );
        assert!(fs::remove_dir(&dir).is_err(), "{lie}: it is not empty");
        fs::write(honest.join("file"), "text").unwrap();
        let memory = anonymous_memory(mount.pid());
        assert!(memory < 256 << 20, "{lie}: {memory} bytes");
        assert_eq!(loop_devices_under(mount.store()), [""; 0], "{lie}");
        println!("{lie}: {:?}", start.elapsed());
    }
    assert_eq!(mount.daemon_complaints(), "");
    mount.volfs().ok(&["rm", "--purge", "db"]);
}

#[test]
fn noise_is_answered() {
    let mount = Mount::new();
    let dir = left_by_a_guest(&mount);
    let honest = mount.volume("honest");
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    };
    for round in 0..40 {
        let raw = eventually("attach", || attach(&mount, "db"));
        // In the first 2 MiB are the descriptors, bitmaps and inodes that the
        // files here have.
        for _ in 0..=round {
            let at = if round % 4 == 3 {
                random() % 2048
            } else {
                random() % (2 << 20)
            };
            raw.write_all_at(&random().to_le_bytes(), at).unwrap();
        }
        drop(raw);
        eventually("detached", || File::open(image(&mount, "db")));
        walk(&dir, 0);
        fs::write(honest.join("file"), "text").unwrap();
        let kind = fs::metadata(&dir).unwrap().file_type();
        assert!(kind.is_dir());
    }
    // Nothing but noise.
    let raw = eventually("attach", || attach(&mount, "db"));
    for block in 0..512 {
        raw.write_all_at(&[random() as u8; 4096], block * 4096)
            .unwrap();
    }
    drop(raw);
    eventually("detached", || File::open(image(&mount, "db")));
    walk(&dir, 0);
    mount.volfs().fails(1, &["disk", "trust", "db"]);
    assert_eq!(mount.daemon_complaints(), "");
    mount.volfs().ok(&["rm", "--purge", "db"]);
}

/// Reads all that there is, as deep as it is sensible.
fn walk(dir: &std::path::Path, depth: usize) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    // A directory may claim to hold itself.
    for entry in entries.take(50).flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < 6 {
            walk(&entry.path(), depth + 1);
        } else if kind.is_file()
            && let Ok(file) = File::open(entry.path())
        {
            let size = file.metadata().map_or(0, |found| found.len());
            // The end, the middle and the beginning.
            for at in [size.saturating_sub(1), size / 2, 1 << 30, 0] {
                let _ = file.read_at(&mut [0; 4096], at);
            }
        } else {
            let _ = fs::read_link(entry.path());
        }
    }
}
