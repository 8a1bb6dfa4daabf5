//! What has happened to volumes that somebody should know of: now, that one
//! has come near its limit. Kept in memory and in `STORE/events.jsonl`, both
//! bounded.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::meta::{Crossed, Resource};
use crate::model::{Timestamp, VolumeId, VolumeName};

/// The most events that are kept, of all volumes; see [`drop_excess`].
const MOST: usize = 1000;

/// So long the log says nothing of an event that is like another.
const QUIET: Duration = Duration::from_secs(60);

/// The file is written anew, with what is kept, when it is larger.
const MOST_BYTES: u64 = 1 << 20;

/// A volume's use has reached a share of its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What has happened.
    pub event: EventKind,
    /// The volume's name then.
    pub volume: VolumeName,
    /// The volume.
    pub id: VolumeId,
    /// The share that was reached, in per cent.
    pub percent: u8,
    /// Bytes or inodes in use then.
    pub used: u64,
    /// The limit then.
    pub limit: u64,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Bytes have reached a share of their limit.
    QuotaBytes,
    /// Inodes have reached a share of their limit.
    QuotaInodes,
    /// The host has refused the volume space, as the store's disk is full. The
    /// share, `used` and `limit` are of the volume's bytes; the limit is 0 where
    /// it has none.
    StoreFull,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.event {
            EventKind::QuotaBytes => "bytes",
            EventKind::QuotaInodes => "inodes",
            EventKind::StoreFull => return self.fmt_full(f),
        };
        let (volume, percent) = (&self.volume, self.percent);
        let (used, limit) = (self.used, self.limit);
        write!(
            f,
            "volume {volume} has reached {percent}% of its quota: {used} of {limit} {unit}"
        )
    }
}

impl Event {
    fn fmt_full(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (volume, percent) = (&self.volume, self.percent);
        f.write_str("the store's disk is full; ")?;
        match self.limit {
            0 => write!(f, "volume {volume} has no limit of its own"),
            _ => write!(f, "volume {volume} is at {percent}% of its own limit"),
        }
    }
}

/// The last events, oldest first.
#[derive(Debug)]
pub(super) struct EventLog {
    path: PathBuf,
    // Held over the append: the order in the file is that in memory.
    kept: Mutex<VecDeque<Event>>,
}

impl EventLog {
    /// With what an earlier process has left at `path`; lines that make no
    /// sense are passed over.
    pub(super) fn open(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut kept: VecDeque<Event> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        drop_excess(&mut kept);
        Self {
            path,
            kept: Mutex::new(kept),
        }
    }

    fn add(&self, events: &[Event]) {
        let mut kept = self.kept.lock();
        kept.extend(events.iter().cloned());
        drop_excess(&mut kept);
        if let Err(error) = self.write(&kept, events) {
            log::warn!("cannot write {:?}: {error}", self.path);
        }
    }

    /// Whether the like has not happened to the volume for [`QUIET`]. Who goes up
    /// and down at a level fills no log.
    fn is_news(&self, event: &Event) -> bool {
        let is_like = |other: &&Event| {
            (other.id, other.event, other.percent) == (event.id, event.event, event.percent)
        };
        let kept = self.kept.lock();
        let last = kept.iter().rev().find(is_like);
        let quiet = i64::try_from(QUIET.as_nanos()).unwrap_or(i64::MAX);
        last.is_none_or(|last| event.time.as_nanos().saturating_sub(last.time.as_nanos()) > quiet)
    }

    fn write(&self, kept: &VecDeque<Event>, new: &[Event]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        if file.metadata()?.len() <= MOST_BYTES {
            return file.write_all(lines(new).as_bytes());
        }
        let whole = self.path.with_extension("jsonl.new");
        fs::write(&whole, lines(kept))?;
        fs::rename(whole, &self.path)
    }

    fn all(&self) -> Vec<Event> {
        self.kept.lock().iter().cloned().collect()
    }
}

