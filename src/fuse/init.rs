//! What is agreed with the kernel when the mount starts (FUSE_INIT).

use fuser::{InitFlags, KernelConfig};

/// The largest read or write request in bytes (256 pages, the kernel's
/// default limit, `fs.fuse.max_pages_limit`).
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// Requests that the kernel may have under way in the background.
const MAX_BACKGROUND: u16 = 64;

/// What makes the file system right or fast where the kernel has it; each is
/// asked for alone, so that an older kernel does without. Not FUSE_ASYNC_DIO:
/// with it a direct write that fits in part, at the limit of a volume, is EIO
/// (`fuse_get_res_by_io`) in place of a short write. Nor FUSE_ATOMIC_O_TRUNC,
/// which saves a request: the kernel then has us truncate before it looks whether
/// the file is being executed (`handle_truncate`, fs/namei.c), and an open with
/// O_RDONLY and O_TRUNC that ends with ETXTBSY has killed a running program.
const WANTED: [(InitFlags, &str); 9] = [
    (
        InitFlags::FUSE_DONT_MASK,
        "the umask is left to default ACLs",
    ),
    (InitFlags::FUSE_POSIX_ACL, "POSIX ACLs"),
    (InitFlags::FUSE_DO_READDIRPLUS, "listing with attributes"),
    (
        InitFlags::FUSE_READDIRPLUS_AUTO,
        "only where they are wanted",
    ),
    (
        InitFlags::FUSE_PARALLEL_DIROPS,
        "parallel lookups in a directory",
    ),
    (
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        "no request per write for security.capability",
    ),
    (InitFlags::FUSE_CACHE_SYMLINKS, "symbolic links are cached"),
    (
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        "no request to open a directory",
    ),
    // Only this daemon changes files, always on the kernel's behalf: cached
    // pages stay good when mtime changes.
    (InitFlags::FUSE_EXPLICIT_INVAL_DATA, "cached pages are kept"),
];

/// What a mount can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// The kernel reads and writes host files by itself.
    pub(super) passthrough: bool,
    /// Nodes are found by their ids.
    pub(super) by_id: bool,
}

/// Sets what the mount wants; says whether the kernel will read and write host
/// files by itself.
pub(super) fn negotiate(config: &mut KernelConfig, offer: Offer) -> bool {
    let by_id = (InitFlags::FUSE_EXPORT_SUPPORT, "lasting file handles");
    for (flag, what) in WANTED.into_iter().chain(offer.by_id.then_some(by_id)) {
        if config.add_capabilities(flag).is_err() {
            log::info!("this kernel lacks {what}");
        }
    }
    // An out-of-range value is answered with the nearest that is in range.
    if let Err(most) = config.set_max_write(MAX_WRITE) {
        let _ = config.set_max_write(most);
    }
    if let Err(most) = config.set_max_readahead(MAX_WRITE) {
        let _ = config.set_max_readahead(most);
    }
    let _ = config.set_max_background(MAX_BACKGROUND);
    offer.passthrough
        && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        // One level: host files may not be on a stacked file system, so that
        // an overlay may be stacked on the mount.
        && config.set_max_stack_depth(1).is_ok()
}
