//! How soon processors must be awake: the kernel's PM QoS, by
//! `/dev/cpu_dma_latency` (Documentation/power/pm_qos_interface.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// The device.
pub const DEVICE: &str = "/dev/cpu_dma_latency";

/// A demand on all processors, which lasts while it is open: the kernel takes it
/// back when this process ends, however it ends. Demands nothing at first.
#[derive(Debug)]
pub struct CpuLatency(File);

impl CpuLatency {
    /// Opens the device.
    ///
    /// # Errors
    /// It is not there (a container, a kernel without cpuidle), or may be opened
    /// by root only.
    pub fn open() -> io::Result<Self> {
        OpenOptions::new().write(true).open(DEVICE).map(Self)
    }

    /// No processor may sleep so that it takes time to wake it: one without work
    /// polls for some, and is given it without an interrupt (`poll_idle`,
    /// drivers/cpuidle/poll_state.c).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stay_awake(&self) -> io::Result<()> {
        self.demand(0)
    }

    /// Processors may sleep as far as this process is concerned.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn may_sleep(&self) -> io::Result<()> {
        /// `PM_QOS_DEFAULT_VALUE` (include/linux/pm_qos.h).
        const NO_DEMAND: i32 = -1;
        self.demand(NO_DEMAND)
    }

    fn demand(&self, microseconds: i32) -> io::Result<()> {
        // Four bytes are a number in binary, more are one as text.
        self.0.write_all_at(&microseconds.to_ne_bytes(), 0)
    }
}
