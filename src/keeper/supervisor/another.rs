//! Going on as another program, and as the one before where that cannot; what
//! is kept goes with it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::{KeptFd, PROGRAM, SELF, Supervisor, execute, manager};
use crate::keeper::protocol::{Kind, MOST_KEPT, Message, PATH_BYTES, Verb};

/// How many upgrades were not made and why the last was not, for the program
/// that follows.
pub(super) const NO_UPGRADE: &str = "VOLFS_NO_UPGRADE";

impl Supervisor {
    /// Takes what was kept for it: by a service manager, or by another program
    /// in this process.
    pub(super) fn inherit(&mut self) {
        let (kept, highest) = manager::passed().unwrap_or_else(manager::given_back);
        if let Some(manager) = &mut self.manager {
            manager.begin_after(highest);
        }
        for (place, kept) in kept {
            let index = place as usize;
            if place >= MOST_KEPT {
                continue;
            }
            if kept.kind == Kind::Program as u32 {
                self.before = Some(kept.fd);
                continue;
            }
            if self.kept.len() <= index {
                self.kept.resize_with(index + 1, || None);
            }
            // A mount that is there is served, or nobody can be told.
            self.serves |= kept.kind == Kind::Device as u32;
            self.kept[index] = Some(kept);
        }
        if let Some(program) = std::env::var_os(PROGRAM) {
            self.program = program.into();
        }
        let refused = std::env::var(NO_UPGRADE).unwrap_or_default();
        self.refused = refused
            .split_once(' ')
            .and_then(|(count, why)| Some((count.parse().ok()?, why.to_owned())));
    }

    /// An upgrade is not made: the log has it, and whoever asked for it is told
    /// by the working process.
    pub(super) fn refuse_upgrade(&mut self, why: String) {
        log::error!("no upgrade: {why}");
        let count = self.refused.as_ref().map_or(0, |(count, _)| *count);
        self.refused = Some((count + 1, why));
        self.tell_refusal();
    }

    /// Tells the working process of the last upgrade that was not made.
    pub(super) fn tell_refusal(&self) {
        let socket = self.working.as_ref().and_then(|it| it.socket.as_ref());
        if let (Some((count, why)), Some(socket)) = (&self.refused, socket) {
            let message = Message {
                key: *count,
                ..Message::new(Verb::NoUpgrade)
            };
            let why = &why.as_bytes()[..why.len().min(PATH_BYTES)];
            if let Err(error) = message.try_send(socket, why) {
                log::debug!("the working process does not hear it: {error}");
            }
        }
    }

    /// Goes on as the program that is now where this one was. Returns when that
    /// cannot be executed.
    pub(super) fn upgrade(&mut self) {
        let program = self.program.clone();
        match nix::fcntl::open(
            SELF,
            nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        ) {
            Ok(before) => self.before = Some(before),
            Err(errno) => {
                self.refuse_upgrade(format!("there would be no way back: {}", errno.desc()));
                return;
            }
        }
        // Of another program nothing has been refused.
        let refused = self.refused.take();
        let error = self.execute(&program);
        self.before = None;
        self.refused = refused;
        self.refuse_upgrade(format!("cannot execute {}: {error}", program.display()));
    }

    /// Goes on as the program before the upgrade.
    pub(super) fn go_back(&mut self) {
        self.refuse_upgrade(
            "the new program cannot go on with this mount, and the one before does; daemon.log in the store says why. Unmount and mount again for the new one"
                .to_owned(),
        );
        self.patience.reset();
        if let Some(before) = self.before.take() {
            let path = PathBuf::from(format!("/proc/self/fd/{}", before.as_raw_fd()));
            let error = self.execute(&path);
            log::error!("cannot execute the program before: {error}");
        }
    }

    /// Becomes another program, with all that is kept.
    pub(super) fn execute(&mut self, program: &Path) -> io::Error {
        let last = self.kept.len();
        if let Some(before) = self.before.take() {
            self.kept.push(Some(KeptFd {
                kind: Kind::Program as u32,
                key: 0,
                fd: before,
                stored: 0,
            }));
        }
        let error = match manager::pass(&self.kept) {
            Ok((variable, value)) => {
                let refused = self.refused.as_ref();
                let refused =
                    refused.map_or(String::new(), |(count, why)| format!("{count} {why}"));
                let set = [
                    (variable, value),
                    (PROGRAM, self.program.clone().into()),
                    (NO_UPGRADE, refused.into()),
                ];
                let arguments = &self.supervised.command;
                match execute::become_program(program, arguments, &set) {
                    Ok(never) => match never {},
                    Err(errno) => errno.into(),
                }
            }
            Err(errno) => errno.into(),
        };
        manager::keep_passed(&self.kept);
        if let Some(before) = self.kept.drain(last..).next().flatten() {
            self.before = Some(before.fd);
        }
        error
    }

    /// The mount is gone: nobody is to keep anything.
    pub(super) fn forget_all(&mut self) {
        if let Some(manager) = &mut self.manager {
            for (place, kept) in (0..).zip(&self.kept) {
                if let Some(kept) = kept {
                    manager.remove(place, kept);
                }
            }
        }
    }
}
