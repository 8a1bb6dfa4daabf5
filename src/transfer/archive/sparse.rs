//! Where the contents of files with holes belong: GNU tar's own headers, and
//! its sparse formats 0.0, 0.1 and 1.0 of extended headers.

use std::io::Read;

use super::BLOCK;
use super::pax::Records;
use super::read::{Broken, Content, Reader, Result};
use crate::transfer::data::Segment;

/// The most segments of one file. Each is 16 bytes here: 64 MiB.
const SEGMENTS_MOST: u64 = 1 << 22;

impl<R: Read> Reader<R> {
    /// GNU sparse format 1.0: the map is the first of the stored bytes.
    pub(super) fn map_before_contents(&mut self) -> Result<Vec<Segment>> {
        let mut map = MapReader {
            block: [0; BLOCK as usize],
            at: BLOCK as usize,
        };
        let count = map.number(self)?;
        if count > SEGMENTS_MOST {
            return Err(format!("a file has {count} segments").into());
        }
        // Not twice as much while it grows; what is not used is not there.
        let mut segments = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let offset = map.number(self)?;
            let len = map.number(self)?;
            segments.push(Segment { offset, len });
        }
        Ok(segments)
    }

    /// The format of GNU tar's own headers: four segments in the header, more
    /// in the blocks after it.
    pub(super) fn old_sparse(&mut self, header: &tar::Header) -> Result<Content> {
        let gnu = header.as_gnu().ok_or("a sparse file has no GNU header")?;
        let mut segments = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
            for it in sparse.iter().filter(|it| !it.is_empty()) {
                segments.push(Segment {
                    offset: it.offset()?,
                    len: it.length()?,
                });
            }
            if segments.len() as u64 > SEGMENTS_MOST {
                return Err("a file has too many segments".into());
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes())?;
            add(&block.sparse)?;
            more = block.is_extended();
        }
        Ok(Content {
            size: gnu.real_size()?,
            segments,
        })
    }
}

/// Decimal numbers, a line each, in blocks.
struct MapReader {
    block: [u8; BLOCK as usize],
    at: usize,
}

impl MapReader {
    fn number<R: Read>(&mut self, from: &mut Reader<R>) -> Result<u64> {
        let mut number: u64 = 0;
        // More digits than a number has are none.
        for digits in 0..=20 {
            if self.at == self.block.len() {
                if from.left < BLOCK {
                    break;
                }
                from.input.read_exact(&mut self.block)?;
                from.left -= BLOCK;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(number),
                b'0'..=b'9' => {
                    number = number
                        .checked_mul(10)
                        .and_then(|it| it.checked_add(u64::from(byte - b'0')))
                        .ok_or("the map of a sparse file is damaged")?;
                }
                _ => break,
            }
        }
        Err("the map of a sparse file is damaged".into())
    }
}

/// GNU sparse formats 0.1 (one record) and 0.0 (two records for each segment).
pub(super) fn map_in_header(local: &Records) -> Result<Vec<Segment>> {
    let damaged = || Broken::from("the map of a sparse file is damaged");
    let mut segments = Vec::new();
    let mut offset = None;
    let mut add = |bytes: &[u8]| -> Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let number = text.trim().parse().map_err(|_| damaged())?;
        match offset.take() {
            None => offset = Some(number),
            Some(offset) => segments.push(Segment {
                offset,
                len: number,
            }),
        }
        Ok(())
    };
    if let Some(map) = local.get("GNU.sparse.map") {
        for part in map.split(|&byte| byte == b',').filter(|it| !it.is_empty()) {
            add(part)?;
        }
    } else {
        for (key, value) in local.iter() {
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                add(value)?;
            }
        }
    }
    match offset {
        Some(_) => Err(damaged()),
        None => Ok(segments),
    }
}

/// Segments must be in order and inside the file, and be what is stored.
pub(super) fn check_segments(content: &Content, stored: u64) -> std::result::Result<(), String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in &content.segments {
        if segment.offset < end {
            return Err("overlap".to_owned());
        }
        end = segment
            .offset
            .checked_add(segment.len)
            .filter(|&end| end <= content.size)
            .ok_or("are outside of it")?;
        // Not above `end`.
        sum += segment.len;
    }
    if content.size > i64::MAX.unsigned_abs() {
        return Err("make it larger than a file can be".to_owned());
    }
    if sum != stored {
        return Err(format!("leave {sum} bytes, and {stored} are stored"));
    }
    Ok(())
}
