//! Times metadata operations in a directory, one process, one operation after
//! the other: `cargo bench --bench metadata -- DIR [COUNT [STATS]]`.
//!
//! Prints one JSON object: operations a second by name and, where STATS is the
//! `.volfs/stats.json` of the mount that DIR is on, requests per operation
//! (FORGET not counted). Knows nothing else of volfs: it measures whatever file
//! system the directory is on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Result, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> Result<()> {
    // Cargo passes --bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(parent) = args.next() else {
        // `cargo test --benches` runs this without arguments.
        println!("usage: metadata DIR [COUNT [STATS]]");
        return Ok(());
    };
    let count = args.next().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let dir = Path::new(&parent).join(format!("metadata-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let mut bench = Bench {
        dir,
        count,
        stats: args.next().map(PathBuf::from),
        rows: Vec::new(),
    };
    let result = bench.run();
    fs::remove_dir_all(&bench.dir)?;
    result?;
    let fields = |value: fn(&Row) -> String| {
        let fields: Vec<String> = bench.rows.iter().map(value).collect();
        fields.join(", ")
    };
    println!(
        "{{\"rates\": {{{}}}, \"requests\": {{{}}}}}",
        fields(|row| format!("\"{}\": {:.0}", row.name, row.rate)),
        fields(|row| format!("\"{}\": {:.2}", row.name, row.requests)),
    );
    Ok(())
}

struct Row {
    name: &'static str,
    rate: f64,
    requests: f64,
}

struct Bench {
    dir: PathBuf,
    count: usize,
    stats: Option<PathBuf>,
    rows: Vec<Row>,
}

impl Bench {
    fn name(&self, prefix: &str, i: usize) -> PathBuf {
        self.dir.join(format!("{prefix}{i}"))
    }

    /// Requests so far, but for FORGET.
    fn requests(&self) -> Result<u64> {
        let Some(path) = &self.stats else {
            return Ok(0);
        };
        let stats: serde_json::Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let operations = stats["operations"].as_object().into_iter().flatten();
        Ok(operations
            .filter(|(name, _)| *name != "forget")
            .filter_map(|(_, op)| op["count"].as_u64())
            .sum())
    }

    /// Times `each` for every number up to the count; or once, where it returns
    /// how often it did what it does.
    fn time(&mut self, name: &'static str, run: impl FnOnce(&Self) -> Result<usize>) -> Result<()> {
        // What is asked of the control tree itself, in a pair of readings.
        let idle = self.requests()?;
        let before = self.requests()?;
        let start = Instant::now();
        let done = run(self)? as f64;
        let rate = done / start.elapsed().as_secs_f64();
        let requests = (self.requests()? - before).saturating_sub(before - idle) as f64 / done;
        self.rows.push(Row {
            name,
            rate,
            requests,
        });
        Ok(())
    }

    fn each(
        &mut self,
        name: &'static str,
        each: impl Fn(&Self, usize) -> Result<()>,
    ) -> Result<()> {
        self.time(name, |bench| {
            for i in 0..bench.count {
                each(bench, i)?;
            }
            Ok(bench.count)
        })
    }

    fn run(&mut self) -> Result<()> {
        let block = [7_u8; 4096];
        self.each("create", |b, i| File::create(b.name("c", i)).map(drop))?;
        self.each("create+write 4k", |b, i| {
            File::create(b.name("w", i))?.write_all(&block)
        })?;
        for i in 0..self.count {
            // Fills the caches.
            fs::symlink_metadata(self.name("w", i))?;
        }
        self.each("stat", |b, i| {
            fs::symlink_metadata(b.name("w", i)).map(drop)
        })?;
        self.each("open+read 4k", |b, i| {
            let mut buffer = [0; 4096];
            File::open(b.name("w", i))?.read_exact(&mut buffer)
        })?;
        self.each("append 4k", |b, i| {
            let mut file = OpenOptions::new().append(true).open(b.name("w", i))?;
            file.write_all(&block)
        })?;
        self.time("list+stat", |b| {
            let mut listed = 0;
            for entry in fs::read_dir(&b.dir)? {
                entry?.metadata()?;
                listed += 1;
            }
            Ok(listed)
        })?;
        for i in 0..100 {
            assert!(fs::symlink_metadata(self.name("missing", i)).is_err());
        }
        self.each("stat missing", |b, i| {
            assert!(fs::symlink_metadata(b.name("missing", i % 100)).is_err());
            Ok(())
        })?;
        self.each("rename", |b, i| fs::rename(b.name("c", i), b.name("r", i)))?;
        self.each("unlink", |b, i| fs::remove_file(b.name("w", i)))?;
        self.each("mkdir", |b, i| fs::create_dir(b.name("d", i)))?;
        self.each("rmdir", |b, i| fs::remove_dir(b.name("d", i)))
    }
}
