//! Reading an image with the crate `ext4-view`, which may be led anywhere by
//! what is in it: in a thread of its own, with an end to all patience. Who asks what
//! has no end is refused; the others are answered by another thread.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use ext4_view::{Ext4, Ext4Read};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::image::{Image, errno};
use crate::diskimg::{ImageFiles, ReadAt};

/// How long a question may take. An image of honest making answers within
/// milliseconds; one that sends the reader in circles must not keep a caller.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often who waits looks how far the reader is.
const LOOK: Duration = Duration::from_millis(200);

/// The most threads of one image that have been sent in circles and not come back.
const MOST_STRAY: usize = 3;

/// The name of threads that read.
const THREAD: &str = "volfs-view";

type Question = Box<dyn FnOnce(&mut Image) + Send>;

/// The reader of one image.
pub(super) struct Reader {
    file: Option<File>,
    state: Mutex<State>,
    tickets: AtomicU64,
    /// Threads that have not ended.
    threads: Arc<AtomicUsize>,
}

enum State {
    /// Nobody has asked for a while.
    Resting,
    /// A thread answers.
    Reading(Arc<Answering>),
    /// The image cannot be read at all.
    Failed(Errno),
}

/// A thread that answers.
struct Answering {
    questions: Mutex<Option<Sender<(u64, Question)>>>,
    /// The question that is being answered, and since when.
    current: Mutex<(u64, Instant)>,
    /// It has been led astray: nobody asks it any more.
    stray: AtomicBool,
}

impl Answering {
    /// Whether the question with this ticket is taking too long.
    fn is_stuck(&self, ticket: u64) -> bool {
        let (current, since) = *self.current.lock();
        // What is read ends before; what goes in circles without reading does not.
        current == ticket && since.elapsed() > PATIENCE + LOOK
    }
}

/// One thread, counted until it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// Reads the image `file`.
    pub(super) fn new(file: File) -> Self {
        Self::with(Some(file), State::Resting)
    }

    /// Answers every question with `errno`.
    pub(super) fn failed(errno: Errno) -> Self {
        Self::with(None, State::Failed(errno))
    }

    fn with(file: Option<File>, state: State) -> Self {
        Self {
            file,
            state: Mutex::new(state),
            tickets: AtomicU64::new(1),
            threads: Arc::default(),
        }
    }

    /// Ends the thread when it has answered what it was asked.
    pub(super) fn rest(&self) {
        let mut state = self.state.lock();
        if let State::Reading(thread) = &*state {
            thread.questions.lock().take();
            *state = State::Resting;
        }
    }

    /// Asks; the answer is the only thing that leaves the reader's thread.
    ///
    /// # Errors
    /// EUCLEAN where the question has no end; what it is answered with.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Image) -> Result<T, Errno> + Send + Sync + 'static,
    ) -> Result<T, Errno> {
        let question = Arc::new(question);
        loop {
            let (answer, answered) = mpsc::channel();
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            let question = Arc::clone(&question);
            let thread = self.send(
                ticket,
                Box::new(move |image| {
                    let result = catch_unwind(AssertUnwindSafe(|| question(image)));
                    let _ = answer.send(result.unwrap_or(Err(Errno::EUCLEAN)));
                }),
            )?;
            loop {
                match answered.recv_timeout(LOOK) {
                    Ok(result) => return result,
                    Err(RecvTimeoutError::Timeout) if thread.is_stuck(ticket) => {
                        self.give_up(&thread);
                        return Err(Errno::EUCLEAN);
                    }
                    // Another question was in its way: once more, of another thread.
                    _ if thread.stray.load(Ordering::Relaxed) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(Errno::EUCLEAN),
                }
            }
        }
    }

    /// The thread is asked no more.
    fn give_up(&self, thread: &Arc<Answering>) {
        thread.stray.store(true, Ordering::Relaxed);
        thread.questions.lock().take();
        let mut state = self.state.lock();
        if matches!(&*state, State::Reading(current) if Arc::ptr_eq(current, thread)) {
            *state = State::Resting;
        }
    }

    fn send(&self, ticket: u64, question: Question) -> Result<Arc<Answering>, Errno> {
        let mut state = self.state.lock();
        if let State::Failed(errno) = *state {
            return Err(errno);
        }
        if let State::Resting = *state {
            // Some may come back.
            if self.threads.load(Ordering::Relaxed) >= MOST_STRAY {
                return Err(Errno::EUCLEAN);
            }
            match self.start() {
                Ok(thread) => *state = State::Reading(thread),
                Err(errno) => {
                    *state = State::Failed(errno);
                    return Err(errno);
                }
            }
        }
        match &*state {
            State::Reading(thread) => {
                if let Some(questions) = &*thread.questions.lock() {
                    let _ = questions.send((ticket, question));
                }
                // What is not sent is dropped, which tells who waits for it.
                Ok(Arc::clone(thread))
            }
            State::Resting | State::Failed(_) => Err(Errno::EIO),
        }
    }

    /// Starts the thread; the state is locked meanwhile, because nobody can be
    /// answered before it is done.
    fn start(&self) -> Result<Arc<Answering>, Errno> {
        let file = self.file.as_ref().ok_or(Errno::EIO)?;
        let file = file.try_clone().map_err(|_| Errno::EMFILE)?;
        let (sender, receiver) = mpsc::channel();
        let (ready, opened) = mpsc::channel();
        let thread = Arc::new(Answering {
            questions: Mutex::new(Some(sender)),
            current: Mutex::new((0, Instant::now())),
            stray: AtomicBool::new(false),
        });
        self.threads.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.threads));
        let this = Arc::clone(&thread);
        expect_panics();
        std::thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || {
                serve(file, &ready, &receiver, &this);
                drop(counted);
            })
            .map_err(|_| Errno::EAGAIN)?;
        match opened.recv_timeout(PATIENCE) {
            Ok(result) => result.map(|()| thread),
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
    questions: &Receiver<(u64, Question)>,
    thread: &Answering,
) {
    let until = Arc::new(Mutex::new(Instant::now() + PATIENCE));
    let Ok(other) = file.try_clone() else {
        let _ = ready.send(Err(Errno::EMFILE));
        return;
    };
    let bounded = |file| Bounded {
        file,
        until: Arc::clone(&until),
    };
    let reader = bounded(file);
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        Ext4::load(Box::new(reader)).map_err(|e| errno(&e))
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
    let mut image = Image::new(ext4, ImageFiles::open(bounded(other)));
    while let Ok((ticket, question)) = questions.recv() {
        let now = Instant::now();
        *until.lock() = now + PATIENCE;
        *thread.current.lock() = (ticket, now);
        question(&mut image);
        thread.current.lock().0 = 0;
        if thread.stray.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// An image that is read only until a certain time: whoever goes round in
/// circles comes by here.
pub(super) struct Bounded {
    file: File,
    until: Arc<Mutex<Instant>>,
}

impl ReadAt for Bounded {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        if Instant::now() > *self.until.lock() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

impl Ext4Read for Bounded {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        self.read_exact_at(dst, start_byte)?;
        Ok(())
    }
}
