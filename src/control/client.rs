//! The command's end of the control socket.
//!
//! Each call is a connection of its own, so a client that lives long notices
//! neither an idle time-out nor a daemon that was started again meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::answering::{self, NoAnswer};
use super::protocol::{Call, Failure, Refusal, Reply, Request, Status};
use super::{SOCKET_NAME, socket};
use crate::model::{VolumeName, VolumeSpec};
use crate::volume::{
    Change, CheckHow, DiskCheck, Error, Event, Holder, Purge, Removal, Result, Setting, Settings,
    Source, Staged, TrashedVolume, Verified, VolumeFs, VolumeInfo, Volumes,
};

/// How long a daemon may take to read a request; it is short.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the next process may take to go on with a mount.
const SUCCESSION: Duration = Duration::from_secs(2);

/// A running daemon, as others talk to it.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon that serves the store in `store_dir`; `None` when there is
    /// none (no socket, or nobody listens on it).
    ///
    /// # Errors
    /// [`Error::Io`] when the socket is there and cannot be used.
    pub fn connect(store_dir: &Path) -> Result<Option<Self>> {
        let client = Self {
            socket: store_dir.join(SOCKET_NAME),
        };
        match socket::connect(&client.socket) {
            Ok(_) => Ok(Some(client)),
            Err(error) if nobody_there(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(client.lost(&error)),
            Err(error) => Err(Error::io("connect to", &client.socket, &error)),
        }
    }

    /// The daemon's process id in this process's pid namespace, if it can be
    /// seen from here.
    ///
    /// # Errors
    /// [`Error::Daemon`] when it is gone.
    pub fn pid(&self) -> Result<Option<i32>> {
        let stream = self.open().map_err(|error| self.lost(&error))?;
        Ok(process_at(&stream))
    }

    /// What keeps the daemon's process from running, and what to do; `None` when
    /// nothing does that can be seen.
    #[must_use]
    pub fn why_it_does_not_run(&self) -> Option<String> {
        let pid = self.pid().ok().flatten()?;
        answering::why_it_does_not_run(pid)
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// [`Error::Daemon`].
    pub fn status(&self) -> Result<Status> {
        self.ask(Call::Status)
    }

    /// Unmounts; when this returns the mount is gone, and the daemon is ending.
    ///
    /// # Errors
    /// [`Failure::Unmount`], or [`Error::Daemon`].
    pub fn unmount(&self, lazy: bool) -> std::result::Result<(), Failure> {
        self.call(Call::Unmount { lazy })
    }

    /// Figures of the running daemon.
    ///
    /// # Errors
    /// [`Error::Daemon`].
    pub fn stats(&self) -> Result<serde_json::Value> {
        self.ask(Call::Stats)
    }

    fn open(&self) -> io::Result<UnixStream> {
        let stream = socket::connect(&self.socket)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(stream)
    }

    fn lost(&self, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            return self.accepts_nobody();
        }
        if nobody_there(error) {
            return self.gone("it has ended; mount the store again with 'volfs mount'");
        }
        self.unusable(&error.to_string())
    }

    /// A connection was made and was closed at once. That the daemon has ended is
    /// said only where nobody listens any more.
    fn hung_up(&self, error: &io::Error) -> Error {
        match self.open() {
            Ok(_) if nobody_there(error) => self.unusable(
                "it runs, and closed the connection before it had read the request; its log may say why",
            ),
            _ => self.lost(error),
        }
    }

    /// So many connections wait that no more can be made. Who listens is known
    /// by a connection only; the store's lock says it too.
    fn accepts_nobody(&self) -> Error {
        let note = std::fs::read_to_string(self.store_dir().join("lock")).unwrap_or_default();
        let pid = note
            .strip_prefix("pid ")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        let why = pid.and_then(answering::why_it_does_not_run);
        self.unresponsive(
            pid,
            why.unwrap_or_else(|| {
                "it accepts no connection, and many wait; its log is daemon.log in the store"
                    .to_owned()
            }),
        )
    }

    fn unresponsive(&self, pid: Option<i32>, why: String) -> Error {
        Error::Unresponsive {
            socket: self.socket.clone(),
            pid,
            why,
        }
    }

    fn unusable(&self, why: &str) -> Error {
        Error::Daemon {
            socket: self.socket.clone(),
            why: why.to_owned(),
            gone: false,
        }
    }

    fn gone(&self, why: &str) -> Error {
        Error::Daemon {
            socket: self.socket.clone(),
            why: why.to_owned(),
            gone: true,
        }
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let why = refusal.to_string();
        match refusal {
            Refusal::Ending => self.gone(&why),
            _ => self.unusable(&why),
        }
    }

    /// A call that cannot fail with anything but a volume's error.
    fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        self.reply(call).map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Volume(error) => error,
            Failure::Unmount(refused) => self.unusable(&refused.to_string()),
            Failure::Refused(refusal) => self.refused(&refusal),
        }
    }

    fn call<T: DeserializeOwned>(&self, call: Call) -> std::result::Result<T, Failure> {
        self.reply(call).map_err(|failure| match failure {
            Failure::Refused(refusal) => self.refused(&refusal).into(),
            failure => failure,
        })
    }

    fn reply<T: DeserializeOwned>(&self, call: Call) -> std::result::Result<T, Failure> {
        let line = self.exchange(&Request::new(call))?;
        let reply: Reply<T> = serde_json::from_slice(&line)
            .map_err(|error| self.unusable(&format!("its reply makes no sense: {error}")))?;
        match reply {
            Reply::Ok(value) => Ok(value),
            Reply::Error(described) => Err(described.error),
        }
    }

    fn holders_one_by_one(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        let mut all = BTreeMap::new();
        for info in self.list()? {
            match self.holders(&info.name) {
                Ok(holders) if holders.is_empty() => {}
                Ok(holders) => drop(all.insert(info.name, holders)),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Sends a request and waits for the reply line. Where the daemon ends
    /// meanwhile another process may go on with its mount: what changes nothing
    /// is asked again.
    fn exchange(&self, request: &Request) -> Result<Vec<u8>> {
        let mut result = self.exchange_once(request);
        let deadline = Instant::now() + SUCCESSION;
        while request.call.only_looks()
            && matches!(result, Err(Error::Daemon { .. }))
            && Instant::now() < deadline
        {
            std::thread::sleep(SUCCESSION / 100);
            if self.open().is_ok() {
                result = self.exchange_once(request);
            }
        }
        result
    }

    /// A reply may take any time, as long as the daemon shows that it runs. One
    /// that dies closes the connection.
    fn exchange_once(&self, request: &Request) -> Result<Vec<u8>> {
        let mut stream = self.open().map_err(|error| self.lost(&error))?;
        let process = process_at(&stream);
        if let Some(pid) = process {
            // Nothing has been said yet, so nothing will be done.
            let unchanged = said_of_changes(&request.call, "nothing was changed");
            answering::wait_until_it_runs(pid)
                .map_err(|why| self.unresponsive(process, why + &unchanged))?;
        }
        let mut line = serde_json::to_vec(request)
            .map_err(|error| self.unusable(&format!("the request is not JSON: {error}")))?;
        line.push(b'\n');
        // A daemon that refuses at once may close before it has read all;
        // what it said is then still there to be read.
        let sent = stream.write_all(&line);
        let answers = || self.answers(process);
        let received = answering::read_reply(&stream, process, answers);
        Err(match (sent, received) {
            (_, Ok(reply)) if reply.last() == Some(&b'\n') => return Ok(reply),
            // A line without its end is not acted on.
            (Err(error), _) => self.hung_up(&error),
            (_, Err(NoAnswer::Silent(why))) => {
                let maybe = "the change may have been made, or be made when it goes on";
                self.unresponsive(process, why + &said_of_changes(&request.call, maybe))
            }
            (_, Err(NoAnswer::Broken(error))) if !nobody_there(&error) => self.lost(&error),
            _ => self.unusable(
                "it ended before it replied; whether the change was made shows 'volfs ls'",
            ),
        })
    }

    /// Whether another call is answered, or refused: by a daemon that gives no
    /// sign of life.
    fn answers(&self, process: Option<i32>) -> bool {
        let Ok(mut stream) = self.open() else {
            return false;
        };
        let asked = serde_json::to_vec(&Request::new(Call::Status))
            .is_ok_and(|line| stream.write_all(&[&line[..], b"\n"].concat()).is_ok());
        let heard = answering::read_reply(&stream, process, || false);
        asked && heard.is_ok_and(|reply| !reply.is_empty())
    }
}

/// The rest of a sentence, where a call would change something.
fn said_of_changes(call: &Call, what: &str) -> String {
    if call.only_looks() {
        return String::new();
    }
    format!("; {what}")
}

/// The process that listens at the other end, where it can be seen.
fn process_at(stream: &UnixStream) -> Option<i32> {
    let pid = socket::peer(stream).ok()?.pid;
    (pid > 0).then_some(pid)
}

/// Errors of a socket whose daemon has ended, or never was.
fn nobody_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}

impl Volumes for Client {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        self.ask(Call::Create {
            spec: Box::new(spec.clone()),
        })
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        self.ask(Call::Get { name: name.clone() })
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        self.ask(Call::List)
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        let info = self.ask(Call::Rename {
            from: from.clone(),
            to: to.clone(),
        })?;
        // The kernel finds that it knows this directory, and gives it the new
        // name, for whoever works in it and with all that is mounted there. The
        // daemon cannot ask for that: it would wait for itself.
        if let Ok(Some(mountpoint)) = self.mountpoint() {
            let _ = std::fs::symlink_metadata(mountpoint.join(to.as_str()));
        }
        Ok(info)
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.ask(Call::Remove {
            name: name.clone(),
            how,
        })
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        self.ask(Call::Change {
            name: name.clone(),
            change: change.clone(),
        })
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.ask(Call::Check {
            name: name.clone(),
            how,
        })
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        self.ask(Call::Holders { name: name.clone() })
    }

    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        match self.reply(Call::AllHolders) {
            // A daemon of before there was this call.
            Err(Failure::Refused(Refusal::BadRequest { .. })) => self.holders_one_by_one(),
            other => other.map_err(|failure| self.error(failure)),
        }
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.ask(Call::Events)
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        self.ask(Call::Verify {
            name: name.clone(),
            repair,
        })
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        self.ask(Call::Trash)
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        self.ask(Call::Restore {
            which: which.to_owned(),
            new_name: new_name.cloned(),
        })
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        self.ask(Call::EmptyTrash {
            which: which.map(str::to_owned),
        })
    }

    fn purges(&self) -> Result<Vec<Purge>> {
        self.ask(Call::Purges)
    }

    fn settings(&self) -> Result<Settings> {
        self.ask(Call::Settings)
    }

    fn set(&self, setting: &Setting) -> Result<Settings> {
        self.ask(Call::Set { setting: *setting })
    }

    fn files(&self, name: &VolumeName) -> Result<VolumeFs> {
        VolumeFs::in_mount(&self.status()?.mountpoint, &self.get(name)?)
    }

    fn source(&self, name: &VolumeName) -> Result<Source> {
        let info = self.get(name)?;
        Source::through_mount(self, &self.status()?.mountpoint, info)
    }

    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo> {
        self.ask(Call::Adopt {
            staged: Box::new(staged.clone()),
        })
    }

    fn detach(&self, name: &VolumeName) -> Result<Vec<String>> {
        self.ask(Call::Detach { name: name.clone() })
    }

    fn mountpoint(&self) -> Result<Option<PathBuf>> {
        Ok(Some(self.status()?.mountpoint))
    }

    fn store_dir(&self) -> PathBuf {
        // The socket is in it.
        self.socket.parent().unwrap_or(&self.socket).to_owned()
    }
}
