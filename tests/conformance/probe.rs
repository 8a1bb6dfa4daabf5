//! System calls that programs rarely make: `probe.py` makes them, without a library of
//! ours in between that might leave some out.

use std::process::Command;

use crate::dir::Dir;
use crate::table::Case;
use crate::trace::Trace;

const PROBE: &str = include_str!("probe.py");

fn probe(d: &Dir, t: &mut Trace, section: &str) {
    let mut python = Command::new("python3");
    let ran = python
        .args(["-c", PROBE, section])
        .current_dir(d.path())
        .output();
    let ran = ran.expect("python3 is installed");
    let failure = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{section}: {failure}");
    for line in String::from_utf8_lossy(&ran.stdout).lines() {
        let (label, seen) = line.split_once('\t').expect("a label and what was seen");
        t.note(label, seen);
    }
}

pub const CASES: &[Case] = &[
    ("statx", |d, t| probe(d, t, "statx")),
    ("ioctl", |d, t| probe(d, t, "ioctls")),
    ("file_getattr and file_setattr", |d, t| {
        probe(d, t, "file_attributes")
    }),
    ("open flags", |d, t| probe(d, t, "opens")),
    ("preadv2 and pwritev2", |d, t| probe(d, t, "vectored")),
    ("modes of fallocate", |d, t| probe(d, t, "allocations")),
    ("fcntl and flock", |d, t| probe(d, t, "commands")),
    ("mmap and madvise", |d, t| probe(d, t, "mappings")),
    ("splice, sendfile, copy_file_range", |d, t| {
        probe(d, t, "moving")
    }),
    ("page cache", |d, t| probe(d, t, "caching")),
    ("handles and watches", |d, t| probe(d, t, "identities")),
    ("pathconf, quotactl and extremes", |d, t| {
        probe(d, t, "limits")
    }),
    ("attributes of every namespace", |d, t| {
        probe(d, t, "attributes")
    }),
    ("flags of renameat2 and linkat", |d, t| {
        probe(d, t, "renames")
    }),
];
