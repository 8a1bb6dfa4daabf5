//! What is mounted where and how, and how `-o` changes it.

use std::path::{Path, PathBuf};

use volfs::diskimg::ImageSize;
use volfs::fuse::{MountOptions, RmdirPolicy};
use volfs::model::{Kind, Limits, Retention};

use crate::context::absolute_store;
use crate::failure::{Failure, Outcome};
use crate::mounts;
use crate::names;

/// What is mounted where and how.
#[derive(Clone, Debug)]
pub struct MountPlan {
    /// The store's directory, absolute.
    pub store: PathBuf,
    /// The mountpoint, absolute.
    pub mountpoint: PathBuf,
    /// How.
    pub options: MountOptions,
    /// Where a daemon in the background logs to.
    pub log: LogTo,
    /// Whether the mount outlives the process that serves it.
    pub supervised: bool,
}

/// Where a daemon in the background logs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// `daemon.log` in the store.
    #[default]
    File,
    /// systemd's journal.
    Journal,
}

/// The options that this command understands, for the error text.
const KNOWN: &str = "ro, rw, dev, allow_dev, nodev, suid, allow_suid, nosuid, exec, noexec, atime, noatime, relatime, \
    allow_other, default_permissions, passthrough, nopassthrough, birth_time, low_latency, supervisor, nosupervisor, rmdir=empty|trash, \
    root_mode=OCTAL, default_quota=SIZE, default_quota_inodes=N, default_kind=directory|disk, \
    default_size=SIZE, user_volumes=N, user_bytes=SIZE, user_inodes=N, trash_retention=AGE|none, trust_guest_images, threads=N, log=file|journal, store=DIR";

/// Options that mount(8) and fstab have for themselves, and those that ask for
/// what is so anyway.
const WITHOUT_EFFECT: [&str; 26] = [
    "",
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "async",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nolazytime",
    "silent",
    "loud",
    "nomand",
    "default_permissions",
    "noiversion",
];

/// Beginnings of options that are for mount(8), systemd and others.
const WITHOUT_EFFECT_START: [&str; 7] = [
    "x-", "X-", "comment=", "user=", "uhelper=", "helper=", "subtype=",
];

impl MountPlan {
    /// A mount with the default options.
    pub fn new(store: &Path, mountpoint: &Path) -> Outcome<Self> {
        if mountpoint.as_os_str().is_empty() {
            return Err(Failure::usage("the mountpoint is an empty text"));
        }
        let mountpoint = mounts::resolve(mountpoint)
            .map_err(|error| Failure::io("find the mountpoint", mountpoint, &error))?;
        if mountpoint.to_str().is_none() {
            return Err(Failure::usage(format!(
                "the mountpoint {mountpoint:?} has a path that is not UTF-8; choose another"
            )));
        }
        Ok(Self {
            store: store.to_owned(),
            mountpoint,
            options: MountOptions::default(),
            log: LogTo::default(),
            supervised: true,
        })
    }

    /// Applies a list of options as `-o` takes it. Of contradicting options
    /// the last counts, as in mount(8). A sloppy list may hold unknown ones
    /// (`mount -s`).
    pub fn apply(&mut self, list: &str, sloppy: bool) -> Outcome {
        for option in list.split(',') {
            self.apply_one(option.trim(), sloppy)?;
        }
        Ok(())
    }

    fn apply_one(&mut self, option: &str, sloppy: bool) -> Outcome {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        let options = &mut self.options;
        match (key, value) {
            ("ro", None) => options.read_only = true,
            ("rw", None) => options.read_only = false,
            ("dev" | "allow_dev", None) => options.dev = true,
            ("nodev", None) => options.dev = false,
            ("suid" | "allow_suid", None) => options.suid = true,
            ("nosuid", None) => options.suid = false,
            ("exec", None) => options.exec = true,
            ("noexec", None) => options.exec = false,
            ("atime", None) => options.noatime = false,
            ("noatime", None) => options.noatime = true,
            ("allow_other", None) => options.allow_other = true,
            ("supervisor", None) => self.supervised = true,
            ("nosupervisor", None) => self.supervised = false,
            ("passthrough", None) => options.passthrough = true,
            ("nopassthrough", None) => options.passthrough = false,
            ("birth_time", None) => options.birth_time = true,
            ("low_latency", None) => options.low_latency = true,
            ("rmdir", Some("empty")) => options.rmdir = RmdirPolicy::Empty,
            ("rmdir", Some("trash")) => options.rmdir = RmdirPolicy::Trash,
            ("rmdir", Some(other)) => {
                return Err(Failure::usage(format!(
                    "{other:?} is not a value of the mount option rmdir; it is 'empty' or 'trash'"
                )));
            }
            ("root_mode", Some(text)) => options.root_mode = read(option, names::mode(text))?,
            ("default_quota", Some(text)) => {
                options.default_limits.bytes = read(option, names::size_or_none(text))?.0;
            }
            ("default_quota_inodes", Some(text)) => {
                options.default_limits.inodes = read(option, names::inodes_or_none(text))?.0;
            }
            ("default_kind", Some(text)) => options.default_kind = read(option, kind(text))?,
            ("default_size", Some(text)) => {
                options.default_size = Some(read(option, names::size(text))?);
            }
            ("user_volumes", Some(text)) => {
                options.user_limits.volumes = Some(read(option, number(text))?);
            }
            ("user_bytes", Some(text)) => {
                options.user_limits.bytes = Some(read(option, names::size(text))?);
            }
            ("user_inodes", Some(text)) => {
                options.user_limits.inodes = Some(read(option, number(text))?);
            }
            ("trash_retention", Some(text)) => {
                options.trash_retention = Some(read(option, retention(text))?);
            }
            ("trust_guest_images", None) => options.trust_guest_images = true,
            ("threads", Some(text)) => options.threads = Some(read(option, threads(text))?),
            ("log", Some(text)) => self.log = read(option, log_to(text))?,
            ("store", Some(store)) => self.store = absolute_store(Path::new(store))?,
            ("remount", _) => {
                return Err(Failure::usage(
                    "a mounted store cannot be remounted with other options; unmount it and mount it again",
                ));
            }
            _ if WITHOUT_EFFECT.contains(&option)
                || WITHOUT_EFFECT_START
                    .iter()
                    .any(|start| option.starts_with(start)) => {}
            _ if sloppy => log::warn!("the unknown mount option {option:?} is ignored"),
            _ => {
                return Err(Failure::usage(format!(
                    "unknown mount option {option:?}; known are {KNOWN}"
                )));
            }
        }
        Ok(())
    }

