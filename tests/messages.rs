//! The sentences of errors that no transcript shows, because the machine, a
//! guest, another program or another version of volfs has to be at fault. What
//! brings each about is tested where that is; here it is what people read.

use std::path::PathBuf;

use nix::errno::Errno;
use volfs::control::Refusal;
use volfs::diskimg::{
    AttachError, CheckError, FormatError, GrowError, InspectError, OptionError, PlanError,
};
use volfs::fuse::MountError;
use volfs::fuse::error::OpError;
use volfs::meta;
use volfs::model::VolumeName;
use volfs::volume;

fn check(all: Vec<(&dyn std::fmt::Display, &str)>) {
    for (error, sentence) in all {
        assert_eq!(error.to_string(), sentence);
    }
}

fn name() -> VolumeName {
    "db".parse().unwrap()
}

fn path() -> PathBuf {
    "/srv/x".into()
}

#[test]
fn of_volumes() {
    let daemon = volume::Error::Daemon {
        socket: path(),
        why: "it is ending".into(),
        gone: true,
    };
    let unsteady = volume::Error::Unsteady {
        name: name(),
        holders: Vec::new(),
    };
    let silent = volume::Error::Unresponsive {
        socket: path(),
        pid: Some(7),
        why: "process 7 is stopped".into(),
    };
    check(vec![
        (
            &silent,
            "the daemon on \"/srv/x\" does not answer: process 7 is stopped",
        ),
        (
            &volume::Error::CatalogueRefused {
                path: path(),
                why: "UNIQUE constraint failed".into(),
            },
            "the catalogue \"/srv/x\" is sound but does not take the change: UNIQUE constraint failed; this is a fault of volfs, please report it",
        ),
        (
            &volume::Error::Outside {
                path: "../x".into(),
            },
            "\"../x\" leads out of the volume, by '..', an absolute symbolic link or a mount; name something inside",
        ),
        (
            &daemon,
            "no usable answer from the daemon on \"/srv/x\": it is ending",
        ),
        (
            &unsteady,
            "volume \"db\" cannot be counted while files in it are being written to without a limit, by ; try again when they are closed",
        ),
        (
            &"x".parse::<volfs::model::VolumeId>().unwrap_err(),
            "\"x\" is not a volume id (32 lower-case hexadecimal digits)",
        ),
        (
            &meta::Error::Newer {
                path: path(),
                found: 9,
                known: 2,
            },
            "\"/srv/x\" has schema version 9, this program knows up to 2",
        ),
        (
            &meta::Error::System {
                path: path(),
                errno: 28,
            },
            "\"/srv/x\": os error 28",
        ),
    ]);
}

#[test]
fn of_the_control_socket() {
    check(vec![
        (
            &Refusal::ProtocolVersion {
                version: "9.0.0".into(),
                daemon: 9,
                asked: 1,
            },
            "it is volfs 9.0.0 and speaks control protocol 9, not 1; mount again with this version of volfs, or use the command of that version",
        ),
        (
            &Refusal::BadRequest {
                why: "no method".into(),
            },
            "it does not understand the request: no method",
        ),
        (
            &Refusal::TooLong { limit: 1024 },
            "the request is longer than 1024 bytes",
        ),
        (
            &Refusal::TooSlow { seconds: 10 },
            "the request was not complete within 10 seconds",
        ),
        (
            &Refusal::Forbidden { uid: 1000 },
            "user id 1000 may not control it; only root and the user who mounted the store may",
        ),
        (&Refusal::Ending, "it is ending"),
        (
            &Refusal::TooManyConnections { connections: 32 },
            "it already serves 32 connections; try again",
        ),
    ]);
}

