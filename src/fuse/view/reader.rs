//! Reading an image with the crate `ext4-view`, which may be led anywhere by
//! what is in it: in a thread of its own, with an end to all patience.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use ext4_view::{Ext4, Ext4Error, Ext4Read, Metadata, ReadDir};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::LONGEST_PATH;

/// How long a question may take. An image of honest making answers within
/// milliseconds; one that sends the reader in circles must not keep a caller.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of threads that read.
const THREAD: &str = "volfs-view";

/// ext4 numbers the blocks of a file in 32 bits, and they have 64 KiB at most.
const LARGEST: u64 = 1 << 48;

type Question = Box<dyn FnOnce(&mut Image) + Send>;

/// The reader of one image.
pub(super) struct Reader {
    file: Option<File>,
    state: Mutex<State>,
    /// Questions that have been answered.
    answered: Arc<AtomicU64>,
}

enum State {
    /// Nobody has asked for a while.
    Resting,
    /// A thread answers.
    Reading(Sender<Question>),
    /// The image cannot be read, or has led the reader astray. It is not asked
    /// again: its thread may never end.
    Failed(Errno),
}

impl Reader {
    /// Reads the image `file`.
    pub(super) fn new(file: File) -> Self {
        Self {
            file: Some(file),
            state: Mutex::new(State::Resting),
            answered: Arc::default(),
        }
    }

    /// Answers every question with `errno`.
    pub(super) fn failed(errno: Errno) -> Self {
        Self {
            file: None,
            state: Mutex::new(State::Failed(errno)),
            answered: Arc::default(),
        }
    }

    /// Ends the thread when it has answered what it was asked.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        if matches!(*state, State::Reading(_)) {
            *state = State::Resting;
        }
    }

    /// Asks; the answer is the only thing that leaves the reader's thread.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Image) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, Errno> {
        let (answer, answered) = mpsc::channel();
        let question: Question = Box::new(move |image| {
            let result = catch_unwind(AssertUnwindSafe(|| question(image)));
            let _ = answer.send(result.unwrap_or(Err(Errno::EUCLEAN)));
        });
        self.send(question)?;
        loop {
            let before = self.answered.load(Ordering::Relaxed);
            match answered.recv_timeout(PATIENCE) {
                Ok(result) => return result,
                // Others were before us.
                Err(RecvTimeoutError::Timeout)
                    if self.answered.load(Ordering::Relaxed) != before => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(self.give_up(Errno::EUCLEAN));
                }
            }
        }
    }

    fn give_up(&self, errno: Errno) -> Errno {
        let mut state = self.state.lock();
        match *state {
            // The first failure says why.
            State::Failed(errno) => errno,
            _ => {
                *state = State::Failed(errno);
                errno
            }
        }
    }

    fn send(&self, question: Question) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if let State::Failed(errno) = *state {
            return Err(errno);
        }
        if let State::Resting = *state {
            match self.start() {
                Ok(questions) => *state = State::Reading(questions),
                Err(errno) => {
                    *state = State::Failed(errno);
                    return Err(errno);
                }
            }
        }
        match &*state {
            State::Reading(questions) => questions.send(question).map_err(|_| Errno::EUCLEAN),
            State::Resting | State::Failed(_) => Err(Errno::EIO),
        }
    }

    /// Starts the thread; the state is locked meanwhile, because nobody can be
    /// answered before it is done.
    fn start(&self) -> Result<Sender<Question>, Errno> {
        let file = self.file.as_ref().ok_or(Errno::EIO)?;
        let file = file.try_clone().map_err(|_| Errno::EMFILE)?;
        let (sender, receiver) = mpsc::channel::<Question>();
        let (ready, opened) = mpsc::channel();
        let answered = Arc::clone(&self.answered);
        expect_panics();
        std::thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || serve(file, &ready, &receiver, &answered))
            .map_err(|_| Errno::EAGAIN)?;
        match opened.recv_timeout(PATIENCE) {
            Ok(result) => result.map(|()| sender),
            Err(_) => Err(Errno::EUCLEAN),
        }
    }
}

/// A hostile image can make the reader panic, which ends one question and
/// nothing else: no reason to fill the log with backtraces.
fn expect_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(THREAD) {
                log::debug!("an image has led its reader astray: {panic}");
            } else {
                usual(panic);
            }
        }));
    });
}

