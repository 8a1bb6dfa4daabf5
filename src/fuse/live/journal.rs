//! What each thread does now: one record a thread, written before, while and
//! after it serves a request.
//!
//! A request whose reply was lost is sent again. The record then says what was
//! meant and, as far as the process came, that it was done; whether it was done
//! where that is not said, the directory tells (`ops/again.rs`).
//!
//! A record stays until its thread serves the next request: its reply has
//! reached the kernel by then.

mod charging;

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

pub(in crate::fuse) use self::charging::{Charging, Item, charging};
pub(super) use self::charging::{GENERATION_KNOWN, Progress, applied, charge_at, charge_of, token};
use super::layout::{State, Which, get_bytes, put_bytes};
use crate::fuse::node::NodeId;
use crate::fuse::stats::Op;
use crate::fuse::types::{Attr, Fh, Time};

/// Bit of `unique` in a request that is sent again (FUSE_UNIQUE_RESEND).
pub(super) const RESENT: u64 = 1 << 63;

/// What the words of a record are.
pub(super) mod at {
    use std::ops::Range;

    /// [`Stage`](super::Stage).
    pub(in crate::fuse::live) const STAGE: usize = 0;
    pub(in crate::fuse::live) const UNIQUE: usize = 1;
    pub(in crate::fuse::live) const OP: usize = 2;
    /// Checksum of the intent, or 0 when there is none.
    pub(in crate::fuse::live) const INTENT: usize = 3;
    pub(in crate::fuse::live) const PARENT: usize = 4;
    pub(in crate::fuse::live) const OTHER: usize = 5;
    pub(in crate::fuse::live) const BEFORE: usize = 6;
    /// Lengths of the names, 16 bits each.
    pub(in crate::fuse::live) const NAMES_LEN: usize = 7;
    /// Deaths of processes that served this request.
    pub(in crate::fuse::live) const DEATHS: usize = 8;
    /// The handle that was given out.
    pub(in crate::fuse::live) const FH: usize = 9;
    /// How many of the nodes in [`COUNTED`] have been counted a lookup.
    pub(in crate::fuse::live) const COUNTED_LEN: usize = 10;
    /// Not 0 in a record of an earlier process.
    pub(in crate::fuse::live) const INHERITED: usize = 11;
    pub(in crate::fuse::live) const VICTIM: Range<usize> = 12..24;
    /// The last two since layout 3.
    pub(in crate::fuse::live) const CHARGES: [Range<usize>; 4] =
        [24..32, 32..40, 104..112, 112..120];
    pub(in crate::fuse::live) const NAMES: [Range<usize>; 2] = [40..72, 72..104];
    pub(in crate::fuse::live) const COUNTED: Range<usize> = 128..1024;
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Stage {
    /// It is being served.
    Begun = 1,
    /// It is done; its reply may have been lost.
    Done = 2,
    /// It was refused, and has changed nothing.
    Refused = 3,
}

/// What a request is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fuse) struct Intent {
    /// The directory, or the inode, that is changed.
    pub(in crate::fuse) parent: NodeId,
    /// The name in it.
    pub(in crate::fuse) name: OsString,
    /// The other directory, or the other inode.
    pub(in crate::fuse) other: NodeId,
    /// The name in that.
    pub(in crate::fuse) other_name: OsString,
    /// What was there before; what that means is the operation's own.
    pub(in crate::fuse) before: u64,
}

/// The record of this thread.
struct Active {
    state: Arc<State>,
    index: u32,
    charging: usize,
    tokens: u32,
    again: Option<Rc<Again>>,
}

/// A request that an earlier process has begun, and this one serves again.
#[derive(Debug)]
pub(in crate::fuse) struct Again {
    /// It was done, and only its reply was lost.
    pub(in crate::fuse) done: bool,
    /// What it was about to do, if it came so far.
    pub(in crate::fuse) intent: Option<Intent>,
    /// The handle that was given out for it.
    pub(in crate::fuse) opened: Option<Fh>,
    /// Processes that died of it, or while they served it.
    pub(in crate::fuse) deaths: u64,
    /// The record that says so to the next process.
    pub(super) record: u32,
}

thread_local! {
    static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
}

impl Active {
    fn take(state: &Arc<State>) -> io::Result<Self> {
        Ok(Self {
            index: state.take(Which::Journal)?,
            state: Arc::clone(state),
            charging: 0,
            tokens: 0,
            again: None,
        })
    }

    fn record(&self) -> &[AtomicU64] {
        self.state.record(Which::Journal, self.index)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.state.table(Which::Journal).give_back(self.index);
    }
}

