//! What must be known to the next process when this one dies: shared memory
//! that the supervisor keeps.
//!
//! Everything is written as it happens, with plain stores and no call, so that
//! it is right at every moment; a killed thread leaves at most one thing half
//! done, which its journal entry tells. A successor reads all of it, builds
//! shared memory of its own, and only then serves.
//!
//! `layout` is where what is, `table` the records.

mod accounts;
mod charges;
mod image_key;
pub(super) mod journal;
mod known;
mod layout;
mod names;
mod open_files;
mod past;
mod resume;
mod table;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fs::FileSystem;
use super::handshake::Negotiated;
use super::host::Host;
use super::node::NodeId;
use super::stats::Op;
use super::successor::Inherited;
use crate::diskimg::MountedImage;
use crate::failpoint;
use crate::keeper::{Keeper, Kind, Place};
use crate::model::{Serial, Slot, VolumeName};
use crate::sys::shared::SharedFile;
use crate::volume::Volume;

use self::image_key::ImageKey;
use self::journal::RESENT;
pub(super) use self::known::{GoneRecord, KnownNodes, NodeRecord};
use self::layout::{State, Which};
pub(super) use self::names::NameRecord;
pub(super) use self::open_files::{HandleRecord, InodeRecord, PastHandle, PastInode, WayIn};
pub(super) use self::past::{Past, Terms};
use self::resume::Unanswered;

/// A descriptor that the supervisor keeps, until this is dropped.
#[derive(Debug)]
pub(super) struct KeptHere {
    live: Arc<Live>,
    place: Place,
}

impl Drop for KeptHere {
    fn drop(&mut self) {
        self.live.drop_kept(Some(self.place));
    }
}

/// So many processes may die while they serve one request, by whatever: fewer
/// than the supervisor takes for a crash loop.
const MOST_DEATHS: u64 = 10;
/// A panic while it is served counts as so many of them.
const PANIC: u64 = 4;

/// Handles of one process: of the next they begin with another number.
const HANDLE_BITS: u32 = 40;

/// The state that outlives this process; nothing of it where no supervisor
/// keeps it.
#[derive(Debug, Default)]
pub(super) struct Live {
    shared: Option<Shared>,
    /// A request has been served.
    works: AtomicBool,
    /// Nothing new is begun.
    draining: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    keeper: Arc<Keeper>,
    state: Arc<State>,
    /// Requests of the process before that may be sent again. A leaf lock.
    unanswered: Mutex<Unanswered>,
}

impl Live {
    /// For a process with a supervisor, and what the process before left.
    ///
    /// # Errors
    /// That cannot be read, or there is no memory.
    pub(super) fn new(inherited: Option<Inherited>) -> io::Result<(Self, Option<Past>)> {
        let Some(inherited) = inherited else {
            return Ok((Self::default(), None));
        };
        let keeper = Arc::clone(inherited.keeper());
        let past = Past::of(inherited)?;
        let generation = past.as_ref().map_or(0, |past| past.generation() + 1);
        let state = Arc::new(State::create(generation)?);
        let live = Self {
            shared: Some(Shared {
                keeper,
                state,
                unanswered: Mutex::default(),
            }),
            works: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        };
        Ok((live, past))
    }

    /// Whether this process has a supervisor, which is its parent and keeps files
    /// for its successor.
    pub(super) fn is_supervised(&self) -> bool {
        self.shared.is_some()
    }

