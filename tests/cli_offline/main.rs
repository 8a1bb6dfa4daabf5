//! The command line on a store that no daemon serves: what each command prints
//! and changes, in text and in JSON, its exit codes, and what it says about
//! input that makes no sense.

mod input;
mod named;
mod process;
#[path = "../support/mod.rs"]
mod support;
mod volumes;

use serde_json::Value;
use support::{TestDir, Volfs};

/// A store with nothing in it yet, not even itself.
fn fixture() -> (TestDir, Volfs) {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    (dir, volfs)
}

/// What a command prints with `--json`.
fn json(volfs: &Volfs, arguments: &[&str]) -> Value {
    let text = volfs.ok(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text:?}"))
}

/// The error that a command prints with `--json`, and its exit code.
fn json_error(volfs: &Volfs, code: i32, arguments: &[&str]) -> Value {
    let text = volfs.fails(code, &[arguments, &["--json"]].concat());
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text:?}"));
    value["error"].clone()
}
