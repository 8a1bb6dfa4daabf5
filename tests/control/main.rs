//! The control socket between a client and volumes in memory: every call, every
//! kind of bad client, and who may connect.

mod memory;
mod old_daemon;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use memory::{Memory, Nothing};
use tempfile::TempDir;
use volfs::control::{
    Client, Failure, MAX_CONNECTIONS, MAX_REQUEST_BYTES, SOCKET_NAME, Server, UnmountRefused,
};
use volfs::model::{Bytes, VolumeName, VolumeSpec};
use volfs::volume::{Change, Error, Removal, Volumes};

/// A server on a directory of its own.
struct Fixture {
    server: Option<Server>,
    volumes: Arc<Memory>,
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Memory::default(), Nothing::default())
    }

    fn with(volumes: Memory, daemon: Nothing) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Arc::new(volumes);
        let socket = dir.path().join(SOCKET_NAME);
        let server = Server::start(&socket, volumes.clone(), Arc::new(daemon)).unwrap();
        Self {
            server: Some(server),
            volumes,
            dir,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET_NAME)
    }

    fn client(&self) -> Client {
        Client::connect(self.dir.path()).unwrap().unwrap()
    }

    fn raw(&self) -> Raw {
        Raw(BufReader::new(UnixStream::connect(self.socket()).unwrap()))
    }
}

/// A client that may say anything.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next reply; `None` at the end.
    fn hear(&mut self) -> Option<serde_json::Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn code(&mut self) -> String {
        let reply = self.hear().expect("a reply");
        reply["error"]["code"].as_str().unwrap_or("ok").to_owned()
    }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn directory(text: &str) -> VolumeSpec {
    VolumeSpec::directory(name(text))
}

#[test]
fn every_call_gives_what_the_volumes_give() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let mut spec = directory("a");
    spec.limits.bytes = Some(Bytes(1 << 40));
    spec.labels.set("k", "v \u{1F4BE} \" \\n");
    let made = client.create(&spec).unwrap();
    assert_eq!(made, fixture.volumes.get(&name("a")).unwrap());
    assert_eq!(client.get(&name("a")), Ok(made.clone()));
    client.create(&directory("b")).unwrap();
    assert_eq!(client.list(), fixture.volumes.list());
    assert_eq!(client.list().unwrap().len(), 2);
    assert_eq!(
        client.rename(&name("b"), &name("c")).unwrap().name,
        name("c")
    );
    let change = Change {
        quota_bytes: Some(None),
        quota_inodes: Some(Some(9)),
        pinned: Some(true),
        ..Change::default()
    };
    let changed = client.change(&name("a"), &change).unwrap();
    assert_eq!(
        (changed.limits.bytes, changed.limits.inodes),
        (None, Some(9))
    );
    assert_eq!(
        client.holders(&name("a")),
        fixture.volumes.holders(&name("a"))
    );
    client.remove(&name("c"), Removal::Trash).unwrap();
    assert_eq!(client.trash(), fixture.volumes.trash());
    assert_eq!(
        client.restore("c", Some(&name("d"))).unwrap().name,
        name("d")
    );
    client.remove(&name("d"), Removal::Trash).unwrap();
    assert_eq!(client.empty_trash(None), Ok(1));
    assert_eq!(client.status().unwrap().mountpoint, Path::new("/mnt"));
    assert_eq!(client.stats().unwrap()["volumes"], 0);
    assert_eq!(client.pid(), Ok(Some(std::process::id().cast_signed())));
    assert_eq!(client.unmount(false), Ok(()));
}

#[test]
fn errors_arrive_as_they_were() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let gone = name("gone");
    for (from_daemon, direct) in [
        (client.get(&gone).err(), fixture.volumes.get(&gone).err()),
        (
            client.restore("gone", None).err(),
            fixture.volumes.restore("gone", None).err(),
        ),
        (
            client
                .create(&VolumeSpec {
                    size: Some(Bytes(1)),
                    ..directory("x")
                })
                .err(),
            fixture
                .volumes
                .create(&VolumeSpec {
                    size: Some(Bytes(1)),
                    ..directory("x")
                })
                .err(),
        ),
    ] {
        assert!(direct.is_some());
        assert_eq!(from_daemon, direct);
    }
}

