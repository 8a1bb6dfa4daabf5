//! What `df` shows: statfs.

use nix::fcntl::OFlag;
use nix::sys::statvfs::fstatvfs;

use crate::fuse::error::OpResult;
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::StatFs;

impl FileSystem {
    /// Size and free space of the volume that `node` is in.
    ///
    /// # Errors
    /// What the host says to `fstatvfs(3)`.
    pub fn statfs(&self, node: NodeId) -> OpResult<StatFs> {
        let host = if node.slot().is_none() || root::is_missing(node) {
            fstatvfs(self.volumes_dir())?
        } else {
            let at = self.locate(node)?;
            fstatvfs(self.open_located(&at, OFlag::O_PATH)?)?
        };
        Ok(StatFs {
            block_size: u32::try_from(host.fragment_size()).unwrap_or(4096),
            blocks: host.blocks(),
            free: host.blocks_free(),
            available: host.blocks_available(),
            inodes: host.files(),
            free_inodes: host.files_free(),
            name_max: u32::try_from(host.name_max()).unwrap_or(255),
        })
    }
}
