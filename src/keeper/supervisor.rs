//! The parent: starts the working process, keeps what it is given, and starts
//! the next when one dies.
//!
//! Must not die itself, so it does little: one thread, no files, no data base,
//! and no memory is taken while it waits.

mod another;
mod execute;
mod manager;
mod patience;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use self::manager::Manager;
use self::patience::{Death, Patience, Verdict};
use super::client;
use super::protocol::{HANDED_OVER, Inbox, MOST_KEPT, Message, PATH_BYTES, Verb};

/// Where the program is that an upgrade takes, for those that follow.
const PROGRAM: &str = "VOLFS_PROGRAM";

/// This program, also when its file has been replaced: what dies is followed by
/// the same.
const SELF: &str = "/proc/self/exe";

/// A process that dies so soon after a signal may not have followed it.
const FOLLOWED_BY: Duration = Duration::from_secs(2);

/// What the supervisor is called, in `ps` and elsewhere.
pub use crate::control::SUPERVISOR as NAME;

/// What is to be supervised.
pub struct Supervised {
    /// The arguments of the working process, from its name on.
    pub arguments: Vec<OsString>,
    /// The arguments of this process, from its name on.
    pub command: Vec<OsString>,
    /// Takes the mount away when there is nobody to serve it any more.
    pub unmount: fn(&Path),
    /// Called when the first working process serves.
    pub serving: Box<dyn FnMut()>,
}

/// A descriptor that is kept.
struct KeptFd {
    kind: u32,
    key: u64,
    fd: OwnedFd,
    /// The number at the end of its name in a service manager's store.
    stored: u64,
}

struct Supervisor {
    supervised: Supervised,
    signals: SignalFd,
    inbox: Inbox,
    kept: Vec<Option<KeptFd>>,
    mountpoint: PathBuf,
    serves: bool,
    working: Option<Working>,
    patience: Patience,
    generation: u64,
    /// That the mount is served.
    told: bool,
    /// A signal that came while there was no working process to have it.
    owed: Option<Signal>,
    /// The last that was passed on, and when.
    passed: Option<(Signal, Instant)>,
    manager: Option<Manager>,
    /// Where this program is, or the one that has replaced it.
    program: PathBuf,
    /// The program before the upgrade that has just been made.
    before: Option<OwnedFd>,
    /// Another program shall go on.
    upgrading: bool,
    /// How many upgrades there have been that were not made, and why the last
    /// was not.
    refused: Option<(u64, String)>,
    /// The working process is stopped, and that was said.
    stopped: bool,
}

/// The working process of now.
struct Working {
    child: Child,
    /// `None` when it has closed its end.
    socket: Option<OwnedFd>,
    started: Instant,
}

impl Working {
    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Not waited for yet, so the number is still its own.
        if let Err(errno) = kill(pid, signal) {
            log::error!("cannot pass {signal} on: {}", errno.desc());
        }
    }
}

/// What comes after the end of a working process.
enum Next {
    End(i32),
    Another,
}

/// Whether this process has supervised the mount before, as another program.
#[must_use]
pub fn is_continued() -> bool {
    std::env::var_os(manager::PASSED).is_some()
}

/// Supervises until the end; returns the exit code.
///
/// # Errors
/// Nothing could be started.
pub fn run(supervised: Supervised) -> io::Result<i32> {
    // The working process is told apart by its name.
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    crate::sys::process::raise_descriptor_limit();
    // The working process says what stays.
    crate::sys::process::lift_file_size_limit();
    let mut wanted = SigSet::from_iter(client::PASSED_ON);
    wanted.add(Signal::SIGCHLD);
    wanted.thread_block()?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut supervisor = Supervisor {
        supervised,
        signals,
        inbox: Inbox::new(),
        // Address space; memory only as far as it is used.
        kept: Vec::with_capacity(MOST_KEPT as usize),
        mountpoint: PathBuf::with_capacity(PATH_BYTES),
        serves: false,
        working: None,
        patience: Patience::default(),
        generation: 0,
        told: false,
        owed: None,
        passed: None,
        manager: Manager::from_environment(),
        program: std::env::current_exe()?,
        before: None,
        upgrading: false,
        refused: None,
        stopped: false,
    };
    supervisor.inherit();
    supervisor.start()?;
    supervisor.watch()
}

