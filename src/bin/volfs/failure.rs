//! Why a command failed, in one form for people, programs and exit codes.

use serde::Serialize;
use volfs::control;
use volfs::fuse::MountError;
use volfs::volume;

/// Exit code of a command that was not done.
pub const FAILED: u8 = 1;
/// Exit code of a command line that makes no sense.
pub const USAGE: u8 = 2;

/// The outcome of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command was not done.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It has been told already, name by name.
    Reported,
    /// The process that this one started has told it, and ended with this code.
    Ended(u8),
    /// It is still to be told.
    Told(Box<Report>),
}

/// A failure as `--json` prints it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Report {
    /// What kind of failure, for programs.
    pub code: String,
    /// What it was about, for programs.
    pub detail: serde_json::Value,
    /// The same in words.
    pub message: String,
    #[serde(skip, default = "failed")]
    exit_code: u8,
}

const fn failed() -> u8 {
    FAILED
}

impl Failure {
    /// A failure that only this command knows.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self::with_detail(code, serde_json::Value::Null, message)
    }

    /// A failure with something for programs to read.
    pub fn with_detail(code: &str, detail: serde_json::Value, message: impl Into<String>) -> Self {
        Self::Told(Box::new(Report {
            code: code.to_owned(),
            detail,
            message: message.into(),
            exit_code: FAILED,
        }))
    }

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Told(Box::new(Report {
            code: "usage".to_owned(),
            detail: serde_json::Value::Null,
            message: message.into(),
            exit_code: USAGE,
        }))
    }

    /// A failed system call of the command itself.
    pub fn io(action: &str, path: impl AsRef<std::path::Path>, error: &std::io::Error) -> Self {
        volume::Error::io(action, path, error).into()
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Reported => FAILED,
            Self::Ended(code) => *code,
            Self::Told(report) => report.exit_code,
        }
    }

    /// What is still to be told.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Reported | Self::Ended(_) => None,
            Self::Told(report) => Some(report),
        }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Told(Box::new(report))
    }
}

impl From<volume::Error> for Failure {
    fn from(error: volume::Error) -> Self {
        // A name or a wish that cannot be is a mistake on the command line;
        // nothing was tried.
        let exit_code = match error {
            volume::Error::InvalidName(_) | volume::Error::InvalidSpec(_) => USAGE,
            _ => FAILED,
        };
        coded(&error, error.to_string(), exit_code)
    }
}

impl From<volfs::model::InvalidName> for Failure {
    fn from(error: volfs::model::InvalidName) -> Self {
        volume::Error::from(error).into()
    }
}

impl From<control::Failure> for Failure {
    fn from(failure: control::Failure) -> Self {
        match failure {
            control::Failure::Volume(error) => error.into(),
            control::Failure::Unmount(refused) => coded(&refused, refused.to_string(), FAILED),
            control::Failure::Refused(refusal) => coded(&refusal, refusal.to_string(), FAILED),
        }
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let (code, path) = match &error {
            MountError::Mountpoint { path, .. } => ("mountpoint", Some(path)),
            MountError::Device { .. } => ("fuse-device", None),
            MountError::FileSize { .. } => ("file-size-limit", None),
            MountError::LowLatency { .. } => ("low-latency", None),
            MountError::Refused { path, .. } => ("mount-refused", Some(path)),
            MountError::Inherited { .. } => ("takeover", None),
            MountError::Store { path, .. } => ("store-unusable", Some(path)),
        };
        Self::with_detail(
            code,
            serde_json::json!({ "path": path.map(|path| path.to_string_lossy()) }),
            error.to_string(),
        )
    }
}

/// Takes code and detail from an error that is serialised with them.
fn coded(error: &impl Serialize, message: String, exit_code: u8) -> Failure {
    // A path that is not UTF-8 cannot be JSON; the message still has it.
    let mut value = serde_json::to_value(error).unwrap_or_default();
    let code = value["code"].as_str().unwrap_or("failed").to_owned();
    let detail = value
        .get_mut("detail")
        .map(serde_json::Value::take)
        .unwrap_or_default();
    Failure::Told(Box::new(Report {
        code,
        detail,
        message,
        exit_code,
    }))
}
