//! In what unit directory volumes are charged: that in which the place of the
//! store allocates, found out whenever a store is opened, as a store can be
//! moved. The catalogue notes it, for usage is in that unit.

use std::fs::File;

use super::error::Result;
use super::layout::{Layout, Place};
use crate::meta::Catalogue;
use crate::model::AllocationUnit;
use crate::sys::allocation;

/// Finds the unit out. Where it is another one than usage was counted in, all
/// volumes will be counted again.
///
/// # Errors
/// The catalogue cannot be read.
pub(super) fn settle(layout: &Layout, catalogue: &mut Catalogue) -> Result<AllocationUnit> {
    let noted = catalogue.allocation_unit()?;
    let found = match find(layout) {
        Ok(found) => found,
        Err(errno) => {
            log::warn!(
                "in what unit {:?} allocates cannot be tried, and {} is taken, as before: {}",
                layout.root(),
                crate::model::Bytes(noted.bytes()),
                errno.desc()
            );
            return Ok(noted);
        }
    };
    if found == noted {
        return Ok(noted);
    }
    match catalogue.change_unit(found) {
        Ok(()) => {
            log::info!(
                "the store's file system allocates in units of {}, and volumes are charged so",
                crate::model::Bytes(found.bytes())
            );
            Ok(found)
        }
        // Usage stays right in the unit that it was counted in.
        Err(error) => {
            log::warn!("the unit of charges stays {} bytes: {error}", noted.bytes());
            Ok(noted)
        }
    }
}

/// The unit in which the place allocates.
///
/// # Errors
/// It cannot be tried: no space is left, or nothing can be made there.
pub(super) fn find(layout: &Layout) -> nix::Result<AllocationUnit> {
    let tried = allocation::of_smallest_file(&layout.place(Place::Tmp))?;
    let volumes = File::open(layout.place(Place::Volumes));
    let hint = volumes.map_or(0, allocation::inherited_hint);
    Ok(AllocationUnit::at_most(tried.max(hint)))
}
