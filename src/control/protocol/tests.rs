use super::*;
use crate::model::Bytes;

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

#[test]
fn every_call_reads_back_as_itself() {
    let calls = [
        Call::Create {
            spec: Box::new(VolumeSpec::disk(name("d"), Bytes(1 << 30))),
        },
        Call::Get { name: name("a") },
        Call::List,
        Call::Rename {
            from: name("a"),
            to: name("b"),
        },
        Call::Remove {
            name: name("a"),
            how: Removal::Purge,
        },
        Call::Change {
            name: name("a"),
            change: Change {
                quota_bytes: Some(None),
                quota_inodes: Some(Some(7)),
                pinned: Some(true),
                ..Change::default()
            },
        },
        Call::Change {
            name: name("a"),
            change: Change::default(),
        },
        Call::Holders { name: name("a") },
        Call::AllHolders,
        Call::Trash,
        Call::Restore {
            which: "a".into(),
            new_name: Some(name("b")),
        },
        Call::EmptyTrash { which: None },
        Call::Status,
        Call::Unmount { lazy: true },
        Call::Stats,
    ];
    for call in calls {
        let request = Request::new(call);
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(Request::parse(line.as_bytes()), Ok(request), "{line}");
    }
}

#[test]
fn the_form_that_other_languages_write() {
    let line = br#"{"protocol":1,"call":{"method":"get","name":"cache"}}"#;
    assert_eq!(
        Request::parse(line).unwrap().call,
        Call::Get {
            name: name("cache")
        }
    );
}

#[test]
fn what_is_not_a_request_is_refused_with_a_reason() {
    let refusal = |line: &str| Request::parse(line.as_bytes()).unwrap_err().to_string();
    assert!(refusal("").contains("EOF"));
    assert!(refusal("hello").contains("expected value"));
    assert!(refusal(r#"{"call":{"method":"list"}}"#).contains("protocol"));
    let later = refusal(r#"{"protocol":2,"call":{"method":"teleport"}}"#);
    assert!(
        later.contains("speaks control protocol 1, not 2"),
        "{later}"
    );
    let unknown = refusal(r#"{"protocol":1,"call":{"method":"teleport"}}"#);
    assert!(unknown.contains("teleport"), "{unknown}");
    let extra = refusal(r#"{"protocol":1,"call":{"method":"get","name":"a","force":true}}"#);
    assert!(extra.contains("force"), "{extra}");
    let bad_name = refusal(r#"{"protocol":1,"call":{"method":"get","name":"../a"}}"#);
    assert!(bad_name.contains("must start with a letter"), "{bad_name}");
}

#[test]
fn every_error_crosses_unchanged_and_in_words() {
    let failures: [Failure; 6] = [
        volume::Error::NotFound { name: name("a") }.into(),
        volume::Error::from("".parse::<VolumeName>().unwrap_err()).into(),
        volume::Error::from(crate::model::InvalidSpec::DiskWithoutSize).into(),
        volume::Error::InUse {
            name: name("a"),
            holders: vec![Holder {
                pid: Some(7),
                command: Some("sh".into()),
                mountpoint: Some("/cache".into()),
                fs_type: Some("tmpfs".into()),
                by_name: Some("old".into()),
                namespace: Some(4026531841),
                within: Some(volume::Within::Unit("cron.service".into())),
                how: volume::Hold::WorkingDirectory,
            }],
        }
        .into(),
        UnmountRefused::MountBusy {
            mountpoint: "/mnt".into(),
            holders: vec![],
        }
        .into(),
        Refusal::Forbidden { uid: 1000 }.into(),
    ];
    for failure in failures {
        let reply: Reply<()> = Reply::Error(failure.clone().into());
        let line = serde_json::to_string(&reply).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["error"]["message"], failure.to_string());
        assert!(value["error"]["code"].is_string(), "{line}");
        assert_eq!(serde_json::from_str::<Reply<()>>(&line).unwrap(), reply);
    }
}