#[test]
fn a_refused_unmount_says_who() {
    let refused = UnmountRefused::MountBusy {
        mountpoint: "/mnt".into(),
        holders: fixture_holders(),
    };
    let daemon = Nothing {
        unmount: Box::new({
            let refused = refused.clone();
            move |lazy| if lazy { Ok(()) } else { Err(refused.clone()) }
        }),
    };
    let fixture = Fixture::with(Memory::default(), daemon);
    assert_eq!(
        fixture.client().unmount(false),
        Err(Failure::Unmount(refused.clone()))
    );
    assert!(refused.to_string().contains("process 42 (sh)"), "{refused}");
    assert_eq!(fixture.client().unmount(true), Ok(()));
}

fn fixture_holders() -> Vec<volfs::volume::Holder> {
    let memory = Memory::default();
    memory.create(&directory("a")).unwrap();
    memory.holders(&name("a")).unwrap()
}

#[test]
fn what_is_no_request_gets_an_error_and_the_next_line_is_heard() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    for (line, code) in [
        ("hello", "bad-request"),
        ("", "bad-request"),
        ("{}", "bad-request"),
        ("\u{0}\u{1}", "bad-request"),
        (
            r#"{"protocol":2,"call":{"method":"list"}}"#,
            "protocol-version",
        ),
        (
            r#"{"protocol":1,"call":{"method":"explode"}}"#,
            "bad-request",
        ),
        (
            r#"{"protocol":1,"call":{"method":"get","name":"a/b"}}"#,
            "bad-request",
        ),
        (
            r#"{"protocol":1,"call":{"method":"get","name":"a"}}"#,
            "not-found",
        ),
        (r#"{"protocol":1,"call":{"method":"list"}}"#, "ok"),
    ] {
        raw.say(&format!("{line}\n"));
        assert_eq!(raw.code(), code, "{line}");
    }
    raw.0.get_mut().write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(raw.code(), "bad-request");
    // Two requests in one write are two replies.
    let list = r#"{"protocol":1,"call":{"method":"list"}}"#;
    raw.say(&format!("{list}\n{list}\n"));
    assert_eq!((raw.code(), raw.code()), ("ok".into(), "ok".into()));
}

#[test]
fn the_longest_line_is_bounded() {
    let fixture = Fixture::new();
    let mut raw = fixture.raw();
    let mut filler = "x".repeat(MAX_REQUEST_BYTES - 1);
    filler.push('\n');
    raw.say(&filler);
    assert_eq!(raw.code(), "bad-request", "1 MiB with its newline is read");
    let mut raw = fixture.raw();
    // The server may hang up before all is sent.
    let _ = raw
        .0
        .get_mut()
        .write_all("x".repeat(MAX_REQUEST_BYTES + 1).as_bytes());
    assert_eq!(raw.code(), "too-long");
    assert_eq!(raw.hear(), None);
    assert!(fixture.client().list().is_ok());
}

#[test]
fn silent_and_slow_clients_keep_nobody_out() {
    let fixture = Fixture::new();
    let mut slow = fixture.raw();
    slow.say(r#"{"protocol":1,"#);
    let mut silent: Vec<Raw> = (1..MAX_CONNECTIONS).map(|_| fixture.raw()).collect();
    let start = Instant::now();
    assert!(fixture.client().list().is_ok());
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(slow.code(), "too-slow");
    assert_eq!(slow.hear(), None);
    for silent in &mut silent {
        assert_eq!(silent.hear(), None);
    }
}

#[test]
fn a_client_that_reads_nothing_keeps_nobody_out() {
    let fixture = Fixture::new();
    for number in 0..2000 {
        fixture
            .volumes
            .create(&directory(&format!("v{number}")))
            .unwrap();
    }
    let mut deaf = fixture.raw();
    let list = r#"{"protocol":1,"call":{"method":"list"}}"#;
    deaf.say(&format!("{list}\n"));
    let start = Instant::now();
    assert_eq!(fixture.client().list().unwrap().len(), 2000);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn many_clients_at_once() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for worker in 0..48 {
            let client = fixture.client();
            scope.spawn(move || {
                for number in 0..10 {
                    let spec = directory(&format!("w{worker}-{number}"));
                    let made = client.create(&spec).unwrap();
                    assert_eq!(client.get(&spec.name), Ok(made));
                }
            });
        }
    });
    assert_eq!(fixture.client().list().unwrap().len(), 480);
}