/// Runs `run` with the record of this thread, if it has one.
fn with<T>(run: impl FnOnce(&mut Active) -> T) -> Option<T> {
    // No thread-local memory at the very end of a thread.
    ACTIVE
        .try_with(|active| active.borrow_mut().as_mut().map(run))
        .ok()
        .flatten()
}

/// This thread serves request `unique`. Returns whether it is sent again.
pub(super) fn begin(state: &Arc<State>, unique: u64, op: Op) -> bool {
    ACTIVE.with_borrow_mut(|active| {
        let active = match active {
            Some(active) if Arc::ptr_eq(&active.state, state) => active,
            _ => match Active::take(state) {
                Ok(new) => active.insert(new),
                Err(error) => {
                    log::error!("no memory to note what is under way: {error}");
                    return unique & RESENT != 0;
                }
            },
        };
        let record = active.record();
        record[at::STAGE].store(0, Release);
        record[at::UNIQUE].store(unique & !RESENT, Relaxed);
        record[at::OP].store(op as u64, Relaxed);
        for word in [
            at::INTENT,
            at::DEATHS,
            at::FH,
            at::COUNTED_LEN,
            at::INHERITED,
        ] {
            record[word].store(0, Relaxed);
        }
        for charge in at::CHARGES {
            record[charge.start].store(0, Relaxed);
        }
        record[at::STAGE].store(Stage::Begun as u64, Release);
        active.again = None;
        unique & RESENT != 0
    })
}

/// The request that this thread serves is the death of this process.
pub(super) fn count_deaths(more: u64) {
    with(|active| {
        active.record()[at::DEATHS].fetch_add(more, Release);
    });
}

/// What an earlier process knew of the request that this thread serves. It is
/// noted here too: the earlier record goes before the reply has arrived.
pub(super) fn set_again(again: Again) {
    if let Some(intent) = &again.intent {
        let (first, second) = (&intent.name, &intent.other_name);
        intend(
            (intent.parent, first),
            (intent.other, second),
            intent.before,
        );
    }
    if let Some(fh) = again.opened {
        opened(fh);
    }
    with(|active| {
        active.record()[at::DEATHS].store(again.deaths, Relaxed);
        active.again = Some(Rc::new(again));
    });
}

/// What an earlier process knew of the request that this thread serves.
pub(in crate::fuse) fn again() -> Option<Rc<Again>> {
    with(|active| active.again.clone()).flatten()
}

/// The request that this thread serves is done, or refused. Returns the record
/// of an earlier process, which is not needed any more.
pub(super) fn end(done: bool) -> Option<u32> {
    with(|active| {
        let stage = if done { Stage::Done } else { Stage::Refused };
        active.record()[at::STAGE].store(stage as u64, Release);
        active.again.take().map(|again| again.record)
    })
    .flatten()
}

/// This is about to happen.
pub(in crate::fuse) fn intend(
    (parent, name): (NodeId, &OsStr),
    (other, other_name): (NodeId, &OsStr),
    before: u64,
) {
    with(|active| {
        let record = active.record();
        record[at::INTENT].store(0, Release);
        record[at::PARENT].store(parent.raw(), Relaxed);
        record[at::OTHER].store(other.raw(), Relaxed);
        record[at::BEFORE].store(before, Relaxed);
        let lengths = name.len() as u64 | (other_name.len() as u64) << 16;
        record[at::NAMES_LEN].store(lengths, Relaxed);
        for (words, name) in at::NAMES.into_iter().zip([name, other_name]) {
            // A name is no longer than 255 bytes, or the host will refuse it.
            if put_bytes(&record[words], name.as_bytes()).is_err() {
                return;
            }
        }
        record[at::INTENT].store(checksum(record), Release);
    });
}

/// As [`intend`], for what is about one name.
pub(in crate::fuse) fn intend_one(parent: NodeId, name: &OsStr, before: u64) {
    intend((parent, name), (NodeId::NONE, OsStr::new("")), before);
}

/// Whether any request is being served.
pub(super) fn any_begun(state: &State) -> bool {
    let begun = Stage::Begun as u64;
    state.table(Which::Journal).used().any(|record| {
        record[at::STAGE].load(Relaxed) == begun && record[at::INHERITED].load(Relaxed) == 0
    })
}

