//! Reading an archive that anybody may have made: nothing in it is believed
//! further than it can be checked, and none of it is read into memory whole.
//!
//! An archive ends with two blocks of zeros (POSIX.1, pax, "ustar Interchange
//! Format"). GNU tar reads on without a word where they are missing, and
//! unpacks the files that are there. Here they are demanded: nothing else
//! tells an archive that was cut between two files from a whole one.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::EntryType;

use super::pax::Records;
use super::said::attributes;
use super::sparse::{check_segments, map_in_header};
use super::{BLOCK, padding};
use crate::model::shown;
use crate::transfer::attributes::Attributes;
use crate::transfer::data::Segment;

/// The most bytes of what is said before one file, headers included: names, and
/// attributes, of which the kernel takes 64 KiB for each.
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
            io::ErrorKind::UnexpectedEof => CUT.into(),
            // What a decompressor says of its input has no number.
            _ if error.raw_os_error().is_none() => Self::Archive(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

const CUT: &str = "it ends in the middle";

/// Where there should be two blocks of zeros.
const NO_END: &str = "it ends without the two blocks of zeros that say that it is complete, so that it may have been cut; if the program that made it leaves them out, add them: '(cat FILE; head -c 1024 /dev/zero) | volfs import NAME -'";

pub(super) type Result<T> = std::result::Result<T, Broken>;

/// What stands where a header may be.
enum Block {
    Header(Box<tar::Header>),
    Zeros,
    /// The input has ended.
    Nothing,
}

/// An archive that is being read.
pub(in crate::transfer) struct Reader<R> {
    pub(super) input: R,
    comment: Option<Vec<u8>>,
    /// Stored bytes of the current file that have not been read, and what
    /// comes after them up to the next header.
    pub(super) left: u64,
    pad: u64,
}

impl<R: Read> Reader<R> {
    pub(in crate::transfer) fn new(input: R) -> Self {
        Self {
            input,
            comment: None,
            left: 0,
            pad: 0,
        }
    }

    /// The comment of the archive as a whole, as far as it has been read.
    pub(in crate::transfer) fn comment(&self) -> Option<&[u8]> {
        self.comment.as_deref()
    }

    /// The next file; `None` at the end. What has not been read of the one
    /// before is skipped.
    pub(in crate::transfer) fn next(&mut self) -> Result<Option<Entry>> {
        let mut local = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut announced = false;
        let mut said = 0;
        loop {
            let rest = self.left + self.pad;
            self.skip(rest)?;
            (self.left, self.pad) = (0, 0);
            let header = match self.header()? {
                Block::Header(header) => header,
                Block::Zeros | Block::Nothing if announced => {
                    return Err("what it says last is of a file that does not come".into());
                }
                Block::Zeros => {
                    return match self.header()? {
                        Block::Zeros => Ok(None),
                        Block::Nothing => Err(NO_END.into()),
                        Block::Header(_) => Err("it has a block of zeros in the middle".into()),
                    };
                }
                Block::Nothing => return Err(NO_END.into()),
            };
            let size = header.entry_size().map_err(Broken::from)?;
            let kind = header.entry_type();
            if is_file(kind) {
                return self.entry(&header, &local, long_name, long_link).map(Some);
            }
            said = size.saturating_add(said + BLOCK);
            if said > META_MOST {
                return Err(format!(
                    "what it says before one file is longer than {META_MOST} bytes"
                )
                .into());
            }
            let bytes = self.meta(size)?;
            announced |= matches!(
                kind,
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink
            );
            match kind {
                EntryType::XHeader => local = Records::parse(bytes)?,
                EntryType::XGlobalHeader => {
                    // Nothing else of it is kept.
                    if let Some(comment) = Records::parse(bytes)?.get("comment") {
                        self.comment = Some(comment.to_vec());
                    }
                }
                EntryType::GNULongName => long_name = Some(c_string(bytes)),
                EntryType::GNULongLink => long_link = Some(c_string(bytes)),
                // The name of the archive itself.
                _ => {}
            }
        }
    }

    /// Reads whatever comes after the end: who sends it is not to be told that
    /// nobody wants it, and a compressed archive is checked only there. At most
    /// so many bytes at a time; `false` when there are no more.
    pub(in crate::transfer) fn drain(&mut self, most: u64) -> Result<bool> {
        let drained = io::copy(&mut (&mut self.input).take(most), &mut io::sink())?;
        Ok(drained == most)
    }

    /// Reads stored bytes of the current file.
    pub(in crate::transfer) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        loop {
            match self.input.read(&mut buffer[..most]) {
                Ok(0) => return Err(CUT.into()),
                Ok(read) => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn header(&mut self) -> Result<Block> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(Block::Nothing),
                Ok(0) => return Err(CUT.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(Block::Zeros);
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
            Ok(said) if said == sum => Ok(Block::Header(Box::new(header))),
            _ => Err("it is no tar archive, or it is damaged: a checksum is wrong".into()),
        }
    }

    /// Reads what is said of a file: at most `META_MOST` bytes.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size as usize];
        self.input.read_exact(&mut bytes)?;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink())?;
        if skipped < count {
            return Err(CUT.into());
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
        let shown = shown(Path::new(OsStr::from_bytes(&path)));
        let wrong = |what: &str| Broken::Archive(format!("{shown} has {what}"));
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
            .map_err(|what| format!("the holes of {shown} {what}"))?;
        Ok(content)
    }
}

/// Whether it is a file itself, and not something that is said of the next.
fn is_file(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    ) && kind.as_byte() != b'V'
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

/// GNU's long names end with a zero byte.
fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
