//! What is exported and imported again is the same, byte for byte and in
//! everything else; and GNU tar agrees, both ways.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::facts::{self, assert_same};
use crate::support::{Mount, TestDir, Volfs, output, run};
use crate::{args, assert_exact, assert_nothing_left, data_of, fill, inspect};

#[test]
fn everything_survives_with_a_daemon() {
    let mount = Mount::builder().args(&["-o", "dev"]).start();
    let volfs = mount.volfs();
    volfs.ok(&[
        "create",
        "src",
        "--quota",
        "2G",
        "--quota-inodes",
        "1000",
        "--label",
        "z=1",
        "--label",
        "a=2=3",
    ]);
    fill(&mount.join("src"));
    let device = mount.join("src/null");
    run(Command::new("mknod").arg(&device).args(["c", "1", "3"]));
    volfs.ok(&["pin", "src"]);
    let original = inspect(&volfs, "src");
    for archive in ["plain.tar", "small.tar.zst"] {
        let archive = mount.dir().join(archive);
        volfs.ok(&args!["export", "src", "-o", archive]);
        let name = archive.extension().unwrap().to_str().unwrap();
        volfs.ok(&args!["import", name, archive, "--devices"]);
        assert_same(&data_of(&volfs, "src"), &data_of(&volfs, name));
        assert_same(&mount.join("src"), &mount.join(name));
        let copy = inspect(&volfs, name);
        for key in ["kind", "limits", "labels", "used"] {
            assert_eq!(copy[key], original[key], "{key}");
        }
        assert_eq!(copy["pinned"], json!(false));
        assert_exact(&volfs, name);
    }
    let size = |name: &str| fs::metadata(mount.dir().join(name)).unwrap().len();
    // A gibibyte of holes, and little else.
    assert!(size("plain.tar") < 4 << 20, "{}", size("plain.tar"));
    assert!(size("small.tar.zst") < 1 << 20, "{}", size("small.tar.zst"));

    // As a pipe, with other limits and labels.
    let mut export = volfs
        .command(&["export", "src", "-o", "-", "--zstd"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = volfs
        .command(&[
            "import",
            "piped",
            "-",
            "--quota",
            "none",
            "--quota-inodes",
            "500",
            "--label",
            "z=9",
            "--devices",
        ])
        .stdin(export.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(export.wait().unwrap().success() && import.success());
    let piped = inspect(&volfs, "piped");
    assert_eq!(piped["limits"], json!({"bytes": null, "inodes": 500}));
    assert_eq!(piped["labels"], json!([["z", "9"], ["a", "2=3"]]));
    assert_same(&data_of(&volfs, "src"), &data_of(&volfs, "piped"));
    assert_nothing_left(mount.store());
}

#[test]
fn everything_survives_without_a_daemon() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src", "--label", "k=v"]);
    fill(&data_of(&volfs, "src"));
    volfs.ok(&["verify", "--repair"]);
    let archive = dir.join("a.tar.zst");
    volfs.ok(&args!["export", "src", "-o", archive]);
    let said: serde_json::Value =
        serde_json::from_str(&volfs.ok(&args!["import", "dst", archive, "--json"])).unwrap();
    assert_eq!(said["owners_missed"], 0);
    assert_eq!(said["volume"]["labels"], json!([["k", "v"]]));
    assert_same(&data_of(&volfs, "src"), &data_of(&volfs, "dst"));
    assert_exact(&volfs, "dst");
    // The same again gives the same bytes.
    let (one, two) = (dir.join("1.tar"), dir.join("2.tar"));
    volfs.ok(&args!["export", "dst", "-o", one]);
    volfs.ok(&args!["export", "dst", "-o", two]);
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    let src = data_of(&volfs, "src");
    fill(&src);
    let archive = dir.join("a.tar");
    volfs.ok(&args!["export", "src", "-o", archive]);
    let target = dir.mkdir("target");
    let unpacked = output(
        Command::new("tar")
            .args([
                "--acls",
                "--xattrs",
                "--xattrs-include=*",
                "--same-owner",
                "-xpf",
            ])
            .arg(&archive)
            .current_dir(&target),
    );
    let said = String::from_utf8_lossy(&unpacked.stderr);
    assert!(unpacked.status.success(), "{said}");
    // The description of the volume is nothing that it would remark upon.
    assert!(!said.contains("extended header"), "{said}");
    assert_same(&src, &target);
}

#[test]
fn we_read_what_gnu_tar_writes() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    let src = dir.mkdir("src");
    fill(&src);
    let archive = dir.join("a.tar");
    let pack = |options: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(options)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .current_dir(&src);
        let packed = output(&mut tar);
        assert!(packed.status.success(), "{options:?}: {packed:?}");
    };
    for version in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={version}");
        pack(&[
            "--format=posix",
            "--acls",
            "--xattrs",
            "--xattrs-include=*",
            "-S",
            &sparse,
        ]);
        let name = format!("posix-{version}");
        volfs.ok(&args!["import", name, archive]);
        assert_same(&src, &data_of(&volfs, &name));
        assert_exact(&volfs, &name);
    }
    // Older formats have whole seconds, no attributes, and no such ids.
    for format in ["gnu", "oldgnu"] {
        pack(&[&format!("--format={format}"), "-S"]);
        volfs.ok(&args!["import", format, archive]);
        assert_same_contents(&src, &data_of(&volfs, format));
        for file in ["sparse", "only-hole", "a/hole-first"] {
            assert_eq!(
                facts::data(&src.join(file)),
                facts::data(&data_of(&volfs, format).join(file)),
                "{format}: the holes of {file}"
            );
        }
    }
    // Files whose names and sizes a header holds, in the oldest formats.
    let simple = dir.mkdir("simple");
    fs::create_dir(simple.join("d")).unwrap();
    fs::write(simple.join("d/f"), "old").unwrap();
    fs::hard_link(simple.join("d/f"), simple.join("h")).unwrap();
    for format in ["v7", "ustar"] {
        let made = Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .current_dir(&simple)
            .status();
        assert!(made.unwrap().success());
        volfs.ok(&args!["import", format, archive]);
        assert_same_contents(&simple, &data_of(&volfs, format));
    }
}

