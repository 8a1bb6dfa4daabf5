//! That the transcripts are complete: every command stands in one, as text and
//! with `--json`, and every message that an error can have is shown in one or
//! asked for by another test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::support::{TestDir, Volfs};

/// Commands whose output is for one reader, which is no program of JSON.
const WITHOUT_JSON: [&str; 1] = ["completions"];

/// Messages that nothing brings about at will and in no time, and why.
const UNTESTED: [(&str, &str); 5] = [
    (
        "no other process has come within {} seconds; the log is daemon.log in the store",
        "a program that was installed and hangs when it is started",
    ),
    (
        "{} is unmounted, but its daemon has not ended within {} seconds; its log is daemon.log in the store, and --force ends it",
        "a daemon that hangs just then",
    ),
    (
        "{} is detached, but the kernel does not end {}: it waits for a disk or for another file system; 'cat /proc/PID/stack' may show for which",
        "a disk that does not answer",
    ),
    (
        "{why}; it is tried again when the store is next opened",
        "a file that root cannot delete, which not every file system can have",
    ),
    (
        "no longer waiting; the daemon goes on deleting in the background",
        "a signal in the middle of a deletion",
    ),
];

fn transcripts() -> String {
    let texts = super::files()
        .into_iter()
        .map(|file| fs::read_to_string(file).unwrap());
    texts.collect()
}

#[test]
fn every_command_is_shown() {
    let dir = TestDir::new();
    let man = dir.mkdir("man");
    // There is a page for each.
    Volfs::new(&dir.join("store")).ok(&[Path::new("man"), man.as_path()]);
    let mut commands: BTreeSet<Vec<String>> = fs::read_dir(&man)
        .unwrap()
        .map(|page| {
            let name = page.unwrap().file_name().into_string().unwrap();
            let name = name.strip_suffix(".1").unwrap();
            name.split('-').skip(1).map(str::to_owned).collect()
        })
        .collect();
    let parents: Vec<_> = commands
        .iter()
        .filter(|c| {
            commands
                .iter()
                .any(|other| other.len() > c.len() && other.starts_with(c))
        })
        .cloned()
        .collect();
    commands.retain(|command| !parents.contains(command));
    assert!(commands.len() > 25, "{commands:?}");

    let shown = transcripts();
    for command in commands {
        let words = command.join(" ");
        let typed = format!(r"(?m)^\$ (.*[ (])?volfs( --\S+( store| \S+)?)? {words}\b.*$");
        let lines: Vec<_> = Regex::new(&typed)
            .unwrap()
            .find_iter(&shown)
            .map(|line| line.as_str())
            .collect();
        assert!(!lines.is_empty(), "'volfs {words}' is in no transcript");
        assert!(
            lines.iter().any(|line| line.contains("--json"))
                || WITHOUT_JSON.contains(&words.as_str()),
            "'volfs {words} --json' is in no transcript"
        );
    }
}

/// A message as the source has it, and where.
#[derive(Debug)]
struct Message {
    text: String,
    place: String,
}

impl Message {
    /// The parts between what is filled in.
    fn parts(&self) -> Vec<String> {
        let text = self.text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let parts = Regex::new(r"\{[^}]*\}").unwrap();
        parts
            .split(&text)
            .map(|part| part.replace('\u{1}', "{").replace('\u{2}', "}"))
            .collect()
    }

    /// What it is with something filled in.
    fn pattern(&self) -> Regex {
        let parts: Vec<String> = self
            .parts()
            .iter()
            .map(|part| regex::escape(part))
            .collect();
        Regex::new(&parts.join("[^\n]*?")).unwrap()
    }

    /// Whether it says anything by itself.
    fn is_own(&self) -> bool {
        let own = self.parts().concat();
        own.chars().filter(|c| c.is_alphabetic()).count() >= 6
    }
}

/// All files of the crate's source.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn in_crate(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
    found.sort();
    found
}

/// A Rust string literal, without its quotes.
const LITERAL: &str = r#""((?:[^"\\]|\\.)*)""#;

fn unescape(literal: &str) -> String {
    let joined = Regex::new(r"\\\n\s*")
        .unwrap()
        .replace_all(literal, "")
        .into_owned();
    joined
        .replace("\\n", "\n")
        .replace("\\\"", "\"")
        .replace("\\\\", "\\")
}

/// The texts of errors: in the attribute of `thiserror`, and where a command
/// makes a failure of its own.
fn messages() -> Vec<Message> {
    let attribute = Regex::new(&format!(r"#\[error\(\s*{LITERAL}")).unwrap();
    let failure = Regex::new(&format!(
        r"Failure::(?:usage\(|(?:new|with_detail)\(\s*{LITERAL},)"
    ))
    .unwrap();
    let literal = Regex::new(LITERAL).unwrap();
    let mut messages = Vec::new();
    for path in in_crate("src") {
        let whole = fs::read_to_string(&path).unwrap();
        let source = whole.split("#[cfg(test)]").next().unwrap();
        let place = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut add = |text: &str| {
            let message = Message {
                text: unescape(text),
                place: place.display().to_string(),
            };
            if message.is_own() {
                messages.push(message);
            }
        };
        for found in attribute.captures_iter(source) {
            add(&found[1]);
        }
        for found in failure.find_iter(source) {
            // Up to the end of the statement; the longest text is what is said.
            let rest = &source[found.end()..];
            let call = &rest[..rest.find(";\n").unwrap_or(rest.len()).min(700)];
            let texts = literal.captures_iter(call).map(|text| text[1].to_owned());
            if let Some(text) = texts.max_by_key(String::len) {
                add(&text);
            }
        }
    }
    messages
}

/// Texts that tests ask for.
fn asked_for() -> Vec<String> {
    let literal = Regex::new(LITERAL).unwrap();
    let mut texts = Vec::new();
    let mut take = |source: &str| {
        texts.extend(literal.captures_iter(source).map(|text| unescape(&text[1])));
    };
    for path in in_crate("tests") {
        take(&fs::read_to_string(&path).unwrap());
    }
    for path in in_crate("src") {
        let source = fs::read_to_string(&path).unwrap();
        if path.ends_with("tests.rs") {
            take(&source);
        } else if let Some((_, tests)) = source.split_once("#[cfg(test)]") {
            take(tests);
        }
    }
    // A word or two say nothing of a message.
    texts.retain(|text| text.len() >= 10 && text.contains(' '));
    texts
}

#[test]
fn every_message_is_tested() {
    let (shown, asked) = (transcripts(), asked_for());
    let mut untested: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let messages = messages();
    assert!(messages.len() > 120, "only {} were found", messages.len());
    for message in &messages {
        let (parts, pattern) = (message.parts(), message.pattern());
        let is_asked = |text: &String| {
            parts.iter().any(|part| part.contains(text.as_str())) || pattern.is_match(text)
        };
        let is_known = UNTESTED.iter().any(|(text, _)| *text == message.text);
        if !is_known && !pattern.is_match(&shown) && !asked.iter().any(is_asked) {
            untested
                .entry(message.place.clone())
                .or_default()
                .push(message.text.clone());
        }
    }
    assert!(
        untested.is_empty(),
        "no transcript shows these messages, and no test asks for them: {untested:#?}"
    );
}
