//! FUSE_STATX, which `fuser` does not know: attributes with the time of birth. The
//! kernel sends it in place of FUSE_GETATTR when a caller asks statx(2) for that.
//!
//! Knows the bytes of the request and of the reply (linux/fuse.h), and no more.

use std::time::Duration;

use crate::fuse::types::{Attr, Fh, Time};

/// The request's number.
pub(super) const OPCODE: u32 = 52;

/// `struct fuse_statx_in`: `getattr_flags` and `reserved`, `fh`, `sx_flags`, `sx_mask`.
const IN_LEN: usize = 24;
const FUSE_GETATTR_FH: u32 = 1;

/// `struct fuse_statx_out`: 32 bytes, and `struct fuse_statx`.
const OUT_LEN: usize = 32 + 256;

/// The open file that the request names; `Err` when it is none.
pub(super) fn decode(request: &[u8]) -> Result<Option<Fh>, nix::errno::Errno> {
    let request: &[u8; IN_LEN] = request.try_into().map_err(|_| nix::errno::Errno::EINVAL)?;
    let [flags, handle] = [&request[..4], &request[8..16]];
    let flags = u32::from_ne_bytes(flags.try_into().unwrap_or_default());
    let handle = u64::from_ne_bytes(handle.try_into().unwrap_or_default());
    Ok((flags & FUSE_GETATTR_FH != 0).then_some(Fh(handle)))
}

/// The reply.
pub(super) fn encode(attr: &Attr, born: Option<Time>, ttl: Duration) -> [u8; OUT_LEN] {
    let mut reply = Fields::default();
    let mask = libc::STATX_BASIC_STATS | born.map_or(0, |_| libc::STATX_BTIME);
    reply.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0);
    reply.zeros(16);
    reply.u32(mask).u32(attr.blksize).u64(0);
    reply.u32(attr.nlink).u32(attr.uid).u32(attr.gid);
    // Type and permissions have 16 bits.
    reply.u16((attr.mode & 0xffff) as u16).u16(0);
    reply
        .u64(attr.node.raw())
        .u64(attr.size)
        .u64(attr.blocks)
        .u64(0);
    for time in [attr.atime, born.unwrap_or_default(), attr.ctime, attr.mtime] {
        reply.u64(time.seconds.cast_unsigned());
        reply.u32(time.nanoseconds).u32(0);
    }
    reply
        .u32(libc::major(attr.rdev))
        .u32(libc::minor(attr.rdev));
    // The mount's own device is the kernel's affair, and the rest is spare.
    reply.bytes
}

/// Numbers one after the other.
struct Fields {
    bytes: [u8; OUT_LEN],
    len: usize,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            bytes: [0; OUT_LEN],
            len: 0,
        }
    }
}

impl Fields {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    fn zeros(&mut self, len: usize) -> &mut Self {
        self.len += len;
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::node::NodeId;

    #[test]
    fn a_request_names_a_handle_or_none() {
        let mut request = [0; IN_LEN];
        request[8] = 7;
        assert_eq!(decode(&request), Ok(None));
        request[..4].copy_from_slice(&FUSE_GETATTR_FH.to_ne_bytes());
        assert_eq!(decode(&request), Ok(Some(Fh(7))));
        assert!(decode(&request[1..]).is_err());
    }

    #[test]
    fn each_field_is_in_its_place() {
        let time = |seconds| Time {
            seconds,
            nanoseconds: 5,
        };
        let attr = Attr {
            node: NodeId::from_raw(42),
            size: 1234,
            blocks: 8,
            atime: time(1),
            mtime: time(-2),
            ctime: time(3),
            mode: libc::S_IFCHR | 0o640,
            nlink: 2,
            uid: 1000,
            gid: 2000,
            rdev: libc::makedev(7, 300),
            blksize: 4096,
        };
        let reply = encode(&attr, Some(time(9)), Duration::from_millis(1500));
        let u64_at = |at: usize| u64::from_ne_bytes(reply[at..at + 8].try_into().unwrap());
        let u32_at = |at: usize| u32::from_ne_bytes(reply[at..at + 4].try_into().unwrap());
        assert_eq!((u64_at(0), u32_at(8)), (1, 500_000_000));
        // From here on as in `struct statx` (statx(2)), except for the order of ctime
        // and mtime being the same.
        assert_eq!(u32_at(32), libc::STATX_BASIC_STATS | libc::STATX_BTIME);
        assert_eq!(
            (u32_at(36), u32_at(48), u32_at(52), u32_at(56)),
            (4096, 2, 1000, 2000)
        );
        assert_eq!(u32_at(60), libc::S_IFCHR | 0o640);
        assert_eq!((u64_at(64), u64_at(72), u64_at(80)), (42, 1234, 8));
        let times = [96, 112, 128, 144].map(|at| (u64_at(at).cast_signed(), u32_at(at + 8)));
        assert_eq!(times, [(1, 5), (9, 5), (3, 5), (-2, 5)]);
        assert_eq!((u32_at(160), u32_at(164)), (7, 300));
        let unknown = encode(&attr, None, Duration::ZERO);
        assert_eq!(unknown[32..36], libc::STATX_BASIC_STATS.to_ne_bytes());
    }
}
