//! `/dev/fuse` for users other than root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The device.
pub const DEVICE: &str = "/dev/fuse";

/// `/dev/fuse` open to everybody, as it is on a desktop, for as long as this
/// lives. The tests of a program take turns, so that nobody closes it under
/// another.
pub struct OpenDevice {
    mode: u32,
    _turn: MutexGuard<'static, ()>,
}

impl OpenDevice {
    /// Waits for its turn.
    pub fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = fs::metadata(DEVICE).unwrap().mode() & 0o7777;
        set_mode(0o666);
        Self { mode, _turn: turn }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        set_mode(self.mode);
    }
}

/// Changes the permission bits of the device; for who has it open for everybody.
pub fn set_mode(mode: u32) {
    fs::set_permissions(DEVICE, fs::Permissions::from_mode(mode)).unwrap();
}
