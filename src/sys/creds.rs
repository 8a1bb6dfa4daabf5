//! Per-thread credentials: acting for a caller without becoming less able.
//!
//! File-system ids, supplementary groups, umask and effective capabilities are
//! per thread in the kernel; the C library's wrappers would change them for
//! the whole process, so these are raw system calls.

use std::cell::Cell;

use nix::errno::Errno;

use super::{Result, check};

/// Bit numbers of capabilities (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Give files away.
    Chown = 0,
    /// Pass permission checks.
    DacOverride = 1,
    /// Open by handle.
    DacReadSearch = 2,
    /// Act as the owner.
    Fowner = 3,
    /// Keep set-user-id bits over a write.
    Fsetid = 4,
    /// Act with another user id.
    Setuid = 7,
    /// Act with another group id.
    Setgid = 6,
    /// Mount, register passthrough files, `trusted.*` attributes.
    SysAdmin = 21,
    /// Resize a mounted ext4.
    SysResource = 24,
    /// Make device nodes.
    Mknod = 27,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// `SECBIT_NO_SETUID_FIXUP`: changing ids leaves capabilities alone.
const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// The three capability sets of a thread, as bit masks.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn capget() -> Result<[CapData; 2]> {
    let mut header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: both pointers are to live values of the version-3 layout.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

fn capset(data: &[CapData; 2]) -> Result<()> {
    let mut header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // SAFETY: both pointers are to live values of the version-3 layout.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// Gives up all capabilities of this thread for good.
///
/// # Errors
/// None that is known.
pub(super) fn give_up_all() -> Result<()> {
    capset(&[CapData::default(); 2])
}

/// Whether this thread has the capability in effect.
#[must_use]
pub fn has(capability: Capability) -> bool {
    capget().is_ok_and(|data| data[0].effective & (1 << capability as u32) != 0)
}

/// What a thread has been prepared to do.
#[derive(Clone, Copy)]
struct Prepared {
    /// It can act for other users.
    switches: bool,
    uid: u32,
    gid: u32,
    caps: [CapData; 2],
}

thread_local! {
    static PREPARED: Cell<Option<Prepared>> = const { Cell::new(None) };
    /// CAP_FSETID has been given up, until an operation needs it.
    static LACKS_FSETID: Cell<bool> = const { Cell::new(false) };
    /// The umask of a thread that has its own: mostly the next caller's too.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Sets the umask of a prepared thread.
fn set_umask(umask: u32) {
    if UMASK.get() != Some(umask) {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        UMASK.set(UMASK.get().and(Some(umask)));
    }
}

/// Gives the thread a umask of its own and, if the process may act for others,
/// capabilities that stay when the ids change. Once per thread.
fn prepare() -> Prepared {
    if let Some(prepared) = PREPARED.get() {
        return prepared;
    }
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    let caps = capget().unwrap_or_default();
    let able = |c: Capability| caps[0].effective & (1 << c as u32) != 0;
    let mut switches = able(Capability::Setuid)
        && able(Capability::Setgid)
        && able(Capability::DacOverride)
        && able(Capability::Chown);
    // Otherwise the umask of one request would be another's.
    let own_umask = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS);
    if let Err(errno) = own_umask {
        log::warn!("this thread shares its umask with others: unshare(CLONE_FS): {errno}");
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    UMASK.set(own_umask.is_ok().then_some(0));
    if switches {
        // SAFETY: prctl with plain numbers.
        let current = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
        let wanted = current.unsigned_abs() as libc::c_ulong | SECBIT_NO_SETUID_FIXUP;
        // SAFETY: prctl with plain numbers.
        let set = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, wanted) };
        if set == -1 {
            log::warn!(
                "files are made as the daemon's user: securebits: {}",
                Errno::last()
            );
            switches = false;
        }
    }
    let prepared = Prepared {
        switches,
        uid,
        gid,
        caps,
    };
    PREPARED.set(Some(prepared));
    prepared
}

/// Whether threads of this process can act for other users, so that new files
/// are owned by who makes them.
#[must_use]
pub fn can_switch() -> bool {
    prepare().switches
}

