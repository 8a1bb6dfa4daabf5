use std::path::Path;

use super::super::schema::{self, STEPS};
use super::super::{ContentsId, DiskRow, State, UsageRow, VolumeRow};
use super::*;
use crate::model::{
    Bytes, DiskFormat, DiskFsType, Kind, Labels, Limits, Serial, Slot, Timestamp, Usage, VolumeId,
    VolumeName,
};

fn row(serial: i64, name: &str) -> VolumeRow {
    VolumeRow {
        serial: Serial(serial),
        id: VolumeId::random(),
        slot: Slot::new(u32::try_from(serial).unwrap()).unwrap(),
        name: name.parse().unwrap(),
        kind: Kind::Directory,
        state: State::Live,
        limits: Limits::default(),
        disk: None,
        labels: Labels::default(),
        pinned: false,
        read_only: false,
        trash_files: None,
        orphan: false,
        created: Timestamp::from_nanos(1),
        updated: Timestamp::from_nanos(2),
        trashed: None,
        used: Usage::default(),
        usage_clean: true,
        manifest_current: true,
        owner: Some(1000),
        contents: None,
    }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("meta.db")
    }

    fn open(&self) -> Catalogue {
        Catalogue::open(&self.path()).unwrap()
    }

    /// Runs SQL as somebody would who tampers with the file.
    fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection
            .execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {sql}"))
            .unwrap();
    }

    fn complaint(&self) -> String {
        match Catalogue::open(&self.path()).and_then(|mut catalogue| catalogue.load()) {
            Err(Error::Damaged { path, why }) => {
                assert_eq!(path, self.path());
                why
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_field_comes_back() {
    let scratch = Scratch::new();
    let mut full = row(7, "full");
    full.limits = Limits {
        bytes: Some(Bytes(1 << 40)),
        inodes: Some(9),
    };
    full.labels.set("z", "1");
    full.labels.set("a", "");
    full.pinned = true;
    full.used = Usage {
        bytes: Bytes(8192),
        inodes: 3,
    };
    full.usage_clean = false;
    full.manifest_current = false;
    full.contents = Some(ContentsId {
        inode: u64::MAX - 1,
        born: Some(-5),
    });
    let mut disk = row(8, "disk");
    disk.kind = Kind::Disk;
    disk.disk = Some(DiskRow {
        size: Bytes(1 << 30),
        format: DiskFormat::Raw,
        fstype: DiskFsType::Ext4,
        guest_written: true,
    });
    let mut trashed = row(9, "full");
    trashed.state = State::Trash;
    trashed.trashed = Some(Timestamp::from_nanos(5));
    trashed.orphan = true;
    let rows = vec![full, disk, trashed];
    let mut catalogue = scratch.open();
    catalogue.insert(&rows).unwrap();
    assert_eq!(catalogue.load().unwrap(), rows);
    drop(catalogue);
    let mut catalogue = scratch.open();
    assert_eq!(catalogue.load().unwrap(), rows);
    assert_eq!(catalogue.last_serial().unwrap(), Serial(9));
}

#[test]
fn serials_are_never_used_twice() {
    let scratch = Scratch::new();
    let mut catalogue = scratch.open();
    assert_eq!(catalogue.last_serial().unwrap(), Serial(0));
    catalogue.insert([&row(41, "a")]).unwrap();
    catalogue.forget(&[Serial(41)]).unwrap();
    assert!(catalogue.load().unwrap().is_empty());
    drop(catalogue);
    assert_eq!(scratch.open().last_serial().unwrap(), Serial(41));
}

#[test]
fn a_name_is_unique_among_live_volumes_only() {
    let scratch = Scratch::new();
    let mut catalogue = scratch.open();
    catalogue.insert([&row(1, "a")]).unwrap();
    assert!(catalogue.insert([&row(2, "b"), &row(3, "a")]).is_err());
    assert_eq!(catalogue.load().unwrap().len(), 1, "all or none");
    let now = Timestamp::from_nanos(10);
    catalogue
        .set_state(&[Serial(1)], State::Trash, None, now)
        .unwrap();
    catalogue.insert([&row(3, "a")]).unwrap();
    assert!(
        catalogue
            .set_state(&[Serial(1)], State::Live, None, now)
            .is_err()
    );
    catalogue
        .set_state(&[Serial(1)], State::Live, Some(&name("c")), now)
        .unwrap();
    let rows = catalogue.load().unwrap();
    assert_eq!(rows[0].name, name("c"));
    assert_eq!((rows[0].state, rows[0].trashed), (State::Live, None));
    assert!(!rows[0].manifest_current && rows[1].manifest_current);
}

#[test]
fn names_are_exchanged_at_once() {
    let scratch = Scratch::new();
    let mut catalogue = scratch.open();
    catalogue.insert([&row(1, "a"), &row(2, "b")]).unwrap();
    let now = Timestamp::from_nanos(10);
    catalogue
        .exchange((Serial(1), &name("a")), (Serial(2), &name("b")), now)
        .unwrap();
    let rows = catalogue.load().unwrap();
    assert_eq!((&rows[0].name, &rows[1].name), (&name("b"), &name("a")));
    assert_eq!(rows[0].updated, now);
}

#[test]
fn settings_and_usage() {
    let scratch = Scratch::new();
    let mut catalogue = scratch.open();
    let mut changed = row(1, "a");
    changed.labels.set("old", "1");
    catalogue.insert([&changed]).unwrap();
    changed.labels.unset("old");
    changed.labels.set("new", "2");
    changed.pinned = true;
    changed.limits.inodes = Some(5);
    changed.manifest_current = false;
    catalogue.save_settings(&changed).unwrap();
    assert_eq!(catalogue.load().unwrap(), [changed.clone()]);

    catalogue.mark_usage_dirty(Serial(1)).unwrap();
    assert!(!catalogue.load().unwrap()[0].usage_clean);
    let used = Usage {
        bytes: Bytes(4096),
        inodes: 1,
    };
    let clean = UsageRow {
        serial: Serial(1),
        used,
        clean: true,
    };
    catalogue.save_usage(&[clean]).unwrap();
    catalogue.manifests_are_current(&[Serial(1)]).unwrap();
    changed.used = used;
    changed.manifest_current = true;
    assert_eq!(catalogue.load().unwrap(), [changed]);
    let full: i32 = catalogue
        .connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .unwrap();
    assert_eq!(full, 2, "synchronous is FULL again");
}

#[test]
fn the_file_is_private_and_in_wal_mode() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let mut catalogue = scratch.open();
    catalogue.insert([&row(1, "a")]).unwrap();
    let files: Vec<_> = std::fs::read_dir(scratch.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    for file in &files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    let mut names: Vec<_> = files.iter().map(|file| file.file_name()).collect();
    names.sort();
    assert_eq!(names, ["meta.db", "meta.db-wal"], "no shared memory");
}

#[test]
fn what_is_not_known_is_an_error_with_its_place() {
    for (column, value) in [("kind", "tape"), ("state", "limbo"), ("name", "../etc")] {
        let scratch = Scratch::new();
        let volume = row(1, "a");
        scratch.open().insert([&volume]).unwrap();
        scratch.tamper(&format!("UPDATE volume SET {column} = '{value}';"));
        let why = scratch.complaint();
        for part in ["table volume", &volume.id.to_string(), column, value] {
            assert!(why.contains(part), "{why:?} lacks {part:?}");
        }
    }
    let scratch = Scratch::new();
    let mut disk = row(1, "d");
    disk.kind = Kind::Disk;
    disk.disk = Some(DiskRow {
        size: Bytes(1),
        format: DiskFormat::Raw,
        fstype: DiskFsType::Ext4,
        guest_written: false,
    });
    scratch.open().insert([&disk]).unwrap();
    scratch.tamper("UPDATE volume SET disk_format = 'qcow2';");
    assert!(scratch.complaint().contains("qcow2"));
    scratch.tamper("UPDATE volume SET disk_format = 'raw', used_bytes = -1;");
    assert!(scratch.complaint().contains("used_bytes"));
    scratch.tamper("UPDATE volume SET used_bytes = 0, slot = 0;");
    assert!(scratch.complaint().contains("slot"));
}

#[test]
fn a_row_that_breaks_the_rules_is_found() {
    let scratch = Scratch::new();
    scratch.open().insert([&row(1, "a")]).unwrap();
    scratch.tamper("UPDATE volume SET trashed = 5;");
    assert!(scratch.complaint().contains("CHECK"));
    scratch.tamper("UPDATE volume SET trashed = NULL;");
    scratch.tamper("PRAGMA foreign_keys = OFF; INSERT INTO label VALUES (99, 0, 'k', 'v');");
    assert!(scratch.complaint().contains("no such volume"));
}

#[test]
fn a_later_version_is_left_alone() {
    let scratch = Scratch::new();
    drop(scratch.open());
    scratch.tamper("PRAGMA user_version = 99;");
    let before = std::fs::read(scratch.path()).unwrap();
    match Catalogue::open(&scratch.path()) {
        Err(Error::Newer {
            found: 99, known, ..
        }) => assert_eq!(known, schema::known()),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(scratch.path()).unwrap(), before);
}

#[test]
fn a_later_version_that_this_one_can_use_stays_as_it_is() {
    let scratch = Scratch::new();
    scratch.open().insert([&row(1, "a")]).unwrap();
    let later = schema::known() + 5;
    scratch.tamper(&format!(
        "CREATE TABLE later (x INTEGER) STRICT; PRAGMA user_version = {};",
        later | schema::known() << 16
    ));
    let mut catalogue = scratch.open();
    catalogue.insert([&row(2, "b")]).unwrap();
    let found = schema::look(&catalogue.connection, Path::new("x")).unwrap();
    assert_eq!(found, Found::Version(later));
    drop(catalogue);
    scratch.tamper(&format!(
        "PRAGMA user_version = {};",
        later | (schema::known() + 1) << 16
    ));
    assert!(matches!(
        Catalogue::open(&scratch.path()),
        Err(Error::Newer { .. })
    ));
}

#[test]
fn another_programs_database_is_left_alone() {
    let scratch = Scratch::new();
    scratch.tamper("CREATE TABLE theirs (x);");
    assert!(scratch.complaint().contains("another program"));
}

#[test]
fn every_version_is_brought_up_to_date() {
    for version in 0..=STEPS.len() {
        let scratch = Scratch::new();
        let mut sql = String::new();
        for step in &STEPS[..version] {
            sql += step;
        }
        if version > 0 {
            sql += &format!(
                "PRAGMA application_id = {}; PRAGMA user_version = {version};",
                schema::APPLICATION_ID
            );
        }
        scratch.tamper(&sql);
        let mut catalogue = scratch.open();
        catalogue.insert([&row(1, "a")]).unwrap();
        assert_eq!(
            schema::look(&catalogue.connection, Path::new("x")).unwrap(),
            Found::Version(schema::known())
        );
    }
}

#[test]
fn whether_there_is_a_catalogue() {
    let scratch = Scratch::new();
    assert!(!Catalogue::exists(&scratch.path()).unwrap());
    std::fs::write(scratch.path(), "").unwrap();
    assert!(!Catalogue::exists(&scratch.path()).unwrap());
    drop(scratch.open());
    assert!(Catalogue::exists(&scratch.path()).unwrap());
    let dir = scratch.dir.path();
    assert!(matches!(Catalogue::exists(dir), Err(Error::Damaged { .. })));
}
