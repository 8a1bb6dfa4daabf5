//! Checking an image with e2fsck(8), which runs without any right but to the
//! image: a crafted image that gets the better of it has gained nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use super::error::AccessError;
use super::features::Feature;
use super::lend::Lent;
use super::store;
use super::superblock::{EXT4_SUPER_MAGIC, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};
use crate::sys::confine::{self, Confinement, confine};

/// The most that is kept of what e2fsck says. With more it is ended.
const MOST_OUTPUT: u64 = 256 << 10;
/// How long it may keep a processor busy. Memory has no limit: what it takes
/// goes with the image, and the largest takes gigabytes.
const MOST_HOURS: u64 = 24;

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
    /// It did not come to an end.
    #[error(
        "e2fsck kept a processor busy for {MOST_HOURS} hours and was ended; while nothing uses the volume, 'e2fsck -f' on the image has no limit"
    )]
    Endless,
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
    let bytes = image.metadata().map_err(failed("look at the image"))?.len();
    let (lent, through) = Lent::new(image).map_err(failed("lend the image to e2fsck"))?;
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
        .stdin(Stdio::from(through))
        .stdout(Stdio::piped())
        .stderr(crate::sys::null::no_output());
    let how = Confinement {
        id: lent.id,
        // It writes nothing but the image, and does not make it longer.
        file_bytes: bytes,
        processor_seconds: MOST_HOURS * 60 * 60,
    };
    confine(&mut command, how);
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
    if let Some(id) = lent.id {
        // One that an image has got the better of may have started others, which
        // would still have the image when it is trusted and mounted.
        confine::end_all_of(id).map_err(failed("end what e2fsck has started"))?;
    }
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
        None if status.signal() == Some(libc::SIGXCPU) => Err(CheckError::Endless),
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
