//! The man pages: one for the program and one for each command, from the same
//! definitions as the help texts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Writes all pages and returns their paths.
pub fn write(root: Command, directory: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    let mut written = Vec::new();
    pages(&root, directory, &mut written)?;
    Ok(written)
}

fn pages(
    command: &Command,
    directory: &Path,
    written: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let path = directory.join(format!("{}.1", name(command)));
    page(command)
        .and_then(|text| fs::write(&path, text))
        .map_err(|error| (path.clone(), error))?;
    written.push(path);
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        pages(below, directory, written)?;
    }
    Ok(())
}

/// `volfs-trash-ls`.
fn name(command: &Command) -> String {
    let name = command.get_display_name().unwrap_or(command.get_name());
    name.to_owned()
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(""));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    render_synopsis(command, &mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(examples) = examples {
        render_after(&examples, &mut text)?;
    }
    render_common(command, &mut text)?;
    Ok(text)
}

fn render_synopsis(command: &Command, to: &mut Vec<u8>) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        roff.control("PP", []);
        roff.text([roman(format!("Also called {}.", aliases.join(", ")))]);
    }
    roff.to_writer(to)
}

/// The text after the options: each of its parts that begins with a line
/// `Heading:` is a section, printed as it stands.
fn render_after(text: &str, to: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    for (index, part) in text.split("\n\n").enumerate() {
        let (heading, body) = match part.split_once(":\n") {
            Some((heading, body)) if !heading.contains('\n') && !heading.contains(": ") => {
                (Some(heading), body)
            }
            _ => (None, part),
        };
        match heading {
            Some(heading) => roff.control("SH", [heading.to_uppercase().as_str()]),
            None if index == 0 => roff.control("SH", ["NOTES"]),
            None => roff.control("PP", []),
        };
        let preformatted = body.lines().all(|line| line.starts_with("  "));
        if preformatted {
            roff.control("nf", []);
        }
        for line in body.lines() {
            let line = if preformatted {
                line.strip_prefix("  ").unwrap_or(line)
            } else {
                line
            };
            roff.text([roman(line)]);
        }
        if preformatted {
            roff.control("fi", []);
        }
    }
    roff.to_writer(to)
}

fn render_common(command: &Command, to: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    let own = name(command);
    if own == "volfs" {
        for (heading, text) in crate::help::MAN_SECTIONS {
            roff.control("SH", [*heading]);
            for (index, paragraph) in text.split("\n\n").enumerate() {
                if index > 0 {
                    roff.control("PP", []);
                }
                for line in paragraph.lines() {
                    roff.text([roman(line)]);
                }
            }
        }
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman("volfs(1)")]);
    }
    roff.to_writer(to)
}
