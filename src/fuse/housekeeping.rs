//! What goes on beside the requests: counting volumes after an unclean stop,
//! and saving usage now and then.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::fs::FileSystem;
use crate::volume::Volume;

/// How often usage is saved for those who look at the catalogue later.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Holds back changes of volumes whose usage is not known; to be called before
/// the first request is answered.
pub(super) fn hold_uncounted(fs: &FileSystem) -> Vec<Arc<Volume>> {
    if fs.store.is_read_only() {
        return Vec::new();
    }
    let volumes = fs.store.needs_recount();
    for volume in &volumes {
        fs.counting.begin(volume.slot);
    }
    volumes
}

/// Counts `uncounted`, then saves usage until the file system is gone.
pub(super) fn start(fs: &Arc<FileSystem>, uncounted: Vec<Arc<Volume>>) -> std::io::Result<()> {
    let counter = Arc::downgrade(fs);
    std::thread::Builder::new()
        .name("volfs-count".into())
        .spawn(move || count_all(&counter, &uncounted))?;
    let saver = Arc::downgrade(fs);
    std::thread::Builder::new()
        .name("volfs-save".into())
        .spawn(move || {
            while let Some(fs) = saver.upgrade() {
                if let Err(error) = fs.store.save_usage() {
                    log::error!("cannot save the usage of volumes: {error}");
                }
                drop(fs);
                std::thread::sleep(SAVE_EVERY);
            }
        })?;
    Ok(())
}

fn count_all(fs: &Weak<FileSystem>, volumes: &[Arc<Volume>]) {
    for volume in volumes {
        let Some(fs) = fs.upgrade() else {
            return;
        };
        count(&fs, volume);
        fs.counting.end(volume.slot);
    }
}

fn count(fs: &FileSystem, volume: &Volume) {
    let start = Instant::now();
    let counted = fs.store.recount(volume).and_then(|usage| {
        fs.store.set_counted(volume, usage)?;
        Ok(usage)
    });
    match counted {
        Ok(usage) => log::info!(
            "volume {} counted after an unclean stop: {} in {} inodes, in {:?}",
            volume.name(),
            usage.bytes,
            usage.inodes,
            start.elapsed()
        ),
        Err(error) => log::error!("cannot count volume {}: {error}", volume.name()),
    }
}