fn assert_same_contents(a: &Path, b: &Path) {
    run(Command::new("diff")
        .args(["-r", "--no-dereference", "--exclude=fifo"])
        .arg(a)
        .arg(b));
}

#[test]
fn an_archive_without_directories_and_with_things_twice() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, contents: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        archive
            .append_data(&mut header, path, contents.as_bytes())
            .unwrap();
    };
    add("deep/down/file", &"x".repeat(10_000));
    add("deep/down/file", "the last counts");
    add("top", "t");
    let bytes = archive.into_inner().unwrap();
    let file = dir.join("a.tar");
    fs::write(&file, bytes).unwrap();
    volfs.ok(&args!["import", "v", file, "--quota", "1M"]);
    let data = data_of(&volfs, "v");
    assert_eq!(
        fs::read_to_string(data.join("deep/down/file")).unwrap(),
        "the last counts"
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (
            mode(data.clone()),
            mode(data.join("deep")),
            mode(data.join("top"))
        ),
        (0o755, 0o755, 0o640)
    );
    // Two directories and two files of a page; the longer one is charged no more.
    let used = inspect(&volfs, "v")["used"].clone();
    assert_eq!(used, json!({"bytes": 4 * 4096, "inodes": 4}));
    assert_exact(&volfs, "v");
}