#[test]
fn only_the_owner_can_open_the_socket_whatever_the_umask() {
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let fixture = Fixture::new();
    nix::sys::stat::umask(before);
    let socket = std::fs::symlink_metadata(fixture.socket()).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn another_user_is_turned_away_by_mode_and_by_uid() {
    const NOBODY: u32 = 65534;
    let fixture = Fixture::new();
    // Where nobody can execute it, whatever the build directory's mode.
    let program = fixture.dir.path().join("volfs");
    // By a process of its own: a descriptor open for writing that another
    // test's child inherits would make the copy busy (ETXTBSY).
    let cp = Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_volfs")), &program])
        .status();
    assert!(cp.unwrap().success());
    let open_to_all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(fixture.dir.path(), open_to_all.clone()).unwrap();
    let ls = || {
        let output = Command::new(&program)
            .args(["ls", "--json", "--store"])
            .arg(fixture.dir.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    let by_mode = ls();
    assert!(by_mode.contains("Permission denied"), "{by_mode}");
    std::fs::set_permissions(fixture.socket(), open_to_all).unwrap();
    let by_uid = ls();
    assert!(
        by_uid.contains("user id 65534 may not control it"),
        "{by_uid}"
    );
}

#[test]
fn a_socket_of_a_dead_daemon_is_no_daemon_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Client::connect(dir.path()).unwrap().is_none(), "no socket");
    let socket = dir.path().join(SOCKET_NAME);
    drop(UnixListener::bind(&socket).unwrap());
    assert!(
        Client::connect(dir.path()).unwrap().is_none(),
        "nobody listens"
    );
    let volumes = Arc::new(Memory::default());
    let server = Server::start(&socket, volumes, Arc::new(Nothing::default())).unwrap();
    assert!(Client::connect(dir.path()).unwrap().is_some());
    drop(server);
    assert!(!socket.exists());
    assert!(Client::connect(dir.path()).unwrap().is_none());
}

#[test]
fn a_store_may_lie_deeper_than_a_socket_address_is_long() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120)).join("e".repeat(200));
    std::fs::create_dir_all(&deep).unwrap();
    let volumes = Arc::new(Memory::default());
    let server = Server::start(
        &deep.join(SOCKET_NAME),
        volumes,
        Arc::new(Nothing::default()),
    );
    let _server = server.unwrap();
    let client = Client::connect(&deep).unwrap().unwrap();
    assert_eq!(client.list(), Ok(vec![]));
}

/// A daemon that hears one request and then does `then`.
fn false_daemon(then: impl FnOnce(UnixStream) + Send + 'static) -> (TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
    std::thread::spawn(move || {
        // The first connection only asks whether anybody is there.
        let _probe = listener.accept().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        then(stream);
    });
    let client = Client::connect(dir.path()).unwrap().unwrap();
    (dir, client)
}

