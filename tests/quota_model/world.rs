//! What a sequence is played in, and the play itself.

use super::dirs::HostFs;
use super::generate::{Able, Generator, removals, text};
use super::model::{Act, Model, Outcome, Path};

/// `df` and `df -i`.
#[derive(Clone, Copy, Debug)]
pub struct Df {
    pub block: u64,
    pub blocks: u64,
    pub free: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

/// One volume, empty and without a limit at the start of a sequence.
pub trait World {
    fn act(&mut self, act: &Act) -> Outcome;
    /// Bytes and inodes that the volume is said to hold; `expected` is for
    /// worlds in which a close arrives later.
    fn usage(&mut self, expected: (u64, u64)) -> (u64, u64);
    /// Whether usage is predictable while the kernel writes by itself: a real
    /// one has it settled whenever it asks for attributes.
    fn settles_only_at_close(&self) -> bool;
    /// The size of an open file, where looking changes nothing.
    fn size(&mut self, h: u32) -> Option<u64>;
    /// How a handle's contents are had, where that can be seen.
    fn path(&self, h: u32) -> Option<Path>;
    fn df(&mut self) -> Df;
    /// What a walk of the volume finds.
    fn walk(&mut self) -> (u64, u64);
    /// The volume on the host.
    fn host(&self) -> std::path::PathBuf;
    /// What that is on.
    fn host_fs(&self) -> HostFs;
    /// Nothing of the sequence is left.
    fn end_sequence(&mut self);
}

/// Plays the sequence of `seed` and compares at each step.
pub fn play(world: &mut impl World, seed: u64, acts: usize, passthrough: bool, able: Able) {
    let mut model = Model::new(passthrough, world.host_fs());
    // Its root may have grown in an earlier one.
    model.look_at(&world.host());
    let mut generator = Generator::new(seed, able);
    let mut trace: Vec<String> = Vec::new();
    let start = Act::Limits {
        bytes: (!generator.random.one_in(4)).then(|| 4096 * (1 + generator.random.below(30))),
        inodes: generator
            .random
            .one_in(2)
            .then(|| 1 + generator.random.below(12)),
    };
    step(world, &mut model, &start, seed, &mut trace);
    for _ in 0..acts {
        if let Some(act) = generator.act(&model) {
            step(world, &mut model, &act, seed, &mut trace);
        }
    }
    let handles: Vec<u32> = model.handles.keys().copied().collect();
    for h in handles {
        step(world, &mut model, &Act::Close { h }, seed, &mut trace);
    }
    let walked = world.walk();
    assert_eq!(
        walked,
        model.usage(),
        "seed {seed}: a walk finds\n{}",
        trace.join("\n")
    );
    for act in removals(&model) {
        step(world, &mut model, &act, seed, &mut trace);
    }
    assert_eq!(
        world.usage(model.usage()),
        model.usage(),
        "seed {seed}: emptied\n{}",
        trace.join("\n")
    );
    world.end_sequence();
}

/// Whether the limit is looked at.
fn comparable_growth(act: &Act) -> bool {
    !matches!(act, Act::Limits { .. } | Act::Close { .. })
}

fn step(world: &mut impl World, model: &mut Model, act: &Act, seed: u64, trace: &mut Vec<String>) {
    let before = model.usage();
    let limits = (model.bytes, model.limit_inodes);
    let expected = model.apply(act);
    let found = world.act(act);
    model.look_at(&world.host());
    trace.push(format!(
        "{act:?}: {} of {limits:?} -> {:?}",
        text(&expected),
        model.usage()
    ));
    let told = || format!("seed {seed} after:\n{}", trace.join("\n"));
    assert_eq!(
        found,
        expected,
        "{act:?}, used {before:?} of {limits:?}; {}",
        told()
    );
    if let Some(limit) = model.bytes
        && comparable_growth(act)
        && model.usage().0 > before.0
    {
        assert!(
            model.usage().0 <= limit,
            "above the limit after {act:?}; {}",
            told()
        );
    }
    let comparable = world.settles_only_at_close() || !model.has_uncounted_writers();
    let usage = world.usage(model.usage());
    if comparable {
        assert_eq!(usage, model.usage(), "usage after {act:?}; {}", told());
    }
    let seen = match act {
        Act::Create { h, .. } | Act::Open { h, .. } if expected.is_ok() => {
            if let Some(path) = world.path(*h) {
                assert_eq!(path, model.handles[h].path, "path of {act:?}; {}", told());
            }
            Some(*h)
        }
        Act::Write { h, .. } | Act::TruncateOpen { h, .. } | Act::Fallocate { h, .. } => Some(*h),
        Act::Copy { to, .. } => Some(*to),
        _ => None,
    };
    if let Some(h) = seen
        && let Some(size) = world.size(h)
    {
        let wanted = model.size(model.handles[&h].inode);
        assert_eq!(size, wanted, "size after {act:?}; {}", told());
    }
    let (df, (bytes, inodes)) = (world.df(), usage);
    if let Some(limit) = model.bytes {
        let taken = bytes.div_ceil(df.block);
        assert_eq!(
            df.blocks,
            (limit / df.block).max(taken),
            "df of {limit}; {}",
            told()
        );
        assert_eq!(df.blocks - df.free, taken, "df used; {}", told());
    }
    if let Some(limit) = model.limit_inodes {
        assert_eq!(df.inodes, limit.max(inodes), "df -i of {limit}; {}", told());
        assert_eq!(df.inodes - df.free_inodes, inodes, "df -i used; {}", told());
    }
}
