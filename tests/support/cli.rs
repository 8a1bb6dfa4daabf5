//! The command line under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::install;
use super::user::{User, command_as};

/// The binary that was built with the tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_volfs");

/// The binary under test: the one that was built with the tests, or another
/// build of it that `VOLFS_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("VOLFS_TEST_BINARY").map_or_else(|| BINARY.into(), PathBuf::from)
}

/// A copy of the binary under test in `dir`, for other users: the build directory may be
/// one that they must not enter.
pub fn copy_of_binary(dir: &Path) -> PathBuf {
    let copy = dir.join("volfs");
    if !copy.exists() {
        install(&binary(), &copy);
    }
    copy
}

/// The command line on one store.
#[derive(Clone)]
pub struct Volfs {
    store: PathBuf,
    user: Option<User>,
    descriptors: Option<u32>,
    environment: Vec<(String, String)>,
}

/// How a command ended and what it said.
pub struct Answer {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Volfs {
    /// On the store in `store`.
    pub fn new(store: &Path) -> Self {
        Self {
            store: store.to_owned(),
            user: None,
            descriptors: None,
            environment: Vec::new(),
        }
    }

    /// The same as another user, who must be able to enter the directory that has the store:
    /// a copy of the program is put there.
    pub fn as_user(&self, user: User) -> Self {
        Self {
            user: Some(user),
            ..self.clone()
        }
    }

    /// The same with a limit of open descriptors, as root.
    pub fn descriptors(&self, most: u32) -> Self {
        Self {
            descriptors: Some(most),
            ..self.clone()
        }
    }

    /// The same with an environment variable more.
    pub fn env(&self, key: &str, value: &str) -> Self {
        let mut with = self.clone();
        with.environment.push((key.into(), value.into()));
        with
    }

    /// The store's directory.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// A command with these arguments, not started. The store goes in by
    /// environment, as a user would set it.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = match (self.user, self.descriptors) {
            (Some(user), _) => {
                let beside = self.store.parent().expect("no test has its store on /");
                command_as(user, copy_of_binary(beside))
            }
            (None, None) => Command::new(binary()),
            (None, Some(most)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={most}")).arg(binary());
                command
            }
        };
        command
            .args(arguments)
            .env("VOLFS_STORE", &self.store)
            .env_remove("VOLFS_FAILPOINT")
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Answer {
        let out = self.command(arguments).output().unwrap();
        Answer {
            code: out.status.code(),
            out: String::from_utf8_lossy(&out.stdout).into_owned(),
            err: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Runs it and returns its output.
    ///
    /// # Panics
    /// When it does not end with 0.
    pub fn ok(&self, arguments: &[impl AsRef<OsStr>]) -> String {
        let answer = self.run(arguments);
        assert_eq!(
            answer.code,
            Some(0),
            "volfs {:?} failed: {}{}",
            arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            answer.out,
            answer.err
        );
        answer.out
    }

    /// Runs it and returns its complaint.
    ///
    /// # Panics
    /// When it does not end with `code`, or says nothing.
    pub fn fails(&self, code: i32, arguments: &[impl AsRef<OsStr>]) -> String {
        let answer = self.run(arguments);
        let asked: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            answer.code,
            Some(code),
            "volfs {asked:?} should end with {code}: {}{}",
            answer.out,
            answer.err
        );
        assert!(
            !answer.err.trim().is_empty(),
            "volfs {asked:?} failed without a word"
        );
        answer.err
    }

    /// The names of all volumes, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .list()
            .iter()
            .map(|volume| volume["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// Who uses a volume, as `volfs inspect` tells.
    pub fn holders(&self, name: &str) -> Vec<serde_json::Value> {
        let text = self.ok(&["inspect", "--json", name]);
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let holders = answer[0]["holders"].as_array();
        holders
            .unwrap_or_else(|| panic!("no holders in {text}"))
            .clone()
    }

    /// `volfs ls --json`.
    pub fn list(&self) -> Vec<serde_json::Value> {
        let text = self.ok(&["ls", "--json"]);
        match serde_json::from_str(&text) {
            Ok(serde_json::Value::Array(volumes)) => volumes,
            other => panic!("volfs ls --json printed {text:?}: {other:?}"),
        }
    }
}
