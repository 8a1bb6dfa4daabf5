//! Counters of what the kernel asks: cheap enough for every request (no lock,
//! no allocation), and exact, so that round trips can be counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

macro_rules! operations {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// The operations that the kernel can ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // each is the FUSE operation of its name
        pub enum Op { $($variant),+ }

        impl Op {
            /// All operations.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in FUSE, in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}
operations! {
    Lookup => "lookup", Forget => "forget", Getattr => "getattr", Setattr => "setattr",
    Readlink => "readlink", Mknod => "mknod", Mkdir => "mkdir", Unlink => "unlink",
    Rmdir => "rmdir", Symlink => "symlink", Rename => "rename", Link => "link",
    Open => "open", Read => "read", Write => "write", Flush => "flush",
    Release => "release", Fsync => "fsync", Opendir => "opendir", Readdir => "readdir",
    Readdirplus => "readdirplus", Fsyncdir => "fsyncdir", Statfs => "statfs",
    Setxattr => "setxattr", Getxattr => "getxattr", Listxattr => "listxattr",
    Removexattr => "removexattr", Access => "access", Create => "create",
    Fallocate => "fallocate", Lseek => "lseek", CopyFileRange => "copy_file_range",
    Ioctl => "ioctl", Statx => "statx", Other => "other",
}

/// Bucket `i` counts requests that took less than 2^i microseconds; the last
/// takes all that were slower.
pub const BUCKETS: usize = 24;

struct OpCounter {
    count: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// All counters of a mount since its start.
pub struct Stats {
    ops: Box<[OpCounter]>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        let counter = || OpCounter {
            count: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        };
        Self {
            ops: Op::ALL.iter().map(|_| counter()).collect(),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// One request of `op` took `took`.
    pub fn record(&self, op: Op, took: Duration, failed: bool) {
        let counter = &self.ops[op as usize];
        counter.count.fetch_add(1, Ordering::Relaxed);
        if failed {
            counter.errors.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counter.nanos.fetch_add(nanos, Ordering::Relaxed);
        let micros = nanos / 1000;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        counter.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// `bytes` were read through the daemon.
    pub fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// `bytes` were written through the daemon.
    pub fn wrote(&self, bytes: usize) {
        self.written_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How often `op` was asked for.
    #[must_use]
    pub fn count(&self, op: Op) -> u64 {
        self.ops[op as usize].count.load(Ordering::Relaxed)
    }

    /// All counters as JSON; operations that never came are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ops: serde_json::Map<String, Value> = Op::ALL
            .iter()
            .zip(&self.ops)
            .filter(|(_, counter)| load(&counter.count) > 0)
            .map(|(op, counter)| {
                let histogram: Vec<u64> = counter.buckets.iter().map(load).collect();
                let used = histogram
                    .iter()
                    .rposition(|&n| n > 0)
                    .map_or(0, |last| last + 1);
                let value = json!({
                    "count": load(&counter.count),
                    "errors": load(&counter.errors),
                    "nanoseconds": load(&counter.nanos),
                    "latency_log2_us": histogram[..used],
                });
                (op.name().to_owned(), value)
            })
            .collect();
        json!({
            "operations": ops,
            "daemon_read_bytes": load(&self.read_bytes),
            "daemon_written_bytes": load(&self.written_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_buckets_of_powers_of_two() {
        let stats = Stats::default();
        stats.record(Op::Read, Duration::from_nanos(900), false);
        stats.record(Op::Read, Duration::from_micros(5), true);
        stats.record(Op::Read, Duration::from_secs(3600), false);
        let json = stats.to_json();
        let read = &json["operations"]["read"];
        assert_eq!(
            (read["count"].as_u64(), read["errors"].as_u64()),
            (Some(3), Some(1))
        );
        let buckets = read["latency_log2_us"].as_array().unwrap();
        assert_eq!(buckets.len(), BUCKETS);
        assert_eq!(
            (buckets[0].as_u64(), buckets[3].as_u64()),
            (Some(1), Some(1))
        );
        assert_eq!(buckets[BUCKETS - 1].as_u64(), Some(1));
        assert!(json["operations"]["write"].is_null());
    }
}
