//! The layout of the shared memory: a page of constants and a directory, then
//! the tables. All numbers are 64-bit words of the machine's byte order; it
//! never leaves the machine.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::Release};

use super::names;
use super::table::{CHUNKS, Shape, Table};
use crate::fuse::handshake::Negotiated;
use crate::sys::shared::{SharedFile, WORD, Words};

const MAGIC: u64 = u64::from_le_bytes(*b"volfs\0\0\x01");

/// What this version writes, and can be read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Changes with every change of what is where, or of what it means.
    layout: u64,
    /// The first layout whose readers understand it. A later version may add
    /// words to the end of records, and tables, which earlier ones ignore.
    readable_by: u64,
    /// The first layout that it understands.
    reads: u64,
    /// Words that it adds to each record.
    more_words: u32,
}

impl Version {
    /// Of this program.
    fn of_this() -> Self {
        Self::from_test().unwrap_or(Self {
            layout: 3,
            // Who reads it must charge directories by the same rule.
            readable_by: 3,
            reads: 1,
            more_words: 0,
        })
    }

    /// What a test says that this program is: `LAYOUT:READABLE_BY:MORE`.
    #[cfg(feature = "failpoints")]
    fn from_test() -> Option<Self> {
        let text = std::env::var("VOLFS_TEST_LAYOUT").ok()?;
        let mut numbers = text.split(':').map(str::parse);
        let (layout, readable_by) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self {
            layout,
            readable_by,
            reads: readable_by,
            more_words: u32::try_from(numbers.next()?.ok()?).ok()?,
        })
    }

    #[cfg(not(feature = "failpoints"))]
    fn from_test() -> Option<Self> {
        None
    }
}

/// Words of the header: one page.
const HEADER_WORDS: usize = 512;

/// What the header's words are.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    /// Of all words that do not change once it is served, except itself.
    pub(super) const CHECKSUM: usize = 2;
    /// How many processes there were before.
    pub(super) const GENERATION: usize = 3;
    /// Lengths in bytes: of the kernel's first request, and of the answer in
    /// the upper half.
    pub(super) const NEGOTIATED_LEN: usize = 4;
    /// The first layout whose readers understand this one.
    pub(super) const READABLE_BY: usize = 5;
    /// Of each table: words of a record, and records of the first chunk in the
    /// upper half.
    pub(super) const SHAPES: usize = 8;
    pub(super) const REQUEST: std::ops::Range<usize> = 16..48;
    pub(super) const REPLY: std::ops::Range<usize> = 48..80;
    /// Words before this are covered by the checksum.
    pub(super) const CHANGES: usize = 96;
    /// The highest backing id that the kernel has given.
    pub(super) const BACKING: usize = 96;
    /// Where the chunks of each table start.
    pub(super) const CHUNKS: usize = 128;
}

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Which {
    /// Requests that are under way, one record a thread.
    Journal,
    /// Nodes that the kernel knows.
    Nodes,
    /// Open files.
    Handles,
    /// Inodes that are open.
    Inodes,
    /// Accounts of volumes.
    Volumes,
    /// Nodes without a name.
    Gone,
    /// Former names of volumes; since layout 2.
    Names,
}

const TABLES: [Which; 7] = [
    Which::Journal,
    Which::Nodes,
    Which::Handles,
    Which::Inodes,
    Which::Volumes,
    Which::Gone,
    Which::Names,
];

impl Which {
    const fn shape(self) -> Shape {
        let (words, first) = match self {
            Self::Journal => (1024, 32),
            Self::Nodes => (2, 4096),
            Self::Handles => (4, 256),
            Self::Inodes => (4, 256),
            Self::Volumes => (10, 64),
            Self::Gone => (12, 64),
            Self::Names => (names::WORDS, 16),
        };
        Shape { words, first }
    }
}

/// The shared memory of one process.
#[derive(Debug)]
pub(super) struct State {
    file: SharedFile,
    header: Words,
    tables: [Table; TABLES.len()],
    armed: AtomicBool,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

impl State {
    /// New, for the process after `generation` others.
    pub(super) fn create(generation: u64) -> io::Result<Self> {
        let file = SharedFile::create("volfs-state")?;
        let (_, header) = file.extend(HEADER_WORDS)?;
        header[at::MAGIC].store(MAGIC, Relaxed);
        let version = Version::of_this();
        header[at::VERSION].store(version.layout, Relaxed);
        header[at::READABLE_BY].store(version.readable_by, Relaxed);
        header[at::GENERATION].store(generation, Relaxed);
        let shape_of = |which: Which| {
            let mut shape = which.shape();
            shape.words += version.more_words;
            shape
        };
        for which in TABLES {
            let shape = shape_of(which);
            let word = u64::from(shape.words) | u64::from(shape.first) << 32;
            header[at::SHAPES + which as usize].store(word, Relaxed);
        }
        Ok(Self {
            file,
            header,
            tables: TABLES.map(|which| Table::new(shape_of(which))),
            armed: AtomicBool::new(false),
        })
    }

