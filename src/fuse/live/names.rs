//! The former names of volumes in shared memory.

use std::sync::Arc;
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};

use super::layout::{State, Which, get_bytes, put_bytes};
use crate::model::{Serial, VolumeName};

/// What the words of a record are.
mod at {
    /// The volume's serial, and 1 in the lowest bit.
    pub(super) const SERIAL: usize = 0;
    /// Bytes of the name.
    pub(super) const LEN: usize = 1;
    pub(super) const NAME: usize = 2;
}

/// Words of a record: there is room for [`VolumeName::MAX_BYTES`].
pub(super) const WORDS: u32 = 34;

/// The record of a former name; free again when it is dropped.
#[derive(Debug)]
pub(in crate::fuse) struct NameRecord {
    state: Arc<State>,
    index: u32,
}

impl NameRecord {
    /// Notes that the volume is about to lose `name`.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn new(
        state: &Arc<State>,
        volume: Serial,
        name: &VolumeName,
    ) -> std::io::Result<Self> {
        let noted = Self {
            state: Arc::clone(state),
            index: state.take(Which::Names)?,
        };
        let record = state.record(Which::Names, noted.index);
        let bytes = name.as_str().as_bytes();
        put_bytes(&record[at::NAME..], bytes)?;
        record[at::LEN].store(bytes.len() as u64, Relaxed);
        // Last: it says that the record is in use.
        record[at::SERIAL].store(volume.0.cast_unsigned() << 1 | 1, Release);
        Ok(noted)
    }
}

impl Drop for NameRecord {
    fn drop(&mut self) {
        self.state.table(Which::Names).give_back(self.index);
    }
}

/// All former names of a state that nobody changes.
pub(super) fn all(state: &State) -> Vec<(Serial, VolumeName)> {
    let names = state.table(Which::Names).used().filter_map(|record| {
        let serial = Serial((record[at::SERIAL].load(Relaxed) >> 1).cast_signed());
        let name = get_bytes(&record[at::NAME..], record[at::LEN].load(Relaxed)).ok()?;
        Some((serial, std::str::from_utf8(&name).ok()?.parse().ok()?))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_one_process_notes_another_reads() {
        let state = Arc::new(State::create(0).unwrap());
        let longest: VolumeName = "n".repeat(VolumeName::MAX_BYTES).parse().unwrap();
        let short: VolumeName = "a".parse().unwrap();
        let noted = |serial, name| NameRecord::new(&state, Serial(serial), name).unwrap();
        let _kept = (noted(1, &longest), noted(7, &short));
        drop(noted(2, &short));
        state.seal();
        let file = state.file().as_fd().try_clone_to_owned().unwrap();
        let read = State::read(crate::sys::shared::SharedFile::open(file).unwrap()).unwrap();
        assert_eq!(all(&read), [(Serial(1), longest), (Serial(7), short)]);
    }
}
