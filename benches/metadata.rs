//! Times metadata operations in a directory, one process, one operation after
//! the other: `cargo bench --bench metadata -- DIR [COUNT]`.
//!
//! Prints one JSON object: operations a second by name. Knows nothing of
//! volfs: it measures whatever file system the directory is on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> std::io::Result<()> {
    // Cargo passes --bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(dir) = args.next() else {
        // `cargo test --benches` runs this without arguments.
        println!("usage: metadata DIR [COUNT]");
        return Ok(());
    };
    let count = args.next().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let dir = tempdir_in(Path::new(&dir))?;
    let result = run(&dir, count);
    fs::remove_dir_all(&dir)?;
    let rates = result?;
    let fields: Vec<String> = rates
        .iter()
        .map(|(name, rate)| format!("\"{name}\": {rate:.0}"))
        .collect();
    println!("{{{}}}", fields.join(", "));
    Ok(())
}

fn tempdir_in(dir: &Path) -> std::io::Result<PathBuf> {
    let path = dir.join(format!("metadata-{}", std::process::id()));
    fs::create_dir(&path)?;
    Ok(path)
}

fn run(dir: &Path, count: usize) -> std::io::Result<Vec<(&'static str, f64)>> {
    let name = |prefix: &str, i: usize| dir.join(format!("{prefix}{i}"));
    let block = [7_u8; 4096];
    let mut rates = Vec::new();
    let mut time = |what, each: &mut dyn FnMut(usize) -> std::io::Result<()>| {
        let start = Instant::now();
        for i in 0..count {
            each(i)?;
        }
        rates.push((what, count as f64 / start.elapsed().as_secs_f64()));
        std::io::Result::Ok(())
    };
    time("create", &mut |i| File::create_new(name("c", i)).map(drop))?;
    time("create+write4k", &mut |i| {
        File::create_new(name("w", i))?.write_all(&block)
    })?;
    // Once to fill the caches.
    for i in 0..count {
        fs::symlink_metadata(name("w", i))?;
    }
    time("stat", &mut |i| {
        fs::symlink_metadata(name("w", i)).map(drop)
    })?;
    time("open+read4k", &mut |i| {
        let mut buffer = [0; 4096];
        File::open(name("w", i))?.read_exact(&mut buffer)
    })?;
    time("open+append4k", &mut |i| {
        OpenOptions::new()
            .append(true)
            .open(name("w", i))?
            .write_all(&block)
    })?;
    let start = Instant::now();
    let mut listed = 0;
    for entry in fs::read_dir(dir)? {
        entry?.metadata()?;
        listed += 1;
    }
    let list_rate = f64::from(listed) / start.elapsed().as_secs_f64();
    time("stat missing", &mut |i| {
        let missing = fs::symlink_metadata(name("missing", i % 100));
        assert!(missing.is_err());
        Ok(())
    })?;
    time("rename", &mut |i| fs::rename(name("c", i), name("r", i)))?;
    time("unlink", &mut |i| fs::remove_file(name("w", i)))?;
    time("mkdir", &mut |i| fs::create_dir(name("d", i)))?;
    time("rmdir", &mut |i| fs::remove_dir(name("d", i)))?;
    rates.insert(5, ("list+stat", list_rate));
    Ok(rates)
}
