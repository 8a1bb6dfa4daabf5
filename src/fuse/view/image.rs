//! An image as its reader's thread has it: the crate `ext4-view` finds names and
//! attributes, and replays the journal; [`ImageFiles`] finds contents, holes and
//! extended attributes by extents.

use std::collections::HashSet;

use ext4_view::{Ext4, Ext4Error, Metadata, ReadDir};
use nix::errno::Errno;

use super::LONGEST_PATH;
use super::reader::Bounded;
use crate::diskimg::{Attribute, FileError, ImageFiles, ImageInode, Seek};

/// ext4 numbers the blocks of a file in 32 bits, and they have 64 KiB at most.
const LARGEST: u64 = 1 << 48;

/// How far from the beginning of a file the crate is asked to go: it counts each
/// block, also those of a hole.
const FURTHEST_COUNTED: u64 = 1 << 32;

/// In larger directories what a listing tells of each entry is not looked up: each
/// part of it would go over the whole directory.
const LARGE_DIRECTORY: u64 = 4 << 20;

/// An open image, in the reader's thread.
pub(super) struct Image {
    ext4: Ext4,
    /// `None` where the journal must be replayed, or the image has features that it
    /// does not know.
    files: Option<ImageFiles<Bounded>>,
    /// What was last found in that.
    inode: Option<(Vec<u8>, ImageInode)>,
    /// The file that was read last: its next part is found without counting
    /// its blocks from the beginning.
    file: Option<(Vec<u8>, ext4_view::File)>,
    listing: Option<Listing>,
}

/// The directory that was listed last, and how far.
struct Listing {
    path: Vec<u8>,
    entries: ReadDir,
    at: usize,
}

/// What an inode says of itself.
pub(super) struct Look {
    pub(super) metadata: Metadata,
    /// Allocated units of 512 bytes, where they are known.
    pub(super) sectors: Option<u64>,
}

/// A name, and what it leads to where that can be read.
pub(super) type Named = (Vec<u8>, Option<Look>);

impl Image {
    pub(super) fn new(ext4: Ext4, files: Option<ImageFiles<Bounded>>) -> Self {
        Self {
            ext4,
            files,
            inode: None,
            file: None,
            listing: None,
        }
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata, Errno> {
        self.ext4.symlink_metadata(path).map_err(|e| errno(&e))
    }

    /// What is at `path`.
    pub(super) fn look(&mut self, path: &[u8]) -> Result<Look, Errno> {
        let metadata = self.metadata(path)?;
        let found = self.found(path).ok().flatten();
        let sectors = found.map(|(files, inode)| files.sectors(inode));
        Ok(Look { metadata, sectors })
    }

    /// The inode at `path`; `None` where only the crate can read it.
    fn found(
        &mut self,
        path: &[u8],
    ) -> Result<Option<(&ImageFiles<Bounded>, &ImageInode)>, FileError> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        if self.inode.as_ref().is_none_or(|(known, _)| known != path) {
            self.inode = Some((path.to_vec(), files.find(path)?));
        }
        Ok(self.inode.as_ref().map(|(_, inode)| (files, inode)))
    }

