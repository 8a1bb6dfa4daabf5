//! What a mount says of a store that is not as it was left, and stores and
//! machines on which a mount must not seem to succeed.

use std::fs;

use super::support::run;
use super::{Place, Value};
use std::process::Command;

/// A store whose catalogue is that of before its last volume.
fn with_older_catalogue(place: &Place) {
    place.volfs.ok(&["create", "known"]);
    let catalogue = place.volfs.store().join("meta.db");
    let saved = fs::read(&catalogue).unwrap();
    place.volfs.ok(&["config", "trash.retention", "1s"]);
    place.volfs.ok(&["create", "precious", "--quota", "1M"]);
    fs::write(catalogue, saved).unwrap();
}

#[test]
fn an_older_catalogue_is_told_in_the_foreground() {
    for quiet in [&["-q"][..], &[]] {
        let place = Place::new();
        with_older_catalogue(&place);
        let answer = place.volfs.run(&[&["mount", place.at()], quiet].concat());
        assert_eq!(answer.code, Some(0), "{}", answer.err);
        let wanted = "is not the one that this store was last used with";
        assert!(answer.err.starts_with("volfs: warning: "), "{}", answer.err);
        assert!(answer.err.contains(wanted), "{}", answer.err);
        assert!(answer.err.contains("precious"), "{}", answer.err);
        // The log of a quiet daemon has errors alone.
        assert_eq!(place.log().contains(wanted), quiet.is_empty());
        assert!(place.mountpoint.join("precious").is_dir());
        let volumes = place.volfs.list();
        assert_eq!(volumes[0]["limits"]["bytes"], 1 << 20);
        place.umount();
        let again = place.volfs.run(&["mount", place.at()]);
        assert_eq!((again.code, again.err.as_str()), (Some(0), ""));
    }
    let place = Place::new();
    with_older_catalogue(&place);
    let answer = place.volfs.run(&["mount", "--json", place.at()]);
    let value: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(value["findings"].as_array().unwrap().len(), 2, "{value}");
    assert_eq!(answer.err, "");
}

#[test]
fn a_store_in_a_volume_is_refused() {
    let place = Place::new();
    place.mount(&[]);
    fs::create_dir(place.mountpoint.join("v")).unwrap();
    let inside = super::Volfs::new(&place.mountpoint.join("v/store"));
    let second = place.dir.mkdir("second");
    let said = inside.fails(1, &["mount", second.to_str().unwrap()]);
    assert!(said.contains("outside of every volume"), "{said}");
    assert!(!inside.store().exists(), "nothing is made there");
    let doctor = inside.run(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{}", doctor.out);
    assert!(doctor.out.contains("inode numbers"), "{}", doctor.out);
    place.umount();
}

/// In a mount namespace of its own with nothing in `/dev` but what FUSE needs.
#[test]
fn a_machine_without_dev_null_can_mount() {
    let place = Place::new();
    place.volfs.ok(&["create", "v"]);
    let script = format!(
        "mount -t tmpfs none /dev && mknod /dev/fuse c 10 229 \
         && {volfs} mount {at} && echo made > {at}/v/file && cat {at}/v/file && {volfs} umount {at}",
        volfs = super::support::cli::BINARY,
        at = place.at(),
    );
    let said = run(Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("VOLFS_STORE", place.volfs.store()));
    assert!(said.contains("\nmade\n"), "{said}");
}
