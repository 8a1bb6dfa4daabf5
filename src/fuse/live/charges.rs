//! Changes of charges that the death of a process has cut: the account has what
//! was before or what is after, and the host shows what is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::accounts::PastAccount;
use super::journal::{
    GENERATION_KNOWN, Intent, Item, Progress, Stage, at, attr_of, charge_at, charge_of, intent_of,
};
use super::layout::{State, Which};
use super::past::known_of;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::handles::OpenInode;
use crate::fuse::node::NodeId;
use crate::fuse::nodes::Way;
use crate::meta::{Inode, charge};
use crate::model::{Bytes, Kind, Serial, Usage};
use crate::sys::node;
use crate::volume::is_kept;

/// What this process knows of an inode.
pub(super) enum Known {
    /// Nobody has it open.
    Closed,
    /// It is open.
    Open(Arc<OpenInode>),
}

/// A change that was cut.
struct Cut {
    item: Item,
    serial: Serial,
    node: Option<NodeId>,
    generation: Option<u32>,
    before: Usage,
    after: Usage,
    token: u64,
    applied: bool,
}

impl Cut {
    fn read(record: &[AtomicU64], item: Item) -> Option<Self> {
        let words = &record[at::CHARGES[item as usize].clone()];
        let word = |at: usize| words[at].load(Relaxed);
        let progress = word(charge_at::PROGRESS);
        if progress == 0 {
            return None;
        }
        let node = NodeId::from_raw(word(charge_at::NODE));
        let generation = word(charge_at::GENERATION);
        Some(Self {
            item,
            serial: Serial(word(charge_at::SERIAL).cast_signed()),
            node: (node != NodeId::NONE).then_some(node),
            generation: (generation & GENERATION_KNOWN != 0).then_some(generation as u32),
            before: charge_of(word(charge_at::BEFORE)),
            after: charge_of(word(charge_at::AFTER)),
            token: word(charge_at::TOKEN),
            applied: progress == Progress::Applied as u64,
        })
    }
}

/// Settles all changes that were cut.
pub(super) fn settle(fs: &FileSystem, state: &State, accounts: &mut HashMap<Serial, PastAccount>) {
    for record in state.table(Which::Journal).used() {
        if record[at::STAGE].load(Relaxed) != Stage::Begun as u64 {
            continue;
        }
        let intent = intent_of(record);
        for item in Item::ALL {
            let Some(cut) = Cut::read(record, item) else {
                continue;
            };
            // Also of a volume without one: a name may be gone.
            let truth = truth(fs, &cut, intent.as_ref(), record);
            let Some(account) = accounts.get_mut(&cut.serial) else {
                // A disk volume, whose own file system keeps it.
                continue;
            };
            let truth = match truth {
                Ok(truth) => truth,
                Err(error) => {
                    log::error!("what a change has come to cannot be seen: {error}");
                    account.exact = false;
                    continue;
                }
            };
            let known = if cut.applied || account.token == cut.token {
                cut.after
            } else {
                cut.before
            };
            account.used = Usage {
                bytes: Bytes((account.used.bytes.0 + truth.bytes.0).saturating_sub(known.bytes.0)),
                inodes: (account.used.inodes + truth.inodes).saturating_sub(known.inodes),
            };
        }
    }
}

/// What the inode of a change is charged now.
fn truth(
    fs: &FileSystem,
    cut: &Cut,
    intent: Option<&Intent>,
    record: &[AtomicU64],
) -> OpResult<Usage> {
    let unit = fs.store.unit();
    let Some(node) = cut.node else {
        let Some(intent) = intent else {
            return Ok(Usage::default());
        };
        let made = found(fs, intent)?;
        return Ok(match made {
            Some(stat) if cut.item == Item::Second && !is_whiteout(&stat) => Usage::default(),
            Some(stat) => charge(Inode::of(&stat), unit),
            None => Usage::default(),
        });
    };
    let at = fs.locate(node)?;
    let way = cut.generation.map(Way::Generation);
    let fd = match at
        .ground
        .host()
        .open(node.ino(), way.as_ref(), OFlag::O_PATH)
    {
        Ok(fd) => fd,
        Err(OpError::Host(Errno::ESTALE)) => {
            note_gone(fs, node, record);
            return Ok(Usage::default());
        }
        Err(error) => return Err(error),
    };
    let stat = node::stat(&fd)?;
    let open = known_of(fs, node);
    let kept = || {
        at.ground
            .root_of(&at.volume)
            .is_ok_and(|it| is_kept(&it, &stat))
    };
    let regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    if stat.st_nlink == 0 || regular && at.volume.kind == Kind::Directory && kept() {
        note_gone(fs, node, record);
        if matches!(open, Known::Closed) {
            return Ok(Usage::default());
        }
        fs.handles.unlinked(node);
    }
    if let (Known::Open(inode), Inode::File { size }) = (open, Inode::of(&stat)) {
        inode.set_charged_size(size);
    }
    Ok(charge(Inode::of(&stat), unit))
}

fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

/// What the name of the intent leads to.
fn found(fs: &FileSystem, intent: &Intent) -> OpResult<Option<FileStat>> {
    let dir = fs.open_dir(intent.parent)?;
    match node::open_path(&dir.fd, &intent.name) {
        Ok(fd) => Ok(Some(node::stat(fd)?)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// An inode has lost its last name by a request that was cut.
fn note_gone(fs: &FileSystem, node: NodeId, record: &[AtomicU64]) {
    let mut attr = attr_of(&record[at::VICTIM]);
    if attr.node == node {
        attr.nlink = 0;
        fs.nodes.set_gone(node, attr, None, (true, false));
    }
}
