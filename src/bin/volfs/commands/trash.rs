//! `volfs trash`.

mod removed_files;

use std::ffi::OsString;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use volfs::model::{Bytes, ShellWord};
use volfs::volume::Volumes;

use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};
use crate::progress::Interrupt;
use crate::purging;
use crate::table::{self, Listing};

/// Arguments of `volfs trash`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::TRASH)]
pub struct TrashArgs {
    #[command(subcommand)]
    command: TrashCommand,
}

#[derive(Debug, Subcommand)]
enum TrashCommand {
    /// List what is in the trash, last removed first
    #[command(visible_alias = "list")]
    Ls {
        /// Instead, the removed files that this volume keeps
        #[arg(long, value_name = "VOLUME")]
        files: Option<OsString>,
    },
    /// Bring a volume back, or a removed file of a volume
    Restore {
        /// The volume's name, or its id; or VOLUME:PATH for a file. Of several it is the
        /// last removed
        name: String,
        /// Give it another name, or the file another path
        #[arg(long = "as", value_name = "NEW")]
        new_name: Option<OsString>,
    },
    /// Delete what is in the trash for ever
    Empty {
        /// Only this one, by name or id
        name: Option<String>,
        /// Instead, the removed files that this volume keeps
        #[arg(long, value_name = "VOLUME", conflicts_with_all = ["name", "wait"])]
        files: Option<OsString>,
        /// Return when all is deleted, and show how far it is; without a
        /// daemon it is always so
        #[arg(long)]
        wait: bool,
        /// Do not ask; without a name needed where there is no terminal
        #[arg(short, long)]
        yes: bool,
    },
    /// Show what is being deleted, and how far it is
    Progress,
}

impl TrashArgs {
    /// Runs the part that was asked for.
    pub fn run(self, context: &Context) -> Outcome {
        match self.command {
            TrashCommand::Ls { files: None } => list(context),
            TrashCommand::Ls { files: Some(of) } => removed_files::list(context, &of),
            TrashCommand::Restore { name, new_name } => {
                if let Some((of, path)) = name.split_once(':')
                    && !is_in_trash(context, &name)?
                {
                    return removed_files::restore(context, of, path, new_name.as_deref());
                }
                let new_name = new_name
                    .map(|new_name| names::volume_name(&new_name))
                    .transpose()?;
                let volumes = open_volumes(&context.store, Access::Change)?;
                let info = volumes
                    .restore(&name, new_name.as_ref())
                    .map_err(|error| with_advice(error.into(), &name))?;
                if context.output.is_json() {
                    return context.output.value(&info);
                }
                context.output.confirm(&info.name);
                Ok(())
            }
            TrashCommand::Empty {
                files: Some(of), ..
            } => removed_files::empty(context, &of),
            TrashCommand::Empty {
                name, wait, yes, ..
            } => empty(context, name.as_deref(), wait, yes),
            TrashCommand::Progress => progress(context),
        }
    }
}

/// Whether a volume of this name is in the trash: where names are what people type, one may
/// have a colon.
fn is_in_trash(context: &Context, name: &str) -> Outcome<bool> {
    let trash = open_volumes(&context.store, Access::Read)?.trash()?;
    Ok(trash.iter().any(|it| it.info.name.as_str() == name))
}

/// A name that is taken again is what usually stops a restore.
fn with_advice(failure: Failure, name: &str) -> Failure {
    match failure {
        Failure::Told(mut report) if report.code == "exists" => {
            report.message += &format!(
                "; bring the old one back under another name with 'volfs trash restore {} --as NEW'",
                ShellWord(name)
            );
            Failure::Told(report)
        }
        failure => failure,
    }
}

fn list(context: &Context) -> Outcome {
    let trash = open_volumes(&context.store, Access::Read)?.trash()?;
    if context.output.is_json() {
        return context.output.value(&trash);
    }
    let mut table = Listing::new(&["*NAME", "?KIND", ">USED", "?REMOVED", "?ID"]);
    for trashed in &trash {
        table.row(vec![
            Cell::new(&trashed.info.name),
            Cell::new(trashed.info.kind),
            Cell::new(trashed.info.used.bytes),
            Cell::new(table::time(trashed.trashed)),
            Cell::new(trashed.info.id),
        ]);
    }
    context.output.text(table);
    Ok(())
}

fn empty(context: &Context, which: Option<&str>, wait: bool, yes: bool) -> Outcome {
    let volumes = open_volumes(&context.store, Access::Change)?;
    // Who names one has said what is to be deleted.
    if which.is_none() && !yes {
        let trash = volumes.trash()?;
        let used = Bytes(trash.iter().map(|it| it.info.used.bytes.0).sum());
        if !trash.is_empty() {
            let number = counted(trash.len());
            let what = format!("delete {number} with {used} from the trash");
            confirm(context.output, yes, &what)?;
        }
    }
    let waits = wait || volumes.mountpoint()?.is_none();
    // From before anything is deleted: what is deleted goes on in the background.
    let interrupt = waits.then(Interrupt::caught);
    let emptied = Volumes::empty_trash(&*volumes, which);
    if let Some(interrupt) = interrupt {
        let ids = volumes.purges()?.iter().map(|purge| purge.id).collect();
        purging::wait_for(context, &*volumes, &ids, interrupt)?;
    }
    let deleted = emptied?;
    if context.output.is_json() {
        return context
            .output
            .value(&serde_json::json!({ "deleted": deleted }));
    }
    context
        .output
        .confirm(format!("{} deleted", counted(deleted)));
    Ok(())
}

fn counted(volumes: usize) -> String {
    match volumes {
        1 => "1 volume".to_owned(),
        number => format!("{number} volumes"),
    }
}

fn progress(context: &Context) -> Outcome {
    let purges = open_volumes(&context.store, Access::Read)?.purges()?;
    if context.output.is_json() {
        return context.output.value(&purges);
    }
    let mut table = Listing::new(&["*NAME", ">DELETED", ">FILES", "?ID", "~STATE"]);
    for (index, purge) in purges.iter().enumerate() {
        let state = match &purge.failed {
            Some(why) => why.clone(),
            None if index == 0 => "deleting".to_owned(),
            None => "waiting".to_owned(),
        };
        table.row(vec![
            Cell::new(
                purge
                    .name
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
            ),
            Cell::new(purge.deleted),
            Cell::new(
                purge
                    .total
                    .map_or_else(|| "?".to_owned(), |it| it.to_string()),
            ),
            Cell::new(purge.id),
            Cell::new(state),
        ]);
    }
    context.output.text(table);
    Ok(())
}
