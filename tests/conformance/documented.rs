//! The list in `docs/semantics.md` has every difference that the table allows, and no
//! other; and what cannot be tried on the host, because it is for the whole of it.

use std::collections::BTreeSet;
use std::process::Command;

use crate::allowed::{
    ALWAYS, DIRECT, NO_BIRTH, NO_DEVICES, OWN_FIGURES, PASSTHROUGH, PROBED, QUOTA,
};
use crate::support::Mount;

const LIST: &str = include_str!("../../docs/semantics.md");

/// The cases in the last column of the list's rows.
fn listed() -> BTreeSet<&'static str> {
    let rows = LIST.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    // Every other piece is between backticks.
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_difference_is_in_the_list() {
    let all = [
        ALWAYS,
        PROBED,
        NO_BIRTH,
        DIRECT,
        NO_DEVICES,
        PASSTHROUGH,
        QUOTA,
        OWN_FIGURES,
    ];
    let allowed: BTreeSet<&str> = all.into_iter().flatten().map(|it| it.case).collect();
    let listed = listed();
    let missing: Vec<_> = allowed.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/semantics.md: {missing:?}");
    let tests = ["whole_file_systems", "quota_escapes::removed"];
    let unknown: Vec<_> = listed
        .difference(&allowed)
        .filter(|it| !tests.contains(it))
        .collect();
    assert!(
        unknown.is_empty(),
        "in docs/semantics.md, and no difference: {unknown:?}"
    );
}

#[test]
fn whole_file_systems() {
    let mount = Mount::new();
    let v = mount.volume("v");
    let swap = v.join("swap");
    std::fs::write(&swap, vec![0; 1 << 20]).unwrap();
    let made = Command::new("mkswap").arg(&swap).output().unwrap();
    assert!(made.status.success());
    for (program, arguments, says) in [
        (
            "fsfreeze",
            vec!["-f".as_ref(), v.as_os_str()],
            "not supported",
        ),
        ("fstrim", vec![v.as_os_str()], "not supported"),
        ("swapon", vec![swap.as_os_str()], "Invalid argument"),
    ] {
        let ran = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(
            !ran.status.success() && said.contains(says),
            "{program}: {said}"
        );
    }
    assert_eq!(mount.daemon_complaints(), "");
}
