//! Standard streams of programs that are to read and write nothing, also where
//! there is no `/dev/null`: in a chroot or a container without a `/dev`.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use nix::sys::memfd::{MFdFlags, memfd_create};

const NULL: &str = "/dev/null";

/// Reads as empty.
#[must_use]
pub fn no_input() -> Stdio {
    input_by(Path::new(NULL))
}

/// Takes what is written, and nobody sees it.
#[must_use]
pub fn no_output() -> Stdio {
    output_by(Path::new(NULL))
}

fn input_by(null: &Path) -> Stdio {
    match File::open(null) {
        Ok(null) => null.into(),
        // A file without a byte reads the same.
        Err(_) => nameless(c"no-input").unwrap_or_else(Stdio::null),
    }
}

fn output_by(null: &Path) -> Stdio {
    match File::options().write(true).open(null) {
        Ok(null) => null.into(),
        // The programs that are started with it say little.
        Err(_) => nameless(c"no-output").unwrap_or_else(Stdio::null),
    }
}

fn nameless(name: &CStr) -> Option<Stdio> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
        .ok()
        .map(Stdio::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn without_a_null_device() {
        for null in [NULL, "/no/such/file"] {
            let null = Path::new(null);
            let ran = Command::new("sh")
                .args(["-c", "cat; echo gone >&2; echo read $(cat | wc -c)"])
                .stdin(input_by(null))
                .stderr(output_by(null))
                .output()
                .unwrap();
            assert!(ran.status.success());
            assert_eq!(String::from_utf8_lossy(&ran.stdout), "read 0\n");
        }
    }
}
