//! Differences from the host that the kernel or the design imposes, each with
//! its reason. Everything else is a bug.

use crate::table::Allowed;

/// On every mount.
pub const ALWAYS: &[Allowed] = &[
    Allowed {
        case: "O_TMPFILE",
        label: "open",
        on_volume: "EOPNOTSUPP",
        reason: "the FUSE library has no tmpfile request; programs fall back to a named file",
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
        case: "where it cannot be",
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
