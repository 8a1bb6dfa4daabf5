//! What a process runs in, by its control group: the container or the unit
//! that whoever runs it knows it by.
//!
//! A control group's path is all that the kernel knows of containers; the
//! patterns are those that their engines use.

use crate::volume::Within;

/// What `/proc/PID/cgroup` says of a process. `None` in the root group.
pub(super) fn of(pid: i32) -> Option<Within> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    parse(&text)
}

/// The lines are `HIERARCHY:CONTROLLERS:PATH` (cgroups(7)). With version 1
/// there are several, of which one names a container if it is one.
fn parse(text: &str) -> Option<Within> {
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        })
        .filter(|(_, path)| *path != "/")
        .collect();
    if let Some(found) = lines.iter().find_map(|(_, path)| container(path)) {
        return Some(found);
    }
    // systemd keeps its units in version 2's hierarchy, or in one of its own.
    let units = lines
        .iter()
        .filter(|(controllers, _)| controllers.is_empty() || *controllers == "name=systemd");
    if let Some(found) = units.clone().find_map(|(_, path)| unit(path)) {
        return Some(found);
    }
    let (_, path) = units.clone().next().or(lines.first())?;
    Some(Within::Cgroup((*path).to_owned()))
}

/// Prefixes of a component that is a scope or service of systemd, and the
/// engines that make such.
const SCOPES: [(&str, &str); 9] = [
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("docker-", "docker"),
    ("crio-", "cri-o"),
    ("cri-containerd-", "containerd"),
    ("crun-", "crun"),
    ("runc-", "runc"),
    ("systemd-nspawn@", "nspawn"),
    ("lxc.payload.", "lxc"),
];

/// Parents whose children are containers.
const PARENTS: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("libpod_parent", "podman"),
    ("lxc", "lxc"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("youki", "youki"),
];

fn container(path: &str) -> Option<Within> {
    let found = |engine: &str, id: &str| {
        Some(Within::Container {
            engine: engine.to_owned(),
            id: id.to_owned(),
        })
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // The innermost: a container may run containers.
    for (at, part) in parts.iter().enumerate().rev() {
        // What an engine has beside its containers.
        if part.contains("conmon") {
            continue;
        }
        let name = part
            .strip_suffix(".scope")
            .or_else(|| part.strip_suffix(".service"))
            .unwrap_or(part);
        for (prefix, engine) in SCOPES {
            if let Some(id) = name.strip_prefix(prefix).filter(|id| !id.is_empty()) {
                return found(engine, id);
            }
        }
        if let Some(id) = name.strip_prefix("machine-").filter(|_| name != *part) {
            return found("machine", &unescape(id));
        }
        let parent = at.checked_sub(1).map(|above| parts[above]);
        for (above, engine) in PARENTS {
            if parent == Some(above) {
                return found(engine, part);
            }
        }
        // Kubernetes without systemd: kubepods/…/podUID/ID.
        if is_long_id(part) && parts[0].starts_with("kubepods") {
            return found("kubernetes", part);
        }
    }
    None
}

/// The innermost service, else scope, of systemd.
fn unit(path: &str) -> Option<Within> {
    let part = path.split('/').rev().find(|part| {
        [".service", ".scope", ".socket", ".mount"]
            .iter()
            .any(|kind| part.ends_with(kind))
    })?;
    Some(Within::Unit(part.to_owned()))
}

fn is_long_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// systemd writes what a unit's name cannot hold as `\xHH` (systemd-escape(1)).
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .get(..3)
            .filter(|code| byte == b'\\' && code[0] == b'x')
            .and_then(|code| std::str::from_utf8(&code[1..]).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn text(cgroup: &str) -> String {
        parse(cgroup).map_or_else(|| "nothing".to_owned(), |within| within.to_string())
    }

    #[test]
    fn containers_by_their_engines() {
        let short = &ID[..12];
        for (path, said) in [
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                format!("podman container {short}"),
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"
                ),
                format!("podman container {short}"),
            ),
            (
                format!("/libpod_parent/libpod-{ID}"),
                format!("podman container {short}"),
            ),
            (
                format!("/system.slice/docker-{ID}.scope"),
                format!("docker container {short}"),
            ),
            (format!("/docker/{ID}"), format!("docker container {short}")),
            (
                format!("/docker/{ID}/init"),
                format!("docker container {short}"),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
                ),
                format!("containerd container {short}"),
            ),
            (
                format!("/kubepods/besteffort/pod6f3c/{ID}"),
                format!("kubernetes container {short}"),
            ),
            (
                "/user.slice/crun-web.scope".into(),
                "crun container web".into(),
            ),
            (
                "/machine.slice/systemd-nspawn@debian.service/payload".into(),
                "nspawn container debian".into(),
            ),
            (
                r"/machine.slice/machine-my\x2dvm.scope".into(),
                "machine container my-vm".into(),
            ),
            (
                "/lxc.payload.c1/init.scope".into(),
                "lxc container c1".into(),
            ),
        ] {
            assert_eq!(text(&format!("0::{path}\n")), said, "{path}");
        }
        // Version 1: the container is named by some hierarchy.
        let v1 = format!("12:pids:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n");
        assert_eq!(text(&v1), format!("docker container {short}"));
    }

    #[test]
    fn units_and_other_groups() {
        for (lines, said) in [
            ("0::/system.slice/cron.service\n", "unit cron.service"),
            (
                "0::/user.slice/user-0.slice/session-3.scope\n",
                "unit session-3.scope",
            ),
            (
                "5:cpu:/\n1:name=systemd:/system.slice/ssh.service\n0::/\n",
                "unit ssh.service",
            ),
            ("0::/my-group\n", "control group /my-group"),
            ("3:memory:/limited\n0::/\n", "control group /limited"),
            (
                &format!("0::/machine.slice/libpod-conmon-{ID}.scope\n"),
                &format!("unit libpod-conmon-{ID}.scope"),
            ),
            ("0::/\n", "nothing"),
            ("", "nothing"),
        ] {
            assert_eq!(text(lines), said, "{lines}");
        }
    }
}
