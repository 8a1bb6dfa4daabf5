//! `fuser`'s trait on one side, the operations on the other. Each method
//! decodes, calls and replies; what an operation does is in [`ops`](super::ops).
//!
//! Longer than other files, because a trait is implemented in one place.

mod backing;
mod buffers;
mod notifier;
mod reply;
mod statx;
mod waiting;

pub(super) use backing::DeviceFiles;
pub(super) use notifier::KernelNotifier;

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::fcntl::OFlag;

use self::backing::{ByReply, backing_of};
use self::buffers::Buffers;
use self::reply::RequestId;
use self::reply::{attr_ttl, open_flags};
use self::waiting::{Seats, ask, change, elsewhere};
use super::convert::{decode_device, entry_type, file_attr, set_time};
use super::explain;
use super::fs::FileSystem;
use super::handles::can_write;
use super::init::{self, Offer};
use super::node::NodeId;
use super::ops::{FileRange, Flags};
use super::stats::Op;
use super::types::{Caller, Fh, SetAttr};

/// The file system as `fuser` serves it.
#[derive(Clone)]
pub(super) struct Adapter {
    fs: Arc<FileSystem>,
    seats: Arc<Seats>,
    buffers: Arc<Buffers>,
    offer: Offer,
}

impl Adapter {
    /// Serves `fs`.
    pub(super) fn new(fs: Arc<FileSystem>, offer: Offer) -> Self {
        Self {
            seats: Arc::new(Seats::new(Arc::clone(&fs.readers))),
            fs,
            offer,
            buffers: Arc::new(Buffers::new()),
        }
    }
}

fn node(ino: INodeNo) -> NodeId {
    NodeId::from_raw(ino.0)
}

