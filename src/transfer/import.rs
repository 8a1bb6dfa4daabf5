//! An archive as a volume: what the volume is to be, and which way its
//! contents come.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Watch;
use super::archive::{Broken, Content, Entry, Kind as EntryKind, Reader};
use super::attributes::Missed;
use super::describe::Description;
use super::export::IMAGE;
use super::unpack::Unpacker;
use crate::diskimg;
use crate::model::{Bytes, Kind, Labels, Limits, Usage, VolumeName, VolumeSpec};
use crate::volume::{Error, Result, Staging, VolumeInfo, Volumes};

/// How an archive is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A byte limit instead of the one in the archive; `Some(None)` is none.
    pub quota_bytes: Option<Option<Bytes>>,
    /// An inode limit instead of the one in the archive; `Some(None)` is none.
    pub quota_inodes: Option<Option<u64>>,
    /// Labels that are set besides those in the archive.
    pub labels: Vec<(String, String)>,
    /// Let device nodes in; otherwise an archive that has some is refused.
    pub devices: bool,
    /// What the archive is called, for errors.
    pub archive: PathBuf,
}

/// What has come of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The new volume.
    pub info: VolumeInfo,
    /// Files, directories and all else.
    pub entries: u64,
    /// Files whose owner could not be set: only root can.
    pub owners_missed: u64,
    /// Extended attributes that could not be set: only root can, or the host's
    /// file system has none such.
    pub xattrs_missed: u64,
}

/// The most of the archive that is written at a time.
const CHUNK: usize = 1 << 20;

/// Makes the volume `name` of a tar archive, of ours or anybody's, plain or
/// compressed with zstd.
///
/// An archive is refused, and nothing is left of it, when it is damaged or does
/// not say where it ends (it may have been cut there), when an entry of it would be outside of the volume or reach there through a
/// link, when it has device nodes, and when it does not fit into the limits.
/// The image of a disk volume is not trusted with this machine's kernel before
/// it has been checked.
///
/// # Errors
/// [`Error::Exists`], [`Error::Archive`], [`Error::NoSpace`],
/// [`Error::Interrupted`], I/O; there is no volume then.
pub fn import(
    volumes: &dyn Volumes,
    name: &VolumeName,
    options: &ImportOptions,
    input: &mut dyn Read,
    watch: &dyn Watch,
) -> Result<Imported> {
    let mut import = Import {
        reader: Reader::new(decompressed(input, options)?),
        options,
        watch,
    };
    let first = import.next()?;
    let description = match import.reader.comment() {
        Some(comment) => {
            Description::from_comment(comment).map_err(|why| Error::Archive { why })?
        }
        None => None,
    };
    if first.is_none() && description.is_none() {
        return Err(Error::Archive {
            why: "there is nothing in it".to_owned(),
        });
    }
    let spec = spec_of(name, description.as_ref(), options)?;
    let staging = Staging::begin(volumes, &spec)?;
    match spec.kind {
        Kind::Directory => import.files(volumes, staging, first),
        Kind::Disk => import.image(volumes, staging, first),
    }
}

fn spec_of(
    name: &VolumeName,
    description: Option<&Description>,
    options: &ImportOptions,
) -> Result<VolumeSpec> {
    let saved = description.map_or(Limits::default(), |it| it.limits);
    let mut labels = description.map_or(Labels::default(), |it| it.labels.clone());
    for (key, value) in &options.labels {
        labels.set(key, value);
    }
    let spec = VolumeSpec {
        kind: description.map_or(Kind::Directory, |it| it.kind),
        limits: Limits {
            bytes: options.quota_bytes.unwrap_or(saved.bytes),
            inodes: options.quota_inodes.unwrap_or(saved.inodes),
        },
        size: description.and_then(|it| it.size),
        labels,
        ..VolumeSpec::directory(name.clone())
    };
    spec.check()?;
    Ok(spec)
}

/// Looks at the first bytes; what is not compressed comes as it is.
fn decompressed<'a>(
    input: &'a mut dyn Read,
    options: &ImportOptions,
) -> Result<Box<dyn Read + 'a>> {
    let failed = |error: io::Error| Error::io("read", &options.archive, &error);
    let mut start = [0; 6];
    let mut filled = 0;
    while filled < start.len() {
        match input.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if filled == 0 {
        return Err(Error::Archive {
            why: "it is empty".to_owned(),
        });
    }
    let whole = io::Cursor::new(start).take(filled as u64).chain(input);
    let other = match start {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Ok(Box::new(zstd::Decoder::new(whole).map_err(failed)?));
        }
        [0x1f, 0x8b, ..] => "gzip",
        [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        _ => return Ok(Box::new(whole)),
    };
    Err(Error::Archive {
        why: format!(
            "it is compressed with {other}, not with zstd; decompress it first: '{other} -dc FILE | volfs import NAME -'"
        ),
    })
}

