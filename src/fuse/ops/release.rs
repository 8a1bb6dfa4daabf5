//! Closing files: release.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::failpoint;
use crate::fuse::control_tree;
use crate::fuse::fs::{FileSystem, Located};
use crate::fuse::image_file;
use crate::fuse::types::Fh;
use crate::sys::node;

impl FileSystem {
    /// Closes `fh`.
    pub fn release(&self, fh: Fh) {
        if control_tree::release(self, fh) {
            return;
        }
        let Some(handle) = self.handles.get(fh) else {
            return;
        };
        if image_file::is_image(handle.node) {
            return image_file::release(self, fh, &handle);
        }
        let at = Located {
            volume: Arc::clone(&handle.volume),
            node: handle.node,
            ground: Arc::clone(&handle.ground),
        };
        // Until everything is closed that is dropped here.
        let mut closing = self.reclaim.closing(at.node.slot());
        // The kernel's own file can be looked at only until it is closed.
        let by_kernel = handle.file.is_none();
        let own = (by_kernel && (handle.writes() || handle.inode.is_unlinked()))
            .then(|| self.open_located(&at, OFlag::O_PATH));
        if let Some(file) = &own {
            let settled = file
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|file| self.settle_passthrough(&at, file));
            if let Err(error) = settled {
                log::warn!(
                    "usage of volume {} is no longer exact: {error}",
                    at.volume.name()
                );
                at.volume.account().distrust();
            }
        }
        let _lock = self.size_locks.exclusive(at.node);
        // Closed before a removal goes on that finds it closed.
        let handle = handle;
        let unlinked = handle.inode.is_unlinked();
        // Its last name may have gone since.
        let own =
            own.or_else(|| (by_kernel && unlinked).then(|| self.open_located(&at, OFlag::O_PATH)));
        let charging = unlinked.then(|| self.charging_closed(&at, &handle));
        failpoint::hit("live.release.begun");
        let Some(closed) = self.handles.close(fh) else {
            return;
        };
        failpoint::hit("live.release.closed");
        if closed.last_of_unlinked {
            let own = own.and_then(Result::ok);
            let file = handle.file.as_ref().map(AsFd::as_fd);
            let file = file.or(own.as_ref().map(AsFd::as_fd)).and_then(|file| {
                let inode = self.nameless(&handle, Some(file))?;
                Some((file, inode, node::stat(file).ok()))
            });
            // It was unlinked before, and nothing takes that back.
            let charging = charging.unwrap_or_else(|| self.charging_closed(&at, &handle));
            self.last_closed(&at, file, by_kernel, &charging);
            closing.frees();
        }
        if closed.kept.is_some() {
            self.live.drop_kept(closed.kept);
            self.reclaim.passed_on(at.node.slot());
        }
        if closed.last_mapper && by_kernel {
            // Times as a mapping left them on the host.
            self.kernel.attr_changed(at.node);
        }
    }

    /// Closes all files that are still open, when nobody can use them any more.
    pub fn release_all(&self) {
        for fh in self.handles.all() {
            self.release(fh);
        }
    }
}
