//! Whether a catalogue is the one that its store was last used with.
//!
//! A catalogue alone cannot tell: one that was restored from a backup is sound
//! and says what was true then. So it has a token that is drawn anew with the
//! first change of each run, and a file among the volumes has the same token.
//! A catalogue with any other is not the one that knows what has become of the
//! volumes since. The file also says what it lay in, so that a copy of the
//! whole store is known as a copy.
//!
//! Order: the file gets the next token beside the present one and is synced;
//! the token is committed with the change; the file forgets the old one. Cut
//! anywhere, the catalogue has one of those in the file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Transaction, params};

use super::catalogue::Catalogue;
use super::error::{Error, Result};

/// How a catalogue stands to the store that it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The store was last used with it.
    Current,
    /// So it was, but in another place: the store is a copy.
    Copied,
    /// The store was last used with another, or a later state of it.
    Foreign,
}

/// In place of a token: a catalogue that has none.
const NONE: &str = "-";

/// What ties a catalogue to its store.
#[derive(Debug)]
pub(super) struct Lineage {
    file: PathBuf,
    // By what the place of the file is known; on the last line of it.
    place: String,
    token: String,
    // What the next commit brings, until it has come.
    next: Option<String>,
    // Whether this run has drawn its token.
    renewed: bool,
}

impl Catalogue {
    /// Ties the catalogue to `file`, which lies in a directory that is known
    /// by `place`, and says how it stands to it. Writes nothing yet.
    ///
    /// # Errors
    /// [`Error`]: the file is there and cannot be read.
    pub fn follow(&mut self, file: &Path, place: &str) -> Result<Standing> {
        let token: Option<String> = self
            .connection
            .query_row(
                "SELECT value FROM identity WHERE key = 'lineage'",
                [],
                |row| row.get(0),
            )
            .optional()
            .map_err(|e| self.error(&e))?;
        let token = token.unwrap_or_else(|| NONE.to_owned());
        let text = match std::fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Not text: not what this program writes.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(String::new()),
            Err(error) => return Err(system(file, &error)),
        };
        let standing = match text {
            None if token == NONE => Standing::Current,
            None => Standing::Foreign,
            Some(text) => {
                let mut lines = text.lines();
                let known = [lines.next(), lines.next()].contains(&Some(&token));
                match (known, lines.next()) {
                    (false, _) => Standing::Foreign,
                    (true, Some(there)) if there != place => Standing::Copied,
                    (true, _) => Standing::Current,
                }
            }
        };
        self.lineage = Some(Lineage {
            file: file.to_owned(),
            place: place.to_owned(),
            token,
            next: None,
            renewed: false,
        });
        Ok(standing)
    }
}

impl Lineage {
    /// Whether the next change draws the token of this run.
    pub(super) fn is_due(&self) -> bool {
        !self.renewed
    }

    /// Before the first change: announces the next token, durably. Returns what
    /// the change has to [save](Self::save), if anything.
    pub(super) fn begin(&mut self) -> Result<Option<String>> {
        if self.renewed {
            return Ok(None);
        }
        // A commit that failed may have come through all the same: its token is
        // kept.
        if self.next.is_none() {
            let next = uuid::Uuid::new_v4().simple().to_string();
            self.announce(&next)
                .map_err(|error| system(&self.file, &error))?;
            self.next = Some(next);
        }
        Ok(self.next.clone())
    }

    pub(super) fn save(transaction: &Transaction<'_>, token: &str) -> rusqlite::Result<()> {
        transaction.execute(
            "INSERT INTO identity (key, value) VALUES ('lineage', ?1) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            params![token],
        )?;
        Ok(())
    }

    /// After a change was committed.
    pub(super) fn committed(&mut self) {
        let Some(next) = self.next.take() else {
            return;
        };
        self.renewed = true;
        self.token = next;
        let forget = self
            .open(false)
            .and_then(|file| self.write(&file, &self.token));
        if let Err(error) = forget {
            // The one that it also names is the one before.
            log::warn!("{:?} cannot be written: {error}", self.file);
        }
    }

    fn announce(&self, next: &str) -> io::Result<()> {
        let made = !self.file.exists();
        let file = self.open(true)?;
        self.write(&file, next)?;
        file.sync_data()?;
        if made && let Some(directory) = self.file.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn open(&self, create: bool) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.file)
    }

    // In place, in less than a sector: it takes no space on a full disk.
    fn write(&self, file: &File, next: &str) -> io::Result<()> {
        let text = format!("{}\n{next}\n{}\n", self.token, self.place);
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

fn system(path: &Path, error: &io::Error) -> Error {
    Error::System {
        path: path.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Scratch {
        dir: tempfile::TempDir,
    }

    impl Scratch {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn standing(&self, catalogue: &str, place: &str) -> Standing {
            let mut opened = Catalogue::open(&self.path(catalogue)).unwrap();
            opened.follow(&self.path("lineage"), place).unwrap()
        }

        fn change(&self, catalogue: &str) {
            let mut opened = Catalogue::open(&self.path(catalogue)).unwrap();
            opened.follow(&self.path("lineage"), "here").unwrap();
            opened.set_setting("k", "v").unwrap();
            opened.close().unwrap();
        }
    }

    #[test]
    fn an_older_state_is_not_the_current_one() {
        let scratch = Scratch::new();
        assert_eq!(scratch.standing("a", "here"), Standing::Current);
        assert!(!scratch.path("lineage").exists(), "looking writes nothing");
        scratch.change("a");
        assert_eq!(scratch.standing("a", "here"), Standing::Current);
        assert_eq!(scratch.standing("a", "there"), Standing::Copied);
        fs::copy(scratch.path("a"), scratch.path("old")).unwrap();
        scratch.change("a");
        assert_eq!(scratch.standing("a", "here"), Standing::Current);
        assert_eq!(scratch.standing("old", "here"), Standing::Foreign);
        assert_eq!(scratch.standing("new", "here"), Standing::Foreign);
        // What is changed from here on is what the store is used with.
        scratch.change("old");
        assert_eq!(scratch.standing("old", "here"), Standing::Current);
        assert_eq!(scratch.standing("a", "here"), Standing::Foreign);
        fs::remove_file(scratch.path("lineage")).unwrap();
        assert_eq!(scratch.standing("old", "here"), Standing::Foreign);
    }

    #[test]
    fn a_cut_leaves_the_catalogue_current() {
        let scratch = Scratch::new();
        scratch.change("a");
        // Announced and not committed.
        let mut cut = Catalogue::open(&scratch.path("a")).unwrap();
        cut.follow(&scratch.path("lineage"), "here").unwrap();
        cut.lineage.as_mut().unwrap().begin().unwrap();
        drop(cut);
        assert_eq!(scratch.standing("a", "here"), Standing::Current);
        // Committed, and the old one not forgotten.
        let announced = Catalogue::open(&scratch.path("a")).unwrap();
        drop(announced);
        let before = fs::read(scratch.path("lineage")).unwrap();
        scratch.change("a");
        let now = fs::read_to_string(scratch.path("lineage")).unwrap();
        let token = now.lines().next().unwrap();
        let old = String::from_utf8(before).unwrap();
        let old = old.lines().next().unwrap();
        fs::write(scratch.path("lineage"), format!("{old}\n{token}\nhere\n")).unwrap();
        assert_eq!(scratch.standing("a", "here"), Standing::Current);
        // A new catalogue, whose first change was cut.
        fs::write(scratch.path("lineage"), format!("{NONE}\n{token}\nhere\n")).unwrap();
        assert_eq!(scratch.standing("b", "here"), Standing::Current);
    }
}
