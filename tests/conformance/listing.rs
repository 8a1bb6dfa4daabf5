//! Reading directories: large ones, from any position, and while they change.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir as Stream, OFlags as O};

use crate::dir::{CREATE, Dir};
use crate::kinds::make_all;
use crate::support::user::{ALICE, as_user};
use crate::table::Case;

fn stream(d: &Dir, name: &str) -> Stream {
    let dir: OwnedFd = d.open(name, O::RDONLY | O::DIRECTORY, 0).unwrap();
    Stream::new(dir).unwrap()
}

fn rest(stream: &mut Stream) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(entry) = stream.read() {
        names.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    names
}

fn fill(d: &Dir, name: &str, count: usize) {
    d.subdir(name, 0o755);
    for i in 0..count {
        d.open(format!("{name}/file-{i:05}"), CREATE, 0o644)
            .unwrap();
    }
}

/// How many entries, how many different ones, and the first and last by name:
/// enough to see one missing or twice.
fn summary(mut names: Vec<String>) -> String {
    names.sort();
    let count = names.len();
    let edges = format!("{:?} to {:?}", names.first(), names.last());
    names.dedup();
    format!("{count} entries, {} different, {edges}", names.len())
}

pub const CASES: &[Case] = &[
    ("an empty directory", |d, t| {
        d.subdir("dir", 0o755);
        t.note("with dots", summary(rest(&mut stream(d, "dir"))));
    }),
    ("types and inode numbers", |d, t| {
        make_all(d);
        let mut seen = Vec::new();
        let mut all = stream(d, "");
        while let Some(entry) = all.read() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let ino_right = name == ".." || { d.stat(&name).unwrap().0.st_ino == entry.ino() };
            seen.push(format!("{name} {:?} {ino_right}", entry.file_type()));
        }
        seen.sort();
        t.note("entries", seen);
    }),
    ("10,000 entries", |d, t| {
        fill(d, "dir", 10_000);
        t.note("once", summary(rest(&mut stream(d, "dir"))));
        t.note("again", summary(rest(&mut stream(d, "dir"))));
        let mut all = stream(d, "dir");
        rest(&mut all);
        all.rewind();
        t.note("rewound", summary(rest(&mut all)));
        for i in 0..5000 {
            d.unlink(format!("dir/file-{:05}", i * 2)).unwrap();
        }
        t.note("half of them", summary(rest(&mut stream(d, "dir"))));
        t.note("not empty", d.rmdir("dir"));
    }),
    ("long names", |d, t| {
        d.subdir("dir", 0o755);
        for i in 0..300 {
            let name = format!("dir/{i:03}{}", "n".repeat(252));
            d.open(name, CREATE, 0o644).unwrap();
        }
        t.note("all", summary(rest(&mut stream(d, "dir"))));
    }),
    ("going back to a remembered position", |d, t| {
        fill(d, "dir", 1000);
        let mut all = stream(d, "dir");
        let mut entries = Vec::new();
        while let Some(entry) = all.read() {
            let entry = entry.unwrap();
            entries.push((
                entry.offset(),
                entry.file_name().to_string_lossy().into_owned(),
            ));
        }
        t.note("entries", entries.len());
        // The position of an entry is where the next one begins.
        let mut right = 0;
        for i in (0..entries.len() - 1)
            .step_by(97)
            .chain([0, entries.len() - 2])
        {
            all.seek(entries[i].0).unwrap();
            let names = rest(&mut all);
            let wanted = entries[i + 1..].iter().map(|(_, name)| name);
            right += usize::from(names.iter().eq(wanted));
        }
        t.note("right", right);
        let last = entries.last().unwrap().0;
        all.seek(last).unwrap();
        t.note("after the last", rest(&mut all));
    }),
    ("removing while listing", |d, t| {
        fill(d, "dir", 3000);
        let mut all = stream(d, "dir");
        let mut removed = 0;
        while let Some(entry) = all.read() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                d.unlink(format!("dir/{name}")).unwrap();
                removed += 1;
            }
        }
        t.note("removed", removed);
        t.note("left", d.names("dir"));
        t.note("rmdir", d.rmdir("dir"));
    }),
    ("what was there before and after is listed once", |d, t| {
        fill(d, "dir", 2000);
        let mut all = stream(d, "dir");
        let mut seen = Vec::new();
        for i in 0.. {
            let Some(entry) = all.read() else { break };
            seen.push(entry.unwrap().file_name().to_string_lossy().into_owned());
            if i % 10 == 0 {
                d.open(format!("dir/new-{i}"), CREATE, 0o644).unwrap();
            }
            if i % 20 == 0 && i < 4000 {
                d.unlink(format!("dir/new-{i}")).unwrap();
            }
        }
        let old: Vec<_> = seen.iter().filter(|n| n.starts_with("file-")).collect();
        let different: BTreeSet<_> = old.iter().collect();
        t.note("old ones", (old.len(), different.len()));
    }),
    ("a new file is in a listing that begins after it", |d, t| {
        fill(d, "dir", 50);
        let mut all = stream(d, "dir");
        let first = rest(&mut all).len();
        d.open("dir/later", CREATE, 0o644).unwrap();
        d.unlink("dir/file-00001").unwrap();
        all.rewind();
        let names = rest(&mut all);
        t.note("counts", (first, names.len()));
        t.note("new", names.contains(&"later".to_owned()));
        t.note("removed", names.contains(&"file-00001".to_owned()));
    }),
    ("two handles list independently", |d, t| {
        fill(d, "dir", 500);
        let (mut a, mut b) = (stream(d, "dir"), stream(d, "dir"));
        let mut names = (Vec::new(), Vec::new());
        for _ in 0..250 {
            names
                .0
                .push(a.read().unwrap().unwrap().file_name().to_owned());
            names
                .1
                .push(b.read().unwrap().unwrap().file_name().to_owned());
        }
        t.note("same so far", names.0 == names.1);
        t.note("rest", (rest(&mut a).len(), rest(&mut b).len()));
    }),
    ("a directory that is renamed while it is listed", |d, t| {
        fill(d, "dir", 500);
        let mut all = stream(d, "dir");
        for _ in 0..100 {
            all.read().unwrap().unwrap();
        }
        d.rename("dir", "moved").unwrap();
        t.note("rest", rest(&mut all).len());
    }),
    ("without the right", |d, t| {
        d.subdir("closed", 0o711);
        d.file("closed/f", b"");
        d.subdir("listable", 0o744);
        d.file("listable/f", b"");
        as_user(ALICE, || {
            t.note("closed", d.names("closed"));
            t.note("listable", d.names("listable"));
            t.note("but not stat", d.stat("listable/f"));
        });
    }),
    ("what is no directory", |d, t| {
        make_all(d);
        for name in ["reg", "fifo", "symlink", "dangling", "missing"] {
            t.note(name, d.names(name));
        }
    }),
];
