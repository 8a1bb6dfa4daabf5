//! `volfs config`.

use clap::Args;
use volfs::volume::{Setting, Settings, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::open::{Access, open_volumes};

/// Arguments of `volfs config`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::CONFIG)]
pub struct ConfigArgs {
    /// Which setting; all of them are shown when there is none
    #[arg(value_name = "KEY", value_parser = key)]
    key: Option<String>,
    /// Set it to this
    #[arg(value_name = "VALUE")]
    value: Option<String>,
}

fn key(text: &str) -> Result<String, String> {
    if Setting::KEYS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a setting; there is {}",
        Setting::KEYS.join(", ")
    ))
}

impl ConfigArgs {
    /// Shows settings, or changes one.
    pub fn run(self, context: &Context) -> Outcome {
        let setting = match (&self.key, &self.value) {
            (Some(key), Some(value)) => Some(Setting::parse(key, value).map_err(Failure::usage)?),
            _ => None,
        };
        let settings = match setting {
            Some(setting) => {
                Volumes::set(&*open_volumes(&context.store, Access::Change)?, &setting)?
            }
            None => open_volumes(&context.store, Access::Read)?.settings()?,
        };
        if context.output.is_json() {
            return context.output.value(&json(&settings));
        }
        if let Some(setting) = setting {
            let (key, _) = setting.as_text();
            context.output.confirm(lines(&settings, &[key]));
        } else if let Some(key) = &self.key {
            context.output.text(value(&settings, key));
        } else {
            context.output.text(lines(&settings, &Setting::KEYS));
        }
        Ok(())
    }
}

/// As people set it: one key, one value.
fn json(settings: &Settings) -> serde_json::Value {
    serde_json::json!({
        "names": settings.names,
        "trash.retention": settings.trash_retention,
        "mount": { "trash.retention": settings.trash_retention_of_mount },
    })
}

fn value(settings: &Settings, key: &str) -> String {
    match key {
        "names" => settings.names.to_string(),
        // No other key gets here.
        _ => settings.trash_retention.to_string(),
    }
}

fn lines(settings: &Settings, keys: &[&str]) -> String {
    let line = |key: &&str| {
        let mut line = format!("{key:15}  {}", value(settings, key));
        if let Some(mount) = settings.trash_retention_of_mount
            && *key == "trash.retention"
        {
            line += &format!("  (the running mount was told {mount})");
        }
        line
    };
    keys.iter().map(line).collect::<Vec<_>>().join("\n")
}