fn serve(
    file: File,
    ready: &Sender<Result<(), Errno>>,
    questions: &Receiver<Question>,
    answered: &AtomicU64,
) {
    let until = Arc::new(Mutex::new(Instant::now() + PATIENCE));
    let bounded = Bounded {
        file,
        until: Arc::clone(&until),
    };
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        Ext4::load(Box::new(bounded)).map_err(|e| errno(&e))
    }));
    let ext4 = match loaded.unwrap_or(Err(Errno::EUCLEAN)) {
        Ok(ext4) => ext4,
        Err(errno) => {
            let _ = ready.send(Err(errno));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    let mut image = Image {
        ext4,
        file: None,
        listing: None,
    };
    while let Ok(question) = questions.recv() {
        *until.lock() = Instant::now() + PATIENCE;
        question(&mut image);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// An image that is read only until a certain time: whoever goes round in
/// circles comes by here.
struct Bounded {
    file: File,
    until: Arc<Mutex<Instant>>,
}

impl Ext4Read for Bounded {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        if Instant::now() > *self.until.lock() {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        std::os::unix::fs::FileExt::read_exact_at(&self.file, dst, start_byte)?;
        Ok(())
    }
}

/// An open image, in the reader's thread.
pub(super) struct Image {
    ext4: Ext4,
    /// The file that was read last: its next part is found without counting
    /// its blocks from the beginning.
    file: Option<(Vec<u8>, ext4_view::File)>,
    listing: Option<Listing>,
}

/// The directory that was listed last, and how far.
struct Listing {
    path: Vec<u8>,
    entries: ReadDir,
    at: usize,
}

/// A name, and what it leads to where that can be read.
pub(super) type Named = (Vec<u8>, Option<Metadata>);

impl Image {
    pub(super) fn metadata(&self, path: &[u8]) -> Result<Metadata, Errno> {
        self.ext4.symlink_metadata(path).map_err(|e| errno(&e))
    }

    pub(super) fn list(
        &mut self,
        path: &[u8],
        skip: usize,
        most: usize,
    ) -> Result<Vec<Named>, Errno> {
        let known = self.listing.take();
        let mut listing = match known.filter(|it| it.path == path && it.at == skip) {
            Some(listing) => listing,
            None => {
                let entries = self.ext4.read_dir(path).map_err(|e| errno(&e))?;
                let mut listing = Listing {
                    path: path.to_vec(),
                    entries,
                    at: 0,
                };
                while listing.at < skip && listing.next()?.is_some() {}
                listing
            }
        };
        let mut found = Vec::new();
        while found.len() < most {
            let Some((name, entry)) = listing.next()? else {
                return Ok(found);
            };
            found.push((name, entry.metadata().ok()));
        }
        self.listing = Some(listing);
        Ok(found)
    }

    pub(super) fn read(&mut self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let known = self.file.take();
        let mut file = match known.filter(|(known, _)| known == path) {
            Some((_, file)) => file,
            None => {
                if self.metadata(path)?.is_symlink() {
                    // It would be followed.
                    return Err(Errno::ELOOP);
                }
                self.ext4.open(path).map_err(|e| errno(&e))?
            }
        };
        let size = file.metadata().len();
        if size > LARGEST {
            return Err(Errno::EUCLEAN);
        }
        if offset >= size {
            return Ok(Vec::new());
        }
        if file.position() != offset {
            file.seek_to(offset).map_err(|e| errno(&e))?;
        }
        let mut data = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match file.read_bytes(&mut data[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(errno(&error)),
            }
        }
        data.truncate(filled);
        self.file = Some((path.to_vec(), file));
        Ok(data)
    }

    pub(super) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        // Read whole, so that its claimed size is memory.
        if self.metadata(path)?.len() > LONGEST_PATH as u64 {
            return Err(Errno::EUCLEAN);
        }
        let target = self.ext4.read_link(path).map_err(|e| errno(&e))?;
        Ok(target.as_ref().to_vec())
    }
}

impl Listing {
    /// The next entry that is not `.` or `..`.
    fn next(&mut self) -> Result<Option<(Vec<u8>, ext4_view::DirEntry)>, Errno> {
        for entry in self.entries.by_ref() {
            let entry = entry.map_err(|e| errno(&e))?;
            let name = entry.file_name().as_ref().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                self.at += 1;
                return Ok(Some((name, entry)));
            }
        }
        Ok(None)
    }
}

pub(super) fn errno(error: &Ext4Error) -> Errno {
    match error {
        Ext4Error::NotFound => Errno::ENOENT,
        Ext4Error::NotADirectory => Errno::ENOTDIR,
        Ext4Error::IsADirectory => Errno::EISDIR,
        Ext4Error::NotASymlink | Ext4Error::IsASpecialFile => Errno::EINVAL,
        Ext4Error::PathTooLong => Errno::ENAMETOOLONG,
        Ext4Error::TooManySymlinks => Errno::ELOOP,
        Ext4Error::Encrypted => Errno::EOPNOTSUPP,
        Ext4Error::Incompatible(_) => Errno::EOPNOTSUPP,
        Ext4Error::Corrupt(_) => Errno::EUCLEAN,
        _ => Errno::EIO,
    }
}
