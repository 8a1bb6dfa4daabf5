//! Called by mount(8): as `mount.fuse.volfs SOURCE MNT [-sfnv] [-N NS] [-o
//! OPTIONS] [-t TYPE]`, or by mount.fuse3(8) as `volfs SOURCE MNT [-o OPTIONS]`.
//!
//! The source is the store's directory. Exit codes are those of mount(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::options::{LogTo, MountPlan, log_to_in};
use crate::context::absolute_store;
use crate::failure::{self, Failure, Outcome};
use crate::logging::Who;
use crate::output::Output;
use crate::serve::role::Role;

/// mount(8): incorrect invocation or permissions.
const INCORRECT: u8 = 1;
/// mount(8): mount failure.
const MOUNT_FAILURE: u8 = 32;

/// A call by mount(8), not yet understood: what follows the program's name.
#[derive(Clone, Debug)]
pub struct HelperCall {
    arguments: Vec<OsString>,
    /// Called by mount.fuse3(8), and not by mount(8) itself.
    by_mount_fuse: bool,
}

/// What such a call asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    source: OsString,
    mountpoint: PathBuf,
    options: Vec<String>,
    sloppy: bool,
    fake: bool,
    verbose: bool,
    namespace: Option<PathBuf>,
}

/// Whether this process was called by mount(8) and not by a person: by the
/// program's name, by the hidden word `mount-helper`, or because the first
/// argument is a path, which no command is.
pub fn recognise(argv: &[OsString]) -> Option<HelperCall> {
    let program = Path::new(argv.first()?).file_name()?.as_bytes();
    let first = argv.get(1).map(|first| first.as_bytes());
    let call = |from: usize, by_mount_fuse: bool| HelperCall {
        arguments: argv[from..].to_vec(),
        by_mount_fuse,
    };
    if matches!(program, b"mount.fuse.volfs" | b"mount.volfs") {
        return Some(call(1, false));
    }
    match first? {
        b"mount-helper" => Some(call(2, false)),
        path if !path.starts_with(b"-") && path.contains(&b'/') => Some(call(1, true)),
        _ => None,
    }
}

/// The options that mount.fuse3(8) was given. It passes them all, and adds `dev`
/// where they have no `nodev`, then `suid` where they have no `nosuid`: what nobody
/// has asked for.
fn given_to_mount_fuse(options: &str) -> String {
    let mut options: Vec<&str> = options.split(',').collect();
    for (added, unless) in [("suid", "nosuid"), ("dev", "nodev")] {
        if options.last() == Some(&added) && !options.contains(&unless) {
            options.pop();
        }
    }
    options.join(",")
}

/// Mounts as asked, and returns mount(8)'s exit code.
pub fn main(argv: &[OsString], call: HelperCall, role: Role) -> ExitCode {
    let output = Output::new(false, true);
    let outcome = parse(call).and_then(|asked| {
        let who = if role.is_daemon() {
            Who::Background {
                journal: log_to_in(&asked.options) == LogTo::Journal,
            }
        } else {
            Who::Command
        };
        crate::logging::start_at(u8::from(asked.verbose), false, who);
        run(asked, argv, role, output)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(if failure.exit_code() == failure::USAGE {
                INCORRECT
            } else {
                MOUNT_FAILURE
            })
        }
    }
}

fn run(asked: Asked, argv: &[OsString], role: Role, output: Output) -> Outcome {
    if let (Some(namespace), false) = (&asked.namespace, role.is_daemon()) {
        // The process in the background inherits it.
        enter(namespace)?;
    }
    let store = absolute_store(Path::new(&asked.source))?;
    let mut plan = MountPlan::new(&store, &asked.mountpoint)?;
    for list in &asked.options {
        plan.apply(list, asked.sloppy)?;
    }
    plan.check()?;
    if asked.fake {
        return Ok(());
    }
    super::run(&plan, false, argv, role, output)
}

/// Enters a mount namespace (`mount -N`).
fn enter(namespace: &Path) -> Outcome {
    let file = std::fs::File::open(namespace)
        .map_err(|error| Failure::io("open the mount namespace", namespace, &error))?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|error| Failure::io("enter the mount namespace", namespace, &error.into()))
}

