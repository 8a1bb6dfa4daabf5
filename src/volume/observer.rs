//! Who shows the volumes of a store to others: what it is told, and asked.

use std::sync::Arc;

use super::holder::Holder;
use super::in_memory::Volume;
use crate::diskimg::ImageSize;
use crate::model::VolumeName;

/// What the store tells, and asks, whoever shows its volumes to others.
///
/// Called without any lock of the store held that a lookup needs. While it is
/// told of a name, or asked for uncounted writers, no other life-cycle change
/// is committed, so an observer must not make one then.
pub trait Observer: Send + Sync {
    /// Who uses the volume now.
    fn holders(&self, volume: &Volume) -> Vec<Holder>;
    /// Who uses each of these volumes now, found in one look for all.
    fn holders_of_each(&self, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>>;
    /// Who can write to the volume without being counted as it happens. What
    /// is opened from now on is counted.
    fn unaccounted_writers(&self, volume: &Volume) -> Vec<Holder>;
    /// Who can write to the volume by what is open or mapped already. What is opened
    /// from now on cannot: the volume is read-only.
    fn writers(&self, volume: &Volume) -> Vec<Holder>;
    /// Runs `work` while nothing changes the volume's files but by writers that
    /// are not accounted; changes wait for it.
    fn still(&self, volume: &Volume, work: &mut dyn FnMut());
    /// Takes the image of a disk volume away from whoever shows what is in it,
    /// until the result is dropped.
    ///
    /// # Errors
    /// Who uses it.
    fn take_image(&self, volume: &Volume) -> std::result::Result<ImageGuard, Vec<Holder>>;
    /// Grows the image of a disk volume, if that is for its users to do.
    fn grow_image(&self, volume: &Volume, size: ImageSize) -> Growth;
    /// Detaches what keeps the volume in use, if nobody would notice; says
    /// where it was.
    ///
    /// # Errors
    /// Who uses it; nothing was detached then.
    fn detach(&self, volume: &Volume) -> std::result::Result<Vec<String>, Vec<Holder>>;
    /// The volume is about to lose this name: it is renamed.
    fn renaming(&self, name: &VolumeName, volume: &Volume);
    /// The name now leads to this volume (made, renamed to it, restored).
    fn appeared(&self, name: &VolumeName, volume: &Volume);
    /// The name leads to this volume no longer (removed, renamed away).
    fn vanished(&self, name: &VolumeName, volume: &Volume);
}

/// What is to be done to grow an image that may be in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Nothing: it is done.
    Done,
    /// A guest has the image, or has made what is in it: the file is to be made
    /// longer, and the rest is the guest's.
    FileOnly,
    /// File and file system, when nobody uses them.
    Unmounted {
        /// Why not while somebody does.
        why: Option<String>,
    },
}

/// While it lives nobody uses the image of a disk volume but who has this.
pub type ImageGuard = Box<dyn std::any::Any + Send>;