pub(super) struct Import<'a, R> {
    reader: Reader<R>,
    pub(super) options: &'a ImportOptions,
    watch: &'a dyn Watch,
}

impl<R: Read> Import<'_, R> {
    fn broken(&self, broken: Broken) -> Error {
        match broken {
            Broken::Archive(why) => Error::Archive { why },
            Broken::Io(error) => Error::io("read", &self.options.archive, &error),
        }
    }

    /// The next entry, unless somebody wants it to stop.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        if self.watch.is_stopped() {
            return Err(Error::Interrupted);
        }
        let next = self.reader.next();
        next.map_err(|broken| self.broken(broken))
    }

    /// Whether somebody wants it to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.watch.is_stopped()
    }

    /// Reads to the end of the input, after that of the archive.
    fn drain(&mut self) -> Result<()> {
        while !self.is_stopped() {
            let more = self.reader.drain(CHUNK as u64);
            if !more.map_err(|broken| self.broken(broken))? {
                return Ok(());
            }
        }
        Err(Error::Interrupted)
    }

    /// Writes the contents of the current entry to an empty file.
    pub(super) fn write(&mut self, content: &Content, file: &File, path: &Path) -> Result<()> {
        let failed = |error: &io::Error| Error::io("write", path, error);
        let mut buffer = vec![0; CHUNK];
        for segment in &content.segments {
            let mut at = segment.offset;
            let end = segment.offset + segment.len;
            while at < end {
                if self.watch.is_stopped() {
                    return Err(Error::Interrupted);
                }
                // At most CHUNK, which fits.
                let want = (end - at).min(CHUNK as u64) as usize;
                let read = self.reader.read(&mut buffer[..want]);
                let read = read.map_err(|broken| self.broken(broken))?;
                file.write_all_at(&buffer[..read], at)
                    .map_err(|e| failed(&e))?;
                self.watch.advanced(read as u64);
                at += read as u64;
            }
        }
        file.set_len(content.size).map_err(|e| failed(&e))
    }

    fn files(
        mut self,
        volumes: &dyn Volumes,
        staging: Staging,
        first: Option<Entry>,
    ) -> Result<Imported> {
        let root = staging.contents();
        let mut unpacker = {
            let (limits, unit) = (staging.spec().limits, staging.unit());
            Unpacker::new(&root, limits, unit, self.options.devices)?
        };
        let mut next = first;
        let mut entries = 0;
        while let Some(entry) = next {
            unpacker.unpack(&mut self, &entry)?;
            entries += 1;
            next = self.next()?;
        }
        self.drain()?;
        let missed = unpacker.finish()?;
        let used = unpacker.used();
        drop(unpacker);
        let info = staging.finish(volumes, used, false)?;
        Ok(imported(info, entries, missed))
    }

    fn image(
        mut self,
        volumes: &dyn Volumes,
        staging: Staging,
        first: Option<Entry>,
    ) -> Result<Imported> {
        let wrong = |why: &str| Error::Archive {
            why: format!("it says that it holds a disk volume, and {why}"),
        };
        let entry = first.ok_or_else(|| wrong("holds nothing"))?;
        if entry.kind != EntryKind::File || entry.path != IMAGE.as_bytes() {
            return Err(wrong("begins with something else than its image"));
        }
        if Some(Bytes(entry.content.size)) != staging.spec().size {
            return Err(wrong("its image has another size"));
        }
        let path = staging.contents();
        let image = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::io("create", &path, &e))?;
        self.write(&entry.content, &image, &path)?;
        if self.next()?.is_some() {
            return Err(wrong("holds more than its image"));
        }
        self.drain()?;
        diskimg::inspect(&image).map_err(|error| wrong(&format!("its image is none: {error}")))?;
        // Wherever it comes from: it could attack the kernel that mounts it.
        let info = staging.finish(volumes, Usage::default(), true)?;
        Ok(imported(info, 1, Missed::default()))
    }
}

fn imported(info: VolumeInfo, entries: u64, missed: Missed) -> Imported {
    Imported {
        info,
        entries,
        owners_missed: missed.owners,
        xattrs_missed: missed.xattrs,
    }
}
