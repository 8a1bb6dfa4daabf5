//! Differences from the host that the kernel or the design imposes, each with
//! its reason. Everything else is a bug.

use crate::table::Allowed;

const TMPFILE: &str = "files without a name are not offered; programs fall back to a named file";
const KERNEL: &str = "the kernel's FUSE client answers itself, without asking the daemon";
const WHOLE: &str = "for whole file systems, and a volume is none";
const C_LIBRARY: &str =
    "the C library goes by the type of the file system, and does not know FUSE's limits";

/// A case that is seen so on the volume, for this reason.
const fn refused(
    case: &'static str,
    label: &'static str,
    on_volume: &'static str,
    reason: &'static str,
) -> Allowed {
    Allowed {
        case,
        label,
        on_volume,
        reason,
    }
}

const BIRTH: &str = "a request for each file is its price: mount with --birth-time";

/// Without `--birth-time`.
pub const NO_BIRTH: &[Allowed] = &[
    refused("statx", "f: fields", "7ff", BIRTH),
    refused("statx", "f: born just now", "False", BIRTH),
    refused("statx", "d: fields", "7ff", BIRTH),
    refused("statx", "d: born just now", "False", BIRTH),
    refused("statx", "l: fields", "7ff", BIRTH),
    refused("statx", "l: born just now", "False", BIRTH),
    refused("statx", "p: fields", "7ff", BIRTH),
    refused("statx", "p: born just now", "False", BIRTH),
];

/// What `probe.py` finds on every mount.
pub const PROBED: &[Allowed] = &[
    refused("statx", "f: attributes known", "False", KERNEL),
    refused("statx", "d: attributes known", "False", KERNEL),
    refused("statx", "l: attributes known", "False", KERNEL),
    refused("statx", "p: attributes known", "False", KERNEL),
    refused("statx", "f: alignment of direct I/O", "False", KERNEL),
    refused(
        "ioctl",
        "FS_IOC_SETVERSION",
        "ENOTTY",
        "file handles stand on it",
    ),
    refused("ioctl", "FS_IOC_GETFSLABEL", "ENOTTY", WHOLE),
    refused("ioctl", "FS_IOC_GETFSUUID", "ENOTTY", WHOLE),
    refused("ioctl", "FS_IOC_GETFSSYSFSPATH", "ENOTTY", WHOLE),
    refused("ioctl", "FS_IOC_GET_ENCRYPTION_POLICY", "ENOTTY", WHOLE),
    refused("ioctl", "FS_IOC_ENABLE_VERITY", "ENOTTY", KERNEL),
    refused("ioctl", "FS_IOC_MEASURE_VERITY", "ENOTTY", KERNEL),
    refused("ioctl", "EXT4_IOC_MOVE_EXT", "ENOTTY", WHOLE),
    refused("ioctl", "FS_IOC_FIEMAP", "EOPNOTSUPP", KERNEL),
    refused(
        "preadv2 and pwritev2",
        "read RWF_NOWAIT",
        "EOPNOTSUPP",
        KERNEL,
    ),
    refused(
        "preadv2 and pwritev2",
        "read RWF_DONTCACHE",
        "EOPNOTSUPP",
        KERNEL,
    ),
    refused(
        "preadv2 and pwritev2",
        "write RWF_DONTCACHE",
        "EOPNOTSUPP",
        KERNEL,
    ),
    refused(
        "preadv2 and pwritev2",
        "read RWF_DONTCACHE with O_DIRECT",
        "EOPNOTSUPP",
        KERNEL,
    ),
    refused(
        "preadv2 and pwritev2",
        "write RWF_DONTCACHE with O_DIRECT",
        "EOPNOTSUPP",
        KERNEL,
    ),
    refused("modes of fallocate", "COLLAPSE_RANGE", "EOPNOTSUPP", KERNEL),
    refused("modes of fallocate", "INSERT_RANGE", "EOPNOTSUPP", KERNEL),
    refused("handles and watches", "fanotify: a mount", "ENODEV", WHOLE),
    refused(
        "handles and watches",
        "fanotify: a file system",
        "ENODEV",
        WHOLE,
    ),
    refused(
        "handles and watches",
        "fanotify: names of a file system",
        "ENODEV",
        WHOLE,
    ),
    refused(
        "handles and watches",
        "fanotify with names: a mount",
        "ENODEV",
        WHOLE,
    ),
    refused(
        "handles and watches",
        "fanotify with names: a file system",
        "ENODEV",
        WHOLE,
    ),
    refused(
        "handles and watches",
        "fanotify with names: names of a file system",
        "ENODEV",
        WHOLE,
    ),
    refused("handles and watches", "epoll", "done", KERNEL),
    refused(
        "pathconf, quotactl and extremes",
        "PC_FILESIZEBITS",
        "32",
        C_LIBRARY,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "PC_LINK_MAX",
        "127",
        C_LIBRARY,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "quotactl_fd Q_SYNC",
        "ENOSYS",
        WHOLE,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "quotactl_fd Q_GETFMT",
        "ENOSYS",
        WHOLE,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "quotactl_fd Q_GETINFO",
        "ENOSYS",
        WHOLE,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "quotactl_fd Q_GETQUOTA",
        "ENOSYS",
        WHOLE,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "lseek to 2^44",
        "17592186044416",
        KERNEL,
    ),
    refused(
        "pathconf, quotactl and extremes",
        "lseek to 2^62",
        "4611686018427387904",
        KERNEL,
    ),
];

