//! Another program goes on with the mount; where it cannot, the one before does.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::cli::BINARY;
use crate::support::mount::answers;
use crate::support::{TestDir, Volfs, install, install_script, poll, proc, tree, wait_for};

/// A mount whose program is replaced.
struct Installed {
    dir: TestDir,
    daemon: Child,
}

impl Installed {
    fn new() -> Self {
        Self::with_layout(None)
    }

    /// The program that is mounted with has a layout of its own.
    fn with_layout(layout: Option<&str>) -> Self {
        let dir = TestDir::new();
        let (store, mnt) = (dir.mkdir("store"), dir.mkdir("mnt"));
        let program = dir.join("volfs");
        match layout {
            None => install(Path::new(BINARY), &program),
            Some(layout) => install_with(&dir, &format!("export VOLFS_TEST_LAYOUT={layout}")),
        }
        let daemon = Command::new(&program)
            .args(["mount", "--foreground"])
            .arg(&mnt)
            .env("VOLFS_STORE", &store)
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        wait_for("the mount", || {
            proc::mount_on(&mnt).is_some() && answers(&mnt).is_ok()
        });
        Self { dir, daemon }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Installs a program whose shared state has another layout.
    fn install(&self, layout: &str) {
        self.install_with(&format!("export VOLFS_TEST_LAYOUT={layout}"));
    }

    /// Installs a program with another layout, and a schema of the catalogue with
    /// one step more, which programs of `usable_by` can use too.
    fn install_schema(&self, layout: &str, usable_by: u32) {
        self.install_with(&format!(
            "export VOLFS_TEST_LAYOUT={layout} VOLFS_TEST_SCHEMA={usable_by}"
        ));
    }

    fn install_with(&self, setting: &str) {
        install_with(&self.dir, setting);
    }

    fn serving(&self) -> Option<u32> {
        let parent = self.daemon.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        children.ok()?.split_whitespace().next()?.parse().ok()
    }

    /// The version of the catalogue's schema: what SQLite says of a copy.
    fn schema(&self) -> u32 {
        let copy = self.dir.join("copy.db");
        for suffix in ["", "-wal"] {
            let from = format!("{}{suffix}", self.dir.join("store/meta.db").display());
            let to = format!("{}{suffix}", copy.display());
            let _ = fs::remove_file(&to);
            if Path::new(&from).exists() {
                fs::copy(from, to).unwrap();
            }
        }
        let text = crate::support::run(
            Command::new("sqlite3")
                .arg(&copy)
                .arg("PRAGMA user_version;"),
        );
        text.trim().parse::<u32>().unwrap() & 0xffff
    }

    fn volfs(&self) -> Volfs {
        Volfs::new(&self.dir.join("store"))
    }

    fn upgrade(&self) {
        self.volfs().ok(&["upgrade"]);
    }
}

fn install_with(dir: &TestDir, setting: &str) {
    let script = format!("#!/bin/sh\n{setting}\nexec {BINARY} \"$@\"\n");
    let new = dir.join("new");
    install_script(&script, &new);
    fs::rename(&new, dir.join("volfs")).unwrap();
}

impl Drop for Installed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = kill(
            Pid::from_raw(self.daemon.id().cast_signed()),
            Signal::SIGTERM,
        );
        let gone = poll(Duration::from_secs(10), || self.daemon.try_wait().unwrap());
        if gone.is_none() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

/// What a user has open over it all.
struct User {
    file: File,
    gone: File,
    n: u64,
}

impl User {
    fn new(dir: &Path) -> Self {
        let open = |name: &str| {
            let path = dir.join(name);
            File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (file, gone) = (open("file"), open("gone"));
        fs::remove_file(dir.join("gone")).unwrap();
        Self { file, gone, n: 0 }
    }

    fn works(&mut self, dir: &Path) {
        for file in [&mut self.file, &mut self.gone] {
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "+".repeat(self.n as usize));
            file.write_all(b"+").unwrap();
        }
        self.n += 1;
        fs::write(dir.join("new"), "x").unwrap();
        fs::remove_file(dir.join("new")).unwrap();
    }
}

#[test]
fn to_another_layout_and_back() {
    let installed = Installed::new();
    let mnt = installed.dir.join("mnt");
    installed.volfs().ok(&["create", "v", "--quota", "10M"]);
    let dir = mnt.join("v");
    let mut user = User::new(&dir);
    user.works(&dir);
    for layout in ["4:3:8", "3:3:0", "5:3:64", "3:3:0"] {
        let before = installed.serving();
        installed.install(layout);
        installed.upgrade();
        assert_ne!(installed.serving(), before, "{layout}");
        user.works(&dir);
        // Dies as any other.
        proc::kill(installed.serving().unwrap().cast_signed());
        user.works(&dir);
    }
    let log = installed.log();
    assert_eq!(
        log.matches("the new program serves the mount").count(),
        4,
        "{log}"
    );
    assert!(!log.contains("counted"), "{log}");
    drop(user);
    let used = || installed.volfs().list()[0]["used"]["inodes"].as_u64();
    wait_for("the closes", || used() == Some(1));
}

#[test]
fn a_program_that_does_not_understand_leaves_it_to_the_one_before() {
    let installed = Installed::new();
    let mnt = installed.dir.join("mnt");
    let dir = mnt.join("v");
    fs::create_dir(&dir).unwrap();
    let mut user = User::new(&dir);
    let times = |what: &str| installed.log().matches(what).count();
    for layout in ["9:9:0", "0:0:0"] {
        user.works(&dir);
        installed.install(layout);
        let before = times("the one before does");
        let served = times(" serves ");
        kill(
            Pid::from_raw(installed.daemon.id().cast_signed()),
            Signal::SIGHUP,
        )
        .unwrap();
        wait_for("it goes back", || times("the one before does") > before);
        wait_for("the one before serves", || times(" serves ") > served);
        user.works(&dir);
        assert!(installed.log().contains("layout"), "{}", installed.log());
    }
    // One that is none at all, and one that is another.
    for nonsense in ["nonsense", "#!/bin/true\n"] {
        let (serving, refused) = (installed.serving(), times("is not volfs"));
        fs::write(installed.dir.join("volfs"), nonsense).unwrap();
        kill(
            Pid::from_raw(installed.daemon.id().cast_signed()),
            Signal::SIGHUP,
        )
        .unwrap();
        wait_for("it is refused", || times("is not volfs") > refused);
        assert_eq!(installed.serving(), serving);
        user.works(&dir);
    }
}

#[test]
fn a_refused_upgrade_is_told_at_once() {
    let installed = Installed::new();
    let put = |text: &str| {
        let new = installed.dir.join("new");
        install_script(text, &new);
        fs::rename(&new, installed.dir.join("volfs")).unwrap();
    };
    let upgrade = |bound: u64| {
        let start = std::time::Instant::now();
        let said = installed.volfs().fails(1, &["upgrade"]);
        assert!(start.elapsed() < Duration::from_secs(bound), "{said}");
        assert!(said.contains("the upgrade was not made: "), "{said}");
        said
    };
    for nonsense in ["nonsense", "#!/bin/true\n"] {
        put(nonsense);
        // The same again is told again.
        for _ in 0..2 {
            let said = upgrade(10);
            assert!(said.contains("is not volfs: "), "{said}");
        }
    }
    put("#!/bin/sh\nexec sleep 1000\n");
    let said = upgrade(20);
    assert!(
        said.contains("it has not said its version within 5 seconds"),
        "{said}"
    );
    installed.install("9:9:0");
    let said = upgrade(20);
    assert!(
        said.contains("the new program cannot go on with this mount, and the one before does"),
        "{said}"
    );
    installed.install("4:3:8");
    installed.upgrade();
    put("nonsense");
    upgrade(10);
}

/// A migration of the catalogue goes with the upgrade; the program before can go on
/// with that, if the new one says so.
#[test]
fn to_another_schema_and_back() {
    let installed = Installed::new();
    let mnt = installed.dir.join("mnt");
    installed.volfs().ok(&["create", "v", "--quota", "10M"]);
    let dir = mnt.join("v");
    let mut user = User::new(&dir);
    user.works(&dir);
    let first = installed.schema();
    let mut made = vec!["v".to_owned()];
    for round in 0..2 {
        for new in [true, false] {
            let before = installed.serving();
            if new {
                installed.install_schema("4:3:64", 3);
            } else {
                installed.install("3:3:0");
            }
            installed.upgrade();
            assert_ne!(installed.serving(), before);
            assert_eq!(installed.schema(), first + 1);
            user.works(&dir);
            // Both write to the catalogue, and die as any other.
            let name = format!("made-{round}-{new}");
            fs::create_dir(mnt.join(&name)).unwrap();
            made.push(name);
            proc::kill(installed.serving().unwrap().cast_signed());
            user.works(&dir);
            let mut names = installed.volfs().names();
            names.sort();
            made.sort();
            assert_eq!(names, made);
        }
    }
    let log = installed.log();
    assert!(!log.contains("counted"), "{log}");
}

/// Where the new program cannot go on, it has not changed the catalogue either.
#[test]
fn a_schema_that_the_other_does_not_know() {
    let installed = Installed::new();
    let mnt = installed.dir.join("mnt");
    let dir = mnt.join("v");
    fs::create_dir(&dir).unwrap();
    let mut user = User::new(&dir);
    user.works(&dir);
    let first = installed.schema();
    let times = |what: &str| installed.log().matches(what).count();
    let refused = || {
        let (back, served) = (times("the one before does"), times(" serves "));
        let pid = Pid::from_raw(installed.daemon.id().cast_signed());
        kill(pid, Signal::SIGHUP).unwrap();
        wait_for("it goes back", || times("the one before does") > back);
        wait_for("the one before serves", || times(" serves ") > served);
    };
    // The state cannot be read, and the schema would be new.
    installed.install_schema("9:9:0", first + 1);
    refused();
    user.works(&dir);
    assert_eq!(installed.schema(), first);
    // A schema from which there is no way back.
    installed.install_schema("3:3:0", first + 1);
    installed.upgrade();
    user.works(&dir);
    assert_eq!(installed.schema(), first + 1);
}

/// A program that charged directories 4 KiB each has accounts that are not to be
/// gone on with.
#[test]
fn from_a_layout_before_directories_were_charged_their_sizes() {
    let installed = Installed::with_layout(Some("2:1:0"));
    let mnt = installed.dir.join("mnt");
    installed.volfs().ok(&["create", "v", "--quota", "10M"]);
    let dir = mnt.join("v");
    let mut user = User::new(&dir);
    let large = dir.join("large");
    fs::create_dir(&large).unwrap();
    for n in 0..100 {
        let link = large.join(format!("{n:0>255}"));
        fs::hard_link(dir.join("file"), link).unwrap();
    }
    user.works(&dir);
    let counted = || installed.log().matches("volume v counted").count();
    let list = installed.volfs().list();
    let host = Path::new(list[0]["path"].as_str().unwrap());
    let used = || {
        let used = &installed.volfs().list()[0]["used"];
        (used["bytes"].as_u64(), used["inodes"].as_u64())
    };
    assert_eq!(counted(), 0);
    install(Path::new(BINARY), &installed.dir.join("new"));
    fs::rename(installed.dir.join("new"), installed.dir.join("volfs")).unwrap();
    installed.upgrade();
    user.works(&dir);
    assert_eq!(counted(), 1, "{}", installed.log());
    // And once only.
    proc::kill(installed.serving().unwrap().cast_signed());
    user.works(&dir);
    drop(user);
    let (bytes, inodes) = tree::charged(host);
    assert!(bytes > 32 << 10);
    wait_for("the closes", || used() == (Some(bytes), Some(inodes)));
    assert_eq!(counted(), 1, "{}", installed.log());
}
