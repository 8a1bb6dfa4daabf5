//! A command gives the same with a daemon as without.

use serde_json::Value;

use super::Place;

/// Takes away what differs between any two volumes: identity, place, time.
fn normal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                !["id", "path", "created", "updated", "trashed", "mounted_at"].contains(&&**key)
            });
            fields.values_mut().for_each(normal);
        }
        Value::Array(values) => values.iter_mut().for_each(normal),
        _ => {}
    }
}

#[test]
fn with_a_daemon_as_without() {
    let (served, direct) = (Place::new(), Place::new());
    served.mount(&[]);
    for line in [
        "create a b c --quota 1G --label k=v --label l=",
        "create a",
        "create d --owner 1:2 --mode 1777 --quota-inodes 3",
        "ls",
        "inspect a d gone",
        "mv a e",
        "mv a f",
        "mv e b",
        "set e --quota none --pin --unset-label k",
        "set gone --pin",
        "rm e",
        "set e --unpin",
        "rm e b gone",
        "trash ls",
        "create b",
        "trash restore b",
        "trash restore b --as g",
        "trash restore gone",
        "trash empty gone",
        "trash empty e",
        "rm --purge g c",
        "trash empty",
        "ls",
        "rm --purge b d",
        "ls",
    ] {
        let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let [with, without] = [&served, &direct].map(|place| {
            let answer = place.volfs.run(&arguments);
            let mut out = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
            normal(&mut out);
            // Errors of several names are a line each.
            let err: Vec<Value> = answer
                .err
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            (answer.code, out, err)
        });
        assert_eq!(with, without, "volfs {line}");
    }
}
