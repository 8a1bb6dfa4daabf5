//! `volfs.*` extended attributes: the properties of a volume, on its root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::node::NodeId;
use super::types::Caller;
use crate::diskimg::ROOT_INODE;
use crate::model::{Bytes, Kind, VolumeName};
use crate::volume::{Change, VolumeInfo, Volumes};

const PREFIX: &str = "volfs.";

/// Whether `name` is in the namespace of properties.
pub(super) fn is_property(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// The volume that `node` is the root of.
fn volume_of_root(fs: &FileSystem, node: NodeId) -> OpResult<VolumeName> {
    let slot = node.slot().ok_or(OpError::NoProperty)?;
    let volume = fs.store.volume_in(slot).ok_or(OpError::VolumeGone)?;
    let root = match volume.kind {
        Kind::Directory => crate::sys::node::stat(fs.volume_root(&volume)?)?.st_ino,
        Kind::Disk => ROOT_INODE,
    };
    if root != node.ino().0 {
        return Err(OpError::NoProperty);
    }
    Ok(volume.name())
}

/// Whether `node` is the root of a volume.
pub(super) fn is_root_of_volume(fs: &FileSystem, node: NodeId) -> bool {
    volume_of_root(fs, node).is_ok()
}

fn key(name: &OsStr) -> OpResult<&str> {
    name.to_str()
        .and_then(|name| name.strip_prefix(PREFIX))
        .ok_or(OpError::NoProperty)
}

/// The value of a property, as text.
pub(super) fn get(fs: &FileSystem, node: NodeId, name: &OsStr) -> OpResult<String> {
    let info = fs
        .store
        .get(&volume_of_root(fs, node)?)
        .map(|info| fs.with_live_usage(info))?;
    value(&info, key(name)?).ok_or(OpError::NoProperty)
}

fn value(info: &VolumeInfo, key: &str) -> Option<String> {
    Some(match key {
        "id" => info.id.to_string(),
        "kind" => info.kind.to_string(),
        "created" => info.created.to_string(),
        "used.bytes" => info.used.bytes.0.to_string(),
        "used.inodes" => info.used.inodes.to_string(),
        "quota.bytes" => info.limits.bytes?.0.to_string(),
        "quota.inodes" => info.limits.inodes?.to_string(),
        "size" => info.disk.as_ref()?.size.0.to_string(),
        _ => info.labels.get(key.strip_prefix("label.")?)?.to_owned(),
    })
}

/// Sets a property, or with no value lifts it.
pub(super) fn set(
    fs: &FileSystem,
    caller: Caller,
    node: NodeId,
    name: &OsStr,
    value: Option<&[u8]>,
) -> OpResult<()> {
    let result = try_set(fs, caller, node, name, value);
    match &result {
        Err(error) => fs.last_errors.set(caller.uid, error.to_string()),
        Ok(()) => {
            let volume = node.slot().and_then(|slot| fs.store.volume_in(slot));
            let volume = volume.map(|volume| volume.name().to_string());
            let value = value.map(String::from_utf8_lossy);
            super::root::note(
                caller,
                format_args!("set {name:?} of volume {volume:?} to {value:?}"),
            );
        }
    }
    result
}

fn try_set(
    fs: &FileSystem,
    caller: Caller,
    node: NodeId,
    name: &OsStr,
    value: Option<&[u8]>,
) -> OpResult<()> {
    let volume = volume_of_root(fs, node)?;
    if !fs.is_operator(caller) {
        return Err(OpError::NotOperator);
    }
    let text = match value {
        None => None,
        Some(bytes) => Some(
            std::str::from_utf8(bytes)
                .map_err(|_| OpError::PropertyValue("the value is not valid UTF-8".into()))?,
        ),
    };
    let change = change(key(name)?, text)?;
    if value.is_none() && get(fs, node, name).is_err() {
        return Err(OpError::NoProperty);
    }
    fs.store.change(&volume, &change)?;
    Ok(())
}

fn change(key: &str, text: Option<&str>) -> OpResult<Change> {
    // A shell's echo ends with a line feed; "none" is how commands lift limits.
    let limit = text.map(str::trim_end).filter(|text| *text != "none");
    let mut change = Change::default();
    match key {
        "quota.bytes" => {
            let bytes = limit.map(str::parse::<Bytes>).transpose();
            change.quota_bytes = Some(bytes.map_err(|e| OpError::PropertyValue(e.to_string()))?);
        }
        "quota.inodes" => {
            let inodes = limit.map(str::parse::<u64>).transpose();
            change.quota_inodes = Some(inodes.map_err(|_| {
                OpError::PropertyValue(format!(
                    "{:?} is not a number of inodes",
                    text.unwrap_or_default()
                ))
            })?);
        }
        "size" => {
            let size = text.map_or("", str::trim).parse::<Bytes>();
            change.size = Some(size.map_err(|e| OpError::PropertyValue(e.to_string()))?);
        }
        _ => match (key.strip_prefix("label."), text) {
            (Some(label), Some(text)) => {
                let value = text.strip_suffix('\n').unwrap_or(text);
                change.set_labels.push((label.into(), value.into()));
            }
            (Some(label), None) => change.unset_labels.push(label.into()),
            (None, _) => return Err(OpError::FixedProperty),
        },
    }
    Ok(change)
}
