//! `volfs verify`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use volfs::model::{Kind, Usage, VolumeName};
use volfs::volume::{Result, Verified, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};
use crate::table::inodes;

/// How often the bar moves.
const REFRESH: Duration = Duration::from_millis(100);

/// Arguments of `volfs verify`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::VERIFY)]
pub struct VerifyArgs {
    /// Names of volumes; all directory volumes when there is none
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
    /// Set the usage of a volume to what was found
    #[arg(long)]
    repair: bool,
}

impl VerifyArgs {
    /// Verifies the volumes, one after the other.
    pub fn run(self, context: &Context) -> Outcome {
        let mut names = names::volume_names(&self.names)?;
        let access = if self.repair {
            Access::Change
        } else {
            Access::Read
        };
        let volumes = open_volumes(&context.store, access)?;
        let mut disks = Vec::new();
        if names.is_empty() {
            for info in volumes.list()?.into_iter().rev() {
                match info.kind {
                    Kind::Directory => names.push(info.name),
                    Kind::Disk => disks.push(info.name),
                }
            }
        }
        let mut done = Vec::new();
        let mut bad = 0;
        for name in &names {
            match verify(&*volumes, name, self.repair) {
                Ok(verified) => {
                    bad += usize::from(verified.differs());
                    if !context.output.is_json() {
                        tell(context, &verified);
                    }
                    done.push(serde_json::json!(verified));
                }
                Err(error) => {
                    bad += 1;
                    context.output.one_failed(error);
                }
            }
        }
        for name in &disks {
            let why = format!(
                "a disk volume, whose file system counts for itself; 'volfs disk check {name}' checks that"
            );
            context
                .output
                .confirm(format_args!("{name}: not verified: {why}"));
            done.push(serde_json::json!({ "name": name, "not_verified": why }));
        }
        if context.output.is_json() {
            context.output.value(&done)?;
        }
        if bad > 0 {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}

/// Verifies one volume; on a terminal, with a bar.
fn verify(volumes: &dyn Volumes, name: &VolumeName, repair: bool) -> Result<Verified> {
    if !std::io::stderr().is_terminal() {
        return volumes.verify(name, repair);
    }
    let expected = volumes.get(name)?.used.inodes;
    let bar = ProgressBar::new(expected.max(1)).with_style(style());
    bar.set_message(name.to_string());
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || {
            // Ends when the sender is dropped; a look that fails shows nothing.
            while end.recv_timeout(REFRESH) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if let Ok(info) = volumes.get(name)
                    && let Some(found) = info.counting
                {
                    bar.set_position(found);
                }
            }
        });
        let result = volumes.verify(name, repair);
        drop(ended);
        result
    });
    bar.finish_and_clear();
    result
}

fn style() -> ProgressStyle {
    // A template that does not parse would be a bar without one.
    ProgressStyle::with_template("{msg}  {wide_bar}  {pos}/{len} inodes  {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn tell(context: &Context, verified: &Verified) {
    let name = &verified.name;
    let text = |usage: Usage| format!("{} bytes in {}", usage.bytes.0, inodes(usage.inodes));
    let found = text(verified.found);
    if verified.accounted == verified.found {
        return context.output.confirm(format!("{name}: ok, {found}"));
    }
    let why = if verified.was_exact {
        ""
    } else {
        " (it had not been counted since an unclean stop)"
    };
    let then = if verified.repaired {
        "repaired"
    } else {
        "run 'volfs verify --repair' to set it"
    };
    context.output.text(format!(
        "{name}: charged {}{why}, found {found}; {then}",
        text(verified.accounted)
    ));
}