    /// The mount is about to be served: from here on a successor can go on.
    /// `before` is where the state of the process before is kept.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub(super) fn serves(
        &self,
        device: &OwnedFd,
        negotiated: &Negotiated,
        fs: &FileSystem,
        mountpoint: &Path,
        before: Option<Place>,
    ) -> io::Result<()> {
        let Some(Shared { keeper, state, .. }) = &self.shared else {
            return Ok(());
        };
        if let Some(why) = why_not(fs, negotiated) {
            log::warn!("the mount ends when the process that serves it dies: {why}");
            return keeper.serving(mountpoint, false);
        }
        state.set_negotiated(negotiated)?;
        state.seal();
        let file = state.file().as_fd();
        match before {
            Some(place) => keeper.replace(place, Kind::State, 0, file)?,
            None => {
                keeper.keep(Kind::State, 0, file)?;
                if let Some(lock) = fs.store().lock_descriptor() {
                    keeper.keep(Kind::Lock, 0, lock)?;
                }
                // Last: who has it has all.
                keeper.keep(Kind::Device, 0, device.as_fd())?;
            }
        }
        keeper.serving(mountpoint, true)?;
        state.armed().store(true, Relaxed);
        Ok(())
    }

    /// What the supervisor has said of upgrades that it refused.
    pub(super) fn no_upgrade(&self) -> Option<(u64, String)> {
        self.shared.as_ref()?.keeper.no_upgrade()
    }

    /// Lets what is under way come to its end, and nothing new begin: for the end
    /// of this process, which another follows. What does not end in time is
    /// served again.
    pub(super) fn drain(&self) {
        /// Requests that wait for a disk.
        const PATIENCE: Duration = Duration::from_secs(2);
        let Some(live) = &self.shared else {
            return;
        };
        self.draining.store(true, Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while journal::any_begun(&live.state) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// This thread serves request `unique`. `false` when too many processes have
    /// died of it: it must not be tried again.
    pub(super) fn begin(&self, fs: &FileSystem, unique: u64, op: Op) -> bool {
        let Some(live) = &self.shared else {
            return true;
        };
        while self.draining.load(Relaxed) {
            // The next process gets it again.
            std::thread::park();
        }
        if !journal::begin(&live.state, unique, op) {
            return true;
        }
        let known = live.unanswered.lock().remove(&(unique & !RESENT));
        let Some(index) = known else {
            return true;
        };
        failpoint::hit_of("live.again", op.name());
        let record = live.state.record(Which::Journal, index);
        let again = resume::again(fs, record, index);
        let deaths = again.deaths;
        log::debug!("{} is served again: {again:?}", op.name());
        journal::set_again(again);
        if deaths >= MOST_DEATHS {
            log::error!(
                "one {} has been the death of several processes: it is refused",
                op.name()
            );
        }
        deaths < MOST_DEATHS
    }

    /// What this thread has begun is done, or refused.
    pub(super) fn end(&self, done: bool) {
        let Some(live) = &self.shared else {
            return;
        };
        if let Some(index) = journal::end(done) {
            live.state.table(Which::Journal).give_back(index);
        }
        if !self.works.load(Relaxed) && !self.works.swap(true, Relaxed) {
            live.keeper.works();
        }
    }

    /// This thread has panicked while it served a request: the process is about
    /// to die of that.
    pub(super) fn panicked(&self) {
        if self.shared.is_some() {
            // One is counted for each process that dies.
            journal::count_deaths(PANIC - 1);
        }
    }

    /// Whether another process goes on when this one dies.
    pub(super) fn has_successor(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|live| live.state.armed().load(Relaxed))
    }

    /// What has not been sent again by now will not be.
    pub(super) fn give_up_unanswered(&self, fs: &FileSystem) {
        let Some(live) = &self.shared else {
            return;
        };
        let unanswered = std::mem::take(&mut *live.unanswered.lock());
        for index in unanswered.into_values() {
            resume::give_up(fs, live.state.record(Which::Journal, index));
            live.state.table(Which::Journal).give_back(index);
        }
    }

    /// A new record of the journal, filled by `fill`.
    fn copy_record(&self, fill: impl FnOnce(&[AtomicU64])) -> io::Result<Option<u32>> {
        let Some(live) = &self.shared else {
            return Ok(None);
        };
        let index = live.state.take(Which::Journal)?;
        fill(live.state.record(Which::Journal, index));
        Ok(Some(index))
    }

    fn set_unanswered(&self, unanswered: Unanswered) {
        if let Some(live) = &self.shared {
            *live.unanswered.lock() = unanswered;
        }
    }

    /// The first handle that this process gives out.
    pub(super) fn first_handle(&self) -> u64 {
        let generation = self.generation();
        // Wraps after 2^22 processes, below the bit of generated files.
        (generation & ((1 << (62 - HANDLE_BITS)) - 1)) << HANDLE_BITS | 1
    }

    /// Where nodes are noted.
    pub(super) fn known(&self) -> Option<KnownNodes> {
        Some(KnownNodes::new(&self.shared.as_ref()?.state))
    }

    /// A record for an inode that is open.
    pub(super) fn inode_record(&self, inode: &PastInode) -> Option<InodeRecord> {
        let made = InodeRecord::new(&self.shared.as_ref()?.state, inode);
        made.inspect_err(no_memory).ok()
    }

    /// A record for a file that is open.
    pub(super) fn handle_record(&self, handle: &PastHandle) -> Option<HandleRecord> {
        let made = HandleRecord::new(&self.shared.as_ref()?.state, handle);
        made.inspect_err(no_memory).ok()
    }

    /// A record for a name that `volume` is about to lose.
    pub(super) fn name_record(&self, volume: Serial, name: &VolumeName) -> Option<NameRecord> {
        let made = NameRecord::new(&self.shared.as_ref()?.state, volume, name);
        made.inspect_err(no_memory).ok()
    }

    /// The kernel has given a file of the host the number `id`.
    pub(super) fn registered(&self, id: u32) {
        if let Some(live) = &self.shared {
            live.state.backing().fetch_max(u64::from(id), Relaxed);
        }
    }

    /// Keeps the account of `volume` for a successor from now on.
    pub(super) fn share(&self, volume: &Volume) {
        if let Some(live) = &self.shared {
            accounts::share(&live.state, volume);
        }
    }

    /// Cached pages of the volume's files may be old from now on.
    pub(super) fn distrust_cache(&self, volume: Serial) {
        if let Some(live) = &self.shared {
            accounts::distrust_cache(&live.state, volume);
        }
    }

    /// Keeps an inode that has no name any more, so that its number is not
    /// given to another while the kernel knows it.
    pub(super) fn keep_gone(
        self: &Arc<Self>,
        node: NodeId,
        fd: BorrowedFd<'_>,
    ) -> Option<KeptHere> {
        let live = self.shared.as_ref()?;
        let place = live.keeper.keep(Kind::Gone, node.raw(), fd).ok()?;
        Some(self.kept_here(place))
    }

    /// Keeps an inode that is about to lose its last name and is open here.
    ///
    /// # Errors
    /// The supervisor keeps too many already.
    pub(super) fn keep_unnamed(
        &self,
        node: NodeId,
        fd: BorrowedFd<'_>,
    ) -> io::Result<Option<Place>> {
        match &self.shared {
            Some(live) => live.keeper.keep(Kind::Unnamed, node.raw(), fd).map(Some),
            None => Ok(None),
        }
    }

    /// Keeps an image attached. Without a successor it is detached when this
    /// process dies.
    pub(super) fn keep_image(
        self: &Arc<Self>,
        slot: Slot,
        image: &MountedImage,
    ) -> Option<KeptHere> {
        let live = self.shared.as_ref()?;
        // What a process serves ends with that.
        let MountedImage::Kernel(attached) = image else {
            return None;
        };
        let key = ImageKey::of(slot, attached).encode();
        let place = live.keeper.keep(Kind::Image, key, attached.mount()?);
        let place = place.inspect_err(|error| {
            log::error!("an image is detached when this process dies: {error}");
        });
        Some(self.kept_here(place.ok()?))
    }

    /// What is kept at `place`.
    fn kept_here(self: &Arc<Self>, place: Place) -> KeptHere {
        KeptHere {
            live: Arc::clone(self),
            place,
        }
    }

    /// How many processes served the mount before this one.
    pub(super) fn generation(&self) -> u64 {
        self.shared
            .as_ref()
            .map_or(0, |live| live.state.generation())
    }

    /// What was kept is not needed any more.
    pub(super) fn drop_kept(&self, place: Option<Place>) {
        if let (Some(live), Some(place)) = (&self.shared, place) {
            live.keeper.drop_kept(place);
        }
    }
}