    /// As another process left it.
    ///
    /// # Errors
    /// `InvalidData`, which says what is wrong.
    pub(super) fn read(file: SharedFile) -> io::Result<Self> {
        let header = file.map(0, HEADER_WORDS)?;
        let word = |at: usize| header[at].load(Relaxed);
        if word(at::MAGIC) != MAGIC {
            return Err(invalid("what it left is not known"));
        }
        let (there, here) = (word(at::VERSION), Version::of_this());
        if there < here.reads || word(at::READABLE_BY) > here.layout {
            return Err(invalid(&format!(
                "what it left has layout {there}, and this version has layout {}",
                here.layout
            )));
        }
        if word(at::CHECKSUM) != checksum(&header) {
            return Err(invalid("what it left is damaged"));
        }
        let mut tables = Vec::new();
        for which in TABLES {
            let starts: Vec<u64> = directory(&header, which)
                .iter()
                .map(|start| start.load(Relaxed))
                .collect();
            let shape = word(at::SHAPES + which as usize);
            if shape == 0 {
                // An earlier version has no such table.
                tables.push(Table::new(which.shape()));
                continue;
            }
            let shape = Shape {
                words: shape as u32,
                first: (shape >> 32) as u32,
            };
            if shape.words < which.shape().words || !shape.first.is_power_of_two() {
                return Err(invalid("its records are shorter than this version's"));
            }
            tables.push(Table::read(shape, &file, &starts)?);
        }
        let tables = tables.try_into().map_err(|_| invalid("tables"))?;
        Ok(Self {
            file,
            header,
            tables,
            armed: AtomicBool::new(false),
        })
    }

    pub(super) fn file(&self) -> &SharedFile {
        &self.file
    }

    /// The words that do not change any more are complete.
    pub(super) fn seal(&self) {
        self.header[at::CHECKSUM].store(checksum(&self.header), Release);
    }

    /// Whether accounts in it are by this version's rule; since layout 3
    /// directories are charged their sizes.
    pub(super) fn charges_alike(&self) -> bool {
        self.header[at::VERSION].load(Relaxed) >= 3
    }

    /// How many processes there were before.
    pub(super) fn generation(&self) -> u64 {
        self.header[at::GENERATION].load(Relaxed)
    }

    pub(super) fn set_negotiated(&self, negotiated: &Negotiated) -> io::Result<()> {
        put_bytes(&self.header[at::REQUEST], &negotiated.request)?;
        put_bytes(&self.header[at::REPLY], &negotiated.reply)?;
        let lengths = negotiated.request.len() as u64 | (negotiated.reply.len() as u64) << 32;
        self.header[at::NEGOTIATED_LEN].store(lengths, Relaxed);
        Ok(())
    }

    pub(super) fn negotiated(&self) -> io::Result<Negotiated> {
        let lengths = self.header[at::NEGOTIATED_LEN].load(Relaxed);
        let get = |words, len| get_bytes(&self.header[words], len);
        Ok(Negotiated {
            request: get(at::REQUEST, lengths & 0xffff_ffff)?,
            reply: get(at::REPLY, lengths >> 32)?,
        })
    }

    /// The highest backing id that the kernel has given.
    pub(super) fn backing(&self) -> &AtomicU64 {
        &self.header[at::BACKING]
    }

    /// A successor can go on from here.
    pub(super) fn armed(&self) -> &AtomicBool {
        &self.armed
    }

    /// A free record of a table. Where there is no memory this process ends: a
    /// successor can go on, but not with what was not noted.
    pub(super) fn take(&self, which: Which) -> io::Result<u32> {
        self.table(which)
            .take(&self.file, directory(&self.header, which))
            .inspect_err(|error| {
                if self.armed.load(Relaxed) {
                    log::error!("no memory to note what a successor must know: {error}");
                    crate::sys::process::die();
                }
            })
    }

    pub(super) fn table(&self, which: Which) -> &Table {
        &self.tables[which as usize]
    }

    pub(super) fn record(&self, which: Which, index: u32) -> &[AtomicU64] {
        self.table(which).record(index)
    }
}

fn directory(header: &Words, which: Which) -> &[AtomicU64] {
    &header[at::CHUNKS + which as usize * CHUNKS..][..CHUNKS]
}

fn checksum(header: &Words) -> u64 {
    let mut sum = 0;
    for (index, word) in header[..at::CHANGES].iter().enumerate() {
        if index != at::CHECKSUM {
            sum = crc32c::crc32c_append(sum, &word.load(Relaxed).to_ne_bytes());
        }
    }
    u64::from(sum)
}

/// Writes bytes into words.
///
/// # Errors
/// `InvalidData` when there is no room.
pub(super) fn put_bytes(words: &[AtomicU64], bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > words.len() * WORD {
        return Err(invalid("there is no room"));
    }
    for (word, chunk) in words.iter().zip(bytes.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(value), Relaxed);
    }
    Ok(())
}

/// Reads `len` bytes back from words.
///
/// # Errors
/// `InvalidData` when there are not so many.
pub(super) fn get_bytes(words: &[AtomicU64], len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len)
        .ok()
        .filter(|&len| len <= words.len() * WORD)
        .ok_or_else(|| invalid("a length is damaged"))?;
    let mut bytes: Vec<u8> = words[..len.div_ceil(WORD)]
        .iter()
        .flat_map(|word| word.load(Relaxed).to_ne_bytes())
        .collect();
    bytes.truncate(len);
    Ok(bytes)
}