const UNALIGNED: &str = "the daemon reads and writes through the page cache of the host, which any address \
                         and length will do for";

/// Where direct I/O goes through the daemon.
pub const DIRECT: &[Allowed] = &[
    refused(
        "preadv2 and pwritev2",
        "direct read of 100 bytes",
        "100",
        UNALIGNED,
    ),
    refused(
        "preadv2 and pwritev2",
        "direct read at 10",
        "4096",
        UNALIGNED,
    ),
    refused(
        "preadv2 and pwritev2",
        "direct read at memory of any address",
        "4096",
        UNALIGNED,
    ),
    refused(
        "preadv2 and pwritev2",
        "direct write of 100 bytes",
        "100",
        UNALIGNED,
    ),
    refused(
        "preadv2 and pwritev2",
        "direct write at 10",
        "4096",
        UNALIGNED,
    ),
    refused(
        "preadv2 and pwritev2",
        "direct write at memory of any address",
        "4096",
        UNALIGNED,
    ),
];

/// On every mount.
pub const ALWAYS: &[Allowed] = &[
    refused("open flags", "O_TMPFILE", "EOPNOTSUPP", TMPFILE),
    Allowed {
        case: "O_TMPFILE",
        label: "open",
        on_volume: "EOPNOTSUPP",
        reason: TMPFILE,
    },
    Allowed {
        case: "COLLAPSE_RANGE and INSERT_RANGE",
        label: "FallocateFlags(COLLAPSE_RANGE)",
        on_volume: "EOPNOTSUPP",
        reason: "the kernel's FUSE client refuses these two modes itself",
    },
    Allowed {
        case: "COLLAPSE_RANGE and INSERT_RANGE",
        label: "FallocateFlags(INSERT_RANGE)",
        on_volume: "EOPNOTSUPP",
        reason: "the kernel's FUSE client refuses these two modes itself",
    },
    Allowed {
        case: "seek",
        label: "Start(4611686018427387904)",
        on_volume: "4611686018427387904",
        reason: "lseek does not ask the file system; FUSE's largest offset is the kernel's",
    },
    Allowed {
        case: "chown that changes nothing",
        label: "by root",
        on_volume: "RegularFile 6755 1000:1000 links 1 size 1",
        reason: "the kernel's FUSE client sends no request when no attribute is left to set",
    },
    Allowed {
        case: "chown that changes nothing",
        label: "by the owner",
        on_volume: "RegularFile 6755 1000:1000 links 1 size 1",
        reason: "the kernel's FUSE client sends no request when no attribute is left to set",
    },
    Allowed {
        case: "flags that change how contents are kept",
        label: "set 4",
        on_volume: "EOPNOTSUPP",
        reason: "compression is a matter of the store's file system, which all volumes share",
    },
    Allowed {
        case: "flags that change how contents are kept",
        label: "set 4000",
        on_volume: "EOPNOTSUPP",
        reason: "contents that go through the journal would keep all other volumes waiting",
    },
];

/// Without `-o dev`.
pub const NO_DEVICES: &[Allowed] = &[
    Allowed {
        case: "devices",
        label: "open a character device",
        on_volume: "EACCES",
        reason: "volumes are mounted nodev unless -o dev is given",
    },
    Allowed {
        case: "devices",
        label: "open a block device that is none",
        on_volume: "EACCES",
        reason: "volumes are mounted nodev unless -o dev is given",
    },
];

/// Where the kernel writes to the backing file itself.
pub const PASSTHROUGH: &[Allowed] = &[Allowed {
    case: "bits set by root while it is open",
    label: "left",
    on_volume: "RegularFile 0777 1000:1000 links 1 size 12",
    reason: "the kernel writes to the backing file without CAP_FSETID, so that no caller can keep \
             a set-id bit by writing; root's write through a handle that was opened before the \
             chmod clears the bit too",
}];

/// In a volume with a limit.
pub const QUOTA: &[Allowed] = &[
    Allowed {
        case: "KEEP_SIZE beyond the end",
        label: "FallocateFlags(KEEP_SIZE)",
        on_volume: "EOPNOTSUPP",
        reason: "a file is charged by its size, which would not show this allocation",
    },
    Allowed {
        case: "KEEP_SIZE beyond the end",
        label: "FallocateFlags(KEEP_SIZE | ZERO_RANGE)",
        on_volume: "EOPNOTSUPP",
        reason: "a file is charged by its size, which would not show this allocation",
    },
    Allowed {
        case: "KEEP_SIZE beyond the end",
        label: "blocks",
        on_volume: "128",
        reason: "a file is charged by its size, which would not show this allocation",
    },
    Allowed {
        case: "truncate",
        label: "too far",
        on_volume: "ENOSPC",
        reason: "the limit is looked at first, and the size is over it too",
    },
    Allowed {
        case: "statfs of the whole",
        label: "blocks",
        on_volume: "1970324836974592",
        reason: "df shows the limit of the volume: 7 EiB in blocks of 4 KiB",
    },
];

/// What a disk volume of 2 GiB shows of itself.
pub const OWN_FIGURES: &[Allowed] = &[
    Allowed {
        case: "statfs of the whole",
        label: "blocks",
        on_volume: "499284",
        reason: "2 GiB without what the file system itself takes",
    },
    Allowed {
        case: "statfs of the whole",
        label: "inodes",
        on_volume: "131072",
        reason: "one for 16 KiB",
    },
];
