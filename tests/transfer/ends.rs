//! Archives that were cut, or damaged where nobody looks.

use std::fs;
use std::io::Write;

use tar::EntryType;
use volfs::transfer::{ImportOptions, Imported, import};
use volfs::volume::{Removal, Result};

use crate::hostile::{World, end, entry, file, pax};
use crate::{args, assert_exact, data_of};

/// What `volfs export` makes of files of some sorts.
fn ours(world: &World, name: &str) -> Vec<u8> {
    world.volfs.ok(&["create", "src"]);
    let src = data_of(&world.volfs, "src");
    fs::create_dir(src.join("d")).unwrap();
    // What does not compress.
    let noise: Vec<u8> = (0..40_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(src.join("d/noise"), noise).unwrap();
    fs::write(src.join("n".repeat(200)), "a long name").unwrap();
    fs::write(src.join("z"), "the last").unwrap();
    let archive = world.dir.join(name);
    world.volfs.ok(&args!["export", "src", "-o", archive]);
    world.volfs.ok(&["rm", "--purge", "src"]);
    fs::read(archive).unwrap()
}

/// Imports in this process; nothing is there afterwards.
fn try_import(world: &World, bytes: &[u8]) -> Result<Imported> {
    let volumes = volfs::open(world.volfs.store()).unwrap();
    let name = "v".parse().unwrap();
    let options = ImportOptions::default();
    let imported = import(&*volumes, &name, &options, &mut &*bytes, &());
    if imported.is_ok() {
        volumes.remove(&name, Removal::Purge).unwrap();
    }
    imported
}

#[test]
fn one_of_ours_that_was_cut_is_refused_wherever_that_was() {
    let world = World::new();
    let whole = ours(&world, "a.tar");
    assert!(try_import(&world, &whole).is_ok());
    for len in (0..whole.len()).step_by(512) {
        let cut = try_import(&world, &whole[..len]).map(|it| it.entries);
        assert!(cut.is_err(), "{len} of {}: {cut:?}", whole.len());
    }
    world.untouched();
    // By the command, which says so.
    let said = world.refused(&whole[..whole.len() - 1024], &[]);
    assert!(
        said.contains("two blocks of zeros") && said.contains("cut"),
        "{said}"
    );
}

#[test]
fn what_announces_a_file_that_does_not_come() {
    let world = World::new();
    let mut announced = Vec::new();
    pax(&mut announced, &[("path", "second")]);
    let long = |kind| {
        let mut bytes = Vec::new();
        entry(&mut bytes, "././@LongLink", kind, "", b"second\0");
        bytes
    };
    for header in [
        announced,
        long(EntryType::GNULongName),
        long(EntryType::GNULongLink),
    ] {
        // At the end of the file, and at the end of the archive.
        for zeros in [0, 1024] {
            let mut bytes = file("first");
            bytes.extend(&header);
            bytes.resize(bytes.len() + zeros, 0);
            let said = world.refused(&bytes, &[]);
            assert!(said.contains("does not come"), "{zeros}: {said}");
        }
    }
}

/// A pipe that was cut between two files looks like an archive of a program
/// that leaves the end out: one block of zeros is no end, either.
#[test]
fn one_of_others_without_an_end_is_refused_with_the_way_out() {
    let world = World::new();
    let mut bytes = file("f");
    for _ in 0..2 {
        let said = world.refused(&bytes, &[]);
        assert!(said.contains("head -c 1024 /dev/zero"), "{said}");
        bytes.resize(bytes.len() + 512, 0);
    }
    let archive = world.archive(&bytes);
    world.volfs.ok(&args!["import", "v", archive]);
    assert_exact(&world.volfs, "v");
    // What comes after the end is not looked at.
    bytes.extend(file("g"));
    let archive = world.archive(&bytes);
    world.volfs.ok(&args!["import", "w", archive]);
    assert!(!data_of(&world.volfs, "w").join("g").exists());
    // A block of zeros in the place of a header.
    let mut bytes = file("f");
    bytes.resize(bytes.len() + 512, 0);
    bytes.extend(file("g"));
    end(&mut bytes);
    world.volfs.ok(&["rm", "--purge", "v", "w"]);
    let said = world.refused(&bytes, &[]);
    assert!(said.contains("zeros in the middle"), "{said}");
}

/// By a pipe, whose writer goes away or is not done when the archive is.
#[test]
fn a_pipe_is_read_to_its_end() {
    let world = World::new();
    let whole = ours(&world, "a.tar");
    let mut longer = whole.clone();
    // More than a pipe holds.
    longer.resize(whole.len() + (4 << 20), 0);
    let cut = whole.len() - 1024;
    for (bytes, ok) in [(&whole[..cut], false), (&longer[..], true)] {
        let mut import = world
            .volfs
            .command(&["import", "v", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(bytes).unwrap();
        assert_eq!(import.wait().unwrap().success(), ok);
        if !ok {
            world.untouched();
        }
    }
}

/// Each byte of a small archive with all sorts of headers.
#[test]
fn cuts_at_every_byte() {
    let world = World::new();
    let mut whole = Vec::new();
    entry(&mut whole, "d/", EntryType::Directory, "", b"");
    pax(&mut whole, &[("path", "d/f"), ("SCHILY.xattr.user.a", "b")]);
    entry(&mut whole, "f", EntryType::Regular, "", b"contents");
    entry(&mut whole, "l", EntryType::Symlink, "d", b"");
    entry(&mut whole, "h", EntryType::Link, "d/f", b"");
    end(&mut whole);
    let packed = pack(&whole);
    for bytes in [whole, packed] {
        for len in 0..bytes.len() {
            let cut = try_import(&world, &bytes[..len]).map(|it| it.entries);
            assert!(cut.is_err(), "{len} of {}: {cut:?}", bytes.len());
        }
        assert_eq!(try_import(&world, &bytes).unwrap().entries, 4);
    }
    world.untouched();
}

/// As `volfs export` compresses.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a bit that is no part of the contents says may have no effect.
#[test]
fn a_flipped_bit_is_found_or_does_no_harm() {
    let world = World::new();
    let mut whole = file("f");
    end(&mut whole);
    let packed = pack(&whole);
    let mut harmless = 0;
    for at in 0..packed.len() {
        for bit in 0..8 {
            let mut damaged = packed.clone();
            damaged[at] ^= 1 << bit;
            let name = "v".parse().unwrap();
            let volumes = volfs::open(world.volfs.store()).unwrap();
            let options = ImportOptions::default();
            if let Ok(imported) = import(&*volumes, &name, &options, &mut &damaged[..], &()) {
                let contents = fs::read(imported.info.path.join("f")).unwrap();
                assert_eq!(contents, b"escaped", "byte {at}, bit {bit}");
                volumes.remove(&name, Removal::Purge).unwrap();
                harmless += 1;
            }
        }
    }
    // In the descriptor of the frame and the size of its window.
    assert!(harmless < 16, "{harmless}");
    world.untouched();
}

#[test]
fn a_compressed_archive_is_read_and_checked_to_its_end() {
    let world = World::new();
    let whole = ours(&world, "a.tar.zst");
    assert!(try_import(&world, &whole).is_ok());
    // Whole as far as the files go.
    for len in 1..40 {
        let cut = try_import(&world, &whole[..whole.len() - len]).map(|it| it.entries);
        assert!(cut.is_err(), "without the last {len}: {cut:?}");
    }
    let mut longer = whole.clone();
    longer.extend(b"something else");
    assert!(try_import(&world, &longer).is_err());
    // The contents of files are no part of any other checksum.
    for at in (20..whole.len()).step_by(997) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let taken = try_import(&world, &damaged).map(|it| it.entries);
        assert!(taken.is_err(), "damage at {at}: {taken:?}");
    }
    // Several frames are one archive.
    let mut two = zstd::encode_all(&file("f")[..], 1).unwrap();
    two.extend(zstd::encode_all(&[0; 10_240][..], 1).unwrap());
    assert!(try_import(&world, &two).is_ok());
    world.untouched();
}