    /// The next data or hole of a file from `offset` on.
    pub(super) fn seek(&mut self, path: &[u8], offset: u64, wanted: Seek) -> Result<u64, Errno> {
        let found = match self.found(path) {
            Ok(Some((files, inode))) => Some(files.seek(inode, offset, wanted)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        match found {
            Some(Ok(found)) => found.ok_or(Errno::ENXIO),
            // All of it is data, which is always right (lseek(2)).
            None | Some(Err(FileError::Unknown(_))) => match self.metadata(path)?.len() {
                size if offset >= size => Err(Errno::ENXIO),
                _ if wanted == Seek::Data => Ok(offset),
                size => Ok(size),
            },
            Some(Err(error)) => Err(file_errno(&error)),
        }
    }

    /// The extended attributes of users.
    pub(super) fn attributes(&mut self, path: &[u8]) -> Result<Vec<Attribute>, Errno> {
        let attributes = match self.found(path) {
            Ok(Some((files, inode))) => files.user_attributes(inode),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        attributes.map_err(|error| file_errno(&error))
    }

    /// The allocated units of these entries of a directory, by name.
    fn sectors_of(&mut self, path: &[u8], names: &[Vec<u8>]) -> Vec<Option<u64>> {
        let none = || vec![None; names.len()];
        let Ok(Some((files, dir))) = self.found(path) else {
            return none();
        };
        if dir.size() > LARGE_DIRECTORY {
            return none();
        }
        let wanted: HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let Ok(found) = files.find_in(dir, &wanted) else {
            return none();
        };
        let sectors = |name| found.get(name).map(|inode| files.sectors(inode));
        names.iter().map(sectors).collect()
    }

    pub(super) fn list(
        &mut self,
        path: &[u8],
        skip: usize,
        most: usize,
    ) -> Result<Vec<Named>, Errno> {
        let known = self.listing.take();
        let mut listing = match known.filter(|it| it.path == path && it.at == skip) {
            Some(listing) => listing,
            None => {
                let entries = self.ext4.read_dir(path).map_err(|e| errno(&e))?;
                let mut listing = Listing {
                    path: path.to_vec(),
                    entries,
                    at: 0,
                };
                while listing.at < skip && listing.next()?.is_some() {}
                listing
            }
        };
        let (mut names, mut found) = (Vec::new(), Vec::new());
        let mut whole = false;
        while names.len() < most && !whole {
            match listing.next()? {
                Some((name, entry)) => {
                    names.push(name);
                    found.push(entry.metadata().ok());
                }
                None => whole = true,
            }
        }
        if !whole {
            self.listing = Some(listing);
        }
        let sectors = self.sectors_of(path, &names);
        let looks = found.into_iter().zip(sectors).map(|(metadata, sectors)| {
            Some(Look {
                metadata: metadata?,
                sectors,
            })
        });
        Ok(names.into_iter().zip(looks).collect())
    }

    pub(super) fn read(&mut self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0; len];
        let read = match self.found(path) {
            Ok(Some((files, inode))) => files.read(inode, offset, &mut data),
            Ok(None) => return self.read_counting(path, offset, len),
            Err(error) => Err(error),
        };
        match read {
            Ok(filled) => {
                data.truncate(filled);
                Ok(data)
            }
            Err(FileError::Unknown(_)) => self.read_counting(path, offset, len),
            Err(error) => Err(file_errno(&error)),
        }
    }

    /// Reads with the crate, which counts the blocks from the beginning.
    fn read_counting(&mut self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let known = self.file.take();
        let mut file = match known.filter(|(known, _)| known == path) {
            Some((_, file)) => file,
            None => {
                if self.metadata(path)?.is_symlink() {
                    // It would be followed.
                    return Err(Errno::ELOOP);
                }
                self.ext4.open(path).map_err(|e| errno(&e))?
            }
        };
        let size = file.metadata().len();
        if size > LARGEST {
            return Err(Errno::EUCLEAN);
        }
        if offset >= size {
            return Ok(Vec::new());
        }
        if file.position() != offset {
            if offset > FURTHEST_COUNTED {
                return Err(Errno::EFBIG);
            }
            file.seek_to(offset).map_err(|e| errno(&e))?;
        }
        let mut data = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match file.read_bytes(&mut data[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(errno(&error)),
            }
        }
        data.truncate(filled);
        self.file = Some((path.to_vec(), file));
        Ok(data)
    }

    pub(super) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        // Read whole, so that its claimed size is memory.
        if self.metadata(path)?.len() > LONGEST_PATH as u64 {
            return Err(Errno::EUCLEAN);
        }
        let target = self.ext4.read_link(path).map_err(|e| errno(&e))?;
        Ok(target.as_ref().to_vec())
    }
}

impl Listing {
    /// The next entry that is not `.` or `..`.
    fn next(&mut self) -> Result<Option<(Vec<u8>, ext4_view::DirEntry)>, Errno> {
        for entry in self.entries.by_ref() {
            let entry = entry.map_err(|e| errno(&e))?;
            let name = entry.file_name().as_ref().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                self.at += 1;
                return Ok(Some((name, entry)));
            }
        }
        Ok(None)
    }
}

pub(super) fn errno(error: &Ext4Error) -> Errno {
    match error {
        Ext4Error::NotFound => Errno::ENOENT,
        Ext4Error::NotADirectory => Errno::ENOTDIR,
        Ext4Error::IsADirectory => Errno::EISDIR,
        Ext4Error::NotASymlink | Ext4Error::IsASpecialFile => Errno::EINVAL,
        Ext4Error::PathTooLong => Errno::ENAMETOOLONG,
        Ext4Error::TooManySymlinks => Errno::ELOOP,
        Ext4Error::Encrypted => Errno::EOPNOTSUPP,
        Ext4Error::Incompatible(_) => Errno::EOPNOTSUPP,
        Ext4Error::Corrupt(_) => Errno::EUCLEAN,
        _ => Errno::EIO,
    }
}

fn file_errno(error: &FileError) -> Errno {
    match error {
        FileError::Io(_) => Errno::EIO,
        FileError::Damaged(_) => Errno::EUCLEAN,
        FileError::NotFound => Errno::ENOENT,
        FileError::Unknown(_) => Errno::EOPNOTSUPP,
    }
}
