//! Reading the whole catalogue, and finding out whether it is sound.

use super::catalogue::Catalogue;
use super::error::{Error, Result};
use super::row::{self, VolumeRow};
use super::schema::UNIT_KEY;
use crate::model::{AllocationUnit, Serial, Timestamp};

impl Catalogue {
    /// All volumes in order of creation. Reads and checks the whole file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what SQLite finds corrupt and for a value that
    /// this program does not know, with table, id and value.
    pub fn load(&mut self) -> Result<Vec<VolumeRow>> {
        self.surely(|it| it.load_all())
    }

    fn load_all(&self) -> Result<Vec<VolumeRow>> {
        // Rows first: what is wrong with one is better said by its column
        // than by the check of the file.
        let mut rows = self.load_rows()?;
        self.load_labels(&mut rows)?;
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|e| self.error(&e))?;
        if verdict == "ok" {
            Ok(rows)
        } else {
            Err(self.damaged(verdict))
        }
    }

    fn load_rows(&self) -> Result<Vec<VolumeRow>> {
        let text = format!("SELECT {} FROM volume ORDER BY serial", row::COLUMNS);
        let mut statement = self.connection.prepare(&text).map_err(|e| self.error(&e))?;
        let mut found = statement.query([]).map_err(|e| self.error(&e))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(|e| self.error(&e))? {
            rows.push(row::read(row).map_err(|why| self.damaged(why))?);
        }
        Ok(rows)
    }

    fn load_labels(&self, rows: &mut [VolumeRow]) -> Result<()> {
        let mut statement = self
            .connection
            .prepare("SELECT serial, key, value FROM label ORDER BY serial, position")
            .map_err(|e| self.error(&e))?;
        let mut found = statement.query([]).map_err(|e| self.error(&e))?;
        while let Some(label) = found.next().map_err(|e| self.error(&e))? {
            let read = || -> rusqlite::Result<(i64, String, String)> {
                Ok((label.get(0)?, label.get(1)?, label.get(2)?))
            };
            let (serial, key, value) = read().map_err(|e| self.error(&e))?;
            let Ok(place) = rows.binary_search_by_key(&Serial(serial), |row| row.serial) else {
                return Err(self.damaged(format!(
                    "table label, serial {serial}, key {key:?}: no such volume"
                )));
            };
            rows[place].labels.set(key, value);
        }
        Ok(())
    }

    /// The settings of the store, as they were saved.
    ///
    /// # Errors
    /// [`Error`].
    pub fn saved_settings(&self) -> Result<Vec<(String, String)>> {
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            self.connection
                .prepare("SELECT key, value FROM setting WHERE key <> ?1 ORDER BY key")?
                .query_map([UNIT_KEY], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        read().map_err(|e| self.error(&e))
    }

    /// When a live volume last came, got another name or went.
    ///
    /// # Errors
    /// [`Error`].
    pub fn names_changed(&self) -> Result<Timestamp> {
        self.connection
            .query_row("SELECT changed FROM names", [], |row| row.get(0))
            .map(Timestamp::from_nanos)
            .map_err(|e| self.error(&e))
    }

    /// The unit that usage was counted in.
    ///
    /// # Errors
    /// [`Error`].
    pub fn allocation_unit(&self) -> Result<AllocationUnit> {
        let found = self
            .connection
            .prepare("SELECT value FROM setting WHERE key = ?1")
            .and_then(|mut statement| {
                let mut rows = statement.query([UNIT_KEY])?;
                let row = rows.next()?;
                row.map(|row| row.get::<_, String>(0)).transpose()
            })
            .map_err(|e| self.error(&e))?;
        let Some(text) = found else {
            return Ok(AllocationUnit::SMALLEST);
        };
        let bytes = text
            .parse()
            .map_err(|_| self.damaged(format!("its allocation unit {text:?} is not a number")))?;
        Ok(AllocationUnit::at_most(bytes))
    }

    fn damaged(&self, why: String) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    /// The highest serial that was ever given to a volume, 0 at first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn last_serial(&self) -> Result<Serial> {
        self.connection
            .query_row(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'volume'",
                [],
                |row| row.get(0).map(Serial),
            )
            .map_err(|e| self.error(&e))
    }
}