#[test]
fn of_a_mount() {
    check(vec![
        (
            &MountError::Inherited {
                why: "no device".into(),
            },
            "cannot take over from the process that served before: no device",
        ),
        (
            &MountError::Store {
                path: path(),
                why: "no handles".into(),
            },
            "cannot serve the store \"/srv/x\": no handles",
        ),
        (&volfs::fuse::mount::UnmountFailure::Busy, "it is in use"),
        (
            &OpError::CrossVolume,
            "source and destination are in different volumes",
        ),
        (&OpError::VolumeGone, "the volume of this file is gone"),
        (
            &OpError::ControlFiles { by: "you have" },
            "you have as many files of .volfs open as there may be: each keeps its text in memory; close some",
        ),
        (
            &OpError::OpenFiles {
                name: "v".parse().unwrap(),
                open: 7500,
                limit: 20_000,
            },
            "7500 files of volume \"v\" are open through the daemon, and a volume may have no more than are left for all others; close some, or let the daemon have more descriptors than 20000 (LimitNOFILE=, ulimit -n)",
        ),
        (
            &OpError::InodeNumber(1 << 41),
            "the host's inode number 2199023255552 has more than 40 bits",
        ),
        (&OpError::BadName, "not a file name"),
        (&OpError::NoProperty, "there is no such volfs.* attribute"),
        (
            &OpError::DiskTaken(name()),
            "the image of volume \"db\" is being changed by a command; try again",
        ),
        (
            &OpError::NoWay {
                name: name(),
                why: "no loop device".into(),
            },
            "volume \"db\" is read-only here, because its image cannot be mounted: no loop device",
        ),
        (
            &OpError::ImageErrors {
                name: name(),
                count: 2,
                last_in: String::new(),
            },
            "ext4 has found 2 errors in the image of volume \"db\", which is not written any more; close its files and run 'volfs disk check --repair db'",
        ),
    ]);
}

#[test]
fn of_an_image_that_is_attached_or_checked() {
    let errno = Errno::EIO;
    check(vec![
        (
            &AttachError::Open { errno },
            "the image cannot be opened: I/O error",
        ),
        (
            &AttachError::InUse { device: 3 },
            "the image is still attached to /dev/loop3; whoever has files of it open, perhaps through the mount of a daemon that was killed, must close them first",
        ),
        (
            &AttachError::Served { path: path() },
            "a process (fuse2fs, of a daemon that was killed) still has the image \"/srv/x\"; it ends when files of the image that are open are closed",
        ),
        (
            &AttachError::Mount {
                errno,
                messages: String::new(),
            },
            "the kernel does not mount the image: I/O error",
        ),
        (
            &AttachError::Fuse2fs {
                errno,
                messages: String::new(),
            },
            "fuse2fs does not serve the image: I/O error",
        ),
        (
            &AttachError::Unclean {
                said: "a mess".into(),
            },
            "the image was not cleanly unmounted, and e2fsck finds what it does not mend unasked: a mess",
        ),
        (
            &CheckError::NotInstalled,
            "e2fsck is not installed; on Debian it is in the package e2fsprogs",
        ),
        (
            &CheckError::Failed {
                status: std::process::Command::new("false").status().unwrap(),
                said: "nothing".into(),
            },
            "e2fsck ended with exit status: 1: nothing",
        ),
        (
            &CheckError::Endless,
            "e2fsck kept a processor busy for 24 hours and was ended; while nothing uses the volume, 'e2fsck -f' on the image has no limit",
        ),
    ]);
}

#[test]
fn of_an_image_that_is_made_or_grown() {
    check(vec![
        (
            &OptionError::RootMode { mode: 0o10777 },
            "the root directory's mode 0o10777 has bits outside 07777: give permission bits only",
        ),
        (
            &FormatError::from(PlanError::NoRoomFor {
                what: "the journal",
                blocks: 5,
            }),
            "cannot lay out the image: no room for the journal (5 blocks): give a larger size, fewer inodes or a smaller journal",
        ),
        (
            &FormatError::NotEmpty,
            "the file to format is not an empty regular file: give a new file, whose blocks read as zeros",
        ),
        (
            &OptionError::Reserved { basis_points: 6025 },
            "60.25% of the blocks cannot be reserved: give at most 50%",
        ),
        (
            &InspectError::Unsupported {
                feature: "x".into(),
            },
            "the image uses x, which this reader does not support: use dumpe2fs",
        ),
        (
            &GrowError::TooManyInodes { wanted: 2, most: 1 },
            "with its inodes per group the image can have at most 1 bytes, and 2 were asked for: make a new image with fewer inodes, and copy",
        ),
    ]);
}
