//! Running an operation, and the replies that several operations share.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fuser::{
    FileHandle, FopenFlags, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr,
};
use nix::fcntl::OFlag;

use super::backing::{ByReply, backing_of};
use super::{Adapter, node};
use crate::failpoint;
use crate::fuse::announce::{self, RootChange};
use crate::fuse::convert::file_attr;
use crate::fuse::error::OpResult;
use crate::fuse::explain;
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::ops::no_entry;
use crate::fuse::stats::Op;
use crate::fuse::types::{Attr, Caller, DataPath, Entry, Found};
use crate::sys::backing;

/// The number of a request. `fuser` has a type for it that it does not export.
#[derive(Clone, Copy)]
pub(super) struct RequestId(u64);

impl From<&fuser::Request> for RequestId {
    fn from(request: &fuser::Request) -> Self {
        Self(request.unique().0)
    }
}

/// How long the kernel may keep names and attributes. Only this daemon changes
/// the store, and it tells the kernel where a change was not the kernel's own.
pub(super) const KEEP: Duration = Duration::from_secs(24 * 3600);

/// What the kernel must ask for again each time.
pub(super) const ASK_AGAIN: Duration = Duration::ZERO;

impl Adapter {
    /// Runs an operation: counts it, notes it for a successor, and keeps a panic
    /// in it from taking the mount away.
    pub(super) fn run<T>(
        &self,
        op: Op,
        unique: RequestId,
        node: INodeNo,
        mut run: impl FnMut(&FileSystem) -> OpResult<T>,
    ) -> Result<T, fuser::Errno> {
        let start = Instant::now();
        if let Some(awake) = self.fs.awake.get() {
            awake.request(start);
        }
        if !self.fs.live.begin(&self.fs, unique.0, op) {
            return Err(fuser::Errno::EIO);
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            failpoint::panic(op.name());
            let node = NodeId::from_raw(node.0);
            self.fs.with_room(node, || run(&self.fs))
        }));
        let failed = !matches!(result, Ok(Ok(_)));
        if result.is_ok() {
            failpoint::hit_of("live.end", op.name());
            self.fs.live.end(!failed);
            failpoint::hit_of("live.reply", op.name());
        }
        self.fs.stats.record(op, start.elapsed(), failed);
        // A file handle may hold any number: counters are for volumes.
        if let Some(slot) = NodeId::from_raw(node.0).slot()
            && (!failed || self.fs.store.volume_in(slot).is_some())
        {
            self.fs.volume_stats.record(slot, failed);
        }
        let result = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.fs.explain(NodeId::from_raw(node.0), &error);
                let errno = error.errno();
                // Never what a caller did.
                let level = if errno == nix::errno::Errno::EIO {
                    log::Level::Warn
                } else {
                    log::Level::Trace
                };
                let node = NodeId::from_raw(node.0);
                log::log!(level, "{} of {node:?}: {error}", op.name());
                Err(fuser::Errno::from_i32(errno as i32))
            }
            Err(_) => {
                log::error!("panic in {} of {:?}", op.name(), NodeId::from_raw(node.0));
                if self.fs.live.has_successor() {
                    // What it left half done is settled by the next process,
                    // which gets the request again.
                    self.fs.live.panicked();
                    crate::sys::process::die();
                }
                Err(fuser::Errno::EIO)
            }
        };
        explain::served();
        result
    }

    /// Looks up `name` in `parent`, and replies.
    pub(super) fn reply_found(
        &self,
        unique: RequestId,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let found = self.run(Op::Lookup, unique, parent, |fs| {
            fs.lookup(node(parent), name)
        });
        let entry = found.map(|found| match found {
            Found::Entry(entry) => entry,
            Found::Nothing => no_entry(),
        });
        Self::reply_entry(reply, entry);
    }

    /// Looks up `name` for the process that announces a change.
    pub(super) fn reply_announced(
        &self,
        unique: RequestId,
        parent: INodeNo,
        name: &OsStr,
        announced: &RootChange,
        reply: ReplyEntry,
    ) {
        let found = self.run(Op::Lookup, unique, parent, |fs| {
            announce::lookup(fs, announced, name)
        });
        let entry = found.map(|found| match found {
            Found::Entry(entry) => entry,
            Found::Nothing => no_entry(),
        });
        Self::reply_entry(reply, entry);
    }

    pub(super) fn reply_entry(reply: ReplyEntry, result: Result<Entry, fuser::Errno>) {
        match result {
            Ok(entry) => reply.entry_with_ttls(
                &attr_ttl(entry.keep_attr, &entry.attr),
                &KEEP,
                &file_attr(&entry.attr),
                fuser::Generation(entry.generation.0),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn reply_attr(reply: ReplyAttr, result: Result<(Attr, bool), fuser::Errno>) {
        match result {
            Ok((attr, keep)) => reply.attr(&attr_ttl(keep, &attr), &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn reply_empty(reply: ReplyEmpty, result: Result<(), fuser::Errno>) {
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn reply_opened(
        &self,
        caller: Caller,
        unique: RequestId,
        ino: INodeNo,
        flags: OFlag,
        reply: ReplyOpen,
    ) {
        let result = self.run(Op::Open, unique, ino, |fs| {
            let register = ByReply(|file: BorrowedFd<'_>| reply.open_backing(file));
            fs.open(caller, node(ino), flags, &register)
        });
        match result {
            Ok(opened) => {
                let (fh, flags) = (FileHandle(opened.fh.0), open_flags(&opened.path));
                match backing_of(&opened) {
                    Some(id) => {
                        let id = backing::for_open(&reply, id);
                        reply.opened_passthrough(fh, flags, &id);
                        // It is closed with the file.
                        let _ = id.into_raw();
                    }
                    None => reply.opened(fh, flags),
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// Replies with the bytes that `get` puts into a buffer of the size that
    /// the caller has, or with their number when that is 0.
    pub(super) fn reply_xattr(
        &self,
        op: Op,
        unique: RequestId,
        ino: INodeNo,
        size: u32,
        reply: ReplyXattr,
        mut get: impl FnMut(&FileSystem, &mut [u8]) -> OpResult<usize>,
    ) {
        self.buffers.with(size as usize, |buffer| {
            match self.run(op, unique, ino, |fs| get(fs, buffer)) {
                Ok(len) if size == 0 => reply.size(u32::try_from(len).unwrap_or(u32::MAX)),
                Ok(len) => reply.data(&buffer[..len]),
                Err(errno) => reply.error(errno),
            }
        });
    }
}

/// How long the kernel may keep these attributes.
///
/// Not at all where there is a set-user-id or set-group-id bit: a write takes it
/// away in the host's file, by us or by the kernel itself (FUSE_HANDLE_KILLPRIV_V2),
/// and of what a write makes old the kernel thinks that the mode is none
/// (`FUSE_STATX_MODSIZE`, fs/fuse/file.c). execve(2) would go by the kept one, and
/// run what somebody has written as the owner of the file.
pub(super) fn attr_ttl(keep: bool, attr: &Attr) -> Duration {
    if keep && !attr.has_set_id() {
        KEEP
    } else {
        ASK_AGAIN
    }
}

pub(super) fn open_flags(path: &DataPath) -> FopenFlags {
    // No flush: the host has nothing to say at a close that it has not said.
    FopenFlags::FOPEN_NOFLUSH
        | match path {
            DataPath::Cached { keep: true } => FopenFlags::FOPEN_KEEP_CACHE,
            DataPath::Cached { keep: false } => FopenFlags::empty(),
            DataPath::Direct(_) => {
                FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
            }
            DataPath::Passthrough(_) => FopenFlags::empty(),
        }
}
