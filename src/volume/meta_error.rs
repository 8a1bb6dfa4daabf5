//! What an error of the catalogue means for whoever asked for a volume.

use super::error::Error;
use crate::meta;

impl From<meta::Error> for Error {
    fn from(error: meta::Error) -> Self {
        match error {
            meta::Error::Damaged { path, why } => Self::Catalogue {
                path,
                why: format!(
                    "{why}; 'volfs doctor --rebuild-catalogue' makes it anew from the volumes' own files and keeps the damaged one aside"
                ),
            },
            meta::Error::Refused { path, why } => Self::CatalogueRefused { path, why },
            meta::Error::Newer { path, found, known } => Self::BadStore {
                store: path.parent().unwrap_or(&path).to_owned(),
                why: format!(
                    "its catalogue has version {found} and this volfs knows versions up to {known}; use the newer volfs that wrote it"
                ),
            },
            meta::Error::Busy { path } => Self::Locked {
                store: path.parent().unwrap_or(&path).to_owned(),
                holder: "a program that has its meta.db open".to_owned(),
            },
            meta::Error::System { path, errno } => Self::Io {
                action: "use".to_owned(),
                path,
                errno,
            },
        }
    }
}
