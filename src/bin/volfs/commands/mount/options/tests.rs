use volfs::model::Bytes;

use super::*;

fn plan() -> MountPlan {
    MountPlan::new(Path::new("/s"), Path::new("/nowhere")).unwrap()
}

fn refused(list: &str) -> String {
    let failure = plan().apply(list, false).unwrap_err();
    assert_eq!(failure.exit_code(), crate::failure::USAGE);
    failure.report().unwrap().message.clone()
}

#[test]
fn the_last_of_contradicting_options_counts() {
    let mut plan = plan();
    plan.apply("ro,nosuid,dev,noexec,noatime,rw", false)
        .unwrap();
    let options = &plan.options;
    assert!(!options.read_only && !options.suid && options.dev);
    assert!(!options.exec && options.noatime);
}

#[test]
fn suid_and_dev_are_for_who_asks() {
    let mut plan = plan();
    plan.apply("defaults,rw", false).unwrap();
    assert!(!plan.options.suid && !plan.options.dev);
    plan.apply("suid,dev", false).unwrap();
    assert!(plan.options.suid && plan.options.dev);
    plan.apply("nosuid,nodev", false).unwrap();
    assert!(!plan.options.suid && !plan.options.dev);
    plan.apply("allow_suid,allow_dev", false).unwrap();
    assert!(plan.options.suid && plan.options.dev);
}

#[test]
fn values() {
    let mut plan = plan();
    plan.apply(
        "rmdir=trash,root_mode=1777,default_quota=1G,default_quota_inodes=9",
        false,
    )
    .unwrap();
    assert!(!plan.options.low_latency);
    assert!(!plan.options.birth_time);
    plan.apply(
        "threads=3,birth_time,low_latency,nopassthrough,store=/srv/x",
        false,
    )
    .unwrap();
    assert_eq!(plan.options.rmdir, RmdirPolicy::Trash);
    assert_eq!(plan.options.root_mode, 0o1777);
    assert_eq!(plan.options.default_limits.bytes, Some(Bytes(1 << 30)));
    assert_eq!(plan.options.default_limits.inodes, Some(9));
    assert_eq!(plan.options.threads, Some(3));
    plan.apply("user_volumes=3,user_bytes=1M,user_inodes=9", false)
        .unwrap();
    let users = plan.options.user_limits;
    assert_eq!((users.volumes, users.inodes), (Some(3), Some(9)));
    assert_eq!(users.bytes, Some(Bytes(1 << 20)));
    let texts = plan.options_as_text().join(",");
    assert!(texts.contains("user_volumes=3,user_bytes=1048576,user_inodes=9"));
    assert_eq!(plan.store, Path::new("/srv/x"));
    assert!(!plan.options.passthrough && plan.options.low_latency);
    assert!(plan.options.birth_time);
}

#[test]
fn what_fstab_writes_is_let_pass() {
    plan()
        .apply(
            "defaults,_netdev,nofail,noauto,user,x-systemd.automount,X-mount.mkdir,comment=a b,default_permissions,",
            false,
        )
        .unwrap();
}

#[test]
fn an_unknown_option_is_named_with_the_known_ones() {
    let text = refused("ro,frobnicate=1");
    assert!(
        text.contains("frobnicate=1") && text.contains("rmdir=empty|trash"),
        "{text}"
    );
    assert!(refused("sync").contains("sync"));
    assert!(refused("remount,ro").contains("unmount it"));
    assert!(refused("rmdir=never").contains("'empty' or 'trash'"));
    assert!(refused("root_mode=999").contains("octal"));
    assert!(refused("default_quota=x").contains("not a size"));
    assert!(refused("user_volumes=0").contains("would allow nothing"));
    assert!(refused("user_inodes=x").contains("not a number"));
    assert!(refused("threads=0").contains("1 to 256"));
    assert!(refused("ro=1").contains("ro=1"));
    plan().apply("frobnicate", true).unwrap();
}

#[test]
fn options_read_back_as_themselves() {
    let mut first = plan();
    first
        .apply(
            "ro,dev,noexec,noatime,rmdir=trash,root_mode=1777,default_quota=4096,threads=2",
            false,
        )
        .unwrap();
    let mut second = plan();
    second
        .apply(&first.options_as_text().join(","), false)
        .unwrap();
    assert_eq!(first.options_as_text(), second.options_as_text());
}
