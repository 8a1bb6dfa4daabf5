//! Which blocks are taken, as runs, and first-fit allocation among the rest.
//! Knows no groups and no structures.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::PlanError;
use super::extent::{FileMap, LEAF_EXTENTS, MAX_EXTENT_BLOCKS, ROOT_EXTENTS, Run};
use super::units::BlockNumber;

/// The taken blocks of an image. Runs never touch: neighbours are merged.
#[derive(Clone, Debug, Default)]
pub(in crate::diskimg) struct Space {
    /// Start of a run to the block after its end.
    taken: BTreeMap<u64, u64>,
    end: u64,
}

impl Space {
    /// `blocks` free blocks.
    pub(in crate::diskimg) fn new(blocks: u64) -> Self {
        Space {
            taken: BTreeMap::new(),
            end: blocks,
        }
    }

    /// Takes a range, whether or not parts of it were taken before.
    pub(in crate::diskimg) fn take(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut merged = range;
        while let Some((&start, &end)) = self.taken.range(..=merged.end).next_back() {
            if end < merged.start {
                break;
            }
            merged = merged.start.min(start)..merged.end.max(end);
            self.taken.remove(&start);
        }
        self.taken.insert(merged.start, merged.end);
    }

    /// The taken runs within a range, clipped to it.
    pub(in crate::diskimg) fn taken_in(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self
            .taken
            .range(..=range.start)
            .next_back()
            .map_or(range.start, |(start, _)| *start);
        let (low, high) = (range.start, range.end);
        self.taken
            .range(first..high.max(first))
            .map(move |(start, end)| (*start).max(low)..(*end).min(high))
            .filter(|run| !run.is_empty())
    }

    /// Taken blocks in a range.
    pub(in crate::diskimg) fn count_taken(&self, range: Range<u64>) -> u64 {
        self.taken_in(range).map(|run| run.end - run.start).sum()
    }

    /// The first run of free blocks that starts at or after `from`.
    fn free_run(&self, from: u64) -> Option<Range<u64>> {
        let start = match self.taken.range(..=from).next_back() {
            Some((_, end)) => from.max(*end),
            None => from,
        };
        let end = self
            .taken
            .range(start..)
            .next()
            .map_or(self.end, |(next, _)| *next);
        (start < end).then_some(start..end)
    }

    /// Takes the first `blocks` contiguous free blocks at or after `from`, or
    /// else anywhere.
    pub(in crate::diskimg) fn allocate(
        &mut self,
        what: &'static str,
        from: u64,
        blocks: u64,
    ) -> Result<u64, PlanError> {
        let row = self.allocate_row(what, from, blocks, 1)?;
        row.first()
            .copied()
            .ok_or(PlanError::NoRoomFor { what, blocks })
    }

    /// Takes `count` times `blocks` contiguous free blocks, each behind the
    /// one before, from `from` on and then from the start. A whole row costs
    /// no more than the runs that it falls into.
    pub(in crate::diskimg) fn allocate_row(
        &mut self,
        what: &'static str,
        from: u64,
        blocks: u64,
        count: usize,
    ) -> Result<Vec<u64>, PlanError> {
        let mut starts = Vec::with_capacity(count);
        for origin in [from, 0] {
            let mut at = origin;
            while starts.len() < count
                && let Some(run) = self.free_run(at)
            {
                let fitting = ((run.end - run.start) / blocks).min((count - starts.len()) as u64);
                self.take(run.start..run.start + fitting * blocks);
                starts.extend((0..fitting).map(|index| run.start + index * blocks));
                at = run.end;
            }
        }
        if starts.len() < count {
            return Err(PlanError::NoRoomFor { what, blocks });
        }
        Ok(starts)
    }

    /// Takes `blocks` blocks for a file, in order from `from`, then from the
    /// start, and a leaf block if its extents do not fit the inode.
    pub(in crate::diskimg) fn allocate_file(
        &mut self,
        what: &'static str,
        from: u64,
        blocks: u64,
    ) -> Result<FileMap, PlanError> {
        let no_room = PlanError::NoRoomFor { what, blocks };
        let mut map = FileMap::default();
        let mut left = blocks;
        for origin in [from, 0] {
            let mut at = origin;
            while left > 0
                && let Some(run) = self.free_run(at)
            {
                let length = (run.end - run.start).min(left);
                self.take(run.start..run.start + length);
                push_runs(&mut map.runs, run.start, length);
                left -= length;
                at = run.start + length;
            }
        }
        if left > 0 || map.runs.len() > LEAF_EXTENTS {
            return Err(no_room);
        }
        if map.runs.len() > ROOT_EXTENTS {
            let behind = map.runs.last().map_or(0, |run| run.start.get());
            map.leaf = Some(BlockNumber(self.allocate(what, behind, 1)?));
        }
        Ok(map)
    }
}

/// Cuts a run into extents of at most [`MAX_EXTENT_BLOCKS`].
fn push_runs(runs: &mut Vec<Run>, start: u64, length: u64) {
    let mut done = 0;
    while done < length {
        let blocks = (length - done).min(MAX_EXTENT_BLOCKS);
        runs.push(Run {
            start: BlockNumber(start + done),
            blocks,
        });
        done += blocks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(ranges in proptest::collection::vec((0u64..200, 0u64..30), 0..20), from in 0u64..220, want in 1u64..40) {
            let mut space = Space::new(200);
            let mut set = [false; 240];
            for (start, length) in ranges {
                let end = (start + length).min(200);
                space.take(start..end.max(start));
                set[start as usize..end.max(start) as usize].fill(true);
            }
            let taken = set[50..150].iter().filter(|b| **b).count() as u64;
            prop_assert_eq!(space.count_taken(50..150), taken);
            let fits = |at: usize| at + want as usize <= 200 && set[at..at + want as usize].iter().all(|b| !b);
            let expected = (from as usize..200).chain(0..200).find(|at| fits(*at));
            prop_assert_eq!(space.allocate("test", from, want).ok(), expected.map(|at| at as u64));
        }
    }
}
