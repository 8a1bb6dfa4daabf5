//! Kernel passthrough as the operations see it: a host file that the kernel
//! has been given to read and write by itself.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A host file that is registered with the kernel; closed there with the last
/// clone.
#[derive(Clone, Debug)]
pub struct Backing(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    id: u32,
    files: Arc<dyn BackingFiles>,
}

/// The files that the kernel has been given.
pub trait BackingFiles: Send + Sync + std::fmt::Debug {
    /// The kernel lets go of a file.
    fn close(&self, id: u32);
}

impl Backing {
    /// The file that the kernel has under the number `id`, which is nobody
    /// else's.
    #[must_use]
    pub fn new(id: u32, files: Arc<dyn BackingFiles>) -> Self {
        Self(Arc::new(Registered { id, files }))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.files.close(self.id);
    }
}

/// Registers host files with the kernel.
pub trait Register {
    /// Registers the file; returns its number. The kernel uses it with the
    /// credentials that the calling thread has now.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without CAP_SYS_ADMIN, `ELOOP` for a
    /// stacked file system.
    fn register(&self, file: BorrowedFd<'_>) -> std::io::Result<u32>;
}

/// For mounts without passthrough.
pub struct NoPassthrough;

impl Register for NoPassthrough {
    fn register(&self, _file: BorrowedFd<'_>) -> std::io::Result<u32> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
