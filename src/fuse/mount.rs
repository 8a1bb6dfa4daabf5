//! Mounting and unmounting: `mount(2)` with the right to, `fusermount3`
//! without.

use std::ffi::OsString;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::init;
use super::mountinfo::{self, MountInfo};
use super::options::MountOptions;
use super::session::MountError;
use crate::sys::creds::{self, Capability};

/// The type that mounts show: `fuse.SUBTYPE`.
pub const FS_TYPE: &str = "fuse.volfs";

/// Checks that `path` can be mounted on, and cleans a stale mount of a killed
/// daemon away. Returns the canonical path.
///
/// # Errors
/// [`MountError::Mountpoint`], which says what is wrong.
pub(super) fn prepare_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let refuse = |why: String| MountError::Mountpoint {
        path: path.to_owned(),
        why,
    };
    let canonical =
        canonical_without_entering(path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) => refuse("it does not exist; make it first with mkdir".into()),
            _ => refuse(error.to_string()),
        })?;
    while let Some(mount) = mountinfo::mounted_on(&canonical) {
        let is_ours = mount.fs_type == FS_TYPE;
        let is_stale = is_ours && is_disconnected(&canonical);
        if !is_stale {
            let what = if is_ours {
                "a volfs store"
            } else {
                &mount.fs_type
            };
            return Err(refuse(format!(
                "{what} ({}) is already mounted there; unmount it first",
                mount.source.display()
            )));
        }
        log::info!("cleaning up {canonical:?}, left mounted by a daemon that was killed");
        unmount(&canonical, true).map_err(|error| {
            refuse(format!(
                "a dead mount is in the way and cannot be removed: {error}"
            ))
        })?;
    }
    let entries = std::fs::read_dir(&canonical).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR) => refuse("it is not a directory".into()),
        _ => refuse(error.to_string()),
    })?;
    if entries.count() > 0 {
        return Err(refuse(
            "it is not empty; its files would be hidden. Choose an empty directory".into(),
        ));
    }
    Ok(canonical)
}

/// The canonical path of a mountpoint that may not answer.
fn canonical_without_entering(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            let path = parent.canonicalize()?.join(name);
            match path.canonicalize() {
                Ok(path) => Ok(path),
                // What a killed daemon leaves, as a path below is opened.
                Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(path),
                Err(error) => Err(error),
            }
        }
        _ => absolute.canonicalize(),
    }
}

/// How a mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As it should.
    Served,
    /// The daemon behind it is gone.
    Disconnected,
    /// Not at all: whoever uses it waits.
    Silent,
}

/// How long a mount may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a mount by `statfs`: the kernel may remember the attributes of a root
/// that nobody serves any more, but never this. Waits for [`ANSWER_TIMEOUT`].
///
/// The kernel lets nobody go who waits for a request that is being served. So a
/// thread asks, which is left behind where there is no answer.
#[must_use]
pub fn answer(mountpoint: &Path) -> Answer {
    let (tell, told) = mpsc::channel();
    let mountpoint = mountpoint.to_owned();
    let asking = std::thread::Builder::new()
        .name("statfs".into())
        .spawn(move || {
            // Nobody listens any more who has waited long enough.
            let _ = tell.send(nix::sys::statfs::statfs(&mountpoint).map(drop));
        });
    if asking.is_err() {
        return Answer::Silent;
    }
    match told.recv_timeout(ANSWER_TIMEOUT) {
        Ok(Err(Errno::ENOTCONN)) => Answer::Disconnected,
        Ok(_) => Answer::Served,
        Err(_) => Answer::Silent,
    }
}

/// Whether the daemon behind a mount is gone.
#[must_use]
pub fn is_disconnected(mountpoint: &Path) -> bool {
    answer(mountpoint) == Answer::Disconnected
}

/// Mounts; returns the device that requests come from.
pub(super) fn mount(
    source: &Path,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<OwnedFd, MountError> {
    if creds::has(Capability::SysAdmin) {
        mount_directly(source, mountpoint, options)
    } else if options.suid || options.dev {
        // fusermount3 would mount without, in silence.
        Err(MountError::Refused {
            path: mountpoint.to_owned(),
            why: "only root may mount with suid or dev; leave them out, or mount as root".into(),
        })
    } else {
        mount_by_helper(source, mountpoint, options)
    }
}

fn open_device() -> Result<File, MountError> {
    let refuse = |why: String| MountError::Device { why };
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                refuse("it is not there; load the kernel module with 'modprobe fuse'".into())
            }
            Some(libc::EACCES | libc::EPERM) => refuse(
                "permission denied; the device must be accessible to this user (and, in a \
                 container, passed to it)"
                    .into(),
            ),
            _ => refuse(error.to_string()),
        })?;
    // MISC_MAJOR and FUSE_MINOR, linux/major.h and linux/miscdevice.h.
    let is_fuse = nix::sys::stat::fstat(&device).is_ok_and(|stat| {
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(10, 229)
    });
    if !is_fuse {
        return Err(refuse(
            "it is not the FUSE device (character device 10:229); make it with 'mknod /dev/fuse c 10 229'"
                .into(),
        ));
    }
    Ok(device)
}

