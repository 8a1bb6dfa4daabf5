//! Reading an archive that anybody may have made: nothing in it is believed
//! further than it can be checked, and none of it is read into memory whole.

use std::io::{self, Read};

use tar::EntryType;

use super::padding;
use super::pax::{Records, time_from_text, unescape};
use super::sparse::{check_segments, map_in_header};
use crate::transfer::acl;
use crate::transfer::attributes::Attributes;
use crate::transfer::data::Segment;

/// The most bytes of what is said of one file: names, and attributes, of which
/// the kernel takes 64 KiB for each.
const META_MOST: u64 = 8 << 20;

/// What a file in an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    /// With its major and minor number.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// Where the contents of a file belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transfer) struct Content {
    /// The length of the file.
    pub size: u64,
    /// The parts that are stored, in order; the rest is holes.
    pub segments: Vec<Segment>,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub(in crate::transfer) struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Where a link leads, of either sort; empty otherwise.
    pub link: Vec<u8>,
    pub attributes: Attributes,
    /// For a regular file.
    pub content: Content,
}

/// Why an archive cannot be read further.
#[derive(Debug)]
pub(in crate::transfer) enum Broken {
    /// It is wrong, in words.
    Archive(String),
    /// It cannot be read.
    Io(io::Error),
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self::Archive(why)
    }
}