fn parse(call: HelperCall) -> Outcome<Asked> {
    let mut places = Vec::new();
    let mut asked = Asked {
        source: OsString::new(),
        mountpoint: PathBuf::new(),
        options: Vec::new(),
        sloppy: false,
        fake: false,
        verbose: false,
        namespace: None,
    };
    let mut rest = call.arguments.into_iter();
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if bytes.len() < 2 || bytes[0] != b'-' {
            places.push(argument);
            continue;
        }
        for (index, &letter) in bytes.iter().enumerate().skip(1) {
            match letter {
                b's' => asked.sloppy = true,
                b'f' => asked.fake = true,
                b'v' => asked.verbose = true,
                // There is no mtab.
                b'n' => {}
                b'o' | b't' | b'N' => {
                    let tail = OsStr::from_bytes(&bytes[index + 1..]);
                    let value = if tail.is_empty() {
                        rest.next()
                    } else {
                        Some(tail.to_owned())
                    };
                    asked.take(letter, value)?;
                    break;
                }
                _ => return Err(wrong(&format!("it does not know the option {argument:?}"))),
            }
        }
    }
    let [source, mountpoint] = <[OsString; 2]>::try_from(places)
        .map_err(|places| wrong(&format!("it takes two paths, not {}", places.len())))?;
    asked.source = source;
    asked.mountpoint = mountpoint.into();
    if call.by_mount_fuse {
        for list in &mut asked.options {
            *list = given_to_mount_fuse(list);
        }
    }
    Ok(asked)
}

impl Asked {
    fn take(&mut self, letter: u8, value: Option<OsString>) -> Outcome {
        let name = char::from(letter);
        let value = value.ok_or_else(|| wrong(&format!("-{name} needs a value")))?;
        match letter {
            b'N' => self.namespace = Some(value.into()),
            b'o' => self.options.push(
                value
                    .into_string()
                    .map_err(|value| wrong(&format!("the options {value:?} are not UTF-8")))?,
            ),
            // The type is ours, or we would not have been called.
            _ => {}
        }
        Ok(())
    }
}

fn wrong(why: &str) -> Failure {
    Failure::usage(format!(
        "called as mount(8) calls it (STORE MNT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]), but {why}; people use 'volfs mount'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn asked(text: &str) -> Outcome<Asked> {
        parse(recognise(&words(text)).unwrap())
    }

    #[test]
    fn who_calls() {
        for by_mount in [
            "/sbin/mount.fuse.volfs store /mnt",
            "mount.volfs",
            "volfs /srv/store /mnt -o dev,suid",
            "volfs mount-helper store /mnt",
        ] {
            assert!(recognise(&words(by_mount)).is_some(), "{by_mount}");
        }
        for by_people in [
            "volfs",
            "volfs ls",
            "volfs --store=/srv/x ls",
            "volfs mount /mnt",
            "/usr/bin/volfs mount a b",
        ] {
            assert!(recognise(&words(by_people)).is_none(), "{by_people}");
        }
    }

    #[test]
    fn what_mount_passes() {
        let all =
            asked("mount.fuse.volfs /s /m -sfnv -N /proc/1/ns/mnt -o ro,nosuid -t fuse.volfs");
        let all = all.unwrap();
        assert!(all.sloppy && all.fake && all.verbose);
        assert_eq!(all.namespace.as_deref(), Some(Path::new("/proc/1/ns/mnt")));
        assert_eq!(all.options, ["ro,nosuid"]);
        let short = asked("mount.fuse.volfs -oro /s /m").unwrap();
        assert_eq!(short.options, ["ro"]);
        assert_eq!(short.source, "/s");
        assert_eq!(short.mountpoint, Path::new("/m"));
    }

    #[test]
    fn what_mount_fuse3_adds_is_not_asked_for() {
        // As version 3.14 passes them on for what is in the second place.
        for (passed, given) in [
            ("rw,dev,suid", "rw"),
            ("suid,dev,suid", "suid"),
            ("dev,dev,suid", "dev"),
            ("nosuid,nodev", "nosuid,nodev"),
            ("nosuid,suid,dev", "nosuid,suid"),
            ("nodev,suid", "nodev"),
            ("nodev,dev,suid", "nodev,dev"),
            ("exec,suid,dev,dev,suid", "exec,suid,dev"),
            ("dev,suid", ""),
        ] {
            let by_fuse = asked(&format!("volfs /s /m -o {passed}")).unwrap();
            assert_eq!(by_fuse.options, [given], "{passed}");
            let by_mount = asked(&format!("mount.fuse.volfs /s /m -o {passed}")).unwrap();
            assert_eq!(by_mount.options, [passed]);
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for wrong in [
            "mount.fuse.volfs /s",
            "mount.fuse.volfs /s /m /x",
            "mount.fuse.volfs /s /m -o",
            "mount.fuse.volfs /s /m -q",
        ] {
            let failure = asked(wrong).unwrap_err();
            assert_eq!(failure.exit_code(), failure::USAGE, "{wrong}");
        }
    }
}
