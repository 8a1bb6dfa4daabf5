//! tar archives in the POSIX (PAX) format as GNU tar, star and bsdtar read and
//! write it: with holes (GNU sparse format 1.0), extended attributes
//! (`SCHILY.xattr.*`) and ACLs (`SCHILY.acl.*`).
//!
//! Knows nothing of volumes. Headers are those of the `tar` crate; the records
//! of extended headers are read and written here, as that crate splits them at
//! line feeds, which values may hold, and reads headers of any length into
//! memory.

mod pax;
mod read;
mod said;
mod sparse;
mod write;

pub(super) use read::{Broken, Content, Entry, Kind, Reader};
pub(super) use write::{Header, Writer};

/// tar's unit.
const BLOCK: u64 = 512;

/// Bytes from `len` to the end of its last block.
const fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK
}

#[cfg(test)]
mod tests {
    use tar::EntryType;

    use super::*;
    use crate::transfer::attributes::Attributes;
    use crate::transfer::data::Segment;

    /// What no ordinary header holds: large files, ids and times, long names.
    #[test]
    fn headers_come_back() {
        let long = [b"d/".repeat(90), b"\xff\n=".to_vec()].concat();
        for (size, uid, mtime) in [
            (0, 0, (0, 0)),
            (5, 0o7_777_777, (1, 1)),
            ((1 << 33) - 1, 0o10_000_000, ((1 << 33) - 1, 0)),
            (1 << 33, u32::MAX - 1, (1 << 33, 999_999_999)),
            (1 << 60, 1000, (-1, 500_000_000)),
            (7, 1000, (-5_000_000_000, 0)),
        ] {
            let attributes = Attributes {
                uid,
                gid: uid,
                mode: 0o7644,
                mtime,
                atime: (uid != 1000).then_some((mtime.0 + 1, 123_456_789)),
                xattrs: vec![("user.%=".into(), b"a\nb\0".to_vec())],
            };
            let header = Header {
                path: &long,
                kind: EntryType::Regular,
                link: None,
                attributes: &attributes,
                device: None,
            };
            let mut writer = Writer::new(Vec::new());
            writer.comment("volfs {}").unwrap();
            writer.file(&header, size).unwrap();
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(&bytes[..]);
            let entry = reader.next().unwrap().unwrap();
            assert_eq!(reader.comment(), Some(&b"volfs {}"[..]));
            assert_eq!((entry.path, entry.content.size), (long.clone(), size));
            assert_eq!(entry.attributes, attributes, "{size}");
        }
    }

    #[test]
    fn holes_come_back() {
        let segments = [(4096, 10), (1 << 40, 3)].map(|(offset, len)| Segment { offset, len });
        let attributes = Attributes {
            uid: 0,
            gid: 0,
            mode: 0,
            mtime: (0, 0),
            atime: None,
            xattrs: Vec::new(),
        };
        let header = Header {
            path: b"./d/f",
            kind: EntryType::Regular,
            link: None,
            attributes: &attributes,
            device: None,
        };
        for end in [0, 1] {
            let size = (1 << 40) + 3 + end;
            let mut writer = Writer::new(Vec::new());
            let stored = writer.sparse_file(&header, size, &segments).unwrap();
            writer.data(b"0123456789abc").unwrap();
            writer.finish_file(stored).unwrap();
            let bytes = writer.finish().unwrap();
            let mut reader = Reader::new(&bytes[..]);
            let entry = reader.next().unwrap().unwrap();
            assert_eq!(entry.path, b"./d/f");
            assert_eq!(entry.content.size, size);
            assert_eq!(entry.content.segments[..2], segments);
            let mut data = [0; 20];
            let mut read = 0;
            loop {
                match reader.read(&mut data[read..]).unwrap() {
                    0 => break,
                    more => read += more,
                }
            }
            assert_eq!(&data[..read], b"0123456789abc");
            assert!(reader.next().unwrap().is_none());
        }
    }
}
