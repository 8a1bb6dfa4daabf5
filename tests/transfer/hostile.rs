//! Archives that mean harm: refused, and nothing is left of them, inside or
//! outside.

use std::fs;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use crate::support::{TestDir, Volfs};
use crate::{args, assert_exact, assert_nothing_left, data_of};

/// A store, and a directory beside it that nobody must touch.
pub struct World {
    pub dir: TestDir,
    pub volfs: Volfs,
    pub outside: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let dir = TestDir::new();
        let volfs = Volfs::new(&dir.join("store"));
        volfs.ok(&["create", "other"]);
        fs::write(data_of(&volfs, "other").join("theirs"), "theirs").unwrap();
        let outside = dir.mkdir("outside");
        fs::write(outside.join("secret"), "secret").unwrap();
        Self {
            dir,
            volfs,
            outside,
        }
    }

    pub fn archive(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join("hostile.tar");
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn refused(&self, bytes: &[u8], arguments: &[&str]) -> String {
        let archive = self.archive(bytes);
        let mut all = args!["import", "v", archive].to_vec();
        all.extend(arguments.iter().map(std::ffi::OsStr::new));
        let said = self.volfs.fails(1, &all);
        self.untouched();
        said
    }

    pub fn untouched(&self) {
        assert_eq!(self.volfs.names(), ["other"]);
        assert_nothing_left(self.volfs.store());
        assert_eq!(fs::read(self.outside.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1);
        let other = data_of(&self.volfs, "other");
        assert_eq!(fs::read(other.join("theirs")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
        for above in [
            "escaped",
            "store/escaped",
            "store/tmp/escaped",
            "store/volumes/escaped",
        ] {
            assert!(!self.dir.join(above).exists(), "{above}");
        }
        assert!(!Path::new("/volfs-escaped").exists());
    }
}

/// An entry with a name that the library for archives would refuse to write.
pub fn entry(out: &mut Vec<u8>, name: &str, kind: EntryType, link: &str, contents: &[u8]) {
    let mut header = Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(contents.len() as u64);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(contents);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// The end of an archive.
pub fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 1024, 0);
}

pub fn pax(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    entry(out, "PaxHeaders/x", EntryType::XHeader, "", &records(pairs));
}

/// The contents of an extended header.
pub fn records(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        bytes.extend(format!("{len} {key}={value}\n").bytes());
    }
    bytes
}

pub fn file(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    entry(&mut out, name, EntryType::Regular, "", b"escaped");
    out
}

#[test]
fn names_that_lead_out() {
    let world = World::new();
    for (name, word) in [
        ("../escaped", "'..'"),
        ("../../escaped", "'..'"),
        ("a/../../escaped", "'..'"),
        ("./a/b/../../../escaped", "'..'"),
        ("..", "'..'"),
        ("/volfs-escaped", "absolute"),
        ("//volfs-escaped", "absolute"),
        (".", "the volume's root"),
        ("./", "the volume's root"),
    ] {
        let mut bytes = file(name);
        if name.ends_with('/') {
            // With a slash it would be a directory in the oldest format.
            bytes.clear();
            entry(&mut bytes, name, EntryType::Symlink, "/etc", b"");
        }
        let said = world.refused(&bytes, &[]);
        assert!(said.contains(word), "{name}: {said}");
    }
    // The same where an extended header has the name.
    for name in ["../escaped", "/volfs-escaped", "a/../../escaped"] {
        let mut bytes = Vec::new();
        pax(&mut bytes, &[("path", name)]);
        bytes.extend(file("innocent"));
        world.refused(&bytes, &[]);
        let mut bytes = Vec::new();
        pax(
            &mut bytes,
            &[
                ("GNU.sparse.name", name),
                ("GNU.sparse.size", "7"),
                ("GNU.sparse.map", "0,7"),
            ],
        );
        bytes.extend(file("innocent"));
        world.refused(&bytes, &[]);
        let mut bytes = Vec::new();
        entry(
            &mut bytes,
            "././@LongLink",
            EntryType::GNULongName,
            "",
            format!("{name}\0").as_bytes(),
        );
        bytes.extend(file("innocent"));
        world.refused(&bytes, &[]);
    }
}

#[test]
fn links_that_lead_out() {
    let world = World::new();
    let outside = world.outside.to_str().unwrap();
    let out_file = format!("{outside}/new");
    let secret = format!("{outside}/secret");
    // Through a symbolic link to a directory.
    for target in [outside, "..", "../../..", "/", ".", "nowhere"] {
        for below in ["link/escaped", "link/sub/escaped", "link/secret"] {
            let mut bytes = Vec::new();
            entry(&mut bytes, "link", EntryType::Symlink, target, b"");
            bytes.extend(file(below));
            let said = world.refused(&bytes, &[]);
            assert!(said.contains("symbolic link"), "{target}: {said}");
        }
        let mut bytes = Vec::new();
        entry(&mut bytes, "link", EntryType::Symlink, target, b"");
        entry(&mut bytes, "link/escaped/", EntryType::Directory, "", b"");
        world.refused(&bytes, &[]);
    }
    // A link in the middle of the way, made after its directory.
    let mut bytes = Vec::new();
    entry(&mut bytes, "a/b/", EntryType::Directory, "", b"");
    entry(&mut bytes, "a/b", EntryType::Symlink, outside, b"");
    bytes.extend(file("a/b/escaped"));
    world.refused(&bytes, &[]);
    // Hard links to what is outside, by name and through a link.
    for target in [
        "../../../outside/secret",
        secret.as_str(),
        "link/secret",
        "../../volumes",
    ] {
        let mut bytes = Vec::new();
        entry(&mut bytes, "link", EntryType::Symlink, outside, b"");
        entry(&mut bytes, "hard", EntryType::Link, target, b"");
        let said = world.refused(&bytes, &[]);
        assert!(
            said.contains("archive cannot be imported"),
            "{target}: {said}"
        );
    }
    for (name, target) in [("self", "self"), ("a", "gone")] {
        let mut bytes = Vec::new();
        entry(&mut bytes, name, EntryType::Link, target, b"");
        world.refused(&bytes, &[]);
    }
    // A file in the place of a link does not go where the link led.
    let mut bytes = Vec::new();
    entry(&mut bytes, "f", EntryType::Symlink, &out_file, b"");
    bytes.extend(file("f"));
    entry(&mut bytes, "g", EntryType::Symlink, &secret, b"");
    entry(&mut bytes, "h", EntryType::Link, "g", b"");
    bytes.extend(file("h"));
    end(&mut bytes);
    let archive = world.archive(&bytes);
    world.volfs.ok(&args!["import", "v", archive]);
    let data = data_of(&world.volfs, "v");
    assert!(data.join("f").symlink_metadata().unwrap().is_file());
    assert!(data.join("h").symlink_metadata().unwrap().is_file());
    assert_exact(&world.volfs, "v");
    world.volfs.ok(&["rm", "--purge", "v"]);
    world.untouched();
}

#[test]
fn device_nodes_by_policy() {
    let world = World::new();
    for kind in [EntryType::Char, EntryType::Block] {
        let mut bytes = file("first");
        entry(&mut bytes, "dev/node", kind, "", b"");
        let said = world.refused(&bytes, &[]);
        assert!(
            said.contains("device node") && said.contains("--devices"),
            "{said}"
        );
        end(&mut bytes);
        let archive = world.archive(&bytes);
        world.volfs.ok(&args!["import", "v", archive, "--devices"]);
        let node = data_of(&world.volfs, "v").join("dev/node");
        let found = std::os::unix::fs::MetadataExt::rdev(&node.symlink_metadata().unwrap());
        assert_eq!(found, nix::sys::stat::makedev(1, 3));
        world.volfs.ok(&["rm", "--purge", "v"]);
    }
    // What no volume holds.
    let mut bytes = Vec::new();
    entry(&mut bytes, "dump", EntryType::new(b'D'), "", b"");
    world.refused(&bytes, &[]);
}

#[test]
fn archives_that_lie_about_themselves() {
    let world = World::new();
    let whole = file("f");
    let mut damaged = whole.clone();
    damaged[0] ^= 1;
    let with_pax = |records: &[(&str, &str)]| {
        let mut bytes = Vec::new();
        pax(&mut bytes, records);
        bytes.extend(file("f"));
        bytes
    };
    let sparse = |map: &'static str, size: &'static str| {
        [("GNU.sparse.map", map), ("GNU.sparse.size", size)]
    };
    let mut cases = vec![
        ("damaged", damaged),
        ("cut in a header", whole[..300].to_vec()),
        ("cut in the contents", whole[..515].to_vec()),
        (
            "no archive",
            b"hello, this is a letter and no archive".repeat(40),
        ),
        ("size", with_pax(&[("size", "9223372036854775808")])),
        ("size", with_pax(&[("size", "18446744073709551615")])),
        ("size", with_pax(&[("size", "-1")])),
        (
            "size beyond the end",
            with_pax(&[("size", "1099511627776")]),
        ),
        ("overlap", with_pax(&sparse("0,5,3,4", "100"))),
        ("outside", with_pax(&sparse("0,7", "3"))),
        (
            "outside",
            with_pax(&sparse("18446744073709551615,7", "100")),
        ),
        ("sum", with_pax(&sparse("0,3", "100"))),
        ("odd", with_pax(&sparse("0,3,4", "100"))),
        ("no numbers", with_pax(&sparse("a,b", "100"))),
        ("uid", with_pax(&[("uid", "4294967295")])),
        ("uid", with_pax(&[("gid", "9999999999")])),
        ("time", with_pax(&[("mtime", "noon")])),
        (
            "acl",
            with_pax(&[("SCHILY.acl.access", "user:king of France:rwx")]),
        ),
        ("zero byte", with_pax(&[("path", "a\0b")])),
        (
            "1.0 without a map",
            with_pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")]),
        ),
        ("description", with_pax(&[])),
    ];
    // A description that makes no sense.
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    let text = "comment=volfs {\"version\":1,\"name\":\"x\",\"kind\":\"disk\"}\n";
    records.extend(format!("{} {text}", text.len() + 3).bytes());
    entry(&mut bytes, "g", EntryType::XGlobalHeader, "", &records);
    bytes.extend(file("disk.raw"));
    cases.pop();
    cases.push(("description", bytes));
    // What is said of a file is longer than anybody needs.
    let mut long = Vec::new();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(1 << 40);
    header.set_cksum();
    long.extend(header.as_bytes());
    long.resize(1 << 20, b'1');
    cases.push(("a long header", long));
    // A name that no file system has.
    let mut bytes = Vec::new();
    let name = "n".repeat(300);
    pax(&mut bytes, &[("path", &name)]);
    bytes.extend(file("f"));
    cases.push(("a long name", bytes));
    // A directory that is to become a file.
    let mut bytes = file("d/f");
    bytes.extend(file("d"));
    cases.push(("a full directory", bytes));
    for (what, bytes) in cases {
        let said = world.refused(&bytes, &[]);
        assert!(!said.contains("panicked"), "{what}: {said}");
    }
}

/// A sound archive with bytes changed, in every way that comes to mind.
#[test]
fn whatever_the_bytes_nothing_escapes() {
    use volfs::transfer::{ImportOptions, import};

    let world = World::new();
    let store = world.volfs.store().to_owned();
    let mut sound = Vec::new();
    entry(&mut sound, "d/", EntryType::Directory, "", b"");
    entry(
        &mut sound,
        "d/link",
        EntryType::Symlink,
        world.outside.to_str().unwrap(),
        b"",
    );
    pax(
        &mut sound,
        &[
            ("SCHILY.xattr.user.a", "b"),
            ("mtime", "1.5"),
            ("path", "d/named"),
        ],
    );
    entry(&mut sound, "f", EntryType::Regular, "", &[7; 1500]);
    entry(&mut sound, "hard", EntryType::Link, "d/named", b"");
    pax(
        &mut sound,
        &[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "s"),
            ("GNU.sparse.realsize", "5000"),
        ],
    );
    let mut map = b"2\n0\n10\n4000\n6\n".to_vec();
    map.resize(512, 0);
    map.extend(*b"0123456789abcdef");
    entry(
        &mut sound,
        "GNUSparseFile.0/s",
        EntryType::Regular,
        "",
        &map,
    );
    end(&mut sound);

    let volumes = volfs::open(&store).unwrap();
    let options = ImportOptions {
        quota_bytes: Some(Some(volfs::Bytes(1 << 20))),
        ..ImportOptions::default()
    };
    let name: volfs::model::VolumeName = "v".parse().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for round in 0..400 {
        let mut bytes = sound.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = b"/.0719\0\xff"[next(8)],
                _ => bytes[at] ^= 1 << next(8),
            }
            if round % 2 == 0 {
                // So that more than the checksum is looked at.
                mend_checksums(&mut bytes);
            }
        }
        match import(&*volumes, &name, &options, &mut &bytes[..], &()) {
            Ok(_) => {
                taken += 1;
                let exact = volumes.verify(&name, false).unwrap();
                assert_eq!(exact.accounted, exact.found, "round {round}");
                volumes
                    .remove(&name, volfs::volume::Removal::Purge)
                    .unwrap();
            }
            Err(_) => refused += 1,
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(
        taken > 20 && refused > 20,
        "{taken} taken, {refused} refused"
    );
    drop(volumes);
    world.untouched();
}

fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let mut header = Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}
