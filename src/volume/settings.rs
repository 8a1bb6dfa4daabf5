//! What is set for a store as a whole, and kept in its catalogue.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::store::Store;
use crate::meta::Catalogue;
use crate::model::Retention;

/// All settings of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long removed volumes stay in the trash while the store is mounted.
    pub trash_retention: Retention,
    /// What the running mount was told instead, for as long as it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_retention_of_mount: Option<Retention>,
}

/// One setting with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "key", content = "value")]
pub enum Setting {
    /// [`Settings::trash_retention`].
    #[serde(rename = "trash.retention")]
    TrashRetention(Retention),
}

impl Setting {
    /// The keys that there are, as people write them.
    pub const KEYS: [&str; 1] = ["trash.retention"];

    /// The setting that `key` and `value` stand for.
    ///
    /// # Errors
    /// In words: there is no such key, or it cannot have this value.
    pub fn parse(key: &str, value: &str) -> std::result::Result<Self, String> {
        match key {
            "trash.retention" => value.parse().map(Self::TrashRetention).map_err(
                |error: crate::model::InvalidAge| {
                    format!("{error}, or 'none' to keep what is removed until the trash is emptied")
                },
            ),
            _ => Err(format!(
                "{key:?} is not a setting; there is {}",
                Self::KEYS.join(", ")
            )),
        }
    }

    fn as_text(self) -> (&'static str, String) {
        match self {
            Self::TrashRetention(retention) => ("trash.retention", retention.to_string()),
        }
    }
}

/// The settings in a catalogue. What a later version has set besides is left
/// alone.
pub(super) fn load(catalogue: &Catalogue) -> Result<Settings> {
    let mut settings = Settings::default();
    for (key, value) in catalogue.saved_settings()? {
        match Setting::parse(&key, &value) {
            Ok(Setting::TrashRetention(retention)) => settings.trash_retention = retention,
            Err(why) => log::warn!("a setting in the catalogue is ignored: {why}"),
        }
    }
    Ok(settings)
}

impl Store {
    /// What is set, without asking the catalogue.
    #[must_use]
    pub fn current_settings(&self) -> Settings {
        *self.settings.read()
    }

    pub(super) fn save_setting(&self, setting: Setting) -> Result<Settings> {
        let (key, value) = setting.as_text();
        // Two at once must not end with one in memory and the other on disk: the
        // catalogue stays locked until both have it.
        let mut catalogue = self.catalogue()?;
        catalogue.set_setting(key, &value).map_err(Error::from)?;
        let mut settings = self.settings.write();
        match setting {
            Setting::TrashRetention(retention) => settings.trash_retention = retention,
        }
        Ok(*settings)
    }
}
