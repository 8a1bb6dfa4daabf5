//! Checks of what this user may do: fusermount3 and capabilities.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::Check;

/// A capability, its bit (`linux/capability.h`), and what is lost without it.
struct Capability {
    name: &'static str,
    bit: u32,
    lost: &'static str,
}

const CAPABILITIES: [Capability; 8] = [
    Capability {
        name: "CAP_SYS_ADMIN",
        bit: 21,
        lost: "mounting goes through fusermount3, all data goes through the daemon (no kernel passthrough), and disk volumes are not attached",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        lost: "files cannot be opened by handle, so that the daemon finds a file by its path and keeps descriptors open instead",
    },
    Capability {
        name: "CAP_DAC_OVERRIDE",
        bit: 1,
        lost: "files that their owners have closed to the daemon's user cannot be used",
    },
    Capability {
        name: "CAP_CHOWN",
        bit: 0,
        lost: "all files belong to the daemon's user; chown fails",
    },
    Capability {
        name: "CAP_FOWNER",
        bit: 3,
        lost: "modes, times and attributes of other users' files cannot be changed",
    },
    Capability {
        name: "CAP_SETUID",
        bit: 7,
        lost: "other users' operations are done as the daemon's user",
    },
    Capability {
        name: "CAP_MKNOD",
        bit: 27,
        lost: "device nodes cannot be made in volumes",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        lost: "of the processes that use a volume only the daemon's user's own are listed",
    },
];

/// All of them.
pub fn checks() -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let mut checks = vec![fusermount(root), allow_other(root)];
    checks.extend(capabilities());
    checks
}

fn fusermount(root: bool) -> Check {
    const NAME: &str = "fusermount3";
    let fix = "as root: apt install fuse3";
    let Some(path) = in_path(NAME) else {
        if root {
            return Check::ok(NAME, "not installed, and root does not need it");
        }
        let means = "only root can mount without it";
        return Check::missing(NAME, "not installed", means, fix);
    };
    let found = path.display().to_string();
    let set_uid_root = std::fs::metadata(&path)
        .is_ok_and(|file| file.uid() == 0 && file.permissions().mode() & 0o4000 != 0);
    if root || set_uid_root {
        return Check::ok(NAME, found);
    }
    Check::missing(
        NAME,
        format!("{found} is not set-user-id root"),
        "only root can mount",
        "as root: apt install --reinstall fuse3",
    )
}

fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn allow_other(root: bool) -> Check {
    const NAME: &str = "user_allow_other";
    const FILE: &str = "/etc/fuse.conf";
    if root {
        return Check::ok(NAME, "not needed by root");
    }
    let set = std::fs::read_to_string(FILE)
        .is_ok_and(|text| text.lines().any(|line| line.trim() == NAME));
    if set {
        return Check::ok(NAME, format!("set in {FILE}"));
    }
    Check::degraded(
        NAME,
        format!("not set in {FILE}"),
        "only you can enter your mount, not even root, nor containers that run as others",
        format!("as root, write the line {NAME} into {FILE}, and mount with -o allow_other"),
    )
}

fn capabilities() -> Vec<Check> {
    let Some(effective) = effective() else {
        return vec![Check::ok("capabilities", "cannot be read")];
    };
    let lacking: Vec<&Capability> = CAPABILITIES
        .iter()
        .filter(|capability| effective & (1 << capability.bit) == 0)
        .collect();
    if lacking.is_empty() {
        return vec![Check::ok("capabilities", "all that are of use")];
    }
    lacking
        .iter()
        .map(|capability| {
            Check::degraded(
                capability.name,
                "not in effect",
                capability.lost,
                "mount as root, or give the container this capability",
            )
        })
        .collect()
}

/// `CapEff` of `/proc/self/status` (proc_pid_status(5)).
fn effective() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
