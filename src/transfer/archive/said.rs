//! Owner, mode, times and extended attributes of a file in an archive that is
//! being read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::pax::{Records, time_from_text, unescape};
use crate::transfer::acl;
use crate::transfer::attributes::Attributes;

/// The most bytes of the names of a file's attributes: `XATTR_LIST_MAX`,
/// `linux/limits.h`.
const XATTR_NAMES_MOST: usize = 65536;

/// What a header and the records before it say of a file.
///
/// # Errors
/// In words: what is wrong.
pub(super) fn attributes(header: &tar::Header, local: &Records) -> Result<Attributes, String> {
    let io = |what: &'static str| move |_: io::Error| format!("a damaged {what}");
    let old = header.as_old();
    let id = |key: &'static str, field: &[u8], own: io::Result<u64>| {
        let number: u64 = match local.number(key)? {
            Some(number) => number,
            None if is_blank(field) => 0,
            None => own.map_err(io(key))?,
        };
        // The largest one means "unchanged" to chown(2).
        u32::try_from(number)
            .ok()
            .filter(|&id| id != u32::MAX)
            .ok_or_else(|| format!("the {key} {number}"))
    };
    let time = |key: &str| -> Result<Option<(i64, u32)>, String> {
        let Some(value) = local.get(key) else {
            return Ok(None);
        };
        std::str::from_utf8(value)
            .ok()
            .and_then(time_from_text)
            .map(Some)
            .ok_or_else(|| format!("a damaged {key}"))
    };
    let mtime = match time("mtime")? {
        Some(mtime) => mtime,
        None => {
            let seconds = match header.mtime() {
                _ if is_blank(&old.mtime) => 0,
                // GNU tar writes times before the epoch in two's complement.
                seconds => seconds.map_err(io("time"))?.cast_signed(),
            };
            (seconds, 0)
        }
    };
    Ok(Attributes {
        uid: id("uid", &old.uid, header.uid())?,
        gid: id("gid", &old.gid, header.gid())?,
        mode: match header.mode() {
            _ if is_blank(&old.mode) => 0o644,
            mode => mode.map_err(io("mode"))? & 0o7777,
        },
        mtime,
        atime: time("atime")?,
        xattrs: xattrs(local)?,
    })
}

/// Whether a numeric field was left out; so some programs do.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn xattrs(local: &Records) -> Result<Vec<(OsString, Vec<u8>)>, String> {
    // The last of a name counts.
    let mut found: BTreeMap<Vec<u8>, (bool, &[u8])> = BTreeMap::new();
    let mut names = 0;
    for (key, value) in local.iter() {
        let name = match key {
            b"SCHILY.acl.access" => acl::ACCESS.into(),
            b"SCHILY.acl.default" => acl::DEFAULT.into(),
            _ => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) => unescape(name),
                None => continue,
            },
        };
        if name.is_empty() || name.contains(&0) {
            return Err("an extended attribute without a name".to_owned());
        }
        let is_text = key.starts_with(b"SCHILY.acl.");
        let len = name.len() + 1;
        if found.insert(name, (is_text, value)).is_none() {
            names += len;
        }
        if names > XATTR_NAMES_MOST {
            return Err("more extended attributes than a file can have".to_owned());
        }
    }
    found
        .into_iter()
        .map(|(name, (is_text, value))| {
            let value = if is_text {
                let text = std::str::from_utf8(value).map_err(|_| "a damaged ACL")?;
                acl::from_text(text)?
            } else {
                value.to_vec()
            };
            Ok((OsString::from_vec(name), value))
        })
        .collect()
}