/// Drops what is more than [`MOST`]: the oldest event of the volume that has the
/// most, so that none pushes out what others have.
fn drop_excess(kept: &mut VecDeque<Event>) {
    if kept.len() <= MOST {
        return;
    }
    let mut counts: HashMap<VolumeId, usize> = HashMap::new();
    for event in kept.iter() {
        *counts.entry(event.id).or_default() += 1;
    }
    while kept.len() > MOST {
        let most = counts.values().copied().max().unwrap_or_default();
        let has_most = |event: &Event| counts.get(&event.id) == Some(&most);
        let Some(oldest) = kept.iter().position(has_most) else {
            return;
        };
        if let Some(count) = kept.remove(oldest).and_then(|it| counts.get_mut(&it.id)) {
            *count -= 1;
        }
    }
}

/// One JSON value per line.
fn lines<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    events
        .into_iter()
        .filter_map(|event| serde_json::to_string(event).ok())
        .fold(String::new(), |text, line| text + &line + "\n")
}

impl Store {
    /// Looks which volumes have crossed a level since the last call, and
    /// keeps that. For now and then.
    pub fn collect_events(&self) {
        if self.is_read_only() {
            return;
        }
        let mut new = Vec::new();
        for (volume, name) in self
            .volumes_after(None, usize::MAX)
            .into_iter()
            .map(|(n, v)| (v, n))
        {
            for crossed in volume.account().take_crossed() {
                let Crossed {
                    resource,
                    percent,
                    used,
                    limit,
                    time,
                } = crossed;
                new.push(Event {
                    time,
                    event: match resource {
                        Resource::Bytes => EventKind::QuotaBytes,
                        Resource::Inodes | Resource::Volumes => EventKind::QuotaInodes,
                    },
                    volume: name.clone(),
                    id: volume.id,
                    percent,
                    used,
                    limit,
                });
            }
        }
        if new.is_empty() {
            return;
        }
        new.sort_by_key(|event| event.time);
        self.keep_events(new);
    }

    /// Keeps and logs events, oldest first.
    pub(super) fn keep_events(&self, new: Vec<Event>) {
        for event in &new {
            if self.event_log.is_news(event) {
                log::warn!("{event}");
            }
        }
        self.event_log.add(&new);
    }

    /// The last events as they are in the file, one JSON value per line.
    #[must_use]
    pub fn events_text(&self) -> String {
        self.collect_events();
        lines(&self.event_log.all())
    }

    /// The last events, oldest first.
    pub(super) fn last_events(&self) -> Vec<Event> {
        self.collect_events();
        self.event_log.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> Event {
        Event {
            time: Timestamp::from_nanos(n as i64),
            event: EventKind::QuotaBytes,
            volume: "v".parse().unwrap(),
            id: VolumeId::random(),
            percent: 80,
            used: n,
            limit: 100,
        }
    }

    #[test]
    fn one_volume_pushes_out_none_of_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = EventLog::open(path.clone());
        let (quiet, loud) = (event(0), event(0));
        log.add(&[quiet.clone(), quiet.clone()]);
        for n in 1..5_000 {
            let again = Event {
                time: Timestamp::from_nanos(n),
                ..loud.clone()
            };
            log.add(&[again]);
        }
        for log in [log, EventLog::open(path)] {
            let all = log.all();
            let of_quiet = all.iter().filter(|event| event.id == quiet.id).count();
            assert_eq!((all.len(), of_quiet), (MOST, 2));
            assert_eq!(all[MOST - 1].time.as_nanos(), 4_999);
            assert!(!log.is_news(&all[MOST - 1]));
            assert!(log.is_news(&event(1)));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let log = EventLog::open(path.clone());
        for n in 0..12_000 {
            log.add(&[event(n)]);
        }
        assert_eq!(log.all().len(), MOST);
        assert_eq!(log.all()[MOST - 1].used, 11_999);
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < MOST_BYTES + 1000, "{size}");
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"half").unwrap();
        assert_eq!(EventLog::open(path).all(), log.all());
    }
}
