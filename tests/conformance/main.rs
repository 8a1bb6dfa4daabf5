//! Every operation, on a plain directory and in a volume: both must show the
//! same results, error numbers, attributes and contents.

mod acl;
mod allowed;
mod attributes;
mod creation;
mod dir;
mod documented;
mod flags;
mod io;
mod kinds;
mod link_limit;
mod links;
mod listing;
mod locks;
mod lookup;
mod mapping;
mod names;
mod nodes;
mod open;
mod probe;
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

use allowed::{ALWAYS, DIRECT, NO_BIRTH, NO_DEVICES, OWN_FIGURES, PASSTHROUGH, PROBED, QUOTA};
use table::Row;

/// As `volfs mount` does without options: data goes by kernel passthrough.
const DEFAULTS: Row = Row {
    arguments: &[],
    quota: None,
    allowed: &[ALWAYS, PROBED, NO_BIRTH, NO_DEVICES, PASSTHROUGH],
};

/// Data goes through the daemon.
const THROUGH_DAEMON: Row = Row {
    arguments: &["--no-passthrough"],
    quota: None,
    allowed: &[ALWAYS, PROBED, NO_BIRTH, DIRECT, NO_DEVICES],
};

/// Everything is charged to a limit that is never reached.
const WITH_QUOTA: Row = Row {
    arguments: &[],
    quota: Some("7E"),
    allowed: &[ALWAYS, PROBED, NO_BIRTH, DIRECT, NO_DEVICES, QUOTA],
};

/// Times of birth are told.
const WITH_BIRTH: Row = Row {
    arguments: &["--birth-time"],
    quota: None,
    allowed: &[ALWAYS, PROBED, NO_DEVICES, PASSTHROUGH],
};

/// The same, through the daemon and in disk volumes.
const DISK_WITH_BIRTH: Row = Row {
    arguments: &[
        "-o",
        "birth_time,nopassthrough,default_kind=disk,default_size=2G",
    ],
    quota: None,
    allowed: &[ALWAYS, PROBED, DIRECT, NO_DEVICES, OWN_FIGURES],
};

/// Device nodes work.
const WITH_DEVICES: Row = Row {
    arguments: &["-o", "dev"],
    quota: None,
    allowed: &[ALWAYS, PASSTHROUGH],
};

/// A disk volume has a file system, and figures, of its own.
const DISK: Row = Row {
    arguments: &["-o", "default_kind=disk,default_size=2G"],
    quota: None,
    allowed: &[
        ALWAYS,
        PROBED,
        NO_BIRTH,
        NO_DEVICES,
        PASSTHROUGH,
        OWN_FIGURES,
    ],
};

/// One test per family and row of the matrix, so that they run side by side
/// and fail by name.
macro_rules! families {
    ($module:ident, $row:ident: $($family:ident)*) => {
        mod $module {
            $(#[test]
            fn $family() {
                super::table::run(stringify!($family), super::$family::CASES, &super::$row);
            })*
        }
    };
}

families! {
    defaults, DEFAULTS:
    link_limit lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl sync mapping locks names flags probe
}

families! {
    through_daemon, THROUGH_DAEMON:
    lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl sync mapping locks names flags probe
}

families! {
    with_quota, WITH_QUOTA:
    lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl sync mapping locks names flags probe
}

families! {
    with_birth, WITH_BIRTH:
    probe times
}

families! {
    disk_with_birth, DISK_WITH_BIRTH:
    probe times
}

families! {
    with_devices, WITH_DEVICES:
    open nodes
}

families! {
    disk, DISK:
    lookup open creation attributes setid times nodes unlink links rename io space listing xattrs
    acl sync mapping locks names flags probe
}
