//! The numbers of files in an image, made of the volume's id and the names that
//! lead to them; and the way back from a number to its path.

use std::collections::HashMap;

use nix::errno::Errno;

use super::LONGEST_PATH;
use crate::diskimg::ROOT_INODE;
use crate::model::VolumeId;

/// Bits of a number.
const BITS: u32 = 39;
/// How many numbers are tried for a name whose own is taken. Only the order in
/// which such names are seen decides which gets it.
const TRIES: u64 = 64;

/// The most names that are remembered of one image, and the most bytes of
/// names: a directory with more cannot be listed further.
const MOST_NODES: usize = 1 << 20;
const MOST_BYTES: usize = 64 << 20;

/// The names that have been seen of an image.
pub(super) struct Nodes {
    id: VolumeId,
    /// Parent and name of a number.
    places: HashMap<u64, (u64, Box<[u8]>)>,
    bytes: usize,
}

impl Nodes {
    pub(super) fn new(id: VolumeId) -> Self {
        Self {
            id,
            places: HashMap::new(),
            bytes: 0,
        }
    }

    /// The number of `name` in the directory with number `parent`.
    ///
    /// # Errors
    /// EOVERFLOW when too many are known.
    pub(super) fn number(&mut self, parent: u64, name: &[u8]) -> Result<u64, Errno> {
        // The id keeps a guest from choosing names with one number.
        let first = self.id.number_of(parent, name) & ((1 << BITS) - 1);
        for number in first..first + TRIES {
            let number = number & ((1 << BITS) - 1);
            match self.places.get(&number) {
                Some((p, n)) if (*p, &**n) == (parent, name) => return Ok(number),
                Some(_) => {}
                // The kernel's own number for the root of the image.
                None if number == ROOT_INODE => {}
                None => {
                    if self.places.len() >= MOST_NODES || self.bytes + name.len() > MOST_BYTES {
                        return Err(Errno::EOVERFLOW);
                    }
                    self.bytes += name.len();
                    self.places.insert(number, (parent, name.into()));
                    return Ok(number);
                }
            }
        }
        Err(Errno::EOVERFLOW)
    }

    /// The number of the directory that the file with this number is in.
    ///
    /// # Errors
    /// ESTALE when it has not been seen.
    pub(super) fn parent(&self, number: u64) -> Result<u64, Errno> {
        let place = self.places.get(&number).ok_or(Errno::ESTALE)?;
        Ok(place.0)
    }

    /// The path from the root of the image to the file with this number.
    ///
    /// # Errors
    /// ESTALE when it has not been seen.
    pub(super) fn path(&self, number: u64) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        let (mut at, mut len) = (number, 0);
        while at != ROOT_INODE {
            let (parent, name) = self.places.get(&at).ok_or(Errno::ESTALE)?;
            len += 1 + name.len();
            if len > LONGEST_PATH {
                return Err(Errno::ENAMETOOLONG);
            }
            names.push(name);
            at = *parent;
        }
        let mut path = Vec::with_capacity(len);
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_in_another_process_and_another_for_another_volume() {
        let id: VolumeId = "00112233445566778899aabbccddeeff".parse().unwrap();
        let deep = |id, names: &[&str]| {
            let mut nodes = Nodes::new(id);
            let numbers: Vec<u64> = names
                .iter()
                .scan(ROOT_INODE, |at, name| {
                    *at = nodes.number(*at, name.as_bytes()).unwrap();
                    Some(*at)
                })
                .collect();
            let last = *numbers.last().unwrap();
            assert_eq!(
                nodes.path(last).unwrap(),
                format!("/{}", names.join("/")).as_bytes()
            );
            last
        };
        let here = deep(id, &["a", "b", "c"]);
        assert_eq!(here, deep(id, &["a", "b", "c"]));
        assert_ne!(here, deep(id, &["a", "c", "b"]));
        assert_ne!(here, deep(VolumeId::random(), &["a", "b", "c"]));
        // Written down: it must not change from one version to the next.
        assert_eq!(here, HERE);
    }

    const HERE: u64 = 222_226_069_627;

    #[test]
    fn what_has_not_been_seen_is_stale_and_what_is_endless_ends() {
        let mut nodes = Nodes::new(VolumeId::random());
        assert_eq!(nodes.path(7), Err(Errno::ESTALE));
        let mut at = ROOT_INODE;
        let mut depth = 0;
        while nodes.path(at).is_ok() {
            at = nodes.number(at, b"self").unwrap();
            depth += 1;
        }
        assert_eq!(nodes.path(at), Err(Errno::ENAMETOOLONG));
        assert!(depth < LONGEST_PATH);
    }
}