/// Whether this program understands the state that `fd` is.
pub(super) fn check(fd: OwnedFd) -> io::Result<()> {
    State::read(SharedFile::open(fd)?).map(drop)
}

/// Whether a mount of a store in or below `dir` could outlive the process that
/// serves it, as far as that depends on files.
///
/// # Errors
/// Why not, in words.
pub fn why_not_outlives(dir: &Path) -> Result<(), String> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = nix::fcntl::open(dir, flags, nix::sys::stat::Mode::empty())
        .and_then(Host::probe)
        .map_err(|errno| format!("{}: {}", dir.display(), errno.desc()))?;
    why_not_found(&host).map_or(Ok(()), |why| Err(why.to_owned()))
}

/// Why no other process could find the files of `host` again.
fn why_not_found(host: &Host) -> Option<&'static str> {
    if !host.has_handles() {
        return Some(
            "files cannot be found again: the store's file system has no handles, or they may not be opened (CAP_DAC_READ_SEARCH)",
        );
    }
    if !host.makes_handles() {
        return Some(
            "files cannot be found again: handles of the store's file system cannot be made up",
        );
    }
    None
}

/// Why no other process could go on with the mount; `None` when one could.
fn why_not(fs: &FileSystem, negotiated: &Negotiated) -> Option<&'static str> {
    if !negotiated.can_resend() {
        return Some("this kernel does not send requests again (FUSE_HAS_RESEND, Linux 6.9)");
    }
    why_not_found(fs.host())
}

fn no_memory(error: &io::Error) {
    log::error!("no memory to note what is open for a successor: {error}");
}
