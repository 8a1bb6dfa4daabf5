//! Random numbers that a seed repeats.

use std::time::SystemTime;

/// A generator that needs no crate (xorshift64, Marsaglia 2003).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Repeats for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The seed in the environment variable `VOLFS_TEST_SEED`, or one from the clock.
    pub fn seed() -> u64 {
        let set = std::env::var("VOLFS_TEST_SEED").ok();
        set.map_or_else(
            || {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.unwrap().as_nanos() as u64 | 1
            },
            |seed| seed.parse().expect("VOLFS_TEST_SEED is a number"),
        )
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `below`.
    pub fn below(&mut self, below: usize) -> usize {
        (self.any() % below as u64) as usize
    }

    /// So many random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.any().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
