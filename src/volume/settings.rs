//! What is set for a store as a whole, and kept in its catalogue.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::layout::Layout;
use super::store::Store;
use crate::meta::Catalogue;
use crate::model::{NameRule, Retention, VolumeName};

/// All settings of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long removed volumes stay in the trash while the store is mounted.
    pub trash_retention: Retention,
    /// Which names volumes get.
    #[serde(default)]
    pub names: NameRule,
    /// What the running mount was told instead, for as long as it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_retention_of_mount: Option<Retention>,
}

impl Settings {
    /// Which names a store would take that this process makes in `dir`; `None`
    /// when there is one.
    #[must_use]
    pub fn names_of_new_store(dir: &Path) -> Option<NameRule> {
        let is_there = Layout::new(dir).catalogue().exists();
        (!is_there).then(rule_of_new_store)
    }

    fn apply(&mut self, setting: Setting) {
        match setting {
            Setting::TrashRetention(retention) => self.trash_retention = retention,
            Setting::Names(rule) => self.names = rule,
        }
    }
}

/// What is set in a store that is made by this process, other than the default.
pub(super) fn of_new_store() -> Vec<(&'static str, String)> {
    match rule_of_new_store() {
        NameRule::Portable => Vec::new(),
        NameRule::Any => vec![Setting::Names(NameRule::Any).as_text()],
    }
}

/// Who is not root makes a store for people, who name folders as they like.
fn rule_of_new_store() -> NameRule {
    if nix::unistd::geteuid().is_root() {
        NameRule::Portable
    } else {
        NameRule::Any
    }
}

/// One setting with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "key", content = "value")]
pub enum Setting {
    /// [`Settings::trash_retention`].
    #[serde(rename = "trash.retention")]
    TrashRetention(Retention),
    /// [`Settings::names`].
    #[serde(rename = "names")]
    Names(NameRule),
}

impl Setting {
    /// The keys that there are, as people write them.
    pub const KEYS: [&str; 2] = ["trash.retention", "names"];

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
            "names" => value.parse().map(Self::Names),
            _ => Err(format!(
                "{key:?} is not a setting; there is {}",
                Self::KEYS.join(", ")
            )),
        }
    }

    /// The setting's key and value, as people write them.
    #[must_use]
    pub fn as_text(self) -> (&'static str, String) {
        match self {
            Self::TrashRetention(retention) => ("trash.retention", retention.to_string()),
            Self::Names(rule) => ("names", rule.to_string()),
        }
    }
}

/// The settings in a catalogue. What a later version has set besides is left
/// alone.
pub(super) fn load(catalogue: &Catalogue) -> Result<Settings> {
    let mut settings = Settings::default();
    for (key, value) in catalogue.saved_settings()? {
        match Setting::parse(&key, &value) {
            Ok(setting) => settings.apply(setting),
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
        // One of them makes room: a retention.
        self.commit_removal_in(&mut catalogue, |catalogue| match setting {
            // To earlier programs such names are damage.
            Setting::Names(NameRule::Any) => catalogue.set_setting_of_this_version(key, &value),
            _ => catalogue.set_setting(key, &value),
        })?;
        let mut settings = self.settings.write();
        settings.apply(setting);
        Ok(*settings)
    }

    /// Whether a volume may be given this name.
    pub(super) fn check_name(&self, name: &VolumeName) -> Result<()> {
        Ok(self.current_settings().names.check(name)?)
    }
}
