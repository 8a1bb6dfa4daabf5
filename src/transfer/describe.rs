//! What an archive says of the volume that it holds.
//!
//! It stands in the comment of the archive's global header, which other
//! programs skip without a word (as they do git's).

use serde::{Deserialize, Serialize};

use crate::model::{Bytes, Kind, Labels, Limits, Timestamp, VolumeName};
use crate::volume::VolumeInfo;

/// How the comment begins.
const MARK: &str = "volfs ";

/// The version of the fields.
const VERSION: u32 = 1;

/// A volume in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    version: u32,
    pub name: VolumeName,
    pub kind: Kind,
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    pub labels: Labels,
    pub created: Timestamp,
}

impl Description {
    pub(super) fn of(info: &VolumeInfo) -> Self {
        Self {
            version: VERSION,
            name: info.name.clone(),
            kind: info.kind,
            limits: info.limits,
            size: info.disk.as_ref().map(|disk| disk.size),
            labels: info.labels.clone(),
            created: info.created,
        }
    }

    /// The comment.
    pub(super) fn to_comment(&self) -> serde_json::Result<String> {
        Ok(format!("{MARK}{}", serde_json::to_string(self)?))
    }

    /// Reads a comment; `None` for one that is not ours.
    ///
    /// # Errors
    /// In words: it is ours, and cannot be used.
    pub(super) fn from_comment(comment: &[u8]) -> Result<Option<Self>, String> {
        let Some(json) = comment.strip_prefix(MARK.as_bytes()) else {
            return Ok(None);
        };
        let unusable = |why: &dyn std::fmt::Display| {
            format!("what it says of the volume cannot be used: {why}")
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json).map_err(|e| unusable(&e))?;
        if version > VERSION {
            return Err(unusable(&format_args!(
                "it has version {version}, and this volfs knows {VERSION}"
            )));
        }
        serde_json::from_slice(json)
            .map(Some)
            .map_err(|e| unusable(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments() {
        assert_eq!(Description::from_comment(b"0123abcd"), Ok(None));
        let later = Description::from_comment(br#"volfs {"version":2,"else":1}"#);
        assert!(later.unwrap_err().contains("version 2"));
        for bad in [&b"volfs {"[..], br#"volfs {"version":1,"name":"../x"}"#] {
            assert!(Description::from_comment(bad).is_err());
        }
    }
}
