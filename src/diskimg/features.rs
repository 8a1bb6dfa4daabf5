//! The feature words of the superblock: `s_feature_compat`,
//! `s_feature_incompat`, `s_feature_ro_compat`. Names as `mke2fs -O` and
//! `dumpe2fs` spell them.

use serde::Serialize;

/// An image's three feature words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features {
    pub(in crate::diskimg) compat: u32,
    pub(in crate::diskimg) incompat: u32,
    pub(in crate::diskimg) ro_compat: u32,
}

/// Which word a feature's bit is in, that is, what a reader that does not know
/// it may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Read and write.
    Compat,
    /// Nothing.
    Incompat,
    /// Read.
    RoCompat,
}

macro_rules! features {
    ($( $(#[$meta:meta])* $variant:ident = $name:literal $word:ident $bit:literal; )*) => {
        /// One feature bit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Feature { $( $(#[$meta])* $variant ),* }

        impl Feature {
            /// Every feature that has a name.
            pub const ALL: &'static [Feature] = &[ $( Feature::$variant ),* ];

            /// The name that `dumpe2fs` prints.
            pub const fn name(self) -> &'static str {
                match self { $( Feature::$variant => $name ),* }
            }

            const fn place(self) -> (Word, u32) {
                match self { $( Feature::$variant => (Word::$word, $bit) ),* }
            }
        }
    };
}

features! {
    /// A journal in inode 8.
    HasJournal = "has_journal" Compat 0x4;
    /// Extended attributes.
    ExtAttr = "ext_attr" Compat 0x8;
    /// Inode 7 holds blocks reserved for group descriptors to come.
    ResizeInode = "resize_inode" Compat 0x10;
    /// Hashed directories.
    DirIndex = "dir_index" Compat 0x20;
    /// Backup superblocks in the two groups of `s_backup_bgs` only.
    SparseSuper2 = "sparse_super2" Compat 0x200;
    /// Fast commits in the journal.
    FastCommit = "fast_commit" Compat 0x400;
    /// Inode numbers and UUID must not change.
    StableInodes = "stable_inodes" Compat 0x800;
    /// Orphans are kept in a file.
    OrphanFile = "orphan_file" Compat 0x1000;
    /// Directory entries hold the file type.
    Filetype = "filetype" Incompat 0x2;
    /// The journal must be replayed before use.
    NeedsRecovery = "needs_recovery" Incompat 0x4;
    /// An external journal, not a file system.
    JournalDev = "journal_dev" Incompat 0x8;
    /// Group descriptors lie in the groups that they describe.
    MetaBg = "meta_bg" Incompat 0x10;
    /// Extent trees instead of block maps.
    Extent = "extent" Incompat 0x40;
    /// Block numbers of 64 bits, descriptors of 64 bytes.
    Bit64 = "64bit" Incompat 0x80;
    /// Multiple mount protection.
    Mmp = "mmp" Incompat 0x100;
    /// Several groups' bitmaps and inode tables packed together.
    FlexBg = "flex_bg" Incompat 0x200;
    /// Large extended attributes in inodes.
    EaInode = "ea_inode" Incompat 0x400;
    /// Data in directory entries.
    Dirdata = "dirdata" Incompat 0x1000;
    /// The checksum seed is stored, so the UUID may change.
    MetadataCsumSeed = "metadata_csum_seed" Incompat 0x2000;
    /// Directories of three hash levels.
    LargeDir = "large_dir" Incompat 0x4000;
    /// Small files inside inodes.
    InlineData = "inline_data" Incompat 0x8000;
    /// Encrypted files.
    Encrypt = "encrypt" Incompat 0x1_0000;
    /// Case-folded directories.
    Casefold = "casefold" Incompat 0x2_0000;
    /// Backup superblocks only in groups 0, 1 and powers of 3, 5 and 7.
    SparseSuper = "sparse_super" RoCompat 0x1;
    /// Files over 2 GiB.
    LargeFile = "large_file" RoCompat 0x2;
    /// Files over 2 TiB.
    HugeFile = "huge_file" RoCompat 0x8;
    /// Group descriptors with a crc16 (`uninit_bg`).
    GdtCsum = "uninit_bg" RoCompat 0x10;
    /// More than 65,000 subdirectories.
    DirNlink = "dir_nlink" RoCompat 0x20;
    /// Inodes with fields past byte 128.
    ExtraIsize = "extra_isize" RoCompat 0x40;
    /// Quota files in hidden inodes.
    Quota = "quota" RoCompat 0x100;
    /// Allocation by clusters.
    Bigalloc = "bigalloc" RoCompat 0x200;
    /// crc32c on all metadata.
    MetadataCsum = "metadata_csum" RoCompat 0x400;
    /// Must not be mounted for writing.
    ReadOnly = "read-only" RoCompat 0x1000;
    /// Project ids.
    Project = "project" RoCompat 0x2000;
    /// Blocks shared between files.
    SharedBlocks = "shared_blocks" RoCompat 0x4000;
    /// Merkle trees over files.
    Verity = "verity" RoCompat 0x8000;
    /// The orphan file holds entries.
    OrphanPresent = "orphan_present" RoCompat 0x1_0000;
}

impl Features {
    /// Whether the feature is set.
    pub const fn has(self, feature: Feature) -> bool {
        match feature.place() {
            (Word::Compat, bit) => self.compat & bit != 0,
            (Word::Incompat, bit) => self.incompat & bit != 0,
            (Word::RoCompat, bit) => self.ro_compat & bit != 0,
        }
    }

    /// Sets or clears a feature.
    pub(in crate::diskimg) const fn set(&mut self, feature: Feature, on: bool) {
        let (word, bit) = feature.place();
        let word = match word {
            Word::Compat => &mut self.compat,
            Word::Incompat => &mut self.incompat,
            Word::RoCompat => &mut self.ro_compat,
        };
        if on {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The same words with one feature added.
    pub(in crate::diskimg) const fn with(mut self, feature: Feature) -> Self {
        self.set(feature, true);
        self
    }

    /// The names of the set features, in `dumpe2fs`'s order within a word.
    pub fn names(self) -> Vec<&'static str> {
        Feature::ALL
            .iter()
            .filter(|f| self.has(**f))
            .map(|f| f.name())
            .collect()
    }

    /// Bits of the incompatible and read-only words that have no name here: an
    /// image with any of them must not be written.
    pub(in crate::diskimg) fn unknown(self) -> Features {
        let mut rest = self;
        for feature in Feature::ALL {
            rest.set(*feature, false);
        }
        rest
    }
}

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}