/// The thread acts for a caller until this is dropped.
#[must_use]
pub struct Acting {
    restore: Restore,
    /// Credentials belong to the thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

struct Restore {
    ids: bool,
    groups: bool,
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: plain numbers. The calls return the old id, never an error.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the length describe a live slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

impl Acting {
    fn nothing() -> Self {
        Self {
            restore: Restore {
                ids: false,
                groups: false,
            },
            _not_send: std::marker::PhantomData,
        }
    }

    /// Acts as the daemon itself, on a prepared thread; with or without
    /// CAP_FSETID, for what does not concern set-user-id and set-group-id bits.
    pub fn daemon() -> Self {
        prepare();
        Self::nothing()
    }

    /// As [`daemon`](Self::daemon), with CAP_FSETID: bits are kept, and set as
    /// asked.
    pub fn keeping_set_id() -> Self {
        let prepared = prepare();
        if LACKS_FSETID.get() {
            match capset(&prepared.caps) {
                Ok(()) => LACKS_FSETID.set(false),
                Err(errno) => log::error!("cannot take CAP_FSETID back: {errno}"),
            }
        }
        Self::nothing()
    }

    /// What is made now belongs to `uid` and `gid`; `umask` is applied by the
    /// host, unless a default ACL replaces it. `mode` is what it will have.
    pub fn maker(uid: u32, gid: u32, umask: u32, mode: u32) -> Self {
        let prepared = prepare();
        let mut acting = if mode & (libc::S_ISUID | libc::S_ISGID) == 0 {
            Self::nothing()
        } else {
            Self::keeping_set_id()
        };
        set_umask(umask);
        if prepared.switches && (uid, gid) != (prepared.uid, prepared.gid) {
            set_fs_ids(uid, gid);
            acting.restore.ids = true;
        }
        acting
    }

    /// Changes made now clear set-user-id and set-group-id bits, as they do
    /// for a caller without CAP_FSETID (`file_remove_privs`, `fs/inode.c`).
    /// The thread stays so until it needs the capability: files are opened far
    /// more often than bits are set, and each change costs two system calls.
    pub fn without_fsetid() -> Self {
        let prepared = prepare();
        if !LACKS_FSETID.get() {
            let mut caps = prepared.caps;
            caps[0].effective &= !(1 << Capability::Fsetid as u32);
            match capset(&caps) {
                Ok(()) => LACKS_FSETID.set(true),
                Err(errno) => log::error!("cannot give CAP_FSETID up: {errno}"),
            }
        }
        Self::nothing()
    }

    /// Changes made now are judged by the caller's own ids, groups and lack of
    /// CAP_FSETID, where set-group-id depends on membership.
    ///
    /// # Errors
    /// `EPERM` when the thread may not change its groups.
    pub fn member(uid: u32, gid: u32, groups: &[u32]) -> Result<Self> {
        let mut acting = Self::without_fsetid();
        let prepared = prepare();
        if prepared.switches {
            set_groups(groups)?;
            acting.restore.groups = true;
            set_fs_ids(uid, gid);
            acting.restore.ids = true;
        }
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let prepared = prepare();
        if self.restore.ids {
            set_fs_ids(prepared.uid, prepared.gid);
        }
        if self.restore.groups && set_groups(&[prepared.gid]).is_err() {
            log::error!("cannot give up a caller's groups: {}", Errno::last());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_maker_owns_what_it_makes_and_the_daemon_stays_able() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().unwrap();
        {
            let _as = Acting::maker(1234, 2345, 0o027, 0o666);
            std::fs::write(dir.path().join("a"), "x").unwrap();
        }
        std::fs::write(dir.path().join("b"), "x").unwrap();
        let a = std::fs::metadata(dir.path().join("a")).unwrap();
        assert_eq!((a.uid(), a.gid(), a.mode() & 0o7777), (1234, 2345, 0o640));
        let b = std::fs::metadata(dir.path().join("b")).unwrap();
        assert_eq!((b.uid(), b.gid()), (0, 0));
    }

    #[test]
    fn without_fsetid_a_write_clears_the_bits() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("x");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6755)).unwrap();
        write("y");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o6755);
        {
            let _as = Acting::without_fsetid();
            write("z");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6755)).unwrap();
        {
            let _as = Acting::keeping_set_id();
            write("z");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o6755);
        assert!(has(Capability::Fsetid));
    }
}