impl Supervisor {
    /// Starts a working process and gives it what is kept.
    fn start(&mut self) -> io::Result<()> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let arguments = &self.supervised.arguments;
        let (name, rest) = arguments
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // One thread: nothing else is started while it can be inherited.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let child = Command::new(SELF)
            .arg0(name)
            .arg(client::mark(theirs.as_raw_fd(), std::process::id()))
            .args(rest)
            // A terminal's signals come here, and are passed on once.
            .process_group(0)
            .env_remove(manager::PASSED)
            .env_remove(PROGRAM)
            .env_remove(another::NO_UPGRADE)
            .env_remove("LISTEN_PID")
            .stdin(crate::sys::null::no_input())
            .spawn()?;
        drop(theirs);
        let mut working = Working {
            child,
            socket: None,
            started: Instant::now(),
        };
        if let Err(error) = self.give(&ours) {
            // It has died already, which is seen next.
            log::debug!("the new process did not take what is kept: {error}");
        }
        working.socket = Some(ours);
        self.generation += 1;
        self.stopped = false;
        if let Some(signal) = self.owed.take() {
            working.send(signal);
            self.passed = Some((signal, Instant::now()));
        }
        self.working = Some(working);
        self.tell_refusal();
        Ok(())
    }

    fn give(&self, socket: &OwnedFd) -> io::Result<()> {
        for (place, kept) in (0..).zip(&self.kept) {
            if let Some(kept) = kept {
                let message = Message {
                    verb: Verb::Kept,
                    place,
                    kind: kept.kind,
                    key: kept.key,
                };
                message.send(socket, Some(kept.fd.as_fd()), b"")?;
            }
        }
        let all = Message {
            key: self.generation,
            ..Message::new(Verb::All)
        };
        all.send(socket, None, b"")
    }

    fn watch(&mut self) -> io::Result<i32> {
        loop {
            self.wait()?;
            self.receive();
            while let Some(signal) = self.next_signal()? {
                if signal != Signal::SIGCHLD {
                    self.pass_on(signal);
                }
            }
            self.look_whether_it_is_stopped();
            if let Some(status) = self.ended()? {
                match self.after(status) {
                    Next::End(code) => return Ok(code),
                    Next::Another => {}
                }
            }
            if self.working.is_none()
                && self.patience.is_due()
                && let Err(error) = self.start()
            {
                log::error!("cannot start another process: {error}");
                if self.patience.failed(Death::Own) == Verdict::GiveUp {
                    return Ok(self.give_up());
                }
            }
        }
    }

    /// Waits for a signal, a message, or the time to start again.
    fn wait(&self) -> io::Result<()> {
        let timeout = match &self.working {
            Some(_) => PollTimeout::NONE,
            None => self.patience.timeout(),
        };
        let socket = self.working.as_ref().and_then(|w| w.socket.as_ref());
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let result = match socket {
            Some(socket) => {
                let socket = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
                poll(&mut [signals, socket], timeout)
            }
            None => poll(&mut [signals], timeout),
        };
        match result {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn next_signal(&mut self) -> io::Result<Option<Signal>> {
        let info = self.signals.read_signal()?;
        Ok(info.and_then(|info| Signal::try_from(info.ssi_signo.cast_signed()).ok()))
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::SIGHUP {
            if let Err(why) = execute::check(&self.program) {
                self.refuse_upgrade(format!("{} is not volfs: {why}", self.program.display()));
                return;
            }
            self.upgrading = true;
        }
        match &self.working {
            Some(working) => {
                working.send(signal);
                if signal != Signal::SIGHUP {
                    // One that is stopped shall come to its end too.
                    working.send(Signal::SIGCONT);
                }
                self.passed = Some((signal, Instant::now()));
            }
            None => self.owed = Some(signal),
        }
    }

    /// Tells of a working process that somebody has stopped or let go on.
    fn look_whether_it_is_stopped(&mut self) {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        let Some(working) = &self.working else {
            return;
        };
        let pid = Pid::from_raw(working.child.id().cast_signed());
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::Stopped(_, signal)) => {
                self.stopped = true;
                log::error!(
                    "process {pid}, which serves the mount, was stopped by {signal}: whoever uses the mount waits; let it go on with 'kill -CONT {pid}'"
                );
            }
            Ok(WaitStatus::Continued(_)) if std::mem::take(&mut self.stopped) => {
                log::info!("process {pid} goes on");
            }
            _ => {}
        }
    }

    /// The working process has died: a signal that it has only just got, or got
    /// when it was dead already, is for the next.
    fn take_back_signal(&mut self) {
        if let Some((signal, when)) = self.passed.take()
            && when.elapsed() < FOLLOWED_BY
        {
            self.owed.get_or_insert(signal);
        }
    }

    /// Takes all messages that have come.
    fn receive(&mut self) {
        let Some(socket) = self.working.as_mut().and_then(|w| w.socket.take()) else {
            return;
        };
        let open = loop {
            let received = match self.inbox.receive(&socket, false) {
                Ok(Some(received)) => received,
                // Nothing more, or the other end is gone: the latter would be
                // reported again and again.
                Ok(None) => break !is_gone(&socket),
                Err(error) => {
                    log::error!("what the working process says is not understood: {error}");
                    break false;
                }
            };
            let message = received.message;
            let place = message.place as usize;
            match (message.verb, received.fd) {
                (Verb::Keep, Some(fd)) if message.place < MOST_KEPT => {
                    if self.kept.len() <= place {
                        // Within the capacity.
                        self.kept.resize_with(place + 1, || None);
                    }
                    let mut new = KeptFd {
                        kind: message.kind,
                        key: message.key,
                        fd,
                        stored: 0,
                    };
                    if let Some(manager) = &mut self.manager {
                        new.stored = manager.store(message.place, &new);
                    }
                    let old = self.kept[place].replace(new);
                    if let (Some(manager), Some(old)) = (&mut self.manager, old) {
                        manager.remove(message.place, &old);
                    }
                }
                (Verb::Drop, _) => {
                    let old = self.kept.get_mut(place).and_then(Option::take);
                    if let (Some(manager), Some(old)) = (&mut self.manager, old) {
                        manager.remove(message.place, &old);
                    }
                }
                (Verb::Serving, _) => {
                    self.mountpoint.clear();
                    self.mountpoint
                        .push(std::ffi::OsStr::from_bytes(received.tail));
                    if !std::mem::replace(&mut self.told, true) {
                        (self.supervised.serving)();
                    }
                    self.serves = message.key == 1;
                    if self.before.take().is_some() {
                        log::info!("the new program serves the mount");
                    }
                }
                (Verb::Working, _) => self.patience.works(),
                (verb, _) => log::error!("a message {verb:?} makes no sense here"),
            }
        };
        if let (true, Some(working)) = (open, &mut self.working) {
            working.socket = Some(socket);
        }
    }

    /// The end of the working process, once; all it has said has been heard.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(working) = &mut self.working else {
            return Ok(None);
        };
        let Some(status) = working.child.try_wait()? else {
            return Ok(None);
        };
        self.receive();
        Ok(Some(status))
    }

    fn after(&mut self, status: ExitStatus) -> Next {
        let Some(working) = self.working.take() else {
            return Next::Another;
        };
        let (pid, lived) = (working.child.id(), working.started.elapsed());
        match status.code() {
            Some(0) => {
                self.forget_all();
                return Next::End(0);
            }
            Some(code) if !self.serves => return Next::End(code),
            None if !self.serves => {
                return Next::End(128 + status.signal().unwrap_or_default());
            }
            Some(HANDED_OVER) => {
                log::info!("process {pid} has handed over");
                self.patience.reset();
                if std::mem::take(&mut self.upgrading) {
                    self.upgrade();
                }
                return Next::Another;
            }
            _ if self.before.is_some() => {
                log::error!("process {pid} of the new program has ended ({status})");
                self.go_back();
                return Next::Another;
            }
            _ => {}
        }
        log::error!("process {pid} that served the mount has died ({status}) after {lived:?}");
        self.take_back_signal();
        let death = match status.signal() {
            Some(libc::SIGKILL) => Death::Killed,
            _ => Death::Own,
        };
        match self.patience.failed(death) {
            Verdict::Again(pause) => {
                log::info!("another is started in {pause:?}");
                Next::Another
            }
            Verdict::GiveUp => Next::End(self.give_up()),
        }
    }

    /// Nobody can serve the mount.
    fn give_up(&self) -> i32 {
        log::error!(
            "giving up: {} processes in a row have died as soon as they were started. {} is \
             unmounted; whoever used it gets errors. 'volfs mount' mounts it again",
            self.patience.deaths(),
            self.mountpoint.display()
        );
        (self.supervised.unmount)(&self.mountpoint);
        1
    }
}

/// Whether the other end of a socket is closed.
fn is_gone(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|events| events > 0)
}
