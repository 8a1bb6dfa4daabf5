//! Writing an archive.

use std::io::{self, Write};

use tar::EntryType;

use super::pax::{Records, escape, time_to_text};
use super::{BLOCK, padding};
use crate::transfer::acl;
use crate::transfer::attributes::Attributes;
use crate::transfer::data::Segment;

/// What is said of a file before its contents.
#[derive(Debug)]
pub(in crate::transfer) struct Header<'a> {
    pub path: &'a [u8],
    pub kind: EntryType,
    /// Where a link leads, of either sort.
    pub link: Option<&'a [u8]>,
    pub attributes: &'a Attributes,
    /// Major and minor number of a device node.
    pub device: Option<(u32, u32)>,
}

/// An archive that is being written.
pub(in crate::transfer) struct Writer<W> {
    out: W,
}

/// The longest name that a header holds (`struct ustar`).
const NAME: usize = 100;
/// The largest number that seven octal digits hold: ids.
const OCTAL_7: u32 = 0o7_777_777;

impl<W: Write> Writer<W> {
    pub(in crate::transfer) fn new(out: W) -> Self {
        Self { out }
    }

    /// Says something of the archive as a whole that is skipped by who does
    /// not know it.
    pub(in crate::transfer) fn comment(&mut self, text: &str) -> io::Result<()> {
        let mut records = Records::default();
        records.push("comment", text);
        self.extended(EntryType::XGlobalHeader, b"pax_global_header", &records)
    }

    /// A file without contents.
    pub(in crate::transfer) fn entry(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.header(header, header.path, 0, Records::default())
    }

    /// A regular file of `size` bytes whose contents, `size` bytes, come next.
    pub(in crate::transfer) fn file(&mut self, header: &Header<'_>, size: u64) -> io::Result<()> {
        self.header(header, header.path, size, Records::default())
    }

    /// A regular file of `size` bytes with holes; what is in `segments` comes
    /// next. Returns how many bytes of contents that makes with the map, for
    /// [`finish_file`](Self::finish_file).
    pub(in crate::transfer) fn sparse_file(
        &mut self,
        header: &Header<'_>,
        size: u64,
        segments: &[Segment],
    ) -> io::Result<u64> {
        let map = sparse_map(size, segments);
        let data: u64 = segments.iter().map(|segment| segment.len).sum();
        let stored = map.len() as u64 + data;
        let mut records = Records::default();
        records.push("GNU.sparse.major", "1");
        records.push("GNU.sparse.minor", "0");
        records.push("GNU.sparse.name", header.path);
        records.push("GNU.sparse.realsize", size.to_string());
        // What programs that do not know the format call the file.
        let at = header.path.iter().rposition(|&byte| byte == b'/');
        let (dir, base) = header.path.split_at(at.map_or(0, |at| at + 1));
        let name = [dir, b"GNUSparseFile.0/", base].concat();
        self.header(header, &name, stored, records)?;
        self.out.write_all(&map)?;
        Ok(stored)
    }

    /// Contents of the file that was begun last.
    pub(in crate::transfer) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// The file that was begun last, with `stored` bytes of contents, is
    /// complete.
    pub(in crate::transfer) fn finish_file(&mut self, stored: u64) -> io::Result<()> {
        self.zeros(padding(stored))
    }

    /// The end of the archive.
    pub(in crate::transfer) fn finish(mut self) -> io::Result<W> {
        self.zeros(2 * BLOCK)?;
        Ok(self.out)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let zeros = [0; 2 * BLOCK as usize];
        // At most two blocks.
        self.out.write_all(&zeros[..count as usize])
    }

    fn header(
        &mut self,
        it: &Header<'_>,
        name: &[u8],
        stored: u64,
        mut records: Records,
    ) -> io::Result<()> {
        let attributes = it.attributes;
        let mut header = tar::Header::new_ustar();
        if !fits(name) && records.get("GNU.sparse.name").is_none() {
            records.push("path", it.path);
        }
        set_name(&mut header, name);
        if let Some(link) = it.link {
            if !fits(link) {
                records.push("linkpath", link);
            }
            if let Some(ustar) = header.as_ustar_mut() {
                copy(&mut ustar.linkname, link);
            }
        }
        header.set_entry_type(it.kind);
        header.set_mode(attributes.mode);
        for (key, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
            if id > OCTAL_7 {
                records.push(key, id.to_string());
            }
        }
        header.set_uid(attributes.uid.min(OCTAL_7).into());
        header.set_gid(attributes.gid.min(OCTAL_7).into());
        // Eleven octal digits.
        if stored >= 1 << 33 {
            records.push("size", stored.to_string());
        }
        header.set_size(if stored < 1 << 33 { stored } else { 0 });
        let (seconds, nanos) = attributes.mtime;
        let fits_header = (0..1 << 33).contains(&seconds);
        if nanos != 0 || !fits_header {
            records.push("mtime", time_to_text(attributes.mtime));
        }
        header.set_mtime(if fits_header {
            seconds.unsigned_abs()
        } else {
            0
        });
        if let Some(atime) = attributes.atime {
            records.push("atime", time_to_text(atime));
        }
        if let Some((major, minor)) = it.device {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        for (name, value) in &attributes.xattrs {
            xattr_record(&mut records, name.as_encoded_bytes(), value);
        }
        if !records.is_empty() {
            self.extended(EntryType::XHeader, b"PaxHeaders/extended", &records)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn extended(&mut self, kind: EntryType, name: &[u8], records: &Records) -> io::Result<()> {
        let bytes = records.as_bytes();
        let mut header = tar::Header::new_ustar();
        set_name(&mut header, name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(bytes)?;
        self.zeros(padding(bytes.len() as u64))
    }
}

fn xattr_record(records: &mut Records, name: &[u8], value: &[u8]) {
    let key = match name {
        name if name == acl::ACCESS.as_bytes() => "SCHILY.acl.access",
        name if name == acl::DEFAULT.as_bytes() => "SCHILY.acl.default",
        _ => "",
    };
    match acl::to_text(value).filter(|_| !key.is_empty()) {
        Some(text) => records.push(key, text),
        None => records.push([b"SCHILY.xattr.", &*escape(name)].concat(), value),
    }
}

/// GNU sparse format 1.0: how many segments, then offset and length of each, a
/// line each, padded to a block. A hole at the end has an empty segment after
/// it.
fn sparse_map(size: u64, segments: &[Segment]) -> Vec<u8> {
    let end = segments.last().map_or(0, |last| last.offset + last.len);
    let last = (end < size).then_some(Segment {
        offset: size,
        len: 0,
    });
    let all: Vec<_> = segments.iter().copied().chain(last).collect();
    let mut map = format!("{}\n", all.len()).into_bytes();
    for segment in all {
        map.extend(format!("{}\n{}\n", segment.offset, segment.len).bytes());
    }
    map.resize(map.len() + padding(map.len() as u64) as usize, 0);
    map
}

fn fits(name: &[u8]) -> bool {
    name.len() <= NAME && name.is_ascii()
}

fn set_name(header: &mut tar::Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        copy(&mut ustar.name, name);
    }
}

/// As much of `from` as there is room for.
fn copy(to: &mut [u8], from: &[u8]) {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
}
