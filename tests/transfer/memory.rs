//! What an import keeps in memory, whatever the archive says.

use std::io::{BufWriter, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use tar::EntryType;

use crate::hostile::{World, entry, file, pax, records};
use crate::support::wait_for;
use crate::{args, assert_exact, data_of};

/// An import that is sent an archive while it runs.
struct Fed {
    import: Child,
    input: BufWriter<ChildStdin>,
}

impl Fed {
    fn new(world: &World, arguments: &[&str]) -> Self {
        let mut import = world
            .volfs
            .command(&[&["import", "v", "-"], arguments].concat())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = BufWriter::new(import.stdin.take().unwrap());
        Self { import, input }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).unwrap();
    }

    /// The most memory that it has had at a time, in KiB, when it has read
    /// what was sent; then sends the end.
    fn peak(mut self) -> u64 {
        // More than it reads ahead, so that the rest has been looked at.
        self.send(&file("last").repeat(3000));
        self.input.flush().unwrap();
        let path = format!("/proc/{}/status", self.import.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
        let peak = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        self.send(&[0; 1024]);
        drop(self.input.into_inner().unwrap());
        let out = self.import.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{said}");
        peak
    }
}

/// Memory for one header of the largest sort and what it is made into, and for
/// the program.
const MOST_KIB: u64 = 64 << 10;

#[test]
fn headers_of_the_archive_as_a_whole_are_not_kept() {
    let world = World::new();
    let mut import = Fed::new(&world, &[]);
    let long = "x".repeat(4 << 20);
    let mut global = Vec::new();
    let said = records(&[("comment", &long), ("other", "1")]);
    entry(&mut global, "g", EntryType::XGlobalHeader, "", &said);
    for i in 0..60 {
        import.send(&global);
        import.send(&file(&format!("f{i}")));
    }
    let peak = import.peak();
    println!("{peak} KiB for 240 MiB of global headers");
    assert!(peak < MOST_KIB, "{peak} KiB");
    assert_exact(&world.volfs, "v");
}

#[test]
fn records_by_the_million_take_no_more_than_their_bytes() {
    let world = World::new();
    let mut import = Fed::new(&world, &[]);
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader] {
        let mut bytes = Vec::new();
        entry(&mut bytes, "x", kind, "", &b"5 a=\n".repeat((7 << 20) / 5));
        import.send(&bytes);
        import.send(&file("f"));
    }
    let peak = import.peak();
    println!("{peak} KiB for 7 MiB of records");
    assert!(peak < MOST_KIB, "{peak} KiB");
}

#[test]
fn attributes_of_directories_are_not_kept() {
    let world = World::new();
    let mut import = Fed::new(&world, &["--quota", "1G"]);
    let value = "x".repeat(3000);
    for i in 0..30_000 {
        let mut bytes = Vec::new();
        pax(&mut bytes, &[("SCHILY.xattr.user.much", &value)]);
        entry(&mut bytes, &format!("d{i}/"), EntryType::Directory, "", b"");
        import.send(&bytes);
    }
    let peak = import.peak();
    println!("{peak} KiB for 30,000 directories with 86 MiB of attributes");
    assert!(peak < MOST_KIB, "{peak} KiB");
    let dir = data_of(&world.volfs, "v").join("d29999");
    let mut found = [0; 4000];
    let len = rustix::fs::getxattr(&dir, "user.much", &mut found).unwrap();
    assert_eq!(&found[..len], value.as_bytes());
}

/// 16 bytes for each segment, and not twice as much.
#[test]
fn maps_of_holes_by_the_million() {
    let world = World::new();
    let mut import = Fed::new(&world, &[]);
    let count = 1 << 22;
    let mut map = format!("{count}\n").into_bytes();
    map.extend(b"0\n0\n".repeat(count));
    map.resize(map.len().next_multiple_of(512), 0);
    let mut bytes = Vec::new();
    let sparse = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "first"),
        ("GNU.sparse.realsize", "0"),
    ];
    pax(&mut bytes, &sparse);
    entry(&mut bytes, "s", EntryType::Regular, "", &map);
    import.send(&bytes);
    let numbers = "0,".repeat(3 << 20);
    let mut bytes = Vec::new();
    let sparse = [("GNU.sparse.size", "0"), ("GNU.sparse.map", &numbers)];
    pax(&mut bytes, &sparse);
    entry(&mut bytes, "second", EntryType::Regular, "", b"");
    import.send(&bytes);
    let peak = import.peak();
    println!("{peak} KiB for a map of {count} segments");
    assert!(peak < MOST_KIB + (64 << 10), "{peak} KiB");
}

/// What is needed to decompress is said by the archive; more than 128 MiB is
/// refused.
#[test]
fn decompression_under_a_memory_limit() {
    let world = World::new();
    for (window, ok) in [(27, true), (28, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window).unwrap();
        encoder.write_all(&file("f")).unwrap();
        // The end, and what is read after it.
        std::io::copy(&mut std::io::repeat(0).take(300 << 20), &mut encoder).unwrap();
        let archive = world.archive(&encoder.finish().unwrap());
        let out = Command::new("prlimit")
            .arg("--data=200000000")
            .arg(env!("CARGO_BIN_EXE_volfs"))
            .args(args!["import", "v", archive])
            .env("VOLFS_STORE", world.volfs.store())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.success(), ok, "{said}");
        if ok {
            world.volfs.ok(&["rm", "--purge", "v"]);
        } else {
            assert!(said.contains("memory"), "{said}");
        }
    }
    world.untouched();
}

/// One name makes as many directories as it has parts.
#[test]
fn a_path_of_many_directories() {
    let world = World::new();
    let mut import = Fed::new(&world, &[]);
    let mut bytes = Vec::new();
    pax(
        &mut bytes,
        &[("path", &format!("{}f", "d/".repeat(15_000)))],
    );
    bytes.extend(file("f"));
    import.send(&bytes);
    let peak = import.peak();
    println!("{peak} KiB for a path of 15,000 directories");
    assert!(peak < MOST_KIB, "{peak} KiB");
    assert_exact(&world.volfs, "v");
    world.volfs.ok(&["rm", "--purge", "--wait", "v"]);
    wait_for("nothing is left", || {
        std::fs::read_dir(world.volfs.store().join("tmp"))
            .unwrap()
            .next()
            .is_none()
    });
}

#[test]
fn what_is_said_between_two_files_has_a_limit() {
    let world = World::new();
    let long = "x".repeat(3 << 20);
    let mut global = Vec::new();
    entry(
        &mut global,
        "g",
        EntryType::XGlobalHeader,
        "",
        &records(&[("comment", &long)]),
    );
    let mut empty = Vec::new();
    entry(&mut empty, "g", EntryType::XGlobalHeader, "", b"");
    for headers in [global.repeat(3), empty.repeat(20_000)] {
        let mut bytes = headers;
        bytes.extend(file("f"));
        let said = world.refused(&bytes, &[]);
        assert!(said.contains("before one file"), "{said}");
    }
}