fn mount_directly(
    source: &Path,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    let user = nix::unistd::geteuid();
    let group = nix::unistd::getegid();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},default_permissions",
        device.as_raw_fd()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let flag = |set: bool, flag: MsFlags| if set { flag } else { MsFlags::empty() };
    let flags = flag(options.read_only, MsFlags::MS_RDONLY)
        | flag(!options.dev, MsFlags::MS_NODEV)
        | flag(!options.suid, MsFlags::MS_NOSUID)
        | flag(!options.exec, MsFlags::MS_NOEXEC)
        | flag(options.noatime, MsFlags::MS_NOATIME);
    nix::mount::mount(
        Some(source),
        mountpoint,
        Some(FS_TYPE),
        flags,
        Some(data.as_str()),
    )
    .map_err(|errno| MountError::Refused {
        path: mountpoint.to_owned(),
        why: match errno {
            Errno::ENODEV => "the kernel has no FUSE; load it with 'modprobe fuse'".into(),
            _ => errno.desc().to_owned(),
        },
    })?;
    Ok(device.into())
}

/// Makes a mount that an earlier process has made what `options` say: it was `suid`
/// where nobody had asked for it, before that was the default no longer.
pub(super) fn restrict(mounted: &MountInfo, options: &MountOptions) {
    let nosuid = !options.suid && !mounted.has_flag("nosuid");
    let nodev = !options.dev && !mounted.has_flag("nodev");
    if !nosuid && !nodev {
        return;
    }
    let path = &mounted.mountpoint;
    match crate::sys::mount::restrict(path, nosuid, nodev) {
        Ok(()) => log::warn!(
            "{path:?} was mounted without nosuid,nodev and has them now, as nothing else was asked \
             for; bind mounts that were made of it before keep what they have"
        ),
        Err(errno) => log::error!(
            "{path:?} stays mounted without nosuid,nodev: {}; unmount it and mount it again",
            errno.desc()
        ),
    }
}

/// Asks the set-user-id program `fusermount3`, which hands the device over a
/// socket (`_FUSE_COMMFD`, libfuse's lib/mount.c).
fn mount_by_helper(
    source: &Path,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<OwnedFd, MountError> {
    let refuse = |why: String| MountError::Refused {
        path: mountpoint.to_owned(),
        why,
    };
    let (ours, theirs) = UnixStream::pair().map_err(|error| refuse(error.to_string()))?;
    nix::fcntl::fcntl(
        &theirs,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .map_err(|errno| refuse(errno.desc().into()))?;
    let output = Command::new("fusermount3")
        .arg("-o")
        .arg(helper_options(source, options))
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(crate::sys::null::no_input())
        .output();
    drop(theirs);
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse(
            "mounting without root needs fusermount3, which is not installed; install the package fuse3"
                .into(),
        ),
        _ => refuse(format!("cannot run fusermount3: {error}")),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let hint = if said.contains("user_allow_other") {
            "; set user_allow_other in /etc/fuse.conf"
        } else if said.contains("/dev/fuse") {
            "; the device must be accessible to this user"
        } else {
            ""
        };
        return Err(refuse(format!("{said}{hint}")));
    }
    receive_device(&ours).ok_or_else(|| refuse("fusermount3 did not hand over the device".into()))
}

fn helper_options(source: &Path, options: &MountOptions) -> OsString {
    let mut text = OsString::from("default_permissions,subtype=volfs,fsname=");
    // Commas and backslashes are escaped (fusermount3's add_option).
    let escaped: String = source
        .to_string_lossy()
        .chars()
        .flat_map(|c| {
            matches!(c, ',' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect();
    text.push(escaped);
    let set = [
        (options.allow_other, ",allow_other"),
        (options.read_only, ",ro"),
        (!options.dev, ",nodev"),
        (!options.suid, ",nosuid"),
        (!options.exec, ",noexec"),
        (options.noatime, ",noatime"),
    ];
    for (_, option) in set.into_iter().filter(|(is_set, _)| *is_set) {
        text.push(option);
    }
    text
}

fn receive_device(socket: &UnixStream) -> Option<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .ok()?;
    message.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => {
            fds.first().map(|&fd| crate::sys::process::adopt(fd))
        }
        _ => None,
    })
}

/// Lets the kernel read ahead as far in files of the mount with this device number
/// as one request may fetch: 128 KiB (VM_READAHEAD_PAGES) is for disks, which
/// answer sooner than we are asked. Read once through the daemon, a long file takes
/// an eighth of the requests, and is read faster by a quarter.
///
/// Only root may, and no process with a read-only `/sys`; others do without.
pub(super) fn read_ahead_far(device: u64) {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, (init::MAX_WRITE >> 10).to_string()) {
        log::debug!("the kernel does not read ahead farther: {file}: {error}");
    }
}

/// Why an unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum UnmountFailure {
    /// It is in use.
    #[error("it is in use")]
    Busy,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Unmounts what is mounted on `mountpoint`; `lazy` detaches it at once.
///
/// # Errors
/// [`UnmountFailure`].
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), UnmountFailure> {
    let flags = if lazy {
        MntFlags::MNT_DETACH
    } else {
        MntFlags::empty()
    };
    match nix::mount::umount2(mountpoint, flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(UnmountFailure::Busy),
        Err(Errno::EPERM) => unmount_by_helper(mountpoint, lazy),
        Err(errno) => Err(UnmountFailure::Other(errno.desc().to_owned())),
    }
}

fn unmount_by_helper(mountpoint: &Path, lazy: bool) -> Result<(), UnmountFailure> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(mountpoint)
        .stdin(crate::sys::null::no_input())
        .output()
        .map_err(|error| UnmountFailure::Other(format!("cannot run fusermount3: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        Err(UnmountFailure::Busy)
    } else {
        Err(UnmountFailure::Other(said.trim().to_owned()))
    }
}
