//! A volume as an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, major, minor};
use tar::EntryType;

use super::archive::{Header, Writer};
use super::attributes::Attributes;
use super::data::{self, Segment, segments};
use super::describe::Description;
use super::walk::{Found, Visit, walk};
use super::{Watch, make};
use crate::model::{Kind, VolumeName};
use crate::sys::node;
use crate::volume::{Error, Result, Source, Volumes};

/// How a volume is exported.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Compress with zstd.
    pub compress: bool,
    /// What the archive is called, for errors.
    pub archive: PathBuf,
    /// Inodes of the store's file system that are left out: the archive itself,
    /// where it is in the volume, and what it takes the place of.
    pub itself: Vec<u64>,
}

/// What is in the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files, directories and all else.
    pub entries: u64,
    /// Bytes of contents, without holes.
    pub bytes: u64,
    /// Sockets: no archive holds them.
    pub left_out: Vec<PathBuf>,
    /// Files that became shorter while they were read; they have zeros there.
    pub changed: Vec<PathBuf>,
    /// What was left out because it is the archive.
    pub itself: Vec<PathBuf>,
    /// What was moved or removed between being listed and being read. Where it
    /// was moved to it may be in the archive, or not.
    pub vanished: Vec<PathBuf>,
}

/// The name of the image in the archive of a disk volume.
pub(super) const IMAGE: &str = "disk.raw";

/// So much is read at a time.
const CHUNK: usize = 1 << 20;

/// Writes the volume `name` to `out` as a tar archive, with what the volume
/// has besides its files: labels, limits, kind. Files that are changed
/// meanwhile may have the old contents or the new; those that are moved may be
/// where they were, where they are, in both places or in none.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InUse`] for an image that somebody writes to,
/// [`Error::Interrupted`], I/O.
pub fn export(
    volumes: &dyn Volumes,
    name: &VolumeName,
    options: &ExportOptions,
    out: &mut dyn Write,
    watch: &dyn Watch,
) -> Result<Exported> {
    let source = volumes.source(name)?;
    let failed = |error: io::Error| Error::io("write to", &options.archive, &error);
    if !options.compress {
        return write(&source, options, out, watch).map(|(exported, _)| exported);
    }
    // The default level: faster than most disks, and smaller than gzip.
    let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(failed)?;
    // The contents of files have no other.
    encoder.include_checksum(true).map_err(failed)?;
    let (exported, encoder) = write(&source, options, encoder, watch)?;
    encoder.finish().map_err(failed)?;
    Ok(exported)
}

fn write<W: Write>(
    source: &Source,
    options: &ExportOptions,
    out: W,
    watch: &dyn Watch,
) -> Result<(Exported, W)> {
    let mut exporter = Exporter {
        out: Writer::new(out),
        options,
        linked: HashMap::new(),
        done: Exported::default(),
        buffer: vec![0; CHUNK],
        watch,
    };
    let comment = Description::of(source.info())
        .to_comment()
        .map_err(|e| exporter.failed(&e.into()))?;
    let said = exporter.out.comment(&comment);
    said.map_err(|e| exporter.failed(&e))?;
    match source.info().kind {
        Kind::Directory => walk(&source.contents(), &mut exporter)?,
        Kind::Disk => exporter.image(&source.contents())?,
    }
    let finished = exporter.out.finish();
    let out = finished.map_err(|e| Error::io("write to", &options.archive, &e))?;
    Ok((exporter.done, out))
}

struct Exporter<'a, W> {
    out: Writer<W>,
    options: &'a ExportOptions,
    // Inodes with several names, and what the first of them is called.
    linked: HashMap<u64, Vec<u8>>,
    done: Exported,
    buffer: Vec<u8>,
    watch: &'a dyn Watch,
}

/// What a file is called in the archive.
fn entry_name(path: &Path, kind: SFlag) -> Vec<u8> {
    let mut name = b"./".to_vec();
    name.extend(path.as_os_str().as_bytes());
    if kind == SFlag::S_IFDIR && !name.ends_with(b"/") {
        name.push(b'/');
    }
    name
}