impl From<&str> for Broken {
    fn from(why: &str) -> Self {
        Self::Archive(why.to_owned())
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends in the middle".into(),
            // What a decompressor says of its input has no number.
            _ if error.raw_os_error().is_none() => Self::Archive(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Broken>;

/// An archive that is being read.
pub(in crate::transfer) struct Reader<R> {
    pub(super) input: R,
    global: Records,
    /// Stored bytes of the current file that have not been read, and what
    /// comes after them up to the next header.
    pub(super) left: u64,
    pad: u64,
}

impl<R: Read> Reader<R> {
    pub(in crate::transfer) fn new(input: R) -> Self {
        Self {
            input,
            global: Records::default(),
            left: 0,
            pad: 0,
        }
    }

    /// The comment of the archive as a whole, as far as it has been read.
    pub(in crate::transfer) fn comment(&self) -> Option<&[u8]> {
        self.global.get("comment")
    }

    /// The next file; `None` at the end. What has not been read of the one
    /// before is skipped.
    pub(in crate::transfer) fn next(&mut self) -> Result<Option<Entry>> {
        let mut local = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let rest = self.left + self.pad;
            self.skip(rest)?;
            (self.left, self.pad) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(Broken::from)?;
            match header.entry_type() {
                EntryType::XHeader => local = Records::parse(&self.meta(size)?)?,
                EntryType::XGlobalHeader => {
                    let records = Records::parse(&self.meta(size)?)?;
                    for (key, value) in records.iter() {
                        self.global.push(key, value);
                    }
                }
                EntryType::GNULongName => long_name = Some(c_string(self.meta(size)?)),
                EntryType::GNULongLink => long_link = Some(c_string(self.meta(size)?)),
                // The name of the archive itself.
                other if other.as_byte() == b'V' => {
                    self.skip(size)?;
                    self.skip(padding(size))?;
                }
                _ => return self.entry(&header, &local, long_name, long_link).map(Some),
            }
        }
    }

    /// Reads stored bytes of the current file.
    pub(in crate::transfer) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        loop {
            match self.input.read(&mut buffer[..most]) {
                Ok(0) => return Err("it ends in the middle".into()),
                Ok(read) => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn header(&mut self) -> Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        // An archive without the two blocks of zeros at its end is read, too.
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err("it ends in the middle".into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The checksum field itself counts as spaces.
        let sum: u32 = (0_usize..)
            .zip(block.iter())
            .map(|(at, &byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(byte)
                }
            })
            .sum();
        match header.cksum() {
            Ok(said) if said == sum => Ok(Some(header)),
            _ => Err("it is no tar archive, or it is damaged: a checksum is wrong".into()),
        }
    }

    /// Reads what is said of a file.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > META_MOST {
            return Err(format!("what it says of one file is {size} bytes long").into());
        }
        let mut bytes = vec![0; size as usize];
        self.input.read_exact(&mut bytes)?;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        if skipped < count {
            return Err("it ends in the middle".into());
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        local: &Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = local
            .get("GNU.sparse.name")
            .or_else(|| local.get("path"))
            .map(<[u8]>::to_vec)
            .or(long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&path).into_owned();
        let wrong = |what: &str| Broken::Archive(format!("{shown:?} has {what}"));
        let link = local
            .get("linkpath")
            .map(<[u8]>::to_vec)
            .or(long_link)
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let kind = kind_of(header, &path).ok_or_else(|| wrong("a type that no volume can hold"))?;
        let stored = match local.number("size")? {
            Some(size) => size,
            // Of a link it is the size of what it leads to.
            None if matches!(kind, Kind::File) => header.entry_size()?,
            None => 0,
        };
        // Rounded up it must be a number still.
        if stored > i64::MAX.unsigned_abs() {
            return Err(wrong("an impossible size"));
        }
        (self.left, self.pad) = (stored, padding(stored));
        let attributes = attributes(header, local).map_err(|what| wrong(&what))?;
        let content = match kind {
            Kind::File => self.content(header, local, stored, &shown)?,
            _ => Content {
                size: 0,
                segments: Vec::new(),
            },
        };
        Ok(Entry {
            path,
            kind,
            link,
            attributes,
            content,
        })
    }

    /// Where the contents belong; reads a map that stands before them.
    fn content(
        &mut self,
        header: &tar::Header,
        local: &Records,
        stored: u64,
        shown: &str,
    ) -> Result<Content> {
        let realsize = match local.number("GNU.sparse.realsize")? {
            Some(size) => Some(size),
            None => local.number("GNU.sparse.size")?,
        };
        let content = if header.entry_type() == EntryType::GNUSparse {
            self.old_sparse(header)?
        } else if local.get("GNU.sparse.major") == Some(b"1") {
            Content {
                size: realsize.ok_or("a sparse file has no size")?,
                segments: self.map_before_contents()?,
            }
        } else if let Some(size) = realsize {
            let segments = map_in_header(local)?;
            Content { size, segments }
        } else {
            let whole = Segment {
                offset: 0,
                len: stored,
            };
            return Ok(Content {
                size: stored,
                segments: vec![whole],
            });
        };
        check_segments(&content, self.left)
            .map_err(|what| format!("the holes of {shown:?} {what}"))?;
        Ok(content)
    }
}

fn kind_of(header: &tar::Header, path: &[u8]) -> Option<Kind> {
    let device = || {
        let part = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
        (part(header.device_major()), part(header.device_minor()))
    };
    Some(match header.entry_type() {
        // Before there was a type for directories.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => {
            let (major, minor) = device();
            Kind::CharDevice(major, minor)
        }
        EntryType::Block => {
            let (major, minor) = device();
            Kind::BlockDevice(major, minor)
        }
        _ => return None,
    })
}

fn attributes(header: &tar::Header, local: &Records) -> std::result::Result<Attributes, String> {
    let io = |what: &'static str| move |_: io::Error| format!("a damaged {what}");
    let old = header.as_old();
    let id = |key: &'static str, field: &[u8], own: io::Result<u64>| {
        let number: u64 = match local.number(key)? {
            Some(number) => number,
            None if is_blank(field) => 0,
            None => own.map_err(io(key))?,
        };
        // The largest one means "unchanged" to chown(2).
        u32::try_from(number)
            .ok()
            .filter(|&id| id != u32::MAX)
            .ok_or_else(|| format!("the {key} {number}"))
    };
    let time = |key: &str| -> std::result::Result<Option<(i64, u32)>, String> {
        let Some(value) = local.get(key) else {
            return Ok(None);
        };
        std::str::from_utf8(value)
            .ok()
            .and_then(time_from_text)
            .map(Some)
            .ok_or_else(|| format!("a damaged {key}"))
    };
    let mtime = match time("mtime")? {
        Some(mtime) => mtime,
        None => {
            let seconds = match header.mtime() {
                _ if is_blank(&old.mtime) => 0,
                // GNU tar writes times before the epoch in two's complement.
                seconds => seconds.map_err(io("time"))?.cast_signed(),
            };
            (seconds, 0)
        }
    };
    Ok(Attributes {
        uid: id("uid", &old.uid, header.uid())?,
        gid: id("gid", &old.gid, header.gid())?,
        mode: match header.mode() {
            _ if is_blank(&old.mode) => 0o644,
            mode => mode.map_err(io("mode"))? & 0o7777,
        },
        mtime,
        atime: time("atime")?,
        xattrs: xattrs(local)?,
    })
}

/// Whether a numeric field was left out; so some programs do.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn xattrs(local: &Records) -> std::result::Result<Vec<(std::ffi::OsString, Vec<u8>)>, String> {
    use std::os::unix::ffi::OsStringExt;
    let mut found: Vec<(std::ffi::OsString, Vec<u8>)> = Vec::new();
    for (key, value) in local.iter() {
        let acl = match key {
            b"SCHILY.acl.access" => Some(acl::ACCESS),
            b"SCHILY.acl.default" => Some(acl::DEFAULT),
            _ => None,
        };
        let (name, value) = if let Some(name) = acl {
            let text = std::str::from_utf8(value).map_err(|_| "a damaged ACL")?;
            (name.into(), acl::from_text(text)?)
        } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let name = unescape(name);
            if name.is_empty() || name.contains(&0) {
                return Err("an extended attribute without a name".to_owned());
            }
            (std::ffi::OsString::from_vec(name), value.to_vec())
        } else {
            continue;
        };
        found.retain(|(other, _)| *other != name);
        found.push((name, value));
    }
    Ok(found)
}

/// GNU's long names end with a zero byte.
fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
