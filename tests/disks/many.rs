//! Many disk volumes cost little, and hold no devices.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::proc::loop_devices_under;
use crate::support::{Mount, run};

const MANY: usize = 500;
const SIZE: &str = "10G";

/// A line of the table.
fn row(what: &str, took: Duration) {
    println!(
        "| {what} | {:.1} ms | {:.2} ms |",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3 / MANY as f64
    );
}

#[test]
fn five_hundred_disk_volumes() {
    let mut mount = Mount::new();
    let names: Vec<String> = (0..MANY).map(|n| format!("disk-{n:03}")).collect();
    println!("| {MANY} disk volumes of {SIZE} | all | each |\n|---|---|---|");
    let start = Instant::now();
    let mut arguments = vec!["create"];
    arguments.extend(names.iter().map(String::as_str));
    arguments.extend(["--disk", "--size", SIZE]);
    mount.volfs().ok(&arguments);
    row("volfs create", start.elapsed());
    let list = mount.volfs().list();
    let used: u64 = list
        .iter()
        .map(|info| {
            let image = fs::metadata(info["disk"]["path"].as_str().unwrap()).unwrap();
            assert_eq!(image.len(), 10 << 30);
            image.blocks() * 512
        })
        .sum();
    println!(
        "| space on the host | {} KiB | {} KiB |",
        used >> 10,
        (used >> 10) / MANY as u64
    );
    assert!(used < (1 << 20) * MANY as u64, "{used} bytes on the host");
    let du = run(Command::new("du").args(["-s", "-B1"]).arg(mount.store()));
    let all: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    assert!(all < (1 << 20) * MANY as u64 + (64 << 20), "{all} bytes");

    let start = Instant::now();
    let listed = run(Command::new("ls").arg("-l").arg(mount.path()));
    row("ls -l", start.elapsed());
    assert_eq!(
        listed.lines().filter(|line| line.starts_with('d')).count(),
        MANY
    );
    let start = Instant::now();
    let paths = names.iter().map(|name| mount.join(name));
    let shown = run(Command::new("df")
        .args(["-B1", "--output=avail,file"])
        .args(paths));
    row("df", start.elapsed());
    let available: Vec<u64> = shown
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(available.len(), MANY);
    assert!(available.iter().all(|&free| free > 9 << 30), "{shown}");
    let start = Instant::now();
    mount.volfs().ok(&["ls"]);
    row("volfs ls", start.elapsed());
    assert_eq!(
        loop_devices_under(mount.store()),
        [""; 0],
        "nothing of that attaches"
    );

    // More at a time than the eight devices that the kernel makes by itself.
    let start = Instant::now();
    let held: Vec<File> = names
        .iter()
        .take(40)
        .map(|name| File::create(mount.join(name).join("file")).unwrap())
        .collect();
    assert_eq!(loop_devices_under(mount.store()).len(), 40);
    println!(
        "| first file in 40 of them | {:.1} ms | {:.2} ms |",
        start.elapsed().as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 25.0
    );
    drop(held);
    // Those that nobody uses are given up.
    for name in names.iter().skip(40).take(40) {
        fs::write(mount.join(name).join("file"), "text").unwrap();
    }
    crate::wait_for("few are held", || {
        loop_devices_under(mount.store()).len() <= 32
    });
    let start = Instant::now();
    mount.remount();
    row("umount and mount", start.elapsed());
    assert_eq!(mount.daemon_complaints(), "");
}
