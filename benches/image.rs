//! What making an image costs, paired with `mkfs.ext4` in one run: medians of
//! interleaved rounds, `cargo bench --bench image`. The space is also checked
//! in tests/diskimg_compare.rs.

#[path = "../tests/diskimg_common/mod.rs"]
mod diskimg_common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use diskimg_common::{allocated, mib, scratch, text};
use volfs::diskimg::{Options, format};

const ROUNDS: usize = 21;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn command(program: &str, args: &[&str]) {
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .status()
        .expect("the program runs");
    assert!(status.success(), "{program} {args:?}");
}

/// Peak resident memory of our command in KiB, as the kernel counts it.
fn peak_rss_kib(image: &Path, size: u64) -> i64 {
    command(
        env!("CARGO_BIN_EXE_volfs"),
        &[
            "image",
            "format",
            text(image),
            "--size",
            &format!("{size}M"),
        ],
    );
    let after = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)
        .expect("getrusage");
    after.max_rss()
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        // `cargo test --benches` runs this without it.
        println!("usage: cargo bench --bench image");
        return;
    }
    let dir = scratch();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    // Children's peak is a running maximum, so ours comes before mkfs.ext4, and
    // sizes ascend.
    for size in [1 << 10, 10 << 10, 100 << 10, 1 << 20] {
        let rss = peak_rss_kib(&ours, size);
        std::fs::remove_file(&ours).expect("removed");
        println!(
            "{:>5} GiB: peak memory of the command, or of a smaller size's mkfs.ext4: {rss} KiB",
            size >> 10
        );
        assert!(rss < 16 << 10, "{rss} KiB");
        let (mut call, mut cli, mut mke2fs) = (Vec::new(), Vec::new(), Vec::new());
        let megabytes = format!("{size}M");
        for round in 0..ROUNDS {
            if round > 0 {
                std::fs::remove_file(&theirs).expect("removed");
            }
            call.push(timed(|| {
                format(&ours, &Options::new(mib(size))).expect("an image");
            }));
            std::fs::remove_file(&ours).expect("removed");
            cli.push(timed(|| {
                command(
                    env!("CARGO_BIN_EXE_volfs"),
                    &["image", "format", text(&ours), "--size", &megabytes],
                )
            }));
            mke2fs.push(timed(|| {
                command("mkfs.ext4", &["-q", "-F", text(&theirs), &megabytes])
            }));
            if round + 1 < ROUNDS {
                std::fs::remove_file(&ours).expect("removed");
            }
        }
        let (a, b) = (allocated(&ours), allocated(&theirs));
        let (call, cli, mke2fs) = (median(call), median(cli), median(mke2fs));
        println!(
            "           call {call:.2} ms ({:.2}x), command {cli:.2} ms ({:.2}x), mkfs.ext4 {mke2fs:.2} ms; \
             du {} KiB ({:.3}x), mkfs.ext4 {} KiB",
            call / mke2fs,
            cli / mke2fs,
            a >> 10,
            a as f64 / b as f64,
            b >> 10
        );
        std::fs::remove_file(&ours).expect("removed");
        std::fs::remove_file(&theirs).expect("removed");
    }
}
