//! Names and other values as they stand on the command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use volfs::model::{Bytes, Owner, Plain, ShellWord, VolumeName};

use crate::failure::Outcome;

/// Reads a path. Every one but none at all is one.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Err("an empty text is no path; was a variable meant that is not set?");
        }
        Ok(PathBuf::from(text))
    })
}

/// Checks all names before anything is done with the first.
pub fn volume_names(names: &[OsString]) -> Outcome<Vec<VolumeName>> {
    names.iter().map(|name| volume_name(name)).collect()
}

/// Checks one name. A trailing slash, as completion of a directory leaves it,
/// is let pass.
pub fn volume_name(name: &OsStr) -> Outcome<VolumeName> {
    let trimmed = name.to_str().map_or(name, |text| {
        OsStr::new(match text.strip_suffix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => text,
        })
    });
    Ok(VolumeName::from_os(trimmed)?)
}

/// A path as a word of a command line.
pub fn shell_path(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    ShellWord(&Plain(&text).to_string()).to_string()
}

/// A limit to set, or `none` to lift it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitArgument<T>(pub Option<T>);

/// Reads a size. The options that take one let a leading hyphen through, so
/// that a negative size is called that and not an unknown option.
pub fn size(text: &str) -> Result<Bytes, String> {
    if text.starts_with("--") {
        return Err(format!("a size is missing before {text}"));
    }
    text.parse()
        .map_err(|error: volfs::model::InvalidSize| error.to_string())
}

/// Reads `none` or a size.
pub fn size_or_none(text: &str) -> Result<LimitArgument<Bytes>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(LimitArgument(None));
    }
    size(text).map(|bytes| LimitArgument(Some(bytes)))
}

/// Reads `none` or a number of inodes.
pub fn inodes_or_none(text: &str) -> Result<LimitArgument<u64>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(LimitArgument(None));
    }
    inodes(text).map(|inodes| LimitArgument(Some(inodes)))
}

/// Reads a number of inodes.
pub fn inodes(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("an inode quota of 0 would allow no file".to_owned()),
        // SQLite's integers are signed.
        Ok(number) if i64::try_from(number).is_ok() => Ok(number),
        _ => Err(format!("{text:?} is not a number of inodes")),
    }
}

/// Reads permission bits as chmod(1) takes them in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(mode),
        _ => Err(format!(
            "{text:?} is not a mode; write octal permission bits like 755 or 1777"
        )),
    }
}

/// Reads `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a label; write KEY=VALUE")),
    }
}

/// Reads the key of a label.
pub fn label_key(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('=') {
        return Err(format!("{text:?} is not the key of a label"));
    }
    Ok(text.to_owned())
}

/// A user and a group, by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerArgument {
    uid: u32,
    gid: u32,
}

/// Reads `USER[:GROUP]`; without a group it is the user's own.
pub fn owner(text: &str) -> Result<OwnerArgument, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_group) = user_id(user)?;
    let gid = match (group.filter(|group| !group.is_empty()), own_group) {
        (Some(group), _) => group_id(group)?,
        (None, Some(gid)) => gid,
        (None, None) => {
            return Err(format!(
                "user id {uid} has no entry in the user database, so its group is not known; write {uid}:GROUP"
            ));
        }
    };
    Ok(OwnerArgument { uid, gid })
}

fn user_id(user: &str) -> Result<(u32, Option<u32>), String> {
    use nix::unistd::{Uid, User};
    let looked_up = |error| format!("cannot look up the user {user:?}: {error}");
    if let Some(found) = User::from_name(user).map_err(looked_up)? {
        return Ok((found.uid.as_raw(), Some(found.gid.as_raw())));
    }
    let uid = id(user).ok_or_else(|| format!("no user is named {user:?}"))?;
    let found = User::from_uid(Uid::from_raw(uid)).map_err(looked_up)?;
    Ok((uid, found.map(|user| user.gid.as_raw())))
}

fn group_id(group: &str) -> Result<u32, String> {
    let found = nix::unistd::Group::from_name(group)
        .map_err(|error| format!("cannot look up the group {group:?}: {error}"))?;
    match found {
        Some(found) => Ok(found.gid.as_raw()),
        None => id(group).ok_or_else(|| format!("no group is named {group:?}")),
    }
}

/// A numeric id; the highest one means "unchanged" to chown(2) and is nobody's.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id != u32::MAX)
}

/// Owner and mode of a new volume from what was given of both; `None` when
/// nothing was.
pub fn owner_and_mode(owner: Option<OwnerArgument>, mode: Option<u32>) -> Option<Owner> {
    if owner.is_none() && mode.is_none() {
        return None;
    }
    let owner = owner.unwrap_or_else(|| OwnerArgument {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    });
    Some(Owner {
        uid: owner.uid,
        gid: owner.gid,
        mode: mode.unwrap_or(0o755),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(mode("0755"), Ok(0o755));
        assert_eq!(mode("1777"), Ok(0o1777));
        for bad in ["", "rwx", "8", "10000", "-1", "+7", "0x7"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("=b").is_err() && label("a").is_err());
        assert_eq!(inodes_or_none("none"), Ok(LimitArgument(None)));
        assert!(inodes("0").is_err() && inodes("18446744073709551615").is_err());
        assert_eq!(size_or_none("1k"), Ok(LimitArgument(Some(Bytes(1024)))));
    }

    #[test]
    fn owners() {
        assert_eq!(owner("root"), Ok(OwnerArgument { uid: 0, gid: 0 }));
        assert_eq!(owner("0:0"), Ok(OwnerArgument { uid: 0, gid: 0 }));
        let numeric = owner("4000000:4000001");
        assert_eq!(
            numeric,
            Ok(OwnerArgument {
                uid: 4_000_000,
                gid: 4_000_001
            })
        );
        assert!(owner("4000000").unwrap_err().contains("4000000:GROUP"));
        assert!(owner("no-such-user").unwrap_err().contains("no-such-user"));
        assert!(owner("4294967295:0").is_err());
        assert!(owner("root:no-such-group").is_err());
    }

    #[test]
    fn a_directory_as_completed() {
        assert_eq!(volume_name("a/".as_ref()).unwrap().as_str(), "a");
        assert!(volume_name("/".as_ref()).is_err());
        assert!(volume_name("a//".as_ref()).is_err());
    }
}