    /// Whether the options go together.
    pub fn check(&self) -> Outcome {
        let options = &self.options;
        match (options.default_kind, options.default_size) {
            (Kind::Disk, None) => Err(Failure::usage(
                "disk volumes need a size: give --default-size with --default-kind disk",
            )),
            (Kind::Directory, Some(_)) => Err(Failure::usage(
                "--default-size is for disk volumes; give --default-kind disk with it, or limit directories with --default-quota",
            )),
            (Kind::Disk, Some(_)) if options.default_limits != Limits::default() => {
                Err(Failure::usage(
                    "disk volumes take no quota: their size is their limit; leave --default-quota out",
                ))
            }
            (Kind::Disk, Some(size)) => ImageSize::from_bytes(size.0)
                .map(drop)
                .map_err(|error| Failure::usage(format!("--default-size: {error}"))),
            (Kind::Directory, None) => Ok(()),
        }
    }

    /// The options in force, as `-o` takes them.
    pub fn options_as_text(&self) -> Vec<String> {
        let options = &self.options;
        let choose = |on: bool, yes: &str, no: &str| if on { yes } else { no }.to_owned();
        let mut texts = vec![
            choose(options.read_only, "ro", "rw"),
            choose(options.dev, "dev", "nodev"),
            choose(options.suid, "suid", "nosuid"),
            choose(options.exec, "exec", "noexec"),
            choose(options.noatime, "noatime", "atime"),
            choose(options.passthrough, "passthrough", "nopassthrough"),
            choose(self.supervised, "supervisor", "nosupervisor"),
            match options.rmdir {
                RmdirPolicy::Empty => "rmdir=empty".to_owned(),
                RmdirPolicy::Trash => "rmdir=trash".to_owned(),
            },
            format!("root_mode={:o}", options.root_mode),
        ];
        if options.allow_other {
            texts.push("allow_other".to_owned());
        }
        if let Some(bytes) = options.default_limits.bytes {
            texts.push(format!("default_quota={}", bytes.0));
        }
        if let Some(inodes) = options.default_limits.inodes {
            texts.push(format!("default_quota_inodes={inodes}"));
        }
        if let Some(size) = options.default_size {
            texts.push(format!("default_kind={}", options.default_kind));
            texts.push(format!("default_size={}", size.0));
        }
        let users = &options.user_limits;
        for (key, limit) in [
            ("user_volumes", users.volumes),
            ("user_bytes", users.bytes.map(|bytes| bytes.0)),
            ("user_inodes", users.inodes),
        ] {
            texts.extend(limit.map(|limit| format!("{key}={limit}")));
        }
        if let Some(retention) = options.trash_retention {
            texts.push(format!("trash_retention={retention}"));
        }
        if options.birth_time {
            texts.push("birth_time".to_owned());
        }
        if options.low_latency {
            texts.push("low_latency".to_owned());
        }
        if options.trust_guest_images {
            texts.push("trust_guest_images".to_owned());
        }
        if let Some(threads) = options.threads {
            texts.push(format!("threads={threads}"));
        }
        if self.log == LogTo::Journal {
            texts.push("log=journal".to_owned());
        }
        texts
    }
}

fn read<T>(option: &str, value: Result<T, String>) -> Outcome<T> {
    value.map_err(|why| Failure::usage(format!("the mount option {option:?}: {why}")))
}

/// Reads the kind of a volume.
pub fn kind(text: &str) -> Result<Kind, String> {
    text.parse()
}

/// Reads where to log to.
pub fn log_to(text: &str) -> Result<LogTo, String> {
    match text {
        "file" => Ok(LogTo::File),
        "journal" => Ok(LogTo::Journal),
        _ => Err(format!(
            "{text:?} is no place for a log; it is 'file' or 'journal'"
        )),
    }
}

/// Where lists of options say that the log is: what is needed before anything
/// else is looked at, so that what is wrong with the rest gets there.
pub fn log_to_in(lists: &[String]) -> LogTo {
    let options = lists.iter().flat_map(|list| list.split(','));
    options
        .filter_map(|option| option.trim().strip_prefix("log="))
        .filter_map(|text| log_to(text).ok())
        .next_back()
        .unwrap_or_default()
}

/// Reads how long removed volumes are kept.
pub fn retention(text: &str) -> Result<Retention, String> {
    text.parse()
        .map_err(|error: volfs::model::InvalidAge| format!("{error}, or 'none'"))
}

/// Reads a limit that is a number, of volumes or inodes.
pub fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("a limit of 0 would allow nothing".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

/// Reads a number of threads. 256 is far above what any machine gains from.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads) if (1..=256).contains(&threads) => Ok(threads),
        _ => Err(format!("{text:?} is not a number of threads from 1 to 256")),
    }
}

#[cfg(test)]
mod tests;
