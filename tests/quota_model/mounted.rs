//! A volume on a real mount, by system calls.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use super::dirs::HostFs;
use super::model::{Act, Outcome, Path};
use super::support::{Mount, poll};
use super::world::{Df, World};

pub struct OnMount {
    mount: Mount,
    root: PathBuf,
    host: PathBuf,
    handles: HashMap<u32, (File, bool)>,
    /// The last act was a close: it reaches the daemon later.
    closed: bool,
}

/// A number in an extended attribute of the volume's root.
fn figure(path: &std::path::Path, name: &str) -> u64 {
    let mut buffer = [0; 64];
    let len = rustix::fs::getxattr(path, name, &mut buffer).unwrap();
    std::str::from_utf8(&buffer[..len])
        .unwrap()
        .parse()
        .unwrap()
}

fn io<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

impl OnMount {
    pub fn new(arguments: &[&str]) -> Self {
        let mount = Mount::builder().args(arguments).start();
        let root = mount.volume("v");
        let host = mount.host_path("v");
        Self {
            mount,
            root,
            host,
            handles: HashMap::new(),
            closed: false,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn set_limit(&self, name: &str, value: Option<u64>) {
        let text = value.map_or_else(|| "none".to_owned(), |n| n.to_string());
        let set = || {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::setxattr(&self.root, name, text.as_bytes(), flags) {
                Ok(()) => Some(()),
                // The close of a writer is on its way.
                Err(rustix::io::Errno::BUSY) => None,
                Err(error) => panic!("setting {name} to {text}: {error}"),
            }
        };
        assert!(
            poll(Duration::from_secs(10), set).is_some(),
            "{name} stays busy"
        );
    }

    fn try_act(&mut self, act: &Act) -> Outcome {
        match act {
            Act::Create { h, path } => {
                let mut options = OpenOptions::new();
                let file = io(options
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(self.at(path)))?;
                self.handles.insert(*h, (file, false));
            }
            Act::Open {
                h,
                path,
                write,
                append,
                truncate,
            } => {
                let mut options = OpenOptions::new();
                options.read(true).write(*write);
                let mut flags = 0;
                if *append {
                    flags |= libc::O_APPEND;
                }
                if *truncate {
                    flags |= libc::O_TRUNC;
                }
                let file = io(options.custom_flags(flags).open(self.at(path)))?;
                self.handles.insert(*h, (file, *append));
            }
            Act::Close { h } => {
                self.closed = true;
                drop(self.handles.remove(h));
            }
            Act::Write { h, offset, len } => {
                let (file, append) = &self.handles[h];
                let data = vec![b'x'; usize::try_from(*len).unwrap()];
                let written = if *append {
                    io(std::io::Write::write(&mut &*file, &data))?
                } else {
                    io(file.write_at(&data, *offset))?
                };
                return Ok(written as u64);
            }
            Act::Truncate { path, size } => {
                let size = i64::try_from(*size).unwrap();
                nix::unistd::truncate(&self.at(path), size)?;
            }
            Act::TruncateOpen { h, size } => io(self.handles[h].0.set_len(*size))?,
            Act::Fallocate {
                h,
                mode,
                offset,
                len,
            } => {
                let (offset, len) = (
                    i64::try_from(*offset).unwrap(),
                    i64::try_from(*len).unwrap(),
                );
                let mode = nix::fcntl::FallocateFlags::from_bits_retain(*mode);
                nix::fcntl::fallocate(&self.handles[h].0, mode, offset, len)?;
            }
            Act::Mkdir { path } => io(std::fs::create_dir(self.at(path)))?,
            Act::Symlink { path } => io(std::os::unix::fs::symlink("target", self.at(path)))?,
            Act::Mknod { path } => {
                nix::unistd::mkfifo(&self.at(path), nix::sys::stat::Mode::S_IRWXU)?;
            }
            Act::Link { old, new } => io(std::fs::hard_link(self.at(old), self.at(new)))?,
            Act::Unlink { path } => io(std::fs::remove_file(self.at(path)))?,
            Act::Rmdir { path } => io(std::fs::remove_dir(self.at(path)))?,
            Act::Rename { old, new, flags } => {
                let c = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).unwrap();
                let (old, new) = (c(self.at(old)), c(self.at(new)));
                nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &*old,
                    nix::fcntl::AT_FDCWD,
                    &*new,
                    nix::fcntl::RenameFlags::from_bits_retain(*flags),
                )?;
            }
            Act::Copy {
                from,
                from_offset,
                to,
                to_offset,
                len,
            } => {
                let (source, target) = (&self.handles[from].0, &self.handles[to].0);
                assert_ne!(source.as_raw_fd(), target.as_raw_fd());
                let mut from_at = i64::try_from(*from_offset).unwrap();
                let mut to_at = i64::try_from(*to_offset).unwrap();
                let copied = nix::fcntl::copy_file_range(
                    source,
                    Some(&mut from_at),
                    target,
                    Some(&mut to_at),
                    usize::try_from(*len).unwrap(),
                )?;
                return Ok(copied as u64);
            }
            Act::Limits { bytes, inodes } => {
                self.set_limit("volfs.quota.bytes", *bytes);
                self.set_limit("volfs.quota.inodes", *inodes);
            }
        }
        Ok(0)
    }

    fn told(&self) -> (u64, u64) {
        let of = |name| figure(&self.root, name);
        (of("volfs.used.bytes"), of("volfs.used.inodes"))
    }
}

impl World for OnMount {
    fn act(&mut self, act: &Act) -> Outcome {
        self.closed = false;
        self.try_act(act)
    }

    fn usage(&mut self, expected: (u64, u64)) -> (u64, u64) {
        if self.closed {
            poll(Duration::from_secs(2), || {
                (self.told() == expected).then_some(())
            });
        }
        self.told()
    }

    fn settles_only_at_close(&self) -> bool {
        false
    }

    fn size(&mut self, h: u32) -> Option<u64> {
        Some(self.handles[&h].0.metadata().unwrap().size())
    }

    fn path(&self, _h: u32) -> Option<Path> {
        None
    }

    fn df(&mut self) -> Df {
        let fs = rustix::fs::statvfs(&self.root).unwrap();
        Df {
            block: fs.f_frsize,
            blocks: fs.f_blocks,
            free: fs.f_bfree,
            inodes: fs.f_files,
            free_inodes: fs.f_ffree,
        }
    }

    fn walk(&mut self) -> (u64, u64) {
        super::support::tree::charged(&self.host)
    }

    fn host(&self) -> PathBuf {
        self.host.clone()
    }

    fn host_fs(&self) -> HostFs {
        HostFs::Ext4
    }

    fn end_sequence(&mut self) {
        assert_eq!(self.mount.daemon_complaints(), "");
    }
}