fn complaint(client: &Client) -> String {
    match client.list() {
        Err(error @ Error::Daemon { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_dies_in_the_middle_is_an_error() {
    let (_dir, client) = false_daemon(drop);
    assert!(complaint(&client).contains("ended before it replied"));
    let (_dir, client) = false_daemon(|mut stream| stream.write_all(b"{\"ok\":[").unwrap());
    assert!(complaint(&client).contains("ended before it replied"));
    let (_dir, client) = false_daemon(|mut stream| stream.write_all(b"{\"ok\":7}\n").unwrap());
    assert!(complaint(&client).contains("makes no sense"));
    let fixture = Fixture::new();
    let client = fixture.client();
    drop(fixture);
    assert!(complaint(&client).contains("it has ended"));
}

#[test]
fn the_reply_to_unmount_arrives_although_the_server_ends() {
    let (tell, told) = mpsc::channel();
    let daemon = Nothing {
        unmount: Box::new(move |_| {
            tell.send(()).unwrap();
            Ok(())
        }),
    };
    let mut fixture = Fixture::with(Memory::default(), daemon);
    let client = fixture.client();
    let asker = std::thread::spawn(move || client.unmount(false));
    told.recv().unwrap();
    drop(fixture.server.take());
    assert_eq!(asker.join().unwrap(), Ok(()));
    assert!(!fixture.socket().exists());
}

#[test]
fn a_client_that_comes_at_the_end_knows_that_nothing_was_done() {
    for _ in 0..20 {
        let mut fixture = Fixture::new();
        let client = fixture.client();
        let (tell, told) = mpsc::channel();
        let asker = std::thread::spawn(move || {
            for number in 0.. {
                let spec = directory(&format!("v{number}"));
                if number == 3 {
                    tell.send(()).unwrap();
                }
                match client.create(&spec) {
                    Ok(_) => {}
                    Err(Error::Daemon { gone: true, .. }) => return number,
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!("the server ends")
        });
        told.recv().unwrap();
        drop(fixture.server.take());
        let made = asker.join().unwrap();
        assert_eq!(fixture.volumes.list().unwrap().len(), made);
    }
}

#[test]
fn the_end_does_not_wait_for_silent_clients() {
    let mut fixture = Fixture::new();
    let mut silent = fixture.raw();
    // It is being served when it has been answered.
    silent.say("\n");
    assert_eq!(silent.code(), "bad-request");
    let start = Instant::now();
    drop(fixture.server.take());
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(silent.hear(), None);
}

#[test]
fn a_path_that_json_cannot_hold_is_an_error_not_silence() {
    let root = PathBuf::from(std::ffi::OsString::from_vec(b"/\xff".to_vec()));
    let memory = Memory::at(root);
    memory.create(&directory("a")).unwrap();
    let fixture = Fixture::with(memory, Nothing::default());
    assert!(complaint(&fixture.client()).contains("cannot be written as JSON"));
}

/// A daemon whose unmount takes this long.
fn slow(takes: Duration) -> Nothing {
    Nothing {
        unmount: Box::new(move |_| {
            std::thread::sleep(takes);
            Ok(())
        }),
    }
}

#[test]
fn a_long_call_gives_signs_of_life_before_its_reply() {
    let fixture = Fixture::with(Memory::default(), slow(Duration::from_millis(3500)));
    let mut raw = fixture.raw();
    raw.say("{\"protocol\":1,\"call\":{\"method\":\"unmount\",\"lazy\":false}}\n");
    let start = Instant::now();
    let mut line = String::new();
    let mut first = [0];
    std::io::Read::read_exact(&mut raw.0, &mut first).unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{first:?}");
    raw.0.read_line(&mut line).unwrap();
    assert_eq!(first, *b" ");
    let reply: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(reply, serde_json::json!({ "ok": null }));
    assert!(line.starts_with(' '), "one each second: {line:?}");
    // The next reply has none of the last.
    raw.say("{\"protocol\":1,\"call\":{\"method\":\"list\"}}\n");
    line.clear();
    raw.0.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":[]}\n");
    assert_eq!(fixture.client().unmount(false), Ok(()));
}

#[test]
fn who_waits_for_a_turn_gets_signs_of_life() {
    let fixture = Fixture::new();
    let busy: Vec<Raw> = (0..MAX_CONNECTIONS).map(|_| fixture.raw()).collect();
    let mut waiting = fixture.raw();
    let mut sign = [0];
    std::io::Read::read_exact(&mut waiting.0, &mut sign).unwrap();
    assert_eq!(sign, *b" ");
    // Others are turned away or answered, not kept waiting behind it.
    drop(busy);
    waiting.say("{\"protocol\":1,\"call\":{\"method\":\"list\"}}\n");
    assert_eq!(waiting.code(), "ok");
}

#[test]
fn what_nobody_waits_for_any_more_is_not_done() {
    let fixture = Fixture::new();
    let busy: Vec<Raw> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let mut raw = fixture.raw();
            raw.say("{\"protocol\":1,\"call\":{\"method\":\"list\"}}\n");
            assert_eq!(raw.code(), "ok");
            raw
        })
        .collect();
    let mut gone = fixture.raw();
    let spec = serde_json::to_string(&directory("late")).unwrap();
    gone.say(&format!(
        "{{\"protocol\":1,\"call\":{{\"method\":\"create\",\"spec\":{spec}}}}}\n"
    ));
    drop(gone);
    drop(busy);
    // Behind it in the queue.
    assert_eq!(fixture.client().list(), Ok(vec![]));
}
