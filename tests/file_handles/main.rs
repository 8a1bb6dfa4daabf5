//! File handles (`open_by_handle_at`, as NFS servers use them) stay good when
//! the kernel has forgotten the file; a directory of the host says what they do
//! otherwise. And they lead nowhere but to files of volumes.

mod hostile;
#[path = "../support/mod.rs"]
mod support;
mod volumes;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use support::{Handle, Mount, run_in};

/// What is left at the end of the scenario, and where.
const KEPT: [(&str, &str); 8] = [
    ("top", ""),
    ("moved directory", "moved/deep"),
    ("renamed directory", "moved"),
    ("file in it", "moved/deep/file"),
    ("two names", "links/second"),
    ("link", "link"),
    ("pipe", "pipe"),
    ("replacing", "replaced"),
];

/// A tree in which things are moved, linked and removed after handles of them
/// were taken.
struct Scenario {
    top: PathBuf,
    kept: Vec<(&'static str, Handle, PathBuf)>,
    removed: Vec<(&'static str, Handle)>,
}

impl Scenario {
    fn new(top: &Path) -> Self {
        let at = |name: &str| top.join(name);
        fs::create_dir_all(at("dir/sub/deep")).unwrap();
        fs::create_dir(at("links")).unwrap();
        fs::write(at("dir/sub/deep/file"), "file in it").unwrap();
        fs::write(at("first"), "two names").unwrap();
        symlink("nowhere", at("link")).unwrap();
        run_in(top, "mkfifo", &["pipe"]);
        fs::write(at("replacing"), "replacing").unwrap();
        for name in ["replaced", "removed", "removed too"] {
            fs::write(at(name), name).unwrap();
        }
        fs::create_dir(at("removed dir")).unwrap();
        let before = [
            "",
            "dir/sub/deep",
            "dir/sub",
            "dir/sub/deep/file",
            "first",
            "link",
            "pipe",
            "replacing",
        ];
        let handle = |name: &str| Handle::of(&at(name)).unwrap();
        let kept = KEPT
            .iter()
            .zip(before)
            .map(|(&(what, after), before)| (what, handle(before), at(after)))
            .collect();
        let removed = ["replaced", "removed", "removed too", "removed dir"]
            .into_iter()
            .map(|name| (name, handle(name)))
            .collect();
        fs::hard_link(at("first"), at("links/second")).unwrap();
        fs::remove_file(at("first")).unwrap();
        fs::rename(at("dir/sub"), at("moved")).unwrap();
        fs::rename(at("replacing"), at("replaced")).unwrap();
        fs::remove_file(at("removed")).unwrap();
        fs::remove_file(at("removed too")).unwrap();
        fs::remove_dir(at("removed dir")).unwrap();
        // They may get the numbers of those.
        for n in 0..4 {
            fs::write(at(&format!("new {n}")), "new").unwrap();
        }
        let top = top.to_owned();
        Self { top, kept, removed }
    }

    /// What the handles lead to now, as text that does not depend on where the
    /// tree is.
    fn outcome(&self, mount: &Path) -> Vec<String> {
        let mount = File::open(mount).unwrap();
        let mut outcome = Vec::new();
        for (what, handle, path) in &self.kept {
            let said = match handle.open(&mount, libc::O_PATH) {
                Err(errno) => errno.to_string(),
                Ok(opened) => self.describe(&mount, handle, &opened, path),
            };
            outcome.push(format!("{what}: {said}"));
        }
        for (what, handle) in &self.removed {
            let said = handle.open(&mount, libc::O_PATH).map(drop);
            outcome.push(format!("{what}: {said:?}"));
        }
        outcome
    }

    fn describe(&self, mount: &File, handle: &Handle, opened: &File, path: &Path) -> String {
        let stat = opened.metadata().unwrap();
        let mut said = format!("type {:o} ", stat.mode() & libc::S_IFMT);
        // That of anything else is not known before somebody has looked it up.
        if stat.is_dir() {
            let path = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            said += &format!(" {:?}", path.unwrap().strip_prefix(&self.top));
        }
        if stat.is_file() {
            said += &format!("with {} names: ", stat.nlink());
            let file = handle.open(mount, libc::O_RDONLY).unwrap();
            said += &std::io::read_to_string(file).unwrap();
        }
        let named = path.symlink_metadata().unwrap();
        assert_eq!(named.ino(), stat.ino(), "{path:?}");
        said
    }
}

fn forget() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// How what the kernel knows is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    Forgotten,
    Remounted,
    Killed,
    Upgraded,
}

const LOSSES: [Loss; 5] = [
    Loss::Nothing,
    Loss::Forgotten,
    Loss::Remounted,
    Loss::Killed,
    Loss::Upgraded,
];

impl Loss {
    fn happen(self, mount: &mut Mount) {
        match self {
            Self::Nothing => {}
            Self::Forgotten => forget(),
            Self::Remounted => mount.remount(),
            Self::Killed => {
                mount.kill_serving();
                forget();
            }
            Self::Upgraded => {
                mount.volfs().ok(&["upgrade"]);
                forget();
            }
        }
    }
}

/// What a plain directory says.
fn expected(loss: Loss) -> Vec<String> {
    let dir = support::TestDir::new();
    let scenario = Scenario::new(&dir.mkdir("tree"));
    if loss != Loss::Nothing {
        forget();
    }
    scenario.outcome(dir.path())
}

fn same_as_on_the_host(arguments: &[&str]) {
    let mut mount = Mount::builder().supervised().args(arguments).start();
    for loss in LOSSES {
        let top = mount.volume(&format!("v-{loss:?}"));
        let scenario = Scenario::new(&top);
        loss.happen(&mut mount);
        let found = scenario.outcome(mount.path());
        assert_eq!(found, expected(loss), "{loss:?} {arguments:?}");
    }
    assert_eq!(complaints(&mount), [""; 0]);
}

#[test]
fn directory_volumes_are_as_the_host() {
    same_as_on_the_host(&[]);
    same_as_on_the_host(&["--no-passthrough"]);
}

#[test]
fn volumes_with_a_limit_are_as_the_host() {
    same_as_on_the_host(&["--default-quota", "16M"]);
}

#[test]
fn disk_volumes_are_as_the_host() {
    same_as_on_the_host(&["--default-kind", "disk", "--default-size", "16M"]);
}

/// What the daemon complained of, other than of being killed.
fn complaints(mount: &Mount) -> Vec<String> {
    let all = mount.daemon_complaints();
    let killed = "that served the mount has died (signal: 9";
    let other = all.lines().filter(|line| !line.contains(killed));
    other.map(str::to_owned).collect()
}
