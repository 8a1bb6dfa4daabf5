//! Kernel passthrough as the operations see it: a host file that the kernel
//! has been given to read and write by itself.

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A host file that is registered with the kernel; closed there with the last
/// clone.
#[derive(Clone)]
pub struct Backing(pub Arc<dyn Any + Send + Sync>);

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backing")
    }
}

/// Registers host files with the kernel.
pub trait Register {
    /// Registers the file. The kernel uses it with the credentials that the
    /// calling thread has now.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` without CAP_SYS_ADMIN, `ELOOP` for a
    /// stacked file system.
    fn register(&self, file: BorrowedFd<'_>) -> std::io::Result<Backing>;
}

/// For mounts without passthrough.
pub struct NoPassthrough;

impl Register for NoPassthrough {
    fn register(&self, _file: BorrowedFd<'_>) -> std::io::Result<Backing> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
