//! POSIX ACLs: set, read back, translated to mode bits and back, enforced.

use std::fmt::Write;
use std::path::Path;

use rustix::fs::{OFlags as O, XattrFlags, lgetxattr, lremovexattr, lsetxattr};
use rustix::io::{Errno, Result};

use crate::dir::{CREATE, Dir};
use crate::support::user::{ALICE, BOB, as_user};
use crate::table::Case;
use crate::trace::Trace;

/// Name of the ACL that is enforced.
pub const ACCESS: &str = "system.posix_acl_access";
/// Name of the ACL that new files in a directory get.
pub const DEFAULT: &str = "system.posix_acl_default";

/// `ACL_UNDEFINED_ID` of linux/posix_acl.h.
const NO_ID: u32 = u32::MAX;
/// `POSIX_ACL_XATTR_VERSION` of linux/posix_acl_xattr.h.
const VERSION: u32 = 2;

/// An ACL in the form that the kernel takes, linux/posix_acl_xattr.h.
pub struct Acl(Vec<u8>);

/// Builds an ACL from entries like `u:1000:rw-`, in the kernel's order.
pub fn acl(text: &str) -> Acl {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for entry in text.split(',') {
        let mut parts = entry.split(':');
        let kind = parts.next().expect("split gives one part at least");
        let id = parts.next().expect("an entry has an id field");
        let permissions = parts.next().expect("an entry has permissions");
        let tag: u16 = match (kind, id.is_empty()) {
            ("u", true) => 0x01,
            ("u", false) => 0x02,
            ("g", true) => 0x04,
            ("g", false) => 0x08,
            ("m", _) => 0x10,
            ("o", _) => 0x20,
            other => panic!("no such entry: {other:?}"),
        };
        let bit = |letter, value| {
            if permissions.contains(letter) {
                value
            } else {
                0
            }
        };
        let permissions: u16 = bit('r', 4) | bit('w', 2) | bit('x', 1);
        let id = if id.is_empty() {
            NO_ID
        } else {
            id.parse().expect("an id")
        };
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Acl(bytes)
}

impl Acl {
    /// Sets it on a file.
    pub fn set(&self, path: &Path, which: &str) -> Result<()> {
        lsetxattr(path, which, &self.0, XattrFlags::empty())
    }
}

/// Reads an ACL back in the form that [`acl`] takes.
pub fn get_acl(path: &Path, which: &str) -> Result<String> {
    let mut buffer = [0; 1024];
    let (bytes, _) = lgetxattr(path, which, &mut buffer[..]).map(|n| (buffer[..n].to_vec(), n))?;
    let (version, entries) = bytes.split_at_checked(4).ok_or(Errno::IO)?;
    let mut text = format!("v{}", version[0]);
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = if id == NO_ID {
            String::new()
        } else {
            id.to_string()
        };
        let _ = write!(text, " {tag:x}:{id}:{permissions:o}");
    }
    Ok(text)
}

fn show(d: &Dir, t: &mut Trace, name: &str) {
    t.note(format!("mode of {name}"), d.stat(name));
    t.note("access ACL", get_acl(&d.at(name), ACCESS));
    t.note("default ACL", get_acl(&d.at(name), DEFAULT));
}

fn try_everything(d: &Dir, t: &mut Trace, name: &str) {
    t.note(format!("read {name}"), d.open(name, O::RDONLY, 0));
    t.note(format!("write {name}"), d.open(name, O::WRONLY, 0));
    t.note(format!("both {name}"), d.open(name, O::RDWR, 0));
    for access in [
        rustix::fs::Access::READ_OK,
        rustix::fs::Access::WRITE_OK,
        rustix::fs::Access::EXEC_OK,
    ] {
        t.note(format!("access {access:?}"), d.access(name, access));
    }
}

