//! As a service manager runs it: readiness, end and watchdog, told to a socket
//! as systemd's `NOTIFY_SOCKET` is one.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::cli::BINARY;
use support::{Mount, TestDir, Volfs, output, poll, proc, run, wait_for};

/// A service manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _dir: TestDir,
}

impl Manager {
    fn new() -> Self {
        let dir = TestDir::new();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            path: path.to_str().unwrap().to_owned(),
            _dir: dir,
        }
    }

    /// The next message, if there is one.
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..len].to_vec()).unwrap())
    }

    /// Waits for a message that has this line, and returns it whole.
    fn wait_for(&self, line: &str) -> String {
        let came = poll(Duration::from_secs(20), || {
            self.next()
                .filter(|message| message.lines().any(|l| l == line))
        });
        came.unwrap_or_else(|| panic!("{line} was not told within 20 s"))
    }

    /// Whether nothing is told for so long.
    fn is_silent_for(&self, time: Duration) -> bool {
        while self.next().is_some() {}
        let until = Instant::now() + time;
        let spoke = poll(time * 2, || match self.next() {
            Some(_) => Some(true),
            None => (Instant::now() > until).then_some(false),
        });
        spoke == Some(false)
    }
}

#[test]
fn a_service_manager_is_told_ready_and_the_end() {
    let manager = Manager::new();
    let mut mount = Mount::builder().env("NOTIFY_SOCKET", &manager.path).start();
    let ready = manager.wait_for("READY=1");
    let status = format!(
        "STATUS={} on {}",
        mount.store().display(),
        mount.path().display()
    );
    assert!(ready.lines().any(|line| line == status), "{ready}");
    mount.volume("a");
    assert!(
        manager.is_silent_for(Duration::from_millis(200)),
        "without WATCHDOG_USEC nothing more is told"
    );

    // Refused because somebody uses it: that is its status from then on.
    let file = std::fs::File::create(mount.join("a/f")).unwrap();
    kill(Pid::from_raw(mount.pid()), Signal::SIGTERM).unwrap();
    let busy = poll(Duration::from_secs(20), || manager.next()).unwrap();
    assert!(busy.starts_with("STATUS=still mounted: "), "{busy}");
    drop(file);
    mount.stop();
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_watchdog_lives_from_answers_of_the_mount() {
    let manager = Manager::new();
    // The store lies on another mount, whose daemon can be stopped: every
    // answer that needs the store has to wait then.
    let dir = TestDir::new();
    let (real, shown) = (dir.mkdir("real"), dir.mkdir("shown"));
    let mut below = Command::new("bindfs")
        .arg("-f")
        .args([&real, &shown])
        .spawn()
        .expect("scripts/test installs it");
    wait_for("it is mounted", || proc::mount_on(&shown).is_some());
    let above = Mount::builder()
        .parent(&shown)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "200000")
        .start();
    manager.wait_for("READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let below_pid = Pid::from_raw(below.id().cast_signed());
    kill(below_pid, Signal::SIGSTOP).unwrap();
    let silent = poll(Duration::from_secs(20), || {
        manager
            .is_silent_for(Duration::from_millis(600))
            .then_some(())
    });
    kill(below_pid, Signal::SIGCONT).unwrap();
    assert!(silent.is_some(), "a mount that does not answer was said to");
    manager.wait_for("WATCHDOG=1");
    drop(above);
    run(Command::new("umount").arg(&shown));
    below.wait().unwrap();
}

/// Mounts in the background, in a mount namespace in which `/run` is empty but
/// for the journal's sockets, which are those in `journal`.
fn mount_with_journal(dir: &TestDir, journal: &str) -> Output {
    let script = r#"
        mount -t tmpfs none /run && mkdir -p /run/systemd/journal || exit 9
        test -z "$3" || mount --bind "$3" /run/systemd/journal || exit 9
        exec "$0" mount --json --store "$1" -o log=journal "$2""#;
    output(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, BINARY])
            .args([dir.join("store"), dir.mkdir("mnt")])
            .arg(journal),
    )
}