fn caller(req: &Request) -> Caller {
    explain::asked_by(req.uid());
    Caller {
        uid: req.uid(),
        gid: req.gid(),
        pid: req.pid(),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if init::negotiate(config, self.offer) {
            self.fs.kernel.offer_passthrough();
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let unique = RequestId::from(req);
        let adapter = self;
        if let Some(announced) = self.fs.kernel.announced_by(req.pid()) {
            self.reply_announced(unique, parent, name, &announced, reply);
            return;
        }
        if self.fs.may_search(node(parent), name) {
            let (waiting, name) = (self.clone(), name.to_owned());
            elsewhere(move || waiting.reply_found(unique, parent, &name, reply));
            return;
        }
        ask!(adapter, parent, [name], {
            adapter.reply_found(unique, parent, name, reply);
        });
    }

    fn forget(&self, req: &Request, ino: INodeNo, nlookup: u64) {
        let _ = self.run(Op::Forget, RequestId::from(req), ino, |fs| {
            fs.forget(node(ino), nlookup);
            Ok(())
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let fh = fh.map(|fh| Fh(fh.0));
            Adapter::reply_attr(
                reply,
                adapter.run(Op::Getattr, unique, ino, |fs| fs.getattr(node(ino), fh)),
            );
        });
    }

    fn unknown(&self, req: &Request, ino: INodeNo, opcode: u32, data: &[u8], reply: ReplyData) {
        let unique = RequestId::from(req);
        let fh = match statx::decode(data) {
            Ok(fh) if opcode == statx::OPCODE && self.fs.options.birth_time => fh,
            // The kernel asks for other attributes by GETATTR, then and from now on.
            _ => return reply.error(fuser::Errno::ENOSYS),
        };
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Statx, unique, ino, |fs| fs.statx(node(ino), fh));
            match result {
                Ok((attr, keep, born)) => {
                    reply.data(&statx::encode(&attr, born, attr_ttl(keep, &attr)));
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, ino, [], {
            let set = SetAttr {
                mode,
                uid,
                gid,
                size,
                atime: atime.map(set_time),
                mtime: mtime.map(set_time),
            };
            let fh = fh.map(|fh| Fh(fh.0));
            let result = adapter.run(Op::Setattr, unique, ino, |fs| {
                fs.setattr(caller, node(ino), fh, &set)
            });
            Adapter::reply_attr(reply, result);
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            // No link is longer (PATH_MAX counts the 0 at its end).
            adapter.buffers.with(libc::PATH_MAX as usize, |buffer| {
                match adapter.run(Op::Readlink, unique, ino, |fs| {
                    fs.readlink(node(ino), buffer)
                }) {
                    Ok(len) => reply.data(&buffer[..len]),
                    Err(errno) => reply.error(errno),
                }
            });
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name], {
            let result = adapter.run(Op::Mknod, unique, parent, |fs| {
                let rdev = decode_device(rdev);
                fs.mknod(caller, node(parent), name, mode, umask, rdev)
            });
            Adapter::reply_entry(reply, result);
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name], {
            let result = adapter.run(Op::Mkdir, unique, parent, |fs| {
                fs.mkdir(caller, node(parent), name, mode, umask)
            });
            Adapter::reply_entry(reply, result);
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name], {
            let result = adapter.run(Op::Unlink, unique, parent, |fs| {
                fs.unlink(caller, node(parent), name)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name], {
            let result = adapter.run(Op::Rmdir, unique, parent, |fs| {
                fs.rmdir(caller, node(parent), name)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [link_name, target], {
            let result = adapter.run(Op::Symlink, unique, parent, |fs| {
                fs.symlink(caller, node(parent), link_name, target.as_os_str())
            });
            Adapter::reply_entry(reply, result);
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name, newname], {
            let result = adapter.run(Op::Rename, unique, parent, |fs| {
                let (from, to) = ((node(parent), name), (node(newparent), newname));
                fs.rename(caller, from, to, flags.bits())
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        change!(adapter, newparent, [newname], {
            let result = adapter.run(Op::Link, unique, ino, |fs| {
                fs.link(node(ino), node(newparent), newname)
            });
            Adapter::reply_entry(reply, result);
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let flags = OFlag::from_bits_retain(flags.0);
        let adapter = self;
        if !can_write(flags) {
            ask!(adapter, ino, [], {
                adapter.reply_opened(caller, unique, ino, flags, reply);
            });
            return;
        }
        change!(adapter, ino, [], {
            adapter.reply_opened(caller, unique, ino, flags, reply);
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, parent, [name], {
            let flags = OFlag::from_bits_retain(flags);
            let result = adapter.run(Op::Create, unique, parent, |fs| {
                let register = ByReply(|file: BorrowedFd<'_>| reply.open_backing(file));
                fs.create(caller, node(parent), name, mode, umask, flags, &register)
            });
            match result {
                Ok((entry, opened)) => {
                    let ttl = attr_ttl(true, &entry.attr);
                    let attr = file_attr(&entry.attr);
                    let generation = fuser::Generation(entry.generation.0);
                    let (fh, flags) = (FileHandle(opened.fh.0), open_flags(&opened.path));
                    match backing_of(&opened) {
                        Some(id) => {
                            let id = crate::sys::backing::for_create(&reply, id);
                            reply.created_passthrough(&ttl, &attr, generation, fh, flags, &id);
                            // It is closed with the file.
                            let _ = id.into_raw();
                        }
                        None => reply.created(&ttl, &attr, generation, fh, flags),
                    }
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            adapter.buffers.with(size as usize, |buffer| {
                match adapter.run(Op::Read, unique, ino, |fs| {
                    fs.read(node(ino), Fh(fh.0), offset, buffer)
                }) {
                    Ok(len) => reply.data(&buffer[..len]),
                    Err(errno) => reply.error(errno),
                }
            });
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, ino, [data], {
            let clears_bits = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
            let result = adapter.run(Op::Write, unique, ino, |fs| {
                fs.write(caller, node(ino), Fh(fh.0), offset, data, clears_bits)
            });
            match result {
                // No request is larger than MAX_WRITE.
                Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn flush(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Flush, unique, ino, |fs| {
                fs.flush(caller, Fh(fh.0));
                Ok(())
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let slot = node(ino).slot();
            let _under_way = slot.map(|slot| adapter.fs.counting.pass(slot));
            let result = adapter.run(Op::Release, unique, ino, |fs| {
                fs.release(Fh(fh.0));
                Ok(())
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Fsync, unique, ino, |fs| {
                fs.fsync(node(ino), Fh(fh.0), datasync)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _ = self.run(Op::Opendir, RequestId::from(req), ino, |_| Ok(()));
        // Once for the whole mount: a listing needs no open, and the kernel
        // keeps it in its page cache (FUSE_NO_OPENDIR_SUPPORT).
        reply.error(fuser::Errno::ENOSYS);
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        explain::asked_by(req.uid());
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Readdir, unique, ino, |fs| {
                fs.readdir(node(ino), offset, &mut |listed| {
                    let ino = INodeNo(listed.node.raw());
                    reply.add(ino, listed.next, entry_type(listed.kind), listed.name)
                })
            });
            match result {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        explain::asked_by(req.uid());
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Readdirplus, unique, ino, |fs| {
                fs.readdirplus(node(ino), offset, &mut |listed| {
                    let attr = file_attr(&listed.entry.attr);
                    let ttl = attr_ttl(listed.entry.keep_attr, &listed.entry.attr);
                    let generation = fuser::Generation(listed.entry.generation.0);
                    reply.add(attr.ino, listed.next, listed.name, &ttl, &attr, generation)
                })
            });
            match result {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn fsyncdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            Adapter::reply_empty(
                reply,
                adapter.run(Op::Fsyncdir, unique, ino, |fs| fs.fsyncdir(node(ino))),
            );
        });
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            match adapter.run(Op::Statfs, unique, ino, |fs| fs.statfs(node(ino))) {
                Ok(fs) => reply.statfs(
                    fs.blocks,
                    fs.free,
                    fs.available,
                    fs.inodes,
                    fs.free_inodes,
                    fs.block_size,
                    fs.name_max,
                    fs.block_size,
                ),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        ask!(adapter, ino, [name, value], {
            let result = adapter.run(Op::Setxattr, unique, ino, |fs| {
                fs.setxattr(caller, node(ino), name, value, flags)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [name], {
            adapter.reply_xattr(Op::Getxattr, unique, ino, size, reply, |fs, buffer| {
                fs.getxattr(node(ino), name, buffer)
            });
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        ask!(adapter, ino, [], {
            adapter.reply_xattr(Op::Listxattr, unique, ino, size, reply, |fs, buffer| {
                fs.listxattr(caller, node(ino), buffer)
            });
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        ask!(adapter, ino, [name], {
            let result = adapter.run(Op::Removexattr, unique, ino, |fs| {
                fs.removexattr(caller, node(ino), name)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: IoctlFlags,
        request: u32,
        input: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [input], {
            let is_dir = flags.contains(IoctlFlags::FUSE_IOCTL_DIR);
            let result = adapter.run(Op::Ioctl, unique, ino, |fs| {
                fs.ioctl(node(ino), Fh(fh.0), is_dir, request, input)
            });
            match result {
                Ok(Flags::Plain(flags)) => reply.ioctl(0, &flags.to_ne_bytes()),
                Ok(Flags::Extended(flags)) => reply.ioctl(0, &flags.encode()),
                Ok(Flags::Set) => reply.ioctl(0, &[]),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, ino, [], {
            let at = file_range(ino, fh, offset);
            let result = adapter.run(Op::Fallocate, unique, ino, |fs| {
                fs.fallocate(caller, at, length, mode)
            });
            Adapter::reply_empty(reply, result);
        });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let unique = RequestId::from(req);
        let adapter = self;
        ask!(adapter, ino, [], {
            let result = adapter.run(Op::Lseek, unique, ino, |fs| {
                fs.lseek(node(ino), Fh(fh.0), offset, whence)
            });
            match result {
                Ok(offset) => reply.offset(offset),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (caller, unique) = (caller(req), RequestId::from(req));
        let adapter = self;
        change!(adapter, ino_out, [], {
            let from = file_range(ino_in, fh_in, offset_in);
            let to = file_range(ino_out, fh_out, offset_out);
            let result = adapter.run(Op::CopyFileRange, unique, ino_out, |fs| {
                fs.copy_file_range(caller, from, to, len)
            });
            match result {
                Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        });
    }
}

fn file_range(ino: INodeNo, fh: FileHandle, offset: u64) -> FileRange {
    FileRange {
        node: node(ino),
        fh: Fh(fh.0),
        offset,
    }
}
