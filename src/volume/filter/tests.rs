use super::*;
use crate::model::{SizeExt, VolumeSpec};
use crate::volume::{Store, StoreOptions};

fn filter(text: &str) -> Filter {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn info(change: impl FnOnce(&mut VolumeInfo)) -> VolumeInfo {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        create: true,
        ..Default::default()
    };
    let store = Store::open(&dir.path().join("s"), &options).unwrap();
    let mut spec = VolumeSpec::directory("build-1".parse().unwrap());
    spec.labels.set("team", "ci=1");
    let mut info = store.create(&spec).unwrap();
    change(&mut info);
    info
}

fn holds(text: &str, info: &VolumeInfo) -> bool {
    filter(text).by_metadata(info).expect(text)
}

#[test]
fn conditions_on_metadata() {
    let info = info(|info| {
        info.limits.bytes = Some(100.mib());
        info.used.bytes = 90.mib();
    });
    for text in [
        "label=team",
        "label=team=ci=1",
        "kind=directory",
        "name=build-1",
        "name=build-*",
        "name=*[0-9]",
        "name={build,test}-?",
        "used>89%",
        "used>=90%",
        "used <= 90%",
        "used>1M",
        "used<91M",
        "used>0",
        " unpinned ",
    ] {
        assert!(holds(text, &info), "{text}");
    }
    for text in [
        "label=Team",
        "label=team=ci",
        "label=team=",
        "kind=disk",
        "name=build",
        "name=Build-1",
        "used>90%",
        "used<90%",
        "used>90M",
        "pinned",
    ] {
        assert!(!holds(text, &info), "{text}");
    }
}

#[test]
fn a_share_needs_a_limit() {
    let info = info(|info| info.used.bytes = 1.gib());
    assert!(!holds("used>0%", &info) && !holds("used<100%", &info));
    assert!(holds("used>=1G", &info));
}

#[test]
fn age_is_since_the_volume_was_made() {
    let info = info(|info| info.created = Timestamp::from_nanos(0));
    let hour: Age = "1h".parse().unwrap();
    let at =
        |seconds: i64| Filter::older_than(hour, Timestamp::from_nanos(seconds * 1_000_000_000));
    assert_eq!(at(3600).by_metadata(&info), Some(true));
    assert_eq!(at(3599).by_metadata(&info), Some(false));
}

#[test]
fn what_is_no_filter() {
    let error = |text: &str| text.parse::<Filter>().unwrap_err();
    for text in ["", "used", "usedx", "labels=a", "in-use=1", "size>1G"] {
        let said = error(text).to_string();
        let wanted = if text.starts_with("used") {
            "compares with no amount"
        } else {
            "is not a filter"
        };
        assert!(said.contains(wanted), "{text}: {said}");
    }
    for text in ["label=", "label==v"] {
        assert_eq!(error(text), InvalidFilter::Label(text.into()));
    }
    assert_eq!(error("kind=Disk"), InvalidFilter::Kind("kind=Disk".into()));
    for text in ["name=", "name=[a", "name={a"] {
        assert!(matches!(error(text), InvalidFilter::Name { .. }), "{text}");
    }
    for text in [
        "used>",
        "used=1G",
        "used>x",
        "used>-1%",
        "used>1.5%",
        "used!1G",
    ] {
        assert_eq!(error(text), InvalidFilter::Used(text.into()), "{text}");
    }
}
