//! `open` with every flag on every file type.

use rustix::fs::{FileType, OFlags as O, SeekFrom, seek};

use crate::dir::{CREATE, Dir, fstat, read_from, write_all};
use crate::kinds::make_all;
use crate::support::user::{ALICE, as_user};
use crate::table::Case;
use crate::trace::Trace;

/// Devices and FIFOs are opened in cases of their own: here they would block
/// or depend on the machine's devices.
const OPENABLE: &[&str] = &[
    "reg", "dir", "socket", "symlink", "dangling", "dirlink", "missing", "reg/x",
];

fn each_access(d: &Dir, t: &mut Trace, label: &str, flags: O) {
    for (access, text) in [(O::RDONLY, "r"), (O::WRONLY, "w"), (O::RDWR, "rw")] {
        for name in OPENABLE {
            let result = d.open(name, access | flags, 0o640);
            t.note(format!("{label} {text} {name}"), result);
        }
        t.note("the file afterwards", d.content("reg"));
        t.note("the directory afterwards", d.names(""));
    }
}

pub const CASES: &[Case] = &[
    ("plain", |d, t| {
        make_all(d);
        each_access(d, t, "open", O::empty());
    }),
    ("O_CREAT", |d, t| {
        make_all(d);
        each_access(d, t, "create", O::CREATE);
    }),
    ("O_CREAT and O_EXCL", |d, t| {
        make_all(d);
        each_access(d, t, "create exclusively", O::CREATE | O::EXCL);
    }),
    ("O_TRUNC", |d, t| {
        make_all(d);
        each_access(d, t, "truncate", O::TRUNC);
    }),
    ("O_CREAT and O_TRUNC", |d, t| {
        make_all(d);
        each_access(d, t, "create or truncate", O::CREATE | O::TRUNC);
    }),
    ("O_APPEND", |d, t| {
        make_all(d);
        each_access(d, t, "append", O::APPEND);
    }),
    ("O_DIRECTORY", |d, t| {
        make_all(d);
        each_access(d, t, "directory", O::DIRECTORY);
    }),
    ("O_NOFOLLOW", |d, t| {
        make_all(d);
        each_access(d, t, "nofollow", O::NOFOLLOW);
    }),
    ("O_NOFOLLOW and O_CREAT", |d, t| {
        make_all(d);
        each_access(d, t, "create nofollow", O::NOFOLLOW | O::CREATE);
    }),
    ("O_PATH", |d, t| {
        make_all(d);
        each_access(d, t, "path", O::PATH);
    }),
    ("O_SYNC, O_DSYNC", |d, t| {
        make_all(d);
        each_access(d, t, "sync", O::SYNC);
        each_access(d, t, "dsync", O::DSYNC);
    }),
    ("O_NOATIME", |d, t| {
        make_all(d);
        each_access(d, t, "noatime", O::NOATIME);
        as_user(ALICE, || {
            t.note("not the owner", d.open("reg", O::NOATIME, 0));
        });
    }),
    ("O_TMPFILE", |d, t| {
        let file = t.get("open", d.open("", O::TMPFILE | O::RDWR, 0o600));
        drop(file);
        t.note("on a file", {
            d.file("f", b"");
            d.open("f", O::TMPFILE | O::RDWR, 0o600)
        });
        t.note("the directory afterwards", d.names(""));
    }),
    ("O_DIRECT", |d, t| {
        d.file("f", &[7; 8192]);
        let Some(file) = t.get("open", d.open("f", O::DIRECT | O::RDWR, 0)) else {
            return;
        };
        // Aligned to a page inside a larger buffer.
        let mut buffer = vec![0_u8; 3 * 4096];
        let start = buffer.as_ptr().align_offset(4096);
        let aligned = &mut buffer[start..start + 4096];
        t.note("read", rustix::io::pread(&file, &mut *aligned, 4096));
        t.note("content", aligned.to_vec());
        aligned.fill(9);
        t.note("write", rustix::io::pwrite(&file, aligned, 0));
        t.note("content as others see it", d.content("f"));
        t.note(
            "write past the end",
            rustix::io::pwrite(&file, aligned, 8192),
        );
        t.note("size", d.stat("f"));
        t.note("read at the end", rustix::io::pread(&file, aligned, 12_288));
    }),
    ("O_CREAT with a trailing slash", |d, t| {
        d.subdir("dir", 0o755);
        d.file("f", b"");
        for name in ["new/", "dir/", "f/"] {
            t.note(name, d.open(name, CREATE, 0o644));
        }
        t.note("the directory afterwards", d.names(""));
    }),
    ("O_CREAT through a dangling symlink", |d, t| {
        d.symlink("target", "link").unwrap();
        t.note("exclusively", d.open("link", CREATE | O::EXCL, 0o644));
        t.note("plain", d.open("link", CREATE, 0o644));
        t.note("made", d.stat("target"));
    }),
    ("O_RDONLY and O_TRUNC", |d, t| {
        d.file("f", b"content");
        t.note("open", d.open("f", O::RDONLY | O::TRUNC, 0));
        t.note("content", d.content("f"));
    }),
    ("O_CREAT with mode 0 is open for its maker", |d, t| {
        let file = t.get("create", d.open("f", CREATE | O::EXCL, 0)).unwrap();
        t.note("write", write_all(&file, b"mine"));
        t.note("fstat", fstat(&file));
        d.chmod("", 0o777).unwrap();
        as_user(ALICE, || {
            let file = t
                .get("as a user", d.open("g", CREATE | O::EXCL, 0))
                .unwrap();
            t.note("write as a user", write_all(&file, b"mine"));
            t.note("open again", d.open("g", O::RDWR, 0));
            let file = t.get("read-only mode", d.open("h", CREATE | O::EXCL, 0o444));
            t.note("write", write_all(file.unwrap(), b"mine"));
        });
    }),
    ("O_CREAT with special bits", |d, t| {
        for mode in [0o4755, 0o2755, 0o1755, 0o7777, 0o6777] {
            let name = format!("{mode:o}");
            t.note(&name, d.open(&name, CREATE | O::EXCL, mode));
            t.note("stat", d.stat(&name));
        }
        d.chmod("", 0o777).unwrap();
        as_user(ALICE, || {
            for mode in [0o4755, 0o2755, 0o1755, 0o7777, 0o6777] {
                let name = format!("alice-{mode:o}");
                t.note(&name, d.open(&name, CREATE | O::EXCL, mode));
                t.note("stat", d.stat(&name));
            }
        });
    }),
    (
        "reading what is open for writing only, and the other way",
        |d, t| {
            d.file("f", b"content");
            let writer = d.open("f", O::WRONLY, 0).unwrap();
            t.note("read", rustix::io::read(&writer, &mut [0; 4]));
            let reader = d.open("f", O::RDONLY, 0).unwrap();
            t.note("write", rustix::io::write(&reader, b"x"));
            t.note("truncate", rustix::fs::ftruncate(&reader, 0));
            let dir = d.open("", O::RDONLY, 0).unwrap();
            t.note("read a directory", rustix::io::read(&dir, &mut [0; 4]));
            t.note("write a directory", rustix::io::write(&dir, b"x"));
        },
    ),
    ("as a user without the right", |d, t| {
        d.subdir("closed", 0o700);
        d.file("closed/f", b"");
        d.subdir("unreadable", 0o711);
        d.file("unreadable/f", b"there");
        d.subdir("unsearchable", 0o744);
        d.file("unsearchable/f", b"");
        d.file("private", b"");
        d.chmod("private", 0o600).unwrap();
        as_user(ALICE, || {
            for name in [
                "closed",
                "closed/f",
                "closed/missing",
                "unreadable",
                "unreadable/f",
                "unreadable/missing",
                "unsearchable",
                "unsearchable/f",
                "private",
            ] {
                t.note(format!("lstat {name}"), d.stat(name));
                t.note(format!("read {name}"), d.open(name, O::RDONLY, 0));
                t.note(format!("write {name}"), d.open(name, O::WRONLY, 0));
                t.note(format!("create {name}"), d.open(name, CREATE, 0o644));
            }
            t.note("create here", d.open("new", CREATE, 0o644));
            t.note("list unsearchable", d.names("unsearchable"));
        });
    }),
    ("a fifo", |d, t| {
        d.mknod("p", FileType::Fifo, 0o600, 0).unwrap();
        t.note("no reader", d.open("p", O::WRONLY | O::NONBLOCK, 0));
        let reader = t
            .get("reader", d.open("p", O::RDONLY | O::NONBLOCK, 0))
            .unwrap();
        let writer = t
            .get("writer", d.open("p", O::WRONLY | O::NONBLOCK, 0))
            .unwrap();
        t.note("write", rustix::io::write(&writer, b"through the pipe"));
        let mut buffer = [0; 32];
        let n = t
            .get("read", rustix::io::read(&reader, &mut buffer))
            .unwrap();
        t.note("content", buffer[..n].to_vec());
        t.note("seek", seek(&reader, SeekFrom::Start(0)));
        t.note("size", d.stat("p"));
    }),
    ("devices", |d, t| {
        make_all(d);
        t.note("open a character device", d.open("char", O::RDWR, 0));
        t.note(
            "open a block device that is none",
            d.open("block", O::RDONLY, 0),
        );
    }),
    ("two handles have two positions", |d, t| {
        d.file("f", b"0123456789");
        let a = d.open("f", O::RDWR, 0).unwrap();
        let b = d.open("f", O::RDWR, 0).unwrap();
        let mut buffer = [0; 3];
        t.note("first", rustix::io::read(&a, &mut buffer));
        t.note("second", rustix::io::read(&b, &mut buffer));
        t.note("content", buffer.to_vec());
        write_all(&a, b"abc").unwrap();
        t.note("the other sees it", read_from(&b, 0, 100));
        t.note("position", seek(&a, SeekFrom::Current(0)));
        t.note("position", seek(&b, SeekFrom::Current(0)));
    }),
];
