//! A FUSE file system that shows every named volume as a directory.
//!
//! # Layers
//!
//! Dependencies point down only:
//!
//! | module | what it knows |
//! |---|---|
//! | `src/bin/volfs` | the command line and the daemon: one file per command |
//! | [`fuse`] | the mounted file system: session and adapter (the only users of the `fuser` crate), nodes, handles, one file per family of operations |
//! | [`keeper`] | the supervisor, which keeps descriptors for the process that serves, and starts the next when it dies |
//! | [`control`] | the control socket: protocol, server, client |
//! | [`volume`] | what a volume is and its whole life: the [`Store`](volume::Store), its crash rules, its trash |
//! | [`meta`] | the SQLite catalogue, and the arithmetic of quotas |
//! | [`diskimg`] | ext4 images: format, inspect, grow, attach; knows nothing of volumes |
//! | [`model`] | names, ids, sizes, kinds: values without I/O |
//! | [`sys`] | system calls that the standard library and `nix` lack; the only `unsafe` code |
//!
//! # Volumes without a mount
//!
//! ```
//! use volfs::model::{SizeExt, VolumeSpec};
//! use volfs::volume::{Removal, Store, StoreOptions, Volumes};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let options = StoreOptions { create: true, ..Default::default() };
//! let store = Store::open(&dir.path().join("store"), &options)?;
//!
//! let mut spec = VolumeSpec::directory("cache".parse()?);
//! spec.limits.bytes = Some(1.gib());
//! spec.labels.set("team", "build");
//! let volume = store.create(&spec)?;
//! assert_eq!(volume.used.inodes, 0);
//!
//! store.rename(&volume.name, &"artifacts".parse()?)?;
//! store.remove(&"artifacts".parse()?, Removal::Trash)?;
//! let back = store.restore("artifacts", None)?;
//! assert_eq!(back.labels.get("team"), Some("build"));
//! # Ok(())
//! # }
//! ```

pub mod control;
pub mod diskimg;
pub mod failpoint;
pub mod fuse;
pub mod keeper;
pub mod meta;
pub mod model;
pub mod sys;
pub mod volume;
