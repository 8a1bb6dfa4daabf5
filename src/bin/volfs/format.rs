//! `--format`: how a list of volumes is written.

use std::fmt::Write;

use volfs::volume::VolumeInfo;

use crate::fields::{Field, Fixed};
use crate::table;

/// How a list is written.
#[derive(Clone, Debug)]
pub enum Format {
    /// For people.
    Table,
    /// One array.
    Json,
    /// Comma-separated values, quoted as RFC 4180 has it, with a line of heads.
    Csv,
    /// A line for each volume.
    Template(Template),
}

impl Format {
    /// Reads `table`, `json`, `csv` or a template.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ if text.contains("{{") => Template::parse(text).map(Self::Template),
            _ => Err(format!(
                "{text:?} is not a format; write table, json, csv, or a template like '{{{{name}}}} {{{{used}}}}'"
            )),
        }
    }
}

/// Text with facts of a volume in it: `{{name}}`.
#[derive(Clone, Debug)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(Field),
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (name, behind) = after
                .split_once("}}")
                .ok_or_else(|| format!("the template {text:?} has {{{{ without }}}}"))?;
            parts.push(Part::Field(Field::parse(name.trim())?));
            rest = behind;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self(parts))
    }

    /// The line of a volume.
    pub fn line(&self, info: &VolumeInfo) -> String {
        self.0.iter().fold(String::new(), |mut line, part| {
            match part {
                Part::Text(text) => line += text,
                // Writing to a String does not fail.
                Part::Field(field) => drop(write!(line, "{}", table::value(field.text(info)))),
            }
            line
        })
    }
}

/// `\t` and `\n`, which a shell's quotes do not give.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// The list as comma-separated values.
pub fn csv(list: &[VolumeInfo]) -> String {
    // A record fails when it cannot be written, and here it goes to memory, or
    // when it has other fields than the first, and all have those of `ALL`.
    const PROOF: &str = "records of one length, in memory";
    let mut writer = csv::Writer::from_writer(Vec::new());
    let heads = Fixed::ALL.iter().map(|field| field.name());
    writer.write_record(heads).expect(PROOF);
    for info in list {
        let values = Fixed::ALL
            .iter()
            .map(|&field| table::value(Field::Fixed(field).text(info)));
        writer.write_record(values).expect(PROOF);
    }
    let bytes = writer.into_inner().expect(PROOF);
    // Fields are texts, and so is what stands between them.
    String::from_utf8_lossy(&bytes).into_owned()
}
