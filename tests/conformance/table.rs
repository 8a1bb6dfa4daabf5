//! Runs a table of cases on a plain directory and on a volume and compares
//! what they saw. The host's kernel is the oracle.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rustix::fs::Mode;

use crate::dir::Dir;
use crate::support::{Mount, TestDir, user};
use crate::trace::Trace;

/// One case: a name, and what it does in an empty directory.
pub type Case = (&'static str, fn(&Dir, &mut Trace));

/// A difference that is known and cannot be avoided.
pub struct Allowed {
    /// The case.
    pub case: &'static str,
    /// The observation's label.
    pub label: &'static str,
    /// What the volume shows instead.
    pub on_volume: &'static str,
    /// Why it cannot be the same.
    pub reason: &'static str,
}

/// A row of the matrix: how the volume is made that the table runs on.
pub struct Row {
    /// Arguments of `volfs mount`.
    pub arguments: &'static [&'static str],
    /// A byte limit of the volume.
    pub quota: Option<&'static str>,
    /// What may differ there.
    pub allowed: &'static [&'static [Allowed]],
}

/// Runs all cases of a family on a fresh mount.
///
/// With `VOLFS_CONFORMANCE_DIR` the volume is replaced by that directory, so
/// that the table itself can be tried on any other file system.
pub fn run(family: &str, cases: &[Case], row: &Row) {
    if let Some(other) = std::env::var_os("VOLFS_CONFORMANCE_DIR") {
        let subject = TestDir::new_in(Path::new(&other));
        let plain = TestDir::new();
        return compare(family, cases, plain.path(), subject.path(), row);
    }
    let mount = Mount::builder().args(row.arguments).start();
    let plain = mount.dir().mkdir("plain");
    let volume = mount.volume("subject");
    // The umask of whoever runs the tests must not matter.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(quota) = row.quota {
        mount.volfs().ok(&["set", "subject", "--quota", quota]);
    }
    compare(family, cases, &plain, &volume, row);
    assert_eq!(mount.daemon_complaints(), "", "the daemon logged errors");
}

fn compare(family: &str, cases: &[Case], plain: &Path, subject: &Path, row: &Row) {
    let mut report = String::new();
    let mut failed = 0;
    let mut used = BTreeSet::new();
    for (number, &(name, case)) in cases.iter().enumerate() {
        let place = format!("{number:03}");
        let expected = observe(case, &plain.join(&place));
        let got = observe(case, &subject.join(&place));
        let differences = differences(name, &expected, &got, row, &mut used);
        if !differences.is_empty() {
            failed += 1;
            let _ = writeln!(report, "\n{family}: {name}\n{differences}");
        }
    }
    println!("{family}: {} cases, {failed} differ", cases.len());
    if is_where_the_list_is_of(plain) {
        for allowed in row.allowed.iter().copied().flatten() {
            let tried = cases.iter().any(|(name, _)| *name == allowed.case);
            if tried && !used.contains(&(allowed.case, allowed.label)) {
                failed += 1;
                let (case, label) = (allowed.case, allowed.label);
                let _ = writeln!(report, "\n{family}: {case}, {label}: no longer differs");
            }
        }
    }
    assert!(
        failed == 0,
        "{failed} of {} cases differ from the host:{report}",
        cases.len()
    );
}

/// Runs a case in a new directory, in a thread with an umask of its own.
fn observe(case: fn(&Dir, &mut Trace), path: &Path) -> Trace {
    fs::create_dir(path).unwrap_or_else(|e| panic!("mkdir {path:?}: {e}"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let dir = Dir::new(path.to_owned());
    user::alone(|| {
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let mut trace = Trace::default();
        let ran = catch_unwind(AssertUnwindSafe(|| case(&dir, &mut trace)));
        if let Err(panic) = ran {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            trace.note("panicked", text.unwrap_or("with no text").to_owned());
        }
        trace
    })
}

/// Whether the list of differences is of such a host: elsewhere some of them are none.
fn is_where_the_list_is_of(plain: &Path) -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_string_lossy();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|it| it.parse::<u32>().ok());
    let kernel = (numbers.next(), numbers.next());
    let file_system = rustix::fs::statfs(plain).unwrap().f_type;
    kernel >= (Some(6), Some(18)) && file_system == nix::sys::statfs::EXT4_SUPER_MAGIC.0
}

fn differences(
    case: &str,
    expected: &Trace,
    got: &Trace,
    row: &Row,
    used: &mut BTreeSet<(&'static str, &'static str)>,
) -> String {
    let mut text = String::new();
    if expected.lines.is_empty() {
        return "  observes nothing".into();
    }
    if let Some((_, panic)) = expected.lines.iter().find(|(label, _)| label == "panicked") {
        return format!("  the case itself fails on the host: {panic}");
    }
    let longest = expected.lines.len().max(got.lines.len());
    for i in 0..longest {
        let (host, volume) = (expected.lines.get(i), got.lines.get(i));
        if host == volume {
            continue;
        }
        let known = match (host, volume) {
            (Some((label, _)), Some((other, seen))) if label == other => row
                .allowed
                .iter()
                .copied()
                .flatten()
                .find(|a| a.case == case && a.label == label && a.on_volume == seen),
            _ => None,
        };
        if let Some(known) = known {
            println!("allowed: {case}, {}: {}", known.label, known.reason);
            used.insert((known.case, known.label));
            continue;
        }
        let show = |line: Option<&(String, String)>| {
            line.map_or("nothing".into(), |(label, seen)| format!("{label}: {seen}"))
        };
        // The acts whose result is seen here.
        for before in expected.lines[..i].iter().rev().take(2).rev() {
            let _ = writeln!(text, "          {}", show(Some(before)));
        }
        let _ = writeln!(text, "  host:   {}", show(host));
        let _ = writeln!(text, "  volume: {}", show(volume));
        if host.map(|h| &h.0) != volume.map(|v| &v.0) {
            let _ = writeln!(text, "  (the traces part here)");
            break;
        }
    }
    text
}