pub const CASES: &[Case] = &[
    ("none", |d, t| {
        d.file("f", b"");
        d.subdir("dir", 0o755);
        show(d, t, "f");
        show(d, t, "dir");
        t.note("remove", lremovexattr(d.at("f"), ACCESS));
        t.note("remove the default", lremovexattr(d.at("dir"), DEFAULT));
    }),
    ("a minimal ACL is the mode", |d, t| {
        d.file("f", b"");
        t.note("set", acl("u::rwx,g::r-x,o::--x").set(&d.at("f"), ACCESS));
        show(d, t, "f");
    }),
    ("named users and groups", |d, t| {
        d.file("f", b"");
        let entries = "u::rw-,u:1000:r--,u:1001:rw-,g::r--,g:2000:rwx,m::rw-,o::---";
        t.note("set", acl(entries).set(&d.at("f"), ACCESS));
        show(d, t, "f");
        t.note("chmod sets the mask", d.chmod("f", 0o741));
        show(d, t, "f");
        t.note("remove", lremovexattr(d.at("f"), ACCESS));
        show(d, t, "f");
    }),
    ("set by the owner, refused to others", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        let entries = acl("u::rw-,u:1001:rw-,g::---,m::rw-,o::---");
        as_user(BOB, || {
            t.note("another user", entries.set(&d.at("f"), ACCESS))
        });
        as_user(ALICE, || {
            t.note("the owner", entries.set(&d.at("f"), ACCESS))
        });
        as_user(BOB, || {
            t.note("removed by another", lremovexattr(d.at("f"), ACCESS));
            t.note("read by another", get_acl(&d.at("f"), ACCESS));
        });
        show(d, t, "f");
    }),
    ("enforced for the named user", |d, t| {
        d.file("f", b"secret");
        for entries in [
            "u::rw-,u:1000:r--,g::---,m::r--,o::---",
            "u::rw-,u:1000:rw-,g::---,m::rw-,o::---",
            "u::rw-,u:1000:rwx,g::---,m::-w-,o::r--",
            "u::rw-,u:1000:---,g::r--,m::r--,o::rw-",
            "u::rw-,g::---,g:1000:rwx,m::rwx,o::---",
            "u::rw-,g::---,g:1001:rwx,m::rwx,o::--x",
        ] {
            t.note(entries, acl(entries).set(&d.at("f"), ACCESS));
            as_user(ALICE, || try_everything(d, t, "f"));
            as_user(BOB, || try_everything(d, t, "f"));
        }
    }),
    ("enforced on a directory", |d, t| {
        d.subdir("dir", 0o700);
        d.file("dir/f", b"here");
        for entries in [
            "u::rwx,u:1000:r-x,g::---,m::r-x,o::---",
            "u::rwx,u:1000:rwx,g::---,m::rwx,o::---",
            "u::rwx,u:1000:-wx,g::---,m::rwx,o::---",
            "u::rwx,u:1000:r--,g::---,m::rwx,o::---",
        ] {
            t.note(entries, acl(entries).set(&d.at("dir"), ACCESS));
            as_user(ALICE, || {
                t.note("list", d.names("dir"));
                t.note("stat inside", d.stat("dir/f"));
                t.note("create", d.open("dir/new", CREATE, 0o644));
                t.note("remove", d.unlink("dir/new"));
                t.note("mkdir", d.mkdir("dir/sub", 0o755));
                t.note("rmdir", d.rmdir("dir/sub"));
                t.note("rename", d.rename("dir/f", "dir/g"));
                t.note("and back", d.rename("dir/g", "dir/f"));
            });
        }
    }),
    ("the default ACL of a directory does not bind it", |d, t| {
        d.subdir("dir", 0o755);
        t.note(
            "set",
            acl("u::rwx,u:1000:---,g::---,m::---,o::---").set(&d.at("dir"), DEFAULT),
        );
        show(d, t, "dir");
        as_user(ALICE, || t.note("list", d.names("dir")));
        t.note("remove", lremovexattr(d.at("dir"), DEFAULT));
        show(d, t, "dir");
    }),
    ("a default ACL on a file", |d, t| {
        d.file("f", b"");
        t.note("set", acl("u::rw-,g::r--,o::r--").set(&d.at("f"), DEFAULT));
        show(d, t, "f");
    }),
    ("on a symlink", |d, t| {
        d.symlink("nowhere", "link").unwrap();
        t.note(
            "set",
            acl("u::rw-,g::r--,o::r--").set(&d.at("link"), ACCESS),
        );
        t.note("get", get_acl(&d.at("link"), ACCESS));
    }),
    ("malformed", |d, t| {
        d.file("f", b"");
        let path = d.at("f");
        for entries in [
            "u::rw-",
            "u::rw-,g::r--",
            "u::rw-,u:1000:r--,g::r--,o::r--",
            "u::rw-,u::rw-,g::r--,o::r--",
            "g::r--,u::rw-,o::r--",
            "u::rw-,u:1001:r--,u:1000:r--,g::r--,m::r--,o::r--",
        ] {
            t.note(entries, acl(entries).set(&path, ACCESS));
        }
        let set = |bytes: &[u8]| lsetxattr(&path, ACCESS, bytes, XattrFlags::empty());
        t.note("empty", set(b""));
        t.note("too short", set(b"\x02\0\0"));
        t.note("no entries", set(b"\x02\0\0\0"));
        t.note("another version", set(b"\x01\0\0\0"));
        t.note("half an entry", set(b"\x02\0\0\0\x01\0\x06"));
        show(d, t, "f");
    }),
    ("set-group-id is lost when another sets the ACL", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(2000)).unwrap();
        d.chmod("f", 0o2775).unwrap();
        as_user(ALICE, || {
            t.note("set", acl("u::rwx,g::rwx,o::r-x").set(&d.at("f"), ACCESS));
        });
        show(d, t, "f");
        d.chmod("f", 0o2775).unwrap();
        t.note(
            "set by root",
            acl("u::rwx,g::rwx,o::r-x").set(&d.at("f"), ACCESS),
        );
        show(d, t, "f");
    }),
    ("ACL and a later chown", |d, t| {
        d.file("f", b"");
        acl("u::rwx,u:1000:rwx,g::r-x,m::rwx,o::---")
            .set(&d.at("f"), ACCESS)
            .unwrap();
        t.note("chown", d.chown("f", Some(1001), Some(1001)));
        show(d, t, "f");
        as_user(BOB, || try_everything(d, t, "f"));
        as_user(ALICE, || try_everything(d, t, "f"));
    }),
];