#[test]
fn the_log_can_be_the_journal() {
    let dir = TestDir::new();
    let journal = dir.mkdir("journal");
    let listener = UnixListener::bind(journal.join("stdout")).unwrap();
    let mounted = mount_with_journal(&dir, journal.to_str().unwrap());
    let said: serde_json::Value = serde_json::from_slice(&mounted.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&mounted.stderr)));
    let pid = i32::try_from(said["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let mut log = String::new();
    let (mut stream, _) = listener.accept().unwrap();
    // Until the daemon has ended, and so closed it.
    stream.read_to_string(&mut log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..7], ["volfs", "", "6", "1", "0", "0", "0"]);
    assert!(lines[7].starts_with("<6>volfs "), "{log}");
    assert!(lines.contains(&"<6>SIGTERM: unmounting"), "{log}");
    assert_eq!(*lines.last().unwrap(), "<6>unmounted");
    assert!(!dir.join("store/daemon.log").exists());
    wait_for("the supervisor ends", || {
        support::proc::processes_naming(dir.path()).is_empty()
    });
}

#[test]
fn a_journal_that_is_not_there_is_said() {
    let dir = TestDir::new();
    let refused = mount_with_journal(&dir, "");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("\"code\":\"no-journal\""), "{said}");
    assert!(said.contains("leave log=journal out"), "{said}");
}

#[test]
fn who_goes_on_with_a_mount_writes_the_log_that_is_there_now() {
    let dir = TestDir::new();
    let (volfs, mnt) = (Volfs::new(&dir.join("store")), dir.mkdir("mnt"));
    let mnt = mnt.to_str().unwrap();
    volfs.ok(&["mount", mnt]);
    let log = dir.join("store/daemon.log");
    fs::rename(&log, dir.join("moved")).unwrap();
    volfs.ok(&["upgrade"]);
    wait_for("the log goes on in a new file", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("serves"))
    });
    volfs.ok(&["umount", mnt]);
    assert!(fs::read_to_string(&log).unwrap().contains("unmounted"));
}

/// `volfs metrics --listen`, ended with the test.
struct Metrics {
    child: std::process::Child,
    place: String,
}

impl Metrics {
    fn start(volfs: &Volfs, listen: &str) -> Self {
        let mut child = volfs
            .command(&["metrics", "--listen", listen])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let place = said.trim_end().strip_prefix("metrics are served on ");
        let place = place.unwrap_or_else(|| panic!("{said:?}")).to_owned();
        Self { child, place }
    }

