//! Every operation, on a plain directory and in a volume: both must show the
//! same results, error numbers, attributes and contents.

mod acl;
mod attributes;
mod creation;
mod dir;
mod io;
mod kinds;
mod links;
mod listing;
mod locks;
mod lookup;
mod mapping;
mod names;
mod nodes;
mod open;
mod rename;
mod setid;
mod space;
#[path = "../support/mod.rs"]
mod support;
mod sync;
mod table;
mod times;
mod trace;
mod unlink;
mod xattrs;

use table::Allowed;

/// Differences that the kernel or the mount options impose. Everything else is
/// a bug.
const ALLOWED: &[Allowed] = &[
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

/// A disk volume has a file system of its own.
const DISK: &[&str] = &["-o", "default_kind=disk,default_size=2G"];
const OWN_FIGURES: &[Allowed] = &[
    Allowed {
        case: "statfs",
        label: "blocks",
        on_volume: "499284",
        reason: "2 GiB without what the file system itself takes",
    },
    Allowed {
        case: "statfs",
        label: "inodes",
        on_volume: "131072",
        reason: "one for 16 KiB",
    },
];

/// One test per family and row of mount options, so that they run side by side
/// and fail by name.
macro_rules! families {
    ($row:ident, $arguments:expr, $allowed:expr; $($family:ident)*) => {
        mod $row {
            $(#[test]
            fn $family() {
                let name = stringify!($family);
                super::table::run(name, super::$family::CASES, $arguments, $allowed);
            })*
        }
    };
}

families! {
    defaults, &[], super::ALLOWED;
    lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl sync mapping locks names
}

families! {
    with_devices, &["-o", "dev"], super::ALLOWED;
    nodes open
}

families! {
    disk, super::DISK, super::ALLOWED;
    lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl mapping locks names
}

families! {
    disk_figures, super::DISK, super::OWN_FIGURES;
    sync
}
