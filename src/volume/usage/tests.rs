use std::fs;

use crate::model::Bytes;
use crate::volume::testing::{Scratch, make, name};
use crate::volume::{Change, Removal, Store, StoreOptions, Volumes};

#[test]
fn usage_over_clean_and_unclean_stops() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    store.mark_dirty(&volume).unwrap();
    store.mark_dirty(&volume).unwrap();
    fs::write(store.data_dir(&volume).join("f"), "data").unwrap();
    volume.account().reserve(Bytes(4096), 1).unwrap().commit();
    let used = volume.usage();
    store.settle().unwrap();
    drop(store);

    let store = scratch.open();
    let volume = store.volume(&name("v")).unwrap();
    assert!(store.needs_recount().is_empty() && volume.usage_is_exact());
    assert_eq!(volume.usage(), used);
    store.mark_dirty(&volume).unwrap();
    volume.account().release(Bytes(4096), 1);
    store.save_usage().unwrap();
    // Not settled: as after a kill.
    drop(store);

    let store = scratch.open();
    assert!(!store.get(&name("v")).unwrap().used_is_exact);
    // An orderly end does not make figures exact that are not.
    store.settle().unwrap();
    drop(store);

    let store = scratch.open();
    let volume = store.volume(&name("v")).unwrap();
    assert_eq!(store.needs_recount().len(), 1);
    let counted = store.recount(&volume).unwrap();
    assert_eq!(counted, used);
    store.set_counted(&volume, counted).unwrap();
    assert!(store.get(&name("v")).unwrap().used_is_exact);
    store.settle().unwrap();
    drop(store);
    assert!(scratch.open().needs_recount().is_empty());
}

#[test]
fn a_restored_volume_keeps_account_and_limits() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    let change = Change {
        quota_inodes: Some(Some(3)),
        ..Change::default()
    };
    store.change(&name("v"), &change).unwrap();
    store.mark_dirty(&volume).unwrap();
    volume.account().reserve(Bytes(4096), 2).unwrap().commit();
    store.remove(&name("v"), Removal::Trash).unwrap();
    store.settle().unwrap();
    drop(store);
    let store = scratch.open();
    let back = store.restore(&volume.id.to_string(), None).unwrap();
    assert_eq!((back.used, back.limits.inodes), (volume.usage(), Some(3)));
    assert!(back.used_is_exact);
}

/// A volume whose files may be changed is never said to be clean, whatever else
/// goes on: it is counted if the process is killed then.
#[test]
fn a_repair_makes_no_other_volume_clean() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (a, b) = (make(&store, "a"), make(&store, "b"));
    let is_clean = || {
        let rows = store.catalogue().unwrap().load().unwrap();
        let row = rows.iter().find(|row| row.serial == b.serial).unwrap();
        row.usage_clean
    };
    for round in 0..200 {
        // Changed, and in nobody's use.
        let files = store.files(&name("b")).unwrap();
        files.write("f", vec![1; round * 100]).unwrap();
        drop(files);
        a.account().distrust();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let repair = scope.spawn(|| {
                start.wait();
                assert!(store.verify(&name("a"), true).unwrap().repaired);
            });
            start.wait();
            // At every moment of the repair.
            let begun = std::time::Instant::now();
            while begun.elapsed().as_micros() < 20 * round as u128 {
                std::hint::spin_loop();
            }
            let files = store.files(&name("b")).unwrap();
            repair.join().unwrap();
            assert!(!is_clean(), "while its files are in use");
            files.write("f", "").unwrap();
        });
    }
    drop(store);
    assert!(scratch.open().needs_recount().is_empty());
}

/// What was counted when directories were charged 4 KiB each is not believed,
/// nor by who only looks.
#[test]
fn a_store_of_before_directories_were_charged_their_sizes() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for new in ["v", "w"] {
        make(&store, new);
    }
    store.remove(&name("w"), Removal::Trash).unwrap();
    let volume = store.volume(&name("v")).unwrap();
    let large = store.data_dir(&volume).join("large");
    fs::create_dir(&large).unwrap();
    for n in 0..100 {
        fs::write(large.join(format!("{n:0>200}")), "").unwrap();
    }
    let catalogue = store.dir().join("meta.db");
    drop(store);
    let before = rusqlite::Connection::open(catalogue).unwrap();
    before
        .execute_batch(
            "UPDATE volume SET used_bytes = 4096, used_inodes = 101, usage_clean = 1;
             DROP TRIGGER name_came; DROP TRIGGER name_changed; DROP TABLE names;
             ALTER TABLE volume DROP COLUMN read_only;
             ALTER TABLE volume DROP COLUMN owner;
             ALTER TABLE volume DROP COLUMN contents_inode;
             ALTER TABLE volume DROP COLUMN contents_born;
             DROP TABLE identity;
             ALTER TABLE volume DROP COLUMN trash_files;
             PRAGMA user_version = 65538;",
        )
        .unwrap();
    fs::remove_file(scratch.path().join("volumes/.lineage")).unwrap();
    drop(before);

    let options = StoreOptions {
        read_only: true,
        create: false,
    };
    let looked = Store::open(&scratch.path(), &options).unwrap();
    assert!(!looked.get(&name("v")).unwrap().used_is_exact);
    drop(looked);
    let store = scratch.open();
    assert_eq!(store.needs_recount().len(), 1);
    store.restore("w", None).unwrap();
    assert_eq!(store.needs_recount().len(), 2);
    let volume = store.volume(&name("v")).unwrap();
    let found = store.recount(&volume).unwrap();
    assert!(
        found.bytes > Bytes(16 << 10) && found.inodes == 101,
        "{found:?}"
    );
}
