//! The facts of a volume by name, for `--sort`, `--format csv` and templates:
//! exact, and without units.

use std::cmp::Ordering;

use volfs::volume::VolumeInfo;

/// A fact of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One that every volume has.
    Fixed(Fixed),
    /// The value of a label; empty when it is not there.
    Label(String),
}

macro_rules! fixed {
    ($($variant:ident => $name:literal),+ $(,)?) => {
        /// Facts that every volume has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fixed { $(
            #[doc = $name]
            $variant
        ),+ }

        impl Fixed {
            /// All of them, in the order of the columns of a CSV file.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

fixed! {
    Name => "name", Id => "id", Kind => "kind", Used => "used", Limit => "limit",
    Percent => "percent", Inodes => "inodes", InodeLimit => "inode-limit",
    Created => "created", Updated => "updated", Pinned => "pinned", Labels => "labels",
    Path => "path", ReadOnly => "read-only", Owner => "owner",
}

impl Field {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix("label.").filter(|key| !key.is_empty()) {
            return Ok(Self::Label(key.to_owned()));
        }
        let found = Fixed::ALL.iter().find(|field| field.name() == text);
        found.map(|&field| Self::Fixed(field)).ok_or_else(|| {
            let known: Vec<&str> = Fixed::ALL.iter().map(|field| field.name()).collect();
            format!(
                "{text:?} is nothing that a volume has; it has {} and label.KEY",
                known.join(", ")
            )
        })
    }

    /// As text; empty when the volume has none.
    pub fn text(&self, info: &VolumeInfo) -> String {
        match self {
            Self::Label(key) => info.labels.get(key).unwrap_or_default().to_owned(),
            Self::Fixed(field) => field.text(info),
        }
    }

    /// How two volumes compare in it. What is not there comes first.
    pub fn compare(&self, a: &VolumeInfo, b: &VolumeInfo) -> Ordering {
        match self {
            Self::Label(key) => a.labels.get(key).cmp(&b.labels.get(key)),
            Self::Fixed(field) => match field {
                Fixed::Used => a.used.bytes.cmp(&b.used.bytes),
                Fixed::Limit => a.capacity().cmp(&b.capacity()),
                Fixed::Percent => share(a).cmp(&share(b)),
                Fixed::Inodes => a.used.inodes.cmp(&b.used.inodes),
                Fixed::InodeLimit => a.limits.inodes.cmp(&b.limits.inodes),
                Fixed::Created => a.created.cmp(&b.created),
                Fixed::Updated => a.updated.cmp(&b.updated),
                Fixed::Owner => a.owner.cmp(&b.owner),
                Fixed::Name
                | Fixed::Id
                | Fixed::Kind
                | Fixed::Pinned
                | Fixed::ReadOnly
                | Fixed::Labels
                | Fixed::Path => field.text(a).cmp(&field.text(b)),
            },
        }
    }
}

/// How full it is, in millionths.
fn share(info: &VolumeInfo) -> Option<u128> {
    let limit = info.capacity()?;
    Some(u128::from(info.used.bytes.0) * 1_000_000 / u128::from(limit.0.max(1)))
}

impl Fixed {
    fn text(self, info: &VolumeInfo) -> String {
        let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        match self {
            Self::Name => info.name.to_string(),
            Self::Id => info.id.to_string(),
            Self::Kind => info.kind.to_string(),
            Self::Used => info.used.bytes.0.to_string(),
            Self::Limit => number(info.capacity().map(|bytes| bytes.0)),
            Self::Percent => number(info.capacity().map(|limit| {
                // At most 2^64 * 100 / 1, and of no volume more than its host holds.
                let share =
                    (u128::from(info.used.bytes.0) * 100).div_ceil(u128::from(limit.0.max(1)));
                u64::try_from(share).unwrap_or(u64::MAX)
            })),
            Self::Inodes => info.used.inodes.to_string(),
            Self::InodeLimit => number(info.limits.inodes),
            Self::Created => info.created.to_string(),
            Self::Updated => info.updated.to_string(),
            Self::Pinned => info.pinned.to_string(),
            Self::ReadOnly => info.read_only.to_string(),
            Self::Labels => labels(info),
            Self::Path => info.path.display().to_string(),
            Self::Owner => number(info.owner.map(u64::from)),
        }
    }
}

fn labels(info: &VolumeInfo) -> String {
    let labels: Vec<String> = info
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    labels.join(" ")
}

/// An order of volumes: a field, and whether the largest comes first.
#[derive(Clone, Debug)]
pub struct SortKey {
    field: Field,
    descending: bool,
}

impl SortKey {
    /// Reads a field's name, with `-` before it for the largest first.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        Ok(Self {
            field: Field::parse(name)?,
            descending,
        })
    }

    /// Sorts; what is equal stays as it was.
    pub fn sort(&self, list: &mut [VolumeInfo]) {
        list.sort_by(|a, b| {
            let order = self.field.compare(a, b);
            if self.descending {
                order.reverse()
            } else {
                order
            }
        });
    }
}