#[test]
fn a_disk_volume_is_its_image() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    volfs.ok(&[
        "create", "disk", "--disk", "--size", "64M", "--label", "k=v",
    ]);
    fs::write(mount.join("disk/f"), "in the image").unwrap();
    let archive = mount.dir().join("disk.tar");
    // What is still attached is put away first.
    volfs.ok(&args!["export", "disk", "-o", archive]);
    let listing = run(Command::new("tar").arg("-tvf").arg(&archive));
    assert!(
        listing.contains(" 67108864 ") && listing.contains(" disk.raw"),
        "{listing}"
    );
    assert!(
        fs::metadata(&archive).unwrap().len() < 8 << 20,
        "holes are holes"
    );

    volfs.ok(&args!["import", "copy", archive]);
    let copy = inspect(&volfs, "copy");
    assert_eq!(copy["labels"], json!([["k", "v"]]));
    assert_eq!(copy["disk"]["size"], 64 << 20);
    assert_eq!(
        copy["disk"]["guest_written"], true,
        "nobody knows where it has been"
    );
    let refused = fs::write(mount.join("copy/g"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    volfs.ok(&["disk", "trust", "copy"]);
    assert_eq!(
        fs::read_to_string(mount.join("copy/f")).unwrap(),
        "in the image"
    );
    fs::write(mount.join("copy/g"), "x").unwrap();

    // While somebody writes to the image it is nothing whole.
    let image = mount.join(".volfs/disks/disk.raw");
    let writer = File::options().read(true).write(true).open(&image).unwrap();
    let said = volfs.fails(1, &args!["export", "disk", "-o", archive]);
    assert!(said.contains("in use"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    drop(writer);
    // And while it is read for an export, nobody writes to it.
    let mut export = volfs
        .command(&["export", "disk", "-o", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 512];
    std::io::Read::read_exact(export.stdout.as_mut().unwrap(), &mut first).unwrap();
    let busy = File::options().write(true).open(&image).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(libc::EBUSY));
    let said = volfs.fails(1, &["rm", "disk"]);
    assert!(said.contains("in use"), "{said}");
    drop(export.stdout.take());
    export.wait().unwrap();
}

#[test]
fn a_volume_that_is_exported_is_in_use_and_sockets_are_left_out() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    fs::write(volume.join("much"), vec![1; 4 << 20]).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(volume.join("socket")).unwrap();
    let mut export = volfs
        .command(&["export", "v", "-o", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 512];
    std::io::Read::read_exact(export.stdout.as_mut().unwrap(), &mut first).unwrap();
    let said = volfs.fails(1, &["rm", "v"]);
    assert!(
        said.contains("(volfs)") && said.contains("an open file"),
        "{said}"
    );
    std::io::copy(&mut export.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert!(export.wait().unwrap().success());
    let archive = mount.dir().join("v.tar");
    let answer = volfs.run(&args!["export", "v", "-o", archive, "--json"]);
    let said: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(said["left_out"], json!(["socket"]));
    assert!(!run(Command::new("tar").arg("-tf").arg(&archive)).contains("socket"));
    volfs.ok(&["rm", "v"]);
}

#[test]
fn what_cannot_be_written_or_read_is_said() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "v"]);
    let nowhere = dir.join("nowhere/a.tar");
    assert!(
        volfs
            .fails(1, &args!["export", "v", "-o", nowhere])
            .contains("nowhere")
    );
    assert!(
        volfs
            .fails(1, &args!["import", "w", nowhere])
            .contains("nowhere")
    );
    assert!(
        volfs
            .fails(1, &["export", "gone", "-o", "/dev/null"])
            .contains("\"gone\"")
    );
    let said = volfs.fails(1, &["export", "v", "-o", "/dev/full"]);
    assert!(
        said.contains("/dev/full") && said.contains("No space"),
        "{said}"
    );
    volfs.ok(&["export", "v", "-o", "/dev/null"]);
    assert!(
        Path::new("/dev/null")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_file()
            .eq(&false)
    );
    // An existing archive stays until the new one is complete.
    let archive = dir.join("a.tar");
    fs::write(&archive, "old").unwrap();
    volfs.fails(1, &args!["export", "gone", "-o", archive]);
    assert_eq!(fs::read(&archive).unwrap(), b"old");
    volfs.ok(&args!["export", "v", "-o", archive]);
    let said = volfs.fails(1, &args!["import", "v", archive]);
    assert!(said.contains("already exists"), "{said}");
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for (bytes, word) in [
        (&b"\x1f\x8b\x08\0\0\0\0"[..], "gzip"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"", "empty"),
    ] {
        fs::write(&archive, bytes).unwrap();
        let said = volfs.fails(1, &args!["import", "w", archive]);
        assert!(said.contains(word), "{said}");
    }
}