    /// Ends it as a service manager does.
    fn end(mut self) {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = poll(Duration::from_secs(20), || self.child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and returns all that comes back.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Checks text by the grammar of the exposition format: each sample belongs to
/// the family that was announced last, and no series comes twice.
fn check_exposition(text: &str) {
    let sample = regex::Regex::new(
        r#"^([a-z_]+?)(_bucket|_sum|_count)?(\{([a-z]+="([^"\\]|\\.)*",?)+\})? (\d+(\.\d+)?)$"#,
    )
    .unwrap();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut seen = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
        } else if let Some(is) = line.strip_prefix("# TYPE ") {
            let (name, is) = is.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(["gauge", "counter", "histogram"].contains(&is), "{line}");
            assert_eq!(is == "counter", name.ends_with("_total"), "{line}");
            kind = is.to_owned();
        } else {
            let found = sample
                .captures(line)
                .unwrap_or_else(|| panic!("no sample: {line}"));
            assert_eq!(&found[1], family, "{line}");
            assert_eq!(found.get(2).is_some(), kind == "histogram", "{line}");
            let series = line.rsplit_once(' ').unwrap().0;
            assert!(seen.insert(series.to_owned()), "twice: {series}");
        }
    }
    assert!(seen.len() > 20, "{text}");
}

#[test]
fn metrics_are_served_to_this_machine() {
    let mut mount = Mount::new();
    let volume = mount.volume("a");
    mount.volfs().ok(&["set", "a", "--quota", "1M"]);
    fs::write(volume.join("f"), [0; 5000]).unwrap();
    let socket = mount.dir().join("metrics.sock");
    let unix = Metrics::start(&mount.volfs(), socket.to_str().unwrap());
    let tcp = Metrics::start(&mount.volfs(), "127.0.0.1:0");

    let reply = ask(
        UnixStream::connect(&socket).unwrap(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    check_exposition(body);
    let written = r#"volfs_volume_written_bytes_total{volume="a","#;
    let written = body.lines().find(|line| line.starts_with(written)).unwrap();
    assert!(written.ends_with(" 5000"), "{written}");

    let address = tcp.place.strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let connect = || std::net::TcpStream::connect(address).unwrap();
    for (request, wanted) in [
        ("GET /metrics?x HTTP/1.1\r\n\r\n", "HTTP/1.0 200 OK"),
        ("HEAD / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
        ("GET /volumes HTTP/1.1\r\n\r\n", "HTTP/1.0 404 Not Found"),
        (
            "POST /metrics HTTP/1.1\r\n\r\n",
            "HTTP/1.0 405 Method Not Allowed",
        ),
        ("nonsense\r\n\r\n", "HTTP/1.0 405 Method Not Allowed"),
    ] {
        let reply = ask(connect(), request);
        assert!(reply.starts_with(wanted), "{request:?}: {reply}");
        assert_eq!(reply.ends_with("\r\n\r\n"), request.starts_with("HEAD"));
    }
    // One that says too much is not listened to, and the next one is.
    let mut large = connect();
    let _ = large.write_all(&[b'x'; 64 << 10]);
    drop(large);
    assert!(ask(connect(), "GET / HTTP/1.0\r\n\r\n").contains("volfs_up 1"));

    mount.stop();
    let reply = ask(connect(), "GET / HTTP/1.0\r\n\r\n");
    assert!(reply.ends_with("volfs_up 0\n"), "{reply}");
    unix.end();
    tcp.end();
    assert!(!socket.exists());
}

#[test]
fn a_socket_in_use_and_a_file_are_left_alone() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    let (file, socket) = (dir.join("file"), dir.join("socket"));
    fs::write(&file, "mine").unwrap();
    let first = Metrics::start(&volfs, socket.to_str().unwrap());
    for path in [&file, &socket] {
        let said = volfs.fails(1, &["metrics", "--listen", path.to_str().unwrap()]);
        assert!(said.contains("Address already in use"), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    // One that was left by a killed process is replaced.
    drop(first);
    assert!(socket.exists());
    Metrics::start(&volfs, socket.to_str().unwrap()).end();
}

/// Whoever can open a file can ask for what is not there, as often as he likes.
#[test]
fn ioctls_do_not_fill_the_log() {
    let mount = Mount::new();
    let file = fs::File::create(mount.volume("v").join("f")).unwrap();
    // _IOR('z', 1, int): nobody's.
    let asked = support::ioctl_int(&file, 0x8004_7a01, 0);
    assert_eq!(asked, Err(nix::errno::Errno::ENOTTY));
    assert!(
        !mount.daemon_log().contains("ioctl"),
        "{}",
        mount.daemon_log()
    );
}

/// Whoever connects and asks nothing keeps nobody from being answered.
#[test]
fn idle_clients_of_metrics_starve_nobody() {
    let mount = Mount::new();
    let socket = mount.dir().join("metrics.sock");
    let _served = Metrics::start(&mount.volfs(), socket.to_str().unwrap());
    let mut idle = Vec::new();
    let start = Instant::now();
    for _ in 0..200 {
        idle.push(UnixStream::connect(&socket).unwrap());
        if idle.len() % 50 == 0 {
            let mut client = UnixStream::connect(&socket).unwrap();
            client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut reply = String::new();
            client.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("HTTP/1.0 200 OK"), "{reply}");
            assert!(reply.contains("volfs_up 1"), "{reply}");
        }
    }
    // One after the other they would have 5 seconds each.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
}
