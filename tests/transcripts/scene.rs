//! Where a transcript is run: a directory with a store that is not there yet
//! and an empty mountpoint, and the program under test in the search path.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use regex::Regex;

use super::support::{TestDir, cli, install_script, poll, proc};

/// `hold FILE COMMAND` runs a command while FILE is open.
const HOLD: &str = "\
#!/bin/bash
case $1 in
    -w) exec 9<> \"$2\"; shift ;;
    *) exec 9< \"$1\" ;;
esac
bash -c \"$2\" 9>&-
";

pub struct Scene {
    dir: TestDir,
    redactions: Vec<(Regex, &'static str)>,
}

impl Scene {
    pub fn new() -> Self {
        let dir = TestDir::new();
        dir.mkdir("bin");
        dir.mkdir("mnt");
        std::os::unix::fs::symlink(cli::binary(), dir.join("bin/volfs")).unwrap();
        install_script(HOLD, &dir.join("bin/hold"));
        let at = regex::escape(dir.path().to_str().unwrap());
        let redactions = [
            (at.as_str(), "[DIR]"),
            (r"\b[0-9a-f]{32}\b", "[ID]"),
            (
                r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
                "[UUID]",
            ),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            // Where a process runs is the machine's affair.
            (r"(\bprocess \d+ \([^)]*\)) in [^,;]+, by", "$1, by"),
            (r"\bprocess \d+", "process [PID]"),
            (r"\bpid \d+", "pid [PID]"),
            (r"damaged-\d+", "damaged-[N]"),
            (r"\b0x[0-9a-f]{8}\b", "0x[SUM]"),
            (r"\.volfs-image\.\w+\.tmp", ".volfs-image.[X].tmp"),
            (r#""pid": ?\d+"#, r#""pid": [PID]"#),
            (r"/dev/loop\d+", "/dev/loop[N]"),
            (&regex::escape(env!("CARGO_PKG_VERSION")), "[VERSION]"),
        ];
        Self {
            redactions: redactions
                .iter()
                .map(|(pattern, with)| (Regex::new(pattern).unwrap(), *with))
                .collect(),
            dir,
        }
    }

    /// Runs a command line; what it said, and its exit code when that is not 0.
    pub fn run(&self, command: &str) -> String {
        let path = std::env::var("PATH").unwrap();
        let said = self.dir.join("said");
        let out = fs::File::create(&said).unwrap();
        let mut child = Command::new("bash")
            .args(["-c", command])
            .current_dir(self.dir.path())
            .env("PATH", format!("{}:{path}", self.dir.join("bin").display()))
            .env("VOLFS_STORE", self.dir.join("store"))
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_raw(child.id().cast_signed());
        let ended = poll(Duration::from_secs(60), || child.try_wait().unwrap());
        // What the command left running in its process group; daemons have
        // one of their own.
        let _ = killpg(group, Signal::SIGKILL);
        let status = ended.unwrap_or_else(|| panic!("{command:?} has not ended after 60 s"));
        let said = fs::read(said).unwrap();
        let mut said = String::from_utf8_lossy(&said).into_owned();
        if !said.is_empty() && !said.ends_with('\n') {
            said.push('\n');
        }
        if !status.success() {
            said += &match status.code() {
                Some(code) => format!("? {code}\n"),
                None => format!("? {status}\n"),
            };
        }
        self.redact(said)
    }

    fn redact(&self, text: String) -> String {
        self.redactions.iter().fold(text, |text, (pattern, with)| {
            pattern.replace_all(&text, *with).into_owned()
        })
    }
}

impl Drop for Scene {
    /// Takes down what a transcript that failed has left mounted.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            while proc::mount_on(&entry.path()).is_some() {
                let lazy = nix::mount::MntFlags::MNT_DETACH;
                if nix::mount::umount2(&entry.path(), lazy).is_err() {
                    break;
                }
            }
        }
        let gone = || proc::processes_naming(self.dir.path()).is_empty();
        let _ = poll(Duration::from_secs(20), || gone().then_some(()));
    }
}
