//! A store, its mount and its daemon, taken down when the test ends, however
//! it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cli::Volfs;
use super::dir::TestDir;
use super::proc;
use super::user::{User, as_user};
use super::wait::poll;

/// What a mount is made with.
#[derive(Default)]
pub struct MountBuilder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    parent: Option<PathBuf>,
    store: Option<PathBuf>,
    user: Option<User>,
    descriptors: Option<u32>,
    supervised: bool,
}

impl MountBuilder {
    /// Lets the daemon have so many descriptors.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Mounts with a supervisor, as people do: the mount outlives the process
    /// that serves it. Without, the test sees the end of that process itself.
    pub fn supervised(mut self) -> Self {
        self.supervised = true;
        self
    }

    /// Adds arguments to `volfs mount`.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&a| a.into()));
        self
    }

    /// Sets an environment variable of the daemon.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Makes store and mountpoint in `parent`.
    pub fn parent(mut self, parent: &Path) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }

    /// Makes the store there, which is somebody else's to remove.
    pub fn store(mut self, store: &Path) -> Self {
        self.store = Some(store.to_owned());
        self
    }

    /// Mounts as another user, who owns store and mountpoint.
    pub fn user(mut self, user: User) -> Self {
        self.user = Some(user);
        self
    }

    /// Makes a store and mounts it.
    pub fn start(self) -> Mount {
        let dir = match &self.parent {
            Some(parent) => TestDir::new_in(parent),
            None => TestDir::new(),
        };
        let store = match &self.store {
            Some(store) => {
                fs::create_dir(store).unwrap();
                store.clone()
            }
            None => dir.mkdir("store"),
        };
        let mountpoint = dir.mkdir("mnt");
        if let Some(user) = self.user {
            for path in [&store, &mountpoint] {
                std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        let mut mount = Mount {
            store,
            mountpoint,
            arguments: self.arguments,
            environment: self.environment,
            user: self.user,
            descriptors: self.descriptors,
            supervised: self.supervised,
            daemon: None,
            dir,
        };
        mount.start();
        mount
    }
}

/// A mounted store. The daemon runs in the foreground as a child of the test,
/// so that its end is seen and no other process is ever signalled.
pub struct Mount {
    store: PathBuf,
    mountpoint: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    user: Option<User>,
    descriptors: Option<u32>,
    supervised: bool,
    daemon: Option<Child>,
    // Last, so that it is removed after the fields above.
    dir: TestDir,
}

impl Mount {
    /// Mounts a fresh store with the defaults.
    pub fn new() -> Self {
        Self::builder().start()
    }

    /// Mounts with options.
    pub fn builder() -> MountBuilder {
        MountBuilder::default()
    }

    /// The mountpoint.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// A path in the mount.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The directory that has store and mountpoint, for further things.
    pub fn dir(&self) -> &TestDir {
        &self.dir
    }

    /// The command line on this store.
    pub fn volfs(&self) -> Volfs {
        let volfs = Volfs::new(&self.store);
        match self.user {
            Some(user) => volfs.as_user(user),
            None => volfs,
        }
    }

    /// Makes a volume with `mkdir` and returns its path.
    pub fn volume(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path)
            .unwrap_or_else(|e| panic!("mkdir {path:?}: {e}\n{}", self.daemon_log()));
        path
    }

    /// The directory of the store that holds a volume's files.
    pub fn host_path(&self, volume: &str) -> PathBuf {
        let all = self.volfs().list();
        let found = all.iter().find(|v| v["name"] == volume);
        let found = found.unwrap_or_else(|| panic!("no volume {volume:?} in {all:?}"));
        PathBuf::from(found["path"].as_str().unwrap())
    }

    /// The daemon's process id.
    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().expect("mounted").id().cast_signed()
    }

    /// The process that serves a supervised mount now; `None` between two.
    pub fn serving_pid(&self) -> Option<i32> {
        let parent = self.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }

    /// Kills the process that serves a supervised mount.
    pub fn kill_serving(&self) {
        let pid = poll(Duration::from_secs(20), || self.serving_pid());
        proc::kill(pid.expect("a process serves"));
    }

    /// The arguments of `volfs mount` from its next start.
    pub fn set_args(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&a| a.into()).collect();
    }

    /// Sets an environment variable of the daemon from its next start.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.environment.retain(|(k, _)| k != key);
        self.environment.push((key.into(), value.into()));
    }

    /// Removes an environment variable of the daemon from its next start.
    pub fn unset_env(&mut self, key: &str) {
        self.environment.retain(|(k, _)| k != key);
    }

    /// Starts the daemon and waits until the mount can be used.
    ///
    /// # Panics
    /// When it ends before that; the message has what it said.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "already mounted");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("daemon.err"))
            .unwrap();
        let mut volfs = self.volfs();
        if let Some(most) = self.descriptors {
            volfs = volfs.descriptors(most);
        }
        for (key, value) in &self.environment {
            volfs = volfs.env(key, value);
        }
        let child = volfs
            .command(&["mount", "--foreground"])
            .args((!self.supervised).then_some("--no-supervisor"))
            .args(&self.arguments)
            .arg(&self.mountpoint)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.daemon.insert(child);
        let (mountpoint, user) = (&self.mountpoint, self.user);
        let ready = poll(Duration::from_secs(30), || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            // A stale mount of a killed daemon is in the table too, so that
            // only an answer tells that it is the new one's.
            let mounted = proc::mount_on(mountpoint).is_some_and(|(kind, _)| kind == "fuse.volfs");
            // Without allow_other, the user who mounts is the only one let in.
            let answer = || match user {
                Some(user) => as_user(user, || answers(mountpoint)),
                None => answers(mountpoint),
            };
            (mounted && answer().is_ok()).then_some(Ok(()))
        });
        match ready {
            Some(Ok(())) => {}
            Some(Err(status)) => {
                self.daemon = None;
                panic!("volfs mount ended with {status}:\n{}", self.daemon_log());
            }
            None => panic!("not mounted after 30 s:\n{}", self.daemon_log()),
        }
    }

    /// The lines of the daemon's log that tell of an error or a panic.
    pub fn daemon_complaints(&self) -> String {
        self.daemon_log()
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("panicked"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What the daemon wrote to its standard error.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.err")).unwrap_or_default()
    }

    /// Unmounts with `volfs umount` and waits for the daemon's end.
    ///
    /// # Panics
    /// When it is refused or the daemon does not end well.
    pub fn stop(&mut self) {
        let mountpoint = self.mountpoint.clone();
        self.volfs()
            .ok(&[Path::new("umount"), mountpoint.as_path()]);
        let status = self.wait_for_daemon();
        assert!(
            status.success(),
            "the daemon ended with {status} after umount:\n{}",
            self.daemon_log()
        );
        assert_eq!(proc::mount_on(&self.mountpoint), None);
    }

    /// Waits until the daemon has ended, by whatever.
    pub fn wait_for_daemon(&mut self) -> std::process::ExitStatus {
        let mut child = self.daemon.take().expect("mounted");
        let ended = poll(Duration::from_secs(30), || child.try_wait().unwrap());
        ended.unwrap_or_else(|| {
            let log = self.daemon_log();
            self.daemon = Some(child);
            panic!("the daemon has not ended after 30 s:\n{log}")
        })
    }

    /// Kills the daemon with SIGKILL and waits for its end; the mount is
    /// stale then.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("mounted");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) {
        self.stop();
        self.start();
    }

    /// Ends a daemon that may hang or be gone, and its mount.
    fn tear_down(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon said ---\n{}---", self.daemon_log());
        }
        if let Some(mut child) = self.daemon.take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            if poll(Duration::from_secs(10), || child.try_wait().ok().flatten()).is_none() {
                let log = self.daemon_log();
                eprintln!("the daemon did not end within 10 s of SIGTERM; killing it:\n{log}");
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        while proc::mount_on(&self.mountpoint).is_some() {
            let lazy = nix::mount::MntFlags::MNT_DETACH;
            if let Err(e) = nix::mount::umount2(&self.mountpoint, lazy) {
                eprintln!("cannot unmount {:?}: {e}", self.mountpoint);
                break;
            }
        }
    }
}

/// Whether a daemon answers on a mountpoint. Attributes may be the kernel's own
/// memory of one that is gone; `statfs` is always asked for.
///
/// # Errors
/// ENOTCONN from a mount whose daemon is gone.
pub fn answers(mountpoint: &Path) -> rustix::io::Result<()> {
    rustix::fs::statfs(mountpoint).map(drop)
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.tear_down();
    }
}
