//! Volumes in memory and a daemon without a mount, for what is between them
//! and a client.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use volfs::control::{Daemon, PROTOCOL, Status, UnmountRefused};
use volfs::model::{AllocationUnit, Timestamp, Usage, VolumeId, VolumeName, VolumeSpec};
use volfs::volume::{
    Change, CheckHow, DiskCheck, Error, Event, Hold, Holder, Purge, Removal, Result, Setting,
    Settings, Source, Staged, TrashedVolume, Verified, VolumeFs, VolumeInfo, Volumes,
};

#[derive(Default)]
struct State {
    volumes: Vec<VolumeInfo>,
    trash: Vec<TrashedVolume>,
    settings: Settings,
}

/// Volumes without files.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
    root: PathBuf,
}

impl Memory {
    /// Volumes that say they are in `root`.
    pub fn at(root: PathBuf) -> Self {
        Self {
            root,
            ..Self::default()
        }
    }
}

impl State {
    fn position(&self, name: &VolumeName) -> Result<usize> {
        self.volumes
            .iter()
            .position(|info| info.name == *name)
            .ok_or_else(|| Error::NotFound { name: name.clone() })
    }

    fn free(&self, name: &VolumeName) -> Result<()> {
        match self.position(name) {
            Ok(_) => Err(Error::Exists { name: name.clone() }),
            Err(_) => Ok(()),
        }
    }
}

impl Volumes for Memory {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        spec.check()?;
        let mut state = self.state.lock();
        state.free(&spec.name)?;
        let id = VolumeId::random();
        let info = VolumeInfo {
            name: spec.name.clone(),
            id,
            kind: spec.kind,
            path: self.root.join(id.to_string()),
            limits: spec.limits,
            allocation_unit: AllocationUnit::SMALLEST,
            used: Usage::default(),
            used_is_exact: true,
            counting: None,
            disk: None,
            labels: spec.labels.clone(),
            pinned: false,
            read_only: false,
            owner: None,
            trash_files: None,
            created: Timestamp::now(),
            updated: Timestamp::now(),
        };
        state.volumes.insert(0, info.clone());
        Ok(info)
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        let state = self.state.lock();
        Ok(state.volumes[state.position(name)?].clone())
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        Ok(self.state.lock().volumes.clone())
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        let mut state = self.state.lock();
        let at = state.position(from)?;
        state.free(to)?;
        state.volumes[at].name = to.clone();
        Ok(state.volumes[at].clone())
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        let mut state = self.state.lock();
        let at = state.position(name)?;
        if state.volumes[at].pinned {
            return Err(Error::Pinned { name: name.clone() });
        }
        let info = state.volumes.remove(at);
        if how == Removal::Trash {
            let trashed = Timestamp::now();
            let orphan = false;
            state.trash.insert(
                0,
                TrashedVolume {
                    info,
                    trashed,
                    orphan,
                },
            );
        }
        Ok(())
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        let mut state = self.state.lock();
        let at = state.position(name)?;
        let info = &mut state.volumes[at];
        if let Some(bytes) = change.quota_bytes {
            info.limits.bytes = bytes;
        }
        if let Some(inodes) = change.quota_inodes {
            info.limits.inodes = inodes;
        }
        for (key, value) in &change.set_labels {
            info.labels.set(key, value);
        }
        for key in &change.unset_labels {
            info.labels.unset(key);
        }
        info.pinned = change.pinned.unwrap_or(info.pinned);
        info.read_only = change.read_only.unwrap_or(info.read_only);
        info.trash_files = change.trash_files.unwrap_or(info.trash_files);
        Ok(info.clone())
    }

    fn check(&self, name: &VolumeName, _how: CheckHow) -> Result<DiskCheck> {
        self.state.lock().position(name)?;
        Ok(DiskCheck {
            clean: true,
            mended: false,
            trusted: true,
            said: String::new(),
        })
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        let state = self.state.lock();
        state.position(name)?;
        Ok(vec![Holder {
            pid: Some(42),
            command: Some("sh".into()),
            ..Holder::unseen(Hold::BindMount)
        }])
    }

    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        let each = self.list()?.into_iter().map(|info| {
            let holders = self.holders(&info.name)?;
            Ok((info.name, holders))
        });
        each.collect()
    }

    fn events(&self) -> Result<Vec<Event>> {
        Ok(Vec::new())
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        let info = self.get(name)?;
        Ok(Verified {
            name: info.name,
            accounted: info.used,
            was_exact: true,
            found: Usage::default(),
            repaired: repair,
        })
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        Ok(self.state.lock().trash.clone())
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        let mut state = self.state.lock();
        let at = state
            .trash
            .iter()
            .position(|trashed| trashed.info.name.as_str() == which)
            .ok_or_else(|| Error::NotInTrash {
                wanted: which.to_owned(),
            })?;
        let name = new_name
            .cloned()
            .unwrap_or_else(|| state.trash[at].info.name.clone());
        state.free(&name)?;
        let mut info = state.trash.remove(at).info;
        info.name = name;
        state.volumes.insert(0, info.clone());
        Ok(info)
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        let mut state = self.state.lock();
        let before = state.trash.len();
        match which {
            None => state.trash.clear(),
            Some(which) => state.trash.retain(|t| t.info.name.as_str() != which),
        }
        Ok(before - state.trash.len())
    }

    fn purges(&self) -> Result<Vec<Purge>> {
        Ok(Vec::new())
    }

    fn settings(&self) -> Result<Settings> {
        Ok(self.state.lock().settings)
    }

    fn set(&self, setting: &Setting) -> Result<Settings> {
        let mut state = self.state.lock();
        match setting {
            Setting::TrashRetention(retention) => state.settings.trash_retention = *retention,
            Setting::Names(rule) => state.settings.names = *rule,
        }
        Ok(state.settings)
    }

    fn files(&self, name: &VolumeName) -> Result<VolumeFs> {
        Err(no_files(&self.get(name)?))
    }

    fn source(&self, name: &VolumeName) -> Result<Source> {
        Err(no_files(&self.get(name)?))
    }

    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo> {
        self.create(&staged.spec)
    }

    fn detach(&self, name: &VolumeName) -> Result<Vec<String>> {
        self.get(name).map(|_| vec!["/cache".into()])
    }

    fn mountpoint(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn store_dir(&self) -> PathBuf {
        self.root.clone()
    }
}

fn no_files(info: &VolumeInfo) -> Error {
    Error::FilesMissing {
        name: info.name.clone(),
        path: info.path.clone(),
    }
}

/// A daemon without a mount.
pub struct Nothing {
    /// Called by `unmount`.
    pub unmount: Box<dyn Fn(bool) -> std::result::Result<(), UnmountRefused> + Send + Sync>,
}

impl Default for Nothing {
    fn default() -> Self {
        Self {
            unmount: Box::new(|_| Ok(())),
        }
    }
}

impl Daemon for Nothing {
    fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            version: "0".into(),
            protocol: PROTOCOL,
            store: "/store".into(),
            mountpoint: "/mnt".into(),
            since: Timestamp::from_nanos(0),
            options: vec!["rw".into()],
            features: vec![],
            no_upgrade: None,
        }
    }

    fn unmount(&self, lazy: bool) -> std::result::Result<(), UnmountRefused> {
        (self.unmount)(lazy)
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::json!({ "volumes": 0 })
    }
}
