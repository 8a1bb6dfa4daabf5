//! Archives that hold more than a volume may: refused before the disk is full.

use std::io::{Read, Write};
use std::process::Stdio;

use tar::{EntryType, Header};

use crate::hostile::{World, end, entry, file, pax};
use crate::{args, assert_exact, inspect};

#[test]
fn ten_gibibytes_of_zeros_against_one_of_quota() {
    let world = World::new();
    const SIZE: u64 = 10 << 30;
    // As holes, which take no space; refused all the same.
    let mut bytes = Vec::new();
    let size = SIZE.to_string();
    pax(
        &mut bytes,
        &[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "zeros"),
            ("GNU.sparse.realsize", &size),
        ],
    );
    let mut map = b"1\n0\n0\n".to_vec();
    map.resize(512, 0);
    entry(
        &mut bytes,
        "GNUSparseFile.0/zeros",
        EntryType::Regular,
        "",
        &map,
    );
    let said = world.refused(&bytes, &["--quota", "1G"]);
    assert!(
        said.contains("quota of 1 GiB") && said.contains("10 GiB more"),
        "{said}"
    );
    // As a stream of zeros, compressed to next to nothing: it is refused when
    // its size is known, not when the disk is full.
    for declared in [SIZE, 1 << 26] {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(declared);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut import = world
            .volfs
            .command(&["import", "v", "-", "--quota", "1G"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = zstd::Encoder::new(import.stdin.take().unwrap(), 1).unwrap();
        for number in 0..SIZE / declared {
            header.set_path(format!("zeros-{number}")).unwrap();
            header.set_cksum();
            let zeros = std::io::repeat(0).take(declared);
            let sent = input
                .write_all(header.as_bytes())
                .and_then(|()| std::io::copy(&mut { zeros }, &mut input));
            if sent.is_err() {
                break;
            }
        }
        drop(input.finish());
        let out = import.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("quota of 1 GiB"), "{said}");
        world.untouched();
    }
    // Without a limit a hole is a hole.
    end(&mut bytes);
    let archive = world.archive(&bytes);
    world.volfs.ok(&args!["import", "v", archive]);
    assert_eq!(inspect(&world.volfs, "v")["used"]["bytes"], SIZE);
}

#[test]
fn many_files_and_attributes_against_a_quota() {
    let world = World::new();
    let mut bytes = Vec::new();
    for i in 0..12 {
        bytes.extend(file(&format!("f{i}")));
    }
    let said = world.refused(&bytes, &["--quota-inodes", "11"]);
    assert!(said.contains("quota of 11 inodes"), "{said}");
    // Directories that no entry names are charged, too.
    for quota in [["--quota-inodes", "4"], ["--quota", "16K"]] {
        let said = world.refused(&file("a/b/c/d/e"), &quota);
        assert!(said.contains("quota"), "{said}");
    }
    let mut bytes = Vec::new();
    let value = "x".repeat(5000);
    pax(&mut bytes, &[("SCHILY.xattr.user.big", &value)]);
    bytes.extend(file("f"));
    let said = world.refused(&bytes, &["--quota", "1G"]);
    assert!(said.contains("extended attributes"), "{said}");
}

/// As `tar -r` makes them: the last of a name counts, and room for one is room
/// enough.
#[test]
fn what_replaces_something_takes_its_room() {
    let world = World::new();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        entry(&mut bytes, "d/", EntryType::Directory, "", b"");
        entry(&mut bytes, "d/f", EntryType::Regular, "", &[7; 8000]);
        entry(&mut bytes, "link", EntryType::Symlink, "d", b"");
        entry(&mut bytes, "pipe", EntryType::Fifo, "", b"");
    }
    // From one kind to another.
    entry(&mut bytes, "link", EntryType::Directory, "", b"");
    entry(&mut bytes, "pipe", EntryType::Regular, "", &[8; 4096]);
    end(&mut bytes);
    let archive = world.archive(&bytes);
    let exact = ["--quota", "20K", "--quota-inodes", "4"];
    let exact = exact.map(std::ffi::OsStr::new);
    let import = args!["import", "v", archive];
    world.volfs.ok(&[&import[..], &exact[..]].concat());
    let used = inspect(&world.volfs, "v")["used"].clone();
    assert_eq!(used, serde_json::json!({"bytes": 20 << 10, "inodes": 4}));
    assert_exact(&world.volfs, "v");
    world.volfs.ok(&["rm", "--purge", "v"]);
    for less in [["--quota", "16K"], ["--quota-inodes", "3"]] {
        let said = world.refused(&bytes, &less);
        assert!(said.contains("quota"), "{said}");
    }
    // What has another name is not given back.
    let mut bytes = Vec::new();
    entry(&mut bytes, "f", EntryType::Regular, "", &[7; 4096]);
    entry(&mut bytes, "g", EntryType::Link, "f", b"");
    entry(&mut bytes, "f", EntryType::Regular, "", &[8; 4096]);
    let said = world.refused(&bytes, &["--quota", "4K"]);
    assert!(said.contains("quota"), "{said}");
}
