//! The beginning of a volume: its row, and the order in which it comes about.

use std::sync::Arc;

use super::build::Build;
use super::error::{Error, Result};
use super::image;
use super::in_memory::Volume;
use super::layout::Place;
use super::store::Store;
use crate::failpoint;
use crate::meta::{DiskRow, Member, State, VolumeRow};
use crate::model::{
    Bytes, DiskFormat, DiskFsType, Kind, Serial, Slot, Timestamp, Usage, VolumeId, VolumeSpec,
};

impl Store {
    pub(super) fn create_volume(&self, spec: &VolumeSpec) -> Result<Arc<Volume>> {
        spec.check()?;
        if let Some(size) = spec.size {
            image::check_size(size)?;
        }
        self.writable()?;
        self.check_name(&spec.name)?;
        let claim = self.claim_name(&spec.name)?;
        let place = self.index.write().claim_place();
        let Some((serial, slot)) = place else {
            return Err(Error::BadStore {
                store: self.dir().to_owned(),
                why: format!("it holds {} volumes already, trash included", Slot::MAX),
            });
        };
        let made = self.make(spec, serial, slot);
        if made.is_err() {
            self.index.write().give_up_slot(slot);
        }
        drop(claim);
        made
    }

    /// Makes a volume whose name, serial and slot are claimed.
    fn make(&self, spec: &VolumeSpec, serial: Serial, slot: Slot) -> Result<Arc<Volume>> {
        let mut row = new_row(spec, serial, slot);
        let member = self.admit(&row)?;
        // Outside all locks: any number of volumes are built at a time.
        let mut build = Build::new(&self.layout, &row, spec.owner)?;
        build.publish()?;
        if row.kind == Kind::Directory && self.dir_growth().made() > self.unit.bytes() {
            row.used.bytes = self.root_charge(&row)?;
        }
        self.insert(row, build, member)
    }

    /// What an empty root is charged where directories begin large.
    fn root_charge(&self, row: &VolumeRow) -> Result<Bytes> {
        let root = self.layout.data(Place::Volumes, row.id);
        let found = std::fs::metadata(&root).map_err(|e| Error::io("look at", &root, &e))?;
        Ok(Bytes(self.unit.root_bytes(found.len())))
    }

    /// Commits the row of a volume whose directory is in its place, and shows
    /// it.
    pub(super) fn insert(
        &self,
        mut row: VolumeRow,
        build: Build<'_>,
        member: Option<Member>,
    ) -> Result<Arc<Volume>> {
        row.contents = build.contents();
        let _life = self.life.lock();
        self.catalogue()?.insert([&row])?;
        build.keep();
        failpoint::hit("create.committed");
        let name = row.name.clone();
        let volume = Arc::new(Volume::new(row, self.unit));
        if let Some(member) = member {
            volume.account().join(member);
        }
        self.index.write().appear(&name, &volume);
        self.tell(|observer| observer.appeared(&name, &volume));
        // Before who uses the volume can take the last space.
        self.refill_reserve();
        self.keep_room();
        Ok(volume)
    }
}

/// Whom a new volume counts against.
fn owner_of(spec: &VolumeSpec) -> u32 {
    let own = || nix::unistd::geteuid().as_raw();
    spec.owner.map_or_else(own, |owner| owner.uid)
}

pub(super) fn new_row(spec: &VolumeSpec, serial: Serial, slot: Slot) -> VolumeRow {
    let now = Timestamp::now();
    VolumeRow {
        serial,
        id: VolumeId::random(),
        slot,
        name: spec.name.clone(),
        kind: spec.kind,
        state: State::Live,
        limits: spec.limits,
        disk: spec.size.map(|size| DiskRow {
            size,
            format: DiskFormat::Raw,
            fstype: DiskFsType::Ext4,
            guest_written: false,
        }),
        labels: spec.labels.clone(),
        pinned: false,
        read_only: false,
        trash_files: None,
        orphan: false,
        created: now,
        updated: now,
        trashed: None,
        used: Usage::default(),
        usage_clean: true,
        manifest_current: true,
        owner: Some(owner_of(spec)),
        contents: None,
    }
}