/// Never 0.
fn checksum(record: &[AtomicU64]) -> u64 {
    let mut sum = 0;
    let lengths = record[at::NAMES_LEN].load(Relaxed);
    let mut add = |words: &[AtomicU64]| {
        for word in words {
            sum = crc32c::crc32c_append(sum, &word.load(Relaxed).to_ne_bytes());
        }
    };
    add(&record[at::UNIQUE..=at::OP]);
    add(&record[at::PARENT..=at::NAMES_LEN]);
    for (words, len) in at::NAMES.into_iter().zip([lengths & 0xffff, lengths >> 16]) {
        let used = (len as usize).div_ceil(8).min(words.len());
        add(&record[words][..used]);
    }
    u64::from(sum) | 1 << 32
}

/// What a record says was intended.
pub(super) fn intent_of(record: &[AtomicU64]) -> Option<Intent> {
    let sum = record[at::INTENT].load(Relaxed);
    if sum == 0 {
        return None;
    }
    if sum != checksum(record) {
        log::error!("a journal entry is damaged, and not believed");
        return None;
    }
    let lengths = record[at::NAMES_LEN].load(Relaxed);
    let [first, second] = at::NAMES;
    let name = |words, len| {
        let bytes = get_bytes(&record[words], len).ok()?;
        Some(OsString::from_vec(bytes))
    };
    Some(Intent {
        parent: NodeId::from_raw(record[at::PARENT].load(Relaxed)),
        name: name(first, lengths & 0xffff)?,
        other: NodeId::from_raw(record[at::OTHER].load(Relaxed)),
        other_name: name(second, lengths >> 16)?,
        before: record[at::BEFORE].load(Relaxed),
    })
}

/// The kernel will count a lookup of `node` when it gets the reply. Said after
/// it was counted here: killed in between, it is counted once too often and not
/// once too rarely.
pub(in crate::fuse) fn counted(node: NodeId) {
    with(|active| {
        let record = active.record();
        let len = record[at::COUNTED_LEN].load(Relaxed);
        let room = &record[at::COUNTED];
        if let Some(word) = room.get(len as usize) {
            word.store(node.raw(), Relaxed);
            record[at::COUNTED_LEN].store(len + 1, Release);
        }
    });
}

/// The reply does not tell of `node` after all, which was
/// [`counted`] last.
pub(in crate::fuse) fn not_counted(node: NodeId) {
    with(|active| {
        let record = active.record();
        let len = record[at::COUNTED_LEN].load(Relaxed);
        let last = (len as usize)
            .checked_sub(1)
            .and_then(|last| record[at::COUNTED].get(last));
        if last.is_some_and(|last| last.load(Relaxed) == node.raw()) {
            record[at::COUNTED_LEN].store(len - 1, Release);
        }
    });
}

/// The reply gives this handle out.
pub(in crate::fuse) fn opened(fh: Fh) {
    with(|active| active.record()[at::FH].store(fh.0, Release));
}

/// An inode may lose its last name; these are its attributes.
pub(in crate::fuse) fn victim(attr: &Attr) {
    with(|active| {
        for (word, value) in active.record()[at::VICTIM].iter().zip(attr_words(attr)) {
            word.store(value, Relaxed);
        }
    });
}

/// Attributes as words.
pub(super) fn attr_words(attr: &Attr) -> [u64; 12] {
    let time = |time: Time| (time.seconds.cast_unsigned(), u64::from(time.nanoseconds));
    let ((a, an), (m, mn), (c, cn)) = (time(attr.atime), time(attr.mtime), time(attr.ctime));
    [
        attr.node.raw(),
        attr.size,
        attr.blocks,
        a,
        m,
        c,
        an | mn << 32,
        cn | u64::from(attr.blksize) << 32,
        u64::from(attr.mode) | u64::from(attr.nlink) << 32,
        u64::from(attr.uid) | u64::from(attr.gid) << 32,
        attr.rdev,
        0,
    ]
}

/// Attributes from words.
pub(super) fn attr_of(words: &[AtomicU64]) -> Attr {
    let word = |at: usize| words[at].load(Relaxed);
    let low = |at: usize| (word(at) & 0xffff_ffff) as u32;
    let high = |at: usize| (word(at) >> 32) as u32;
    let time = |at: usize, nanoseconds| Time {
        seconds: word(at).cast_signed(),
        nanoseconds,
    };
    Attr {
        node: NodeId::from_raw(word(0)),
        size: word(1),
        blocks: word(2),
        atime: time(3, low(6)),
        mtime: time(4, high(6)),
        ctime: time(5, low(7)),
        blksize: high(7),
        mode: low(8),
        nlink: high(8),
        uid: low(9),
        gid: high(9),
        rdev: word(10),
    }
}
