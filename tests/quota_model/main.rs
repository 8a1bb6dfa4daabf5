//! Usage and every decision to accept or refuse, compared at each step of
//! random sequences with a reference model: on the operations directly, with
//! the test in the kernel's place, and on a real mount.
//!
//! A failure prints its seed; `VOLFS_SEED=N` plays that sequence alone.
//! `VOLFS_LONG=1` plays many more.

#[path = "../support/mod.rs"]
mod support;

mod direct;
mod dirs;
mod generate;
mod model;
mod mounted;
mod races;
mod world;

use direct::Direct;
use dirs::HostFs;
use generate::Able;
use mounted::OnMount;
use support::OwnFs;
use world::{World, play};

/// Acts in a sequence.
const ACTS: usize = 60;

/// Seeds to play: the same ones each time, so that a change is what is tested,
/// and `more` of the clock's.
fn seeds(fixed: u64, long: u64) -> Vec<u64> {
    if let Ok(seed) = std::env::var("VOLFS_SEED") {
        return vec![seed.parse().expect("VOLFS_SEED is a number")];
    }
    let count = if std::env::var_os("VOLFS_LONG").is_some() {
        long
    } else {
        fixed
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let first = now.as_nanos() as u64 / 1000 % 1_000_000_000;
    println!(
        "seeds 0 to {} and {first} to {}",
        count / 2 - 1,
        first + count / 2 - 1
    );
    (0..count / 2).chain(first..first + count / 2).collect()
}

fn play_all(world: &mut impl World, seeds: &[u64], passthrough: bool, able: Able) {
    for &seed in seeds {
        play(world, seed, ACTS, passthrough, able);
    }
}

#[test]
fn operations_through_the_daemon() {
    let mut world = Direct::new(false);
    play_all(
        &mut world,
        &seeds(1000, 60_000),
        false,
        Able { insert_range: true },
    );
}

#[test]
fn operations_with_passthrough() {
    let mut world = Direct::new(true);
    play_all(
        &mut world,
        &seeds(1000, 60_000),
        true,
        Able { insert_range: true },
    );
}

#[test]
fn a_mount_without_passthrough() {
    let mut world = OnMount::new(&["--no-passthrough"]);
    play_all(
        &mut world,
        &seeds(40, 2000),
        false,
        Able {
            insert_range: false,
        },
    );
}

#[test]
fn a_mount_with_passthrough() {
    let mut world = OnMount::new(&[]);
    play_all(
        &mut world,
        &seeds(40, 2000),
        true,
        Able {
            insert_range: false,
        },
    );
}

fn on_another(host: &OwnFs, host_fs: HostFs) {
    for passthrough in [false, true] {
        let mut world = Direct::new_in(host.path(), host_fs, passthrough);
        let seeds = seeds(200, 10_000);
        play_all(
            &mut world,
            &seeds,
            passthrough,
            Able {
                insert_range: false,
            },
        );
    }
}

#[test]
fn operations_on_btrfs() {
    let host = OwnFs::new(&["mkfs.btrfs", "-q", "-m", "single"], 1 << 30);
    on_another(&host, HostFs::Btrfs);
}

#[test]
fn operations_on_xfs() {
    let host = OwnFs::new(&["mkfs.xfs", "-q"], 1 << 30);
    on_another(&host, HostFs::Xfs);
}