impl<W: Write> Exporter<'_, W> {
    fn failed(&self, error: &io::Error) -> Error {
        Error::io("write to", &self.options.archive, error)
    }

    fn entry(&mut self, found: &Found<'_>, kind: EntryType, link: Option<&[u8]>) -> Result<()> {
        let attributes =
            Attributes::of(found.fd, found.stat).map_err(|e| found.failed("look at", e))?;
        let path = entry_name(found.path, found.kind());
        let device = found.stat.st_rdev;
        let header = Header {
            path: &path,
            kind,
            link,
            attributes: &attributes,
            device: matches!(kind, EntryType::Char | EntryType::Block).then(|| {
                // Linux has 12 and 20 bits of them.
                (major(device) as u32, minor(device) as u32)
            }),
        };
        self.done.entries += 1;
        let written = self.out.entry(&header);
        written.map_err(|e| self.failed(&e))
    }

    fn file(&mut self, found: &Found<'_>) -> Result<()> {
        let attributes =
            Attributes::of(found.fd, found.stat).map_err(|e| found.failed("look at", e))?;
        let path = entry_name(found.path, found.kind());
        let file = data::open(found.fd).map_err(|e| found.failed("open", e))?;
        let size = found.stat.st_size.unsigned_abs();
        let failed = |action: &str, errno: Errno| found.failed(action, errno);
        let header = Header {
            path: &path,
            kind: EntryType::Regular,
            link: None,
            attributes: &attributes,
            device: None,
        };
        if !self.contents(&header, &file, size, &failed)? {
            self.done.changed.push(found.path.to_owned());
        }
        Ok(())
    }

    /// Writes a regular file; `false` when it became shorter meanwhile.
    fn contents(
        &mut self,
        header: &Header<'_>,
        file: &File,
        size: u64,
        failed: &dyn Fn(&str, Errno) -> Error,
    ) -> Result<bool> {
        self.done.entries += 1;
        let parts = segments(file, size).map_err(|e| failed("read", e))?;
        let whole = Segment {
            offset: 0,
            len: size,
        };
        let begun = if size == 0 || parts == [whole] {
            self.out.file(header, size).map(|()| size)
        } else {
            self.out.sparse_file(header, size, &parts)
        };
        let stored = begun.map_err(|e| self.failed(&e))?;
        let mut complete = true;
        let mut done = 0;
        for part in parts {
            self.watch.advanced(part.offset - done);
            complete &= self.segment(file, part, failed)?;
            done = part.offset + part.len;
        }
        self.watch.advanced(size - done);
        let finished = self.out.finish_file(stored);
        finished.map_err(|e| self.failed(&e))?;
        Ok(complete)
    }

    fn segment(
        &mut self,
        file: &File,
        part: Segment,
        failed: &dyn Fn(&str, Errno) -> Error,
    ) -> Result<bool> {
        let mut complete = true;
        let mut at = part.offset;
        let end = part.offset + part.len;
        while at < end {
            if self.watch.is_stopped() {
                return Err(Error::Interrupted);
            }
            // At most CHUNK, which fits.
            let want = (end - at).min(CHUNK as u64) as usize;
            let buffer = &mut self.buffer[..want];
            let mut read = 0;
            while read < want {
                match file.read_at(&mut buffer[read..], at + read as u64) {
                    Ok(0) => {
                        // What was promised has to come.
                        buffer[read..].fill(0);
                        complete = false;
                        read = want;
                    }
                    Ok(more) => read += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed("read", data::errno_of(&error))),
                }
            }
            let written = self.out.data(&self.buffer[..want]);
            written.map_err(|e| self.failed(&e))?;
            self.done.bytes += want as u64;
            self.watch.advanced(want as u64);
            at += want as u64;
        }
        Ok(complete)
    }

    fn image(&mut self, path: &Path) -> Result<()> {
        let failed = |action: &str, errno: Errno| Error::io(action, path, &errno.into());
        let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
        let stat = node::stat(&file).map_err(|e| failed("look at", e))?;
        let attributes = Attributes::of(&file, &stat).map_err(|e| failed("look at", e))?;
        let header = Header {
            path: IMAGE.as_bytes(),
            kind: EntryType::Regular,
            link: None,
            attributes: &attributes,
            device: None,
        };
        self.contents(&header, &file, stat.st_size.unsigned_abs(), &failed)
            .map(drop)
    }
}

impl<W: Write> Visit for Exporter<'_, W> {
    fn enter(&mut self, found: &Found<'_>) -> Result<()> {
        self.entry(found, EntryType::Directory, None)
    }

    fn leave(&mut self, _found: &Found<'_>) -> Result<()> {
        Ok(())
    }

    fn vanished(&mut self, path: &Path) {
        self.done.vanished.push(path.to_owned());
    }

    fn lost(&mut self, _path: &Path, _stat: &FileStat) -> Result<()> {
        Ok(())
    }

    fn visit(&mut self, found: &Found<'_>) -> Result<()> {
        if self.watch.is_stopped() {
            return Err(Error::Interrupted);
        }
        if self.options.itself.contains(&found.stat.st_ino) {
            self.done.itself.push(found.path.to_owned());
            return Ok(());
        }
        if found.stat.st_nlink > 1 && found.kind() != SFlag::S_IFSOCK {
            let name = entry_name(found.path, found.kind());
            if let Some(first) = self.linked.get(&found.stat.st_ino) {
                let first = first.clone();
                return self.entry(found, EntryType::Link, Some(&first));
            }
            self.linked.insert(found.stat.st_ino, name);
        }
        match found.kind() {
            SFlag::S_IFREG => self.file(found),
            SFlag::S_IFLNK => {
                let target = make::target(found.fd).map_err(|e| found.failed("read", e))?;
                self.entry(found, EntryType::Symlink, Some(target.as_bytes()))
            }
            SFlag::S_IFIFO => self.entry(found, EntryType::Fifo, None),
            SFlag::S_IFCHR => self.entry(found, EntryType::Char, None),
            SFlag::S_IFBLK => self.entry(found, EntryType::Block, None),
            _ => {
                self.done.left_out.push(found.path.to_owned());
                Ok(())
            }
        }
    }
}
