//! `docs/control-tree.md` against a mount: what is there is documented, and
//! what is documented is there.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::user::{ALICE, command_as};
use support::{Mount, run};

/// A table of the document: field and type; whether it may be absent.
fn documented(heading: &str) -> BTreeMap<String, (String, bool)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/control-tree.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once(&format!("## `{heading}`\n")).unwrap();
    let section = after.split("\n## ").next().unwrap();
    let fields: BTreeMap<_, _> = section
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let field = cells.get(1)?.strip_prefix('`')?;
            let (name, mark) = field.split_once('`')?;
            Some((name.to_owned(), ((*cells.get(2)?).to_owned(), mark == "°")))
        })
        .collect();
    assert!(fields.len() > 5, "{heading}: {fields:?}");
    fields
}

/// The fields of a value, each with the types that it has.
fn found(value: &Value, place: &str, by_name: &[&str], all: &mut BTreeMap<String, Vec<String>>) {
    let kind = match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = if by_name.contains(&place) { "*" } else { name };
                let below = if place.is_empty() {
                    name.to_owned()
                } else {
                    format!("{place}.{name}")
                };
                found(field, &below, by_name, all);
            }
            "object"
        }
        Value::Array(elements) => {
            for element in elements {
                found(element, &format!("{place}[]"), by_name, all);
            }
            return;
        }
        Value::String(text) if text.ends_with('Z') && text.len() == 30 => "time",
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    let kinds = all.entry(place.to_owned()).or_default();
    if !kinds.contains(&kind.to_owned()) {
        kinds.push(kind.to_owned());
    }
}

fn compare(heading: &str, value: &Value, by_name: &[&str]) {
    let documented = documented(heading);
    let mut there = BTreeMap::new();
    found(value, "", by_name, &mut there);
    for (field, kinds) in &there {
        if let Some((types, _)) = documented.get(field) {
            for kind in kinds {
                assert!(
                    types.split(" or ").any(|t| t == kind),
                    "{heading}: {field} is documented as {types} and is {kind}"
                );
            }
        } else {
            // An object that is only there for what is in it.
            assert_eq!(kinds, &["object"], "{heading}: {field} is not documented");
        }
    }
    for (field, (_, may_be_absent)) in documented {
        assert!(
            may_be_absent || there.contains_key(&field),
            "{heading}: {field} is documented and not there"
        );
    }
}

#[test]
fn what_is_there_is_documented() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    volfs.ok(&[
        "create",
        "a",
        "--quota",
        "1M",
        "--quota-inodes",
        "100",
        "--label",
        "k=v",
    ]);
    volfs.ok(&["create", "plain"]);
    volfs.ok(&["create", "db", "--disk", "--size", "16M"]);
    fs::write(mount.join("a/f"), vec![0; 900_000]).unwrap();
    fs::write(mount.join("plain/f"), "x").unwrap();
    let control = |name: &str| fs::read_to_string(mount.join(".volfs").join(name)).unwrap();
    let json = |name: &str| serde_json::from_str::<Value>(&control(name)).unwrap();

    let volumes = json("volumes.json");
    assert_eq!(volumes["schema"], 1);
    compare("volumes.json", &volumes, &[]);
    let listed: Value = serde_json::from_str(&volfs.ok(&["ls", "--json"])).unwrap();
    assert_eq!(volumes["volumes"], listed);
    let stats = json("stats.json");
    assert_eq!(stats["schema"], 1);
    compare("stats.json", &stats, &["operations", "volumes"]);
    let events: Vec<Value> = control("events.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 1);
    compare("events.jsonl", &events[0], &[]);
    assert_eq!(control("version"), concat!(env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_last_error_is_each_users_own() {
    let mount = Mount::builder().args(&["--root-mode", "1777"]).start();
    let last_error = mount.join(".volfs/last_error");
    let of_root = || fs::read_to_string(&last_error).unwrap();
    let of_alice = || run(command_as(ALICE, "cat").arg(&last_error));
    assert_eq!((of_root(), of_alice()), (String::new(), String::new()));

    let volume = mount.volume("full");
    std::os::unix::fs::chown(&volume, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
    mount.volfs().ok(&["set", "full", "--quota", "4K"]);
    let mut dd = command_as(ALICE, "dd");
    dd.args(["if=/dev/zero", "bs=4096", "count=2", "status=none"]);
    let mut of = std::ffi::OsString::from("of=");
    of.push(volume.join("f"));
    let refused = support::output(dd.arg(of));
    assert!(!refused.status.success());
    let full = "volume \"full\" cannot hold that: it has 4096 of 4096 bytes and 1 of 1024 inodes; \
        remove something, or let its operator raise the limit with 'volfs set full --quota'\n";
    assert_eq!((of_root(), of_alice()), (String::new(), full.to_owned()));

    fs::write(mount.join("f"), "").unwrap_err();
    let at_root = "only volumes (directories) can be made at the root of the mount; \
        make files inside a volume\n";
    assert_eq!((of_root().as_str(), of_alice().as_str()), (at_root, full));
    // What an error number says well enough changes nothing.
    fs::read(mount.join("full/nowhere")).unwrap_err();
    assert_eq!(of_root(), at_root);
}
