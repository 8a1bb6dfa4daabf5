//! Checking an image with e2fsck(8), which runs without any right but to the
//! image: a crafted image that gets the better of it has gained nothing.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use super::error::AccessError;
use super::features::Feature;
use super::store;
use super::superblock::{EXT4_SUPER_MAGIC, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};

/// User and group "nobody" (`overflowuid`): owns nothing.
const NOBODY: u32 = 65534;

/// The most that is kept of what e2fsck says. With more it is ended.
const MOST_OUTPUT: u64 = 256 << 10;

/// What e2fsck is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// `-n`: change nothing.
    Look,
    /// `-y`: mend whatever can be.
    Mend,
    /// `-p`: mend what can be mended without a choice.
    Preen,
    /// Replay the journal, and nothing else.
    Replay,
}

impl Work {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Look => &["-f", "-n"],
            Self::Mend => &["-f", "-y"],
            Self::Preen => &["-p"],
            Self::Replay => &["-y", "-E", "journal_only"],
        }
    }
}

/// What was found in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Nothing is wrong with it, or nothing is any more.
    pub clean: bool,
    /// Something was wrong, and has been mended.
    pub mended: bool,
    /// What e2fsck said, without control characters.
    pub said: String,
}

/// Why an image could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no e2fsck.
    #[error("e2fsck is not installed; on Debian it is in the package e2fsprogs")]
    NotInstalled,
    /// It did not do its work.
    #[error("e2fsck ended with {status}: {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// The system's reason.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Checks an image that nobody uses, and changes nothing in it.
///
/// # Errors
/// [`CheckError`]; damage in the image is part of the report.
pub fn check(image: &File) -> Result<CheckReport, CheckError> {
    run(image, Work::Look)
}

/// As [`check`], for an image that somebody else has made and the kernel shall
/// mount: its journal is replayed first, and mount options in it, which the
/// kernel would obey, are damage.
///
/// # Errors
/// [`CheckError`].
pub fn check_foreign(image: &File) -> Result<CheckReport, CheckError> {
    run(image, Work::Replay)?;
    let mut report = run(image, Work::Look)?;
    let options = superblock(image)?.s_mount_opts();
    if options[0] != 0 {
        let options: Vec<u8> = options.into_iter().take_while(|&byte| byte != 0).collect();
        report.clean = false;
        report.said += &format!("\nmount options in the superblock: {}", printable(&options));
    }
    Ok(report)
}

/// Checks an image that nobody uses and mends what is wrong. What cannot be
/// put back in its place goes to `lost+found`.
///
/// # Errors
/// [`CheckError`].
pub fn mend(image: &File) -> Result<CheckReport, CheckError> {
    let mended = run(image, Work::Mend)?;
    clear_mount_options(image)?;
    // It may not get everything at once; only a second look says.
    let again = run(image, Work::Look)?;
    Ok(CheckReport {
        clean: again.clean,
        ..mended
    })
}

fn superblock(image: &File) -> Result<Superblock, AccessError> {
    let mut raw = [0; SUPERBLOCK_BYTES];
    store::read(image, &mut raw, SUPERBLOCK_OFFSET)?;
    Ok(Superblock::from_bytes(raw))
}

/// Takes options out of an image that somebody has put there.
fn clear_mount_options(image: &File) -> Result<(), AccessError> {
    const NONE: [u8; 64] = [0; 64];
    let mut found = superblock(image)?;
    if found.s_magic() != EXT4_SUPER_MAGIC || found.s_mount_opts() == NONE {
        return Ok(());
    }
    found.set_s_mount_opts(NONE);
    let raw = if found.features().has(Feature::MetadataCsum) {
        found.to_bytes()
    } else {
        found.as_it_is()
    };
    image
        .write_all_at(&raw, SUPERBLOCK_OFFSET)
        .and_then(|()| image.sync_all())
        .map_err(|source| AccessError::new("write the superblock", source))
}

/// Checks an image that nobody uses and that was not cleanly unmounted, and
/// mends what takes no choice.
///
/// # Errors
/// [`CheckError`].
pub(super) fn preen(image: &File) -> Result<CheckReport, CheckError> {
    run(image, Work::Preen)
}

fn run(image: &File, work: Work) -> Result<CheckReport, CheckError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |source| AccessError { action, source }
    };
    let stdin = image
        .try_clone()
        .map_err(failed("duplicate a descriptor"))?;
    let _open = OpenToNobody::new(image).map_err(failed("change the mode of the image"))?;
    let mut command = Command::new("e2fsck");
    command
        .args(work.arguments())
        // The image is had through this descriptor alone: its directory stays
        // closed.
        .arg("/proc/self/fd/0")
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .current_dir("/")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        // Gives up the other groups, too.
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CheckError::NotInstalled,
        _ => failed("start e2fsck")(error).into(),
    })?;
    let mut output = Vec::new();
    // Closed after this much, so that one that does not stop talking ends.
    let read = child
        .stdout
        .take()
        .map(|out| out.take(MOST_OUTPUT).read_to_end(&mut output));
    let status = child.wait().map_err(failed("wait for e2fsck"))?;
    read.transpose().map_err(failed("read from e2fsck"))?;
    let said = printable(&output);
    // e2fsck(8), EXIT CODE.
    match status.code() {
        Some(0) => Ok(CheckReport {
            clean: true,
            mended: false,
            said,
        }),
        Some(1 | 2) => Ok(CheckReport {
            clean: true,
            mended: true,
            said,
        }),
        Some(code) if code & 4 != 0 => Ok(CheckReport {
            clean: false,
            mended: code & 1 != 0,
            said,
        }),
        // What is no file system at all; the last line says what to try.
        Some(8) if said.contains("Bad magic number") => Ok(CheckReport {
            clean: false,
            mended: false,
            said,
        }),
        _ => Err(CheckError::Failed { status, said }),
    }
}

/// Names of files in the image are part of what is said: nothing in them may
/// reach a terminal.
fn printable(output: &[u8]) -> String {
    String::from_utf8_lossy(output)
        .chars()
        .filter(|&c| c == '\n' || !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The image may be opened by others while this lives: by those who have a
/// descriptor of it, because its directory is closed.
struct OpenToNobody<'a> {
    image: &'a File,
    before: Permissions,
}

impl<'a> OpenToNobody<'a> {
    fn new(image: &'a File) -> io::Result<Self> {
        let before = image.metadata()?.permissions();
        image.set_permissions(Permissions::from_mode(before.mode() | 0o006))?;
        Ok(Self { image, before })
    }
}

impl Drop for OpenToNobody<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.image.set_permissions(self.before.clone()) {
            log::warn!("the mode of an image could not be restored: {error}");
        }
    }
}
