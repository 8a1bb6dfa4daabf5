//! Checks of the store: its directory, its file system, who has it, and mounts
//! that a dead daemon left.

use std::fs::{OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use volfs::control::{Client, Status};
use volfs::fuse::mount::{self, Answer};
use volfs::model::{AllocationUnit, Bytes};
use volfs::sys::named_file;
use volfs::volume::{Error, Store};

use super::Check;
use crate::mounts;
use crate::names;

/// Below this share of free bytes or inodes a warning is due.
const LOW_PER_CENT: u64 = 5;

/// All of them.
pub fn checks(store: &Path) -> Vec<Check> {
    let daemon = daemon(store);
    let mut checks = vec![directory(store)];
    checks.extend(catalogue(
        store,
        daemon.as_ref().ok().and_then(Option::as_ref),
    ));
    checks.extend(file_system(store));
    checks.push(lock(store, daemon.as_ref().ok().and_then(Option::as_ref)));
    checks.extend(daemon_checks(daemon));
    checks.extend(stale_mounts());
    checks
}

/// The store's directory, or the nearest one above it that is there.
fn nearest(store: &Path) -> PathBuf {
    store
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

fn directory(store: &Path) -> Check {
    const NAME: &str = "store";
    let shown = store.display();
    let near = nearest(store);
    let writable = access(
        &near,
        AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK,
    );
    if let Err(error) = writable {
        let what = if near == store {
            ""
        } else {
            " (above the store)"
        };
        return Check::missing(
            NAME,
            format!("{}{what}: {}", near.display(), error.desc()),
            "the store cannot be used by this user",
            "use another store (--store DIR), or become its owner or root",
        );
    }
    if near != store {
        if store.symlink_metadata().is_ok() {
            return Check::missing(
                NAME,
                format!("{shown} is not a directory"),
                "it cannot be a store",
                "name another directory with --store DIR",
            );
        }
        return Check::ok(
            NAME,
            format!("{shown} is not there yet; 'volfs mount' makes it"),
        );
    }
    if let Err(error) = try_to_write(store) {
        return not_written(NAME, store, &error);
    }
    let has_catalogue = store.join("meta.db").exists();
    let is_empty = std::fs::read_dir(store).is_ok_and(|mut list| list.next().is_none());
    match (has_catalogue, is_empty) {
        (true, _) => Check::ok(NAME, shown.to_string()),
        (false, true) => Check::ok(
            NAME,
            format!("{shown} is empty; 'volfs mount' makes a store of it"),
        ),
        (false, false) if store.join("volumes").is_dir() => Check::missing(
            NAME,
            format!("{shown} has volumes, but its catalogue meta.db is not there"),
            "nobody knows the volumes' names and limits",
            "volfs doctor --rebuild-catalogue",
        ),
        (false, false) => Check::missing(
            NAME,
            format!("{shown} holds files, but is no store"),
            "nothing is put among files that are not of volfs",
            "name an empty directory, or one that is not there yet, with --store DIR",
        ),
    }
}

fn not_written(name: &str, store: &Path, error: &io::Error) -> Check {
    let found = format!("{}: writing a file fails: {error}", store.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Check::degraded(
            name,
            found,
            "no volume can be made, and those without room of their own cannot grow",
            "free some space, or move the store",
        ),
        // That is a check of its own, below.
        io::ErrorKind::ReadOnlyFilesystem => Check::ok(name, store.display().to_string()),
        _ => Check::missing(
            name,
            found,
            "the store cannot be used",
            "look into the system's log (dmesg) for errors of the disk, or choose another store with --store DIR",
        ),
    }
}

/// Reads the catalogue as a mount does, all of it.
fn catalogue(store: &Path, daemon: Option<&Status>) -> Option<Check> {
    const NAME: &str = "catalogue";
    let path = store.join("meta.db");
    path.symlink_metadata().ok()?;
    let means = "the store cannot be mounted, and no command can use it";
    let examined = match Store::examine(store) {
        Ok(examined) => examined,
        Err(error @ (Error::Catalogue { .. } | Error::BadStore { .. })) => {
            return Some(Check::missing(
                NAME,
                error.to_string(),
                means,
                "volfs doctor --rebuild-catalogue, or put a backup of meta.db in its place",
            ));
        }
        Err(Error::Locked { holder, .. }) => {
            return Some(Check::ok(NAME, format!("not looked at: {holder}")));
        }
        Err(error) => {
            return Some(Check::missing(
                NAME,
                error.to_string(),
                means,
                "look into the system's log (dmesg) for errors of the disk; it is not the catalogue",
            ));
        }
    };
    if daemon.is_none()
        && let Err(error) = OpenOptions::new().read(true).write(true).open(&path)
    {
        return Some(Check::missing(
            NAME,
            format!("{} cannot be written: {error}", path.display()),
            "volumes can only be looked at, with volfs mount --read-only",
            "become the owner of the store or root; lsattr shows whether the file is immutable",
        ));
    }
    let found = format!(
        "sound: {} volumes, {} in the trash",
        examined.volumes, examined.trashed
    );
    if examined.findings.is_empty() {
        return Some(Check::ok(NAME, found));
    }
    Some(Check::degraded(
        NAME,
        format!("{found}; {}", examined.findings.join("; ")),
        "catalogue and volumes do not agree",
        "mount the store, which says what it makes of it; volumes that it had to rename or put into the trash are restored with volfs mv and volfs trash restore",
    ))
}

/// Whether something can be written there, and is on the disk then. Nobody sees
/// the file: it has no name.
fn try_to_write(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()
}

fn file_system(store: &Path) -> Vec<Check> {
    let near = nearest(store);
    let mount = near
        .canonicalize()
        .ok()
        .and_then(|path| mounts::around(&path).ok().flatten());
    let fstype = mount.map_or_else(|| "unknown".to_owned(), |mount| mount.fs_type);
    let mut checks = vec![kind(&fstype)];
    checks.extend(inode_numbers(&near));
    checks.extend([handles(&near, &fstype), space(&near)]);
    checks.extend(limits(&near, &fstype));
    checks
}

/// Where limits are not kept by the byte on the host's side.
fn limits(near: &Path, fstype: &str) -> Option<Check> {
    const NAME: &str = "limits";
    let unit = volfs::sys::allocation::of_smallest_file(near).ok()?;
    let unit = AllocationUnit::at_most(unit);
    if !unit.is_smallest() {
        return Some(Check::degraded(
            NAME,
            format!("space is allocated in units of {}", Bytes(unit.bytes())),
            "every file that is not empty, and every directory, is charged at least that much",
            "for many small files choose a store on a file system with smaller units",
        ));
    }
    (fstype == "btrfs").then(|| {
        Check::degraded(
            NAME,
            "btrfs keeps extents of which a part is overwritten",
            "files under a limit are written anew as they are overwritten, and may take up to about three times their sizes",
            "nothing, or choose a store on XFS or ext4",
        )
    })
}

fn kind(fstype: &str) -> Check {
    const NAME: &str = "store's file system";
    match fstype {
        "tmpfs" | "ramfs" => Check::degraded(
            NAME,
            fstype,
            "every volume is gone when the machine is switched off",
            "choose a store on a disk with --store DIR",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "virtiofs" | "ceph" | "afs" | "lustre"
        | "beegfs" | "gpfs" | "vboxsf" => Check::degraded(
            NAME,
            fstype,
            "reads and writes go through the daemon, which is slower: the kernel is given no files of a file system that another machine serves; and locks, ownership and crash safety are only as good as that server makes them",
            "choose a store on a local file system with --store DIR",
        ),
        _ if fstype.starts_with("fuse") => Check::degraded(
            NAME,
            fstype,
            "reads and writes go through the daemon, which is slower: the kernel is given no files that another process serves (FUSE); when that process dies, so does the store, and its locks may be local",
            "choose a store on a local file system with --store DIR",
        ),
        _ => Check::ok(NAME, fstype),
    }
}

fn inode_numbers(near: &Path) -> Option<Check> {
    let why = volfs::fuse::why_unfit_numbers(near)?;
    Some(Check::missing(
        "inode numbers",
        why,
        "the store cannot be mounted",
        "choose a store on a local file system with --store DIR",
    ))
}

fn handles(near: &Path, fstype: &str) -> Check {
    const NAME: &str = "file handles";
    let handle = std::fs::File::open(near)
        .map_err(|error| error.to_string())
        .and_then(|directory| {
            volfs::sys::handle::of_fd(&directory).map_err(|error| error.to_string())
        });
    match handle {
        Ok(_) => Check::ok(NAME, format!("{fstype} has them")),
        Err(error) => Check::degraded(
            NAME,
            format!("{fstype}: {error}"),
            "name_to_handle_at does not work there, so that the daemon keeps descriptors open instead",
            "choose a store on ext4, XFS or btrfs with --store DIR",
        ),
    }
}

fn space(near: &Path) -> Check {
    const NAME: &str = "free space";
    let stat = match statvfs(near) {
        Ok(stat) => stat,
        Err(error) => return Check::ok(NAME, format!("unknown: {}", error.desc())),
    };
    let free = stat.blocks_available() * stat.fragment_size();
    let found = match stat.files() {
        // btrfs makes inodes as it needs them.
        0 => format!("{} free", Bytes(free)),
        _ => format!("{} and {} inodes free", Bytes(free), stat.files_available()),
    };
    let low = |free: u64, all: u64| all > 0 && free < all.div_ceil(100) * LOW_PER_CENT;
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Check::missing(
            NAME,
            "the file system is read-only",
            "volumes can only be looked at, with volfs mount --read-only",
            "remount it read-write, or choose another store with --store DIR",
        );
    }
    if low(stat.blocks_available(), stat.blocks()) || low(stat.files_available(), stat.files()) {
        return Check::degraded(
            NAME,
            found,
            "volumes may find the disk full before they reach their limits",
            "free some space, or move the store",
        );
    }
    Check::ok(NAME, found)
}

fn daemon(store: &Path) -> Result<Option<Status>, String> {
    let client = Client::connect(store).map_err(|error| error.to_string())?;
    client
        .map(|client| client.status().map_err(|error| error.to_string()))
        .transpose()
}

fn lock(store: &Path, daemon: Option<&Status>) -> Check {
    const NAME: &str = "store's lock";
    if daemon.is_some() {
        return Check::ok(NAME, "held by the daemon");
    }
    let file = match named_file::open(&store.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Check::ok(NAME, "free"),
        Err(error) => {
            return Check::missing(
                NAME,
                format!("{}: {error}", store.join("lock").display()),
                "nobody can use the store",
                "become the owner of the store or root; if it is no file, move it away",
            );
        }
    };
    match file.try_lock_shared() {
        Ok(()) => Check::ok(NAME, "free"),
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(store.join("lock")).unwrap_or_default();
            Check::missing(
                NAME,
                format!("held by {}", holder.trim()),
                "another process changes the store, and no daemon answers on its socket",
                "wait for that process, or end it",
            )
        }
        Err(TryLockError::Error(error)) => Check::missing(
            NAME,
            error.to_string(),
            "the file system cannot lock files (flock), so that two daemons could damage the store",
            "choose another store with --store DIR",
        ),
    }
}

fn daemon_checks(daemon: Result<Option<Status>, String>) -> Vec<Check> {
    const NAME: &str = "daemon";
    let status = match daemon {
        Ok(Some(status)) => status,
        Ok(None) => return vec![Check::ok(NAME, "not running")],
        Err(error) => {
            return vec![Check::missing(
                NAME,
                error,
                "the store cannot be reached through its daemon",
                "use the user that mounted it, or unmount it and mount it again",
            )];
        }
    };
    let found = format!(
        "process {}, on {} since {}, -o {}",
        status.pid,
        status.mountpoint.display(),
        crate::table::time(status.since),
        status.options.join(",")
    );
    let mut checks = vec![if status.version == env!("CARGO_PKG_VERSION") {
        Check::ok(NAME, found)
    } else {
        Check::degraded(
            NAME,
            format!("{found}, volfs {}", status.version),
            "the daemon runs another version than this command",
            format!(
                "volfs umount {} and mount it again",
                names::shell_path(&status.mountpoint)
            ),
        )
    }];
    checks.extend(status.features.into_iter().map(|feature| {
        let name = format!("daemon: {}", feature.name);
        if feature.on {
            Check::ok(&name, format!("in use: {}", feature.why))
        } else {
            Check::degraded(
                &name,
                "not in use",
                feature.why,
                "see the checks above, and the mount's options",
            )
        }
    }));
    checks
}

fn stale_mounts() -> Vec<Check> {
    const NAME: &str = "stale mounts";
    let mounts = mounts::all().unwrap_or_default();
    let checks: Vec<_> = mounts
        .iter()
        .filter(|mount| mounts::is_volfs(mount))
        .filter_map(|mount| {
            let at = String::from_utf8_lossy(mount.mountpoint.as_os_str().as_bytes()).into_owned();
            if let Some(why) = mounts::why_silent(mount) {
                return Some(silent(NAME, &at, &why));
            }
            match mount::answer(&mount.mountpoint) {
                Answer::Served => None,
                Answer::Silent => Some(silent(NAME, &at, "see daemon.log in its store")),
                Answer::Disconnected => Some(Check::degraded(
                    NAME,
                    at.clone(),
                    "its daemon has died; every use of it fails with ENOTCONN",
                    format!(
                        "volfs umount {}, or volfs mount on the same place",
                        names::shell_path(&mount.mountpoint)
                    ),
                )),
            }
        })
        .collect();
    if checks.is_empty() {
        return vec![Check::ok(NAME, "none")];
    }
    checks
}

fn silent(check: &str, at: &str, why: &str) -> Check {
    Check::degraded(
        check,
        format!("{at} does not answer"),
        format!("whoever uses it waits: {why}"),
        format!(
            "the above, or volfs umount --force {}, after which those get errors",
            names::shell_path(Path::new(at))
        ),
    )
}
