//! Requests that were under way when a process died: they may be sent again.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

use super::journal::{Again, Stage, at, intent_of};
use super::layout::{State, Which};
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::types::Fh;

/// By their number, the records of requests that may be sent again.
pub(super) type Unanswered = HashMap<u64, u32>;

/// Copies what is known of requests into the state of this process: if it dies
/// too, the next one must know.
pub(super) fn take_over(fs: &FileSystem, state: &State) -> io::Result<()> {
    let mut by_unique: HashMap<u64, Vec<&[AtomicU64]>> = HashMap::new();
    for record in state.table(Which::Journal).used() {
        let unique = record[at::UNIQUE].load(Relaxed);
        by_unique.entry(unique).or_default().push(record);
    }
    let mut unanswered = Unanswered::new();
    for (unique, records) in by_unique {
        if !records.iter().any(|record| matters(record)) {
            continue;
        }
        if let Some(index) = fs.live.copy_record(|to| merge(&records, to))? {
            unanswered.insert(unique, index);
        }
    }
    fs.live.set_unanswered(unanswered);
    Ok(())
}

/// Whether it makes a difference that a request was served before. Of one that is
/// over and has neither changed nor given out anything, it does not. Each process
/// leaves a record for each of its threads, and the next has them for a while: a
/// mount whose processes die one after the other would wait ever longer for them.
fn matters(record: &[AtomicU64]) -> bool {
    let is_begun = record[at::STAGE].load(Relaxed) == Stage::Begun as u64;
    let says = [at::INTENT, at::FH, at::COUNTED_LEN, at::DEATHS];
    is_begun || says.iter().any(|&at| record[at].load(Relaxed) != 0)
}

/// One record of what two say: that of an earlier process, which may have come
/// as far as its intent, and that of the one which served the request again.
fn merge(records: &[&[AtomicU64]], to: &[AtomicU64]) {
    let word = |record: &[AtomicU64], at: usize| record[at].load(Relaxed);
    let is = |record: &[AtomicU64], stage: Stage| word(record, at::STAGE) == stage as u64;
    let older = |record: &&&[AtomicU64]| word(record, at::INHERITED) != 0;
    let first = records.iter().find(older).or(records.first());
    let last = records.iter().find(|record| !older(record)).or(first);
    let (Some(first), Some(last)) = (first, last) else {
        return;
    };
    let intends = if intent_of(first).is_some() {
        first
    } else {
        last
    };
    // Not what is unused of it, which is most of the memory.
    let [_, names] = at::NAMES;
    for (to, from) in to.iter().zip(intends.iter()).take(names.end).skip(1) {
        to.store(from.load(Relaxed), Relaxed);
    }
    // The last may not have come to what it had to do with those of the first:
    // give the handle out again, take back the lookups.
    let newest = |at| if word(last, at) == 0 { first } else { last };
    to[at::FH].store(word(newest(at::FH), at::FH), Relaxed);
    let counted = newest(at::COUNTED_LEN);
    let len = word(counted, at::COUNTED_LEN);
    to[at::COUNTED_LEN].store(len, Relaxed);
    for at in at::COUNTED.take(len as usize) {
        to[at].store(word(counted, at), Relaxed);
    }
    for charge in at::CHARGES {
        to[charge.start].store(0, Relaxed);
    }
    to[at::INHERITED].store(1, Relaxed);
    // Not of a process that had not come to it.
    let died = u64::from(!older(&last) && is(last, Stage::Begun));
    let deaths = records.iter().map(|record| word(record, at::DEATHS)).max();
    to[at::DEATHS].store(deaths.unwrap_or(0) + died, Relaxed);
    let stage = if records.iter().any(|record| is(record, Stage::Done)) {
        Stage::Done
    } else if is(last, Stage::Refused) {
        Stage::Refused
    } else {
        Stage::Begun
    };
    to[at::STAGE].store(stage as u64, Release);
}

/// The kernel will count the lookups that the new reply tells, and not those of
/// the lost one.
fn take_back_lookups(fs: &FileSystem, record: &[AtomicU64]) {
    let len = record[at::COUNTED_LEN].load(Relaxed) as usize;
    // Killed in between, they are counted once too often and not once too
    // rarely.
    record[at::COUNTED_LEN].store(0, Release);
    for word in record[at::COUNTED].iter().take(len) {
        fs.nodes.forget(NodeId::from_raw(word.load(Relaxed)), 1);
    }
}

/// The request of `record` is sent again, and is served from here on.
pub(super) fn again(fs: &FileSystem, record: &[AtomicU64], index: u32) -> Again {
    take_back_lookups(fs, record);
    let stage = record[at::STAGE].load(Relaxed);
    let refused = stage == Stage::Refused as u64;
    Again {
        done: stage == Stage::Done as u64,
        // What was refused has changed nothing, and may be tried anew.
        intent: if refused { None } else { intent_of(record) },
        opened: Some(Fh(record[at::FH].load(Relaxed))).filter(|fh| fh.0 != 0 && !refused),
        deaths: record[at::DEATHS].load(Relaxed),
        record: index,
    }
}

/// The request of `record` is not sent again: its reply has arrived, or, where
/// it never had one, nobody waits for it any more.
pub(super) fn give_up(fs: &FileSystem, record: &[AtomicU64]) {
    if record[at::STAGE].load(Relaxed) != Stage::Begun as u64 {
        return;
    }
    take_back_lookups(fs, record);
    let fh = Fh(record[at::FH].load(Relaxed));
    if fh.0 != 0 {
        fs.release(fh);
    }
    if let Some(intent) = intent_of(record) {
        for (parent, name) in [
            (intent.parent, &intent.name),
            (intent.other, &intent.other_name),
        ] {
            if parent.slot().is_some() && !name.is_empty() {
                fs.kernel.entry_expired(parent, name);
            }
        }
    }
}
