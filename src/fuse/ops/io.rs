//! Contents through the daemon: read, write, fsync.

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::failpoint;
use crate::fuse::charge::check_writable;
use crate::fuse::control_tree;
use crate::fuse::error::OpResult;
use crate::fuse::fs::FileSystem;
use crate::fuse::image_file;
use crate::fuse::node::NodeId;
use crate::fuse::ops::open::HostFile;
use crate::fuse::types::{Caller, Fh};
use crate::fuse::view::is_view;
use crate::model::Slot;
use crate::sys::creds::Acting;
use crate::sys::node;

impl FileSystem {
    /// Reads into `buffer` from `offset`; less than its length only at the
    /// end of the file, as the kernel's page cache needs it.
    ///
    /// # Errors
    /// What the host says to `pread(2)`.
    pub fn read(&self, node: NodeId, fh: Fh, offset: u64, buffer: &mut [u8]) -> OpResult<usize> {
        let Some(slot) = node.slot() else {
            return control_tree::read(self, node, fh, offset, buffer);
        };
        if is_view(node) {
            let (_, view) = self.view_of(node)?.ok_or(Errno::ESTALE)?;
            let data = view.read(node, offset, buffer.len())?;
            buffer[..data.len()].copy_from_slice(&data);
            return Ok(data.len());
        }
        let file = self.file_of(node, fh)?;
        let mut filled = 0;
        while filled < buffer.len() {
            let Ok(at) = i64::try_from(offset + filled as u64) else {
                break;
            };
            match nix::sys::uio::pread(&file, &mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::EINTR) => {}
                Err(_) if filled > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        self.stats.read(filled);
        self.volume_stats.read(slot, filled);
        Ok(filled)
    }

    /// Writes `data` at `offset`; returns how much was written.
    ///
    /// `clears_bits` is the kernel's word that the caller lacks CAP_FSETID.
    ///
    /// # Errors
    /// What the host says to `pwrite(2)` when nothing was written.
    pub fn write(
        &self,
        caller: Caller,
        node: NodeId,
        fh: Fh,
        offset: u64,
        data: &[u8],
        clears_bits: bool,
    ) -> OpResult<usize> {
        if image_file::is_image(node) {
            return image_file::write(self, fh, offset, data);
        }
        let file = self.file_of(node, fh)?;
        let at = self.locate(node)?;
        check_writable(&at.volume)?;
        let end = offset.saturating_add(data.len() as u64);
        let as_caller = |mode| {
            if clears_bits || mode & (libc::S_ISUID | libc::S_ISGID) == 0 {
                self.as_writer(caller, mode)
            } else {
                Ok(Acting::keeping_set_id())
            }
        };
        let inside = {
            let _lock = self.size_locks.shared(node);
            let shape = node::shape(&file)?;
            // Through a mapping, or when fcntl(2) has taken O_APPEND away: the
            // kernel does not know that the host would refuse both.
            if shape.append_only && file.appends() && offset < shape.size {
                return Err(Errno::EPERM.into());
            }
            if end <= shape.size {
                let _as = as_caller(shape.mode)?;
                Some(self.write_all(at.volume.slot, &file, offset, data)?)
            } else {
                None
            }
        };
        if let Some(written) = inside {
            self.overwritten(&at, &file, written as u64);
            return Ok(written);
        }
        let sizing = self.sizing(&at, &file)?;
        let (room, allowed_end) = sizing.reserve_up_to(end);
        // As a full disk would: what fits is written.
        let fits = allowed_end.saturating_sub(offset).min(data.len() as u64) as usize;
        let result = if fits == 0 && !data.is_empty() {
            Err(sizing.over(&room, end))
        } else {
            let _as = as_caller(sizing.mode())?;
            failpoint::hit("live.write.room");
            self.write_all(at.volume.slot, &file, offset, &data[..fits])
        };
        failpoint::hit("live.write.host");
        sizing.settle(Some(room), &file);
        let old = sizing.old();
        drop(sizing);
        if let Ok(written) = result {
            let inside = old.saturating_sub(offset).min(written as u64);
            self.overwritten(&at, &file, inside);
        }
        result
    }

    fn write_all(&self, slot: Slot, file: &HostFile, offset: u64, data: &[u8]) -> OpResult<usize> {
        let mut written = 0;
        while written < data.len() {
            let at = i64::try_from(offset + written as u64).map_err(|_| Errno::EFBIG)?;
            let mut result = nix::sys::uio::pwrite(file, &data[written..], at);
            let may_be_late = matches!(result, Ok(_) | Err(Errno::EIO));
            if may_be_late && file.writes_through() {
                result = file.report(result);
            }
            match result {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(Errno::EINTR) => {}
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        self.stats.wrote(written);
        self.volume_stats.wrote(slot, written);
        Ok(written)
    }

    /// Makes contents (and with `data_only` not set, attributes) durable.
    ///
    /// # Errors
    /// What the host says to `fsync(2)`.
    pub fn fsync(&self, node: NodeId, fh: Fh, data_only: bool) -> OpResult<()> {
        if image_file::is_image(node) {
            return image_file::fsync(self, fh, data_only);
        }
        if node.slot().is_none() {
            return Ok(());
        }
        let file = self.file_of(node, fh)?;
        if self.needs_settling(node) {
            self.settle_passthrough(&self.locate(node)?, &file)?;
        }
        let synced = if data_only {
            nix::unistd::fdatasync(&file)
        } else {
            nix::unistd::fsync(&file)
        };
        Ok(file.report(synced)?)
    }

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// What the host says to `fsync(2)`.
    pub fn fsyncdir(&self, node: NodeId) -> OpResult<()> {
        if node.slot().is_none() {
            // Volumes are durable when the call that made them returns.
            return Ok(());
        }
        let at = self.locate(node)?;
        let dir = self.open_located(&at, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(nix::unistd::fsync(dir)?)
    }

    /// A descriptor of `fh` is closed. The host has nothing to say that a
    /// write has not said already.
    pub fn flush(&self, _caller: Caller, _fh: Fh) {}
}
