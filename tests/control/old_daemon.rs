//! A daemon that is older than the client, and does not know all calls.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use volfs::control::{Client, SOCKET_NAME};
use volfs::model::VolumeSpec;
use volfs::volume::Volumes;

use crate::memory::Memory;

#[test]
fn it_is_asked_for_the_holders_of_each_volume() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
    let client = Client::connect(dir.path()).unwrap().unwrap();
    let memory = Memory::default();
    for name in ["a", "b"] {
        let spec = VolumeSpec::directory(name.parse().unwrap());
        memory.create(&spec).unwrap();
    }
    let wanted = memory.all_holders().unwrap();
    let daemon = std::thread::spawn(move || {
        let mut heard = Vec::new();
        // The probe, the call, the list and two volumes.
        for _ in 0..5 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap_or_default();
            let method = request["call"]["method"].as_str().unwrap_or_default();
            let reply = match method {
                "list" => json!({"ok": memory.list().unwrap()}),
                "holders" => {
                    let name = request["call"]["name"].as_str().unwrap().parse();
                    json!({"ok": memory.holders(&name.unwrap()).unwrap()})
                }
                _ => json!({"error": {
                    "code": "bad-request", "detail": {"why": "unknown variant"}, "message": "no",
                }}),
            };
            let _ = stream.write_all(format!("{reply}\n").as_bytes());
            heard.push(method.to_owned());
        }
        heard
    });
    assert_eq!(client.all_holders(), Ok(wanted));
    let heard = daemon.join().unwrap();
    assert_eq!(heard, ["", "all-holders", "list", "holders", "holders"]);
}
