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
//! | [`api`] | volumes for programs: builder, handle, files; through a daemon or without one |
//! | [`transfer`] | whole volumes on their way: clones, exports, imports |
//! | [`keeper`] | the supervisor, which keeps descriptors for the process that serves, and starts the next when it dies |
//! | [`control`] | the control socket: protocol, server, client |
//! | [`volume`] | what a volume is and its whole life: the [`Store`](volume::Store), its crash rules, its trash |
//! | [`meta`] | the SQLite catalogue, and the arithmetic of quotas |
//! | [`diskimg`] | ext4 images: format, inspect, grow, attach; knows nothing of volumes |
//! | [`model`] | names, ids, sizes, kinds: values without I/O |
//! | [`sys`] | system calls that the standard library and `nix` lack; the only `unsafe` code |
//!
//! # Volumes for programs
//!
//! [`open`] gives the volumes of a store as a [`Volumes`], by whichever way
//! there is: through the daemon that serves it, or directly.
//!
//! ```
//! use std::io::Write;
//!
//! use volfs::volume::Error;
//! use volfs::{SizeExt, Volume};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let volumes = volfs::open(dir.path().join("store"))?;
//! let cache = Volume::builder("cache")
//!     .quota(1.mib())
//!     .label("team", "build")
//!     .create(&volumes)?;
//!
//! let fs = cache.fs()?;
//! fs.mkdir("logs/today")?;
//! writeln!(fs.write_stream("logs/today/build.log")?, "done")?;
//! assert_eq!(fs.read_to_string("logs/today/build.log")?, "done\n");
//!
//! // Nothing leads out of a volume, and nothing gets past its limit.
//! assert!(matches!(fs.read("../secret"), Err(Error::Outside { .. })));
//! let much = vec![0; 2 << 20];
//! assert!(matches!(fs.write("much", &much), Err(Error::NoSpace { .. })));
//!
//! drop(fs);
//! for volume in Volume::list(&volumes)? {
//!     println!("{} holds {}", volume.name(), volume.used_bytes());
//!     volume.remove()?;
//! }
//! // It went to the trash.
//! let back = volumes.restore("cache", None)?;
//! assert_eq!(back.labels.get("team"), Some("build"));
//! # Ok(())
//! # }
//! ```

pub mod api;
pub mod control;
pub mod diskimg;
pub mod failpoint;
pub mod fuse;
pub mod keeper;
pub mod meta;
pub mod model;
pub mod sys;
pub mod transfer;
pub mod volume;

pub use api::{
    Access, BackendKind, PATIENCE, Volume, VolumeBuilder, VolumeConfig, VolumeHandle, open, open_as,
};
pub use model::{Bytes, Kind, Mebibytes, SizeExt};
pub use volume::{VolumeFs, Volumes};
