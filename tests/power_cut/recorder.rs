//! A disk that remembers: a file system with one file, which a loop device makes a disk of, and the
//! record of all writes and flushes that reach it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use parking_lot::Mutex;

use crate::support::random::Random;
use crate::support::{TestDir, run};

/// What a disk writes whole or not at all, in bytes: the physical sector of today's disks. Not 512: the
/// superblock of ext4 takes two of these and has a checksum over both, so that ext4 itself cannot be
/// mounted when one of them has arrived and the other has not.
const SECTOR: usize = 4096;

/// Something that reached the disk.
#[derive(Clone, Copy)]
enum Event {
    /// `len` bytes for `offset`; they are at `data` of the log's file.
    Write { offset: u64, len: usize, data: u64 },
    /// All writes before it are on the disk for good.
    Flush,
}

/// All that reached the disk, in order.
pub struct Log {
    events: Mutex<(Vec<Event>, u64)>,
    data: File,
}

impl Log {
    /// What is written is kept in the file `data`.
    pub fn new(data: &Path) -> Self {
        let data = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(data)
            .unwrap();
        Self {
            events: Mutex::default(),
            data,
        }
    }

    /// How much has reached the disk so far.
    pub fn len(&self) -> usize {
        self.events.lock().0.len()
    }

    /// How many writes and flushes.
    pub fn counts(&self) -> (usize, usize) {
        let events = &self.events.lock().0;
        let flushes = events.iter().filter(|e| matches!(e, Event::Flush)).count();
        (events.len() - flushes, flushes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut events = self.events.lock();
        let data = events.1;
        self.data.write_all_at(bytes, data)?;
        events.1 += bytes.len() as u64;
        let len = bytes.len();
        events.0.push(Event::Write { offset, len, data });
        Ok(())
    }

    fn flush(&self) {
        self.events.lock().0.push(Event::Flush);
    }

    /// Goes through the record, beginning with the disk `image` as it was before.
    pub fn replay(&self, image: &Path) -> Replay<'_> {
        Replay {
            log: self,
            image: image.to_owned(),
            at: 0,
        }
    }
}

/// A disk on which everything is that was flushed, up to some point of the record.
pub struct Replay<'a> {
    log: &'a Log,
    image: PathBuf,
    at: usize,
}

impl Replay<'_> {
    /// Makes `crashed` the disk after a power cut at point `at` of the record, which must not be
    /// before the last one that was asked for.
    pub fn image_at(&mut self, at: usize, random: &mut Random, crashed: &Path) -> PathBuf {
        let events = self.log.events.lock().0[..at].to_vec();
        let flushed = events
            .iter()
            .rposition(|event| matches!(event, Event::Flush))
            .unwrap_or(0)
            .max(self.at);
        let image = File::options().write(true).open(&self.image).unwrap();
        for event in &events[self.at..flushed] {
            self.apply(&image, event, |_| true);
        }
        self.at = flushed;
        let _ = fs::remove_file(crashed);
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&self.image, crashed]));
        let image = File::options().write(true).open(crashed).unwrap();
        // All of it, none of it, or as it comes.
        let luck = random.below(4);
        for event in &events[flushed..] {
            let fate = random.below(3);
            self.apply(&image, event, |_| match (luck, fate) {
                (0, _) | (2.., 0) => true,
                (1, _) | (2.., 1) => false,
                (2.., _) => random.below(2) == 0,
            });
        }
        crashed.to_owned()
    }

    /// Writes the sectors of `event` that `arrives` tells.
    fn apply(&self, image: &File, event: &Event, mut arrives: impl FnMut(usize) -> bool) {
        let Event::Write { offset, len, data } = *event else {
            return;
        };
        let mut bytes = vec![0; len];
        self.log.data.read_exact_at(&mut bytes, data).unwrap();
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            if arrives(i) {
                image
                    .write_all_at(sector, offset + (i * SECTOR) as u64)
                    .unwrap();
            }
        }
    }
}

/// The file system whose only file is the disk.
pub struct Recorder {
    file: PathBuf,
    session: Option<BackgroundSession>,
}

impl Recorder {
    /// Shows `image` as a file that records into `log`, on a directory in `dir`.
    pub fn start(image: &Path, dir: &TestDir, log: Arc<Log>) -> Self {
        let mountpoint = dir.mkdir("recorder");
        let image = File::options().read(true).write(true).open(image).unwrap();
        let size = image.metadata().unwrap().len();
        let disk = RecordedDisk { image, size, log };
        let session = fuser::spawn_mount(disk, &mountpoint, &fuser::Config::default()).unwrap();
        Self {
            file: mountpoint.join("disk"),
            session: Some(session),
        }
    }

    /// The disk.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("the recorder: {error}");
        }
    }
}

struct RecordedDisk {
    image: File,
    size: u64,
    log: Arc<Log>,
}

const DISK: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

impl RecordedDisk {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let disk = ino == DISK;
        FileAttr {
            ino,
            size: if disk { self.size } else { 0 },
            blocks: self.size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if disk {
                FileType::RegularFile
            } else {
                FileType::Directory
            },
            perm: if disk { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Filesystem for RecordedDisk {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == "disk" {
            reply.entry(&TTL, &self.attr(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: what the kernel writes is what reaches the disk, when it does.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.size.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; len];
        match self.image.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .log
            .write(offset, data)
            .and_then(|()| self.image.write_all_at(data, offset));
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // A close(2); nothing to do with the disk's cache.
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.log.flush();
        reply.ok();
    }

    // No `fallocate`: the loop device then has no discard, and zeros are written.
}
