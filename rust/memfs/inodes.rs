// SPDX-License-Identifier: GPL-2.0

//! The inodes of a superblock: their records, by number.
//!
//! `struct inode` is a cache: it is made when a name or a handle is looked up ([`iget`]), and
//! leaves when the memory is wanted, or with its last user when it has no name any more
//! ([`evict_inode`]). Until it leaves, its attributes count; then they are kept in its record.

use super::{
    fileattr,
    posix_acl,
    quota,
    record::Record,
    space,
    InodeSpace,
    MemFs, //
};
use crate::{
    compat::ESTALE,
    store::{
        Table,
        TableNodes, //
    },
    vfs::{
        Inode,
        NewInode,
        SiphashKey,
        SuperBlock, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Release, //
        },
        Arc,
        Mutex, //
    },
};

/// The inodes of a superblock that have a name.
#[pin_data]
pub(crate) struct Inodes<D> {
    /// How many there are, with their limit.
    pub(crate) space: Arc<InodeSpace>,
    #[pin]
    records: Mutex<Table<Arc<Record<D>>>>,
    /// Hashes the names.
    pub(super) key: SiphashKey,
    /// Stands for the record of an inode that has none yet. It is never released.
    pub(super) unset: Arc<Record<D>>,
}

impl<D> Inodes<D> {
    /// Creates a table without inodes. `data` is that of an empty file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(space: InodeSpace, data: impl PinInit<D>) -> Result<Arc<Self>> {
        let unset = Record::new(Default::default(), None, data)?;
        unset.has_name.store(true, Release);
        let space = Arc::new(space, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                space,
                records <- new_mutex!(Table::new()),
                key: SiphashKey::random(),
                unset,
            }),
            GFP_KERNEL,
        )
    }

    fn get(&self, ino: u64) -> Option<Arc<Record<D>>> {
        self.records.lock().get(ino).cloned()
    }

    /// Drops all records, at the end of a superblock, whose inodes are gone. Calls `step` now and
    /// then.
    pub(crate) fn clear(&self, step: impl FnMut()) {
        let mut records = core::mem::take(&mut *self.records.lock());
        records.clear(step);
    }
}

/// Enters the record of an inode, which gets its first name, into the table.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn insert<T: MemFs>(inode: &Inode<T>) -> Result {
    let record = T::info(inode).record.to_arc().ok_or(EINVAL)?;
    let inodes = T::inodes(inode.super_block());
    // Nothing is allocated with the lock, for which all users of the superblock wait.
    let mut nodes = TableNodes::new();
    loop {
        {
            let mut records = inodes.records.lock();
            if records.can_insert(inode.ino(), &mut nodes) {
                record.has_name.store(true, Release);
                return records.insert(inode.ino(), record, &mut nodes);
            }
        }
        nodes.fill(GFP_KERNEL_ACCOUNT)?;
    }
}

/// Removes the record of an inode, which has lost its last name, from the table.
pub(super) fn remove<T: MemFs>(inode: &Inode<T>) {
    let inodes = T::inodes(inode.super_block());
    let mut records = inodes.records.lock();
    T::info(inode).record().has_name.store(false, Release);
    // Cannot fail, as no node is shared.
    let removed = records.remove(inode.ino(), &mut TableNodes::new());
    drop(records);
    drop(removed);
}

/// Returns the inode of a number, of the cache or of its record; with `set_operations` for its file
/// type.
///
/// # Errors
///
/// `ESTALE` if there is none of this number, `ENOMEM`, and those of quotas.
pub(super) fn iget<T: MemFs>(
    sb: &SuperBlock<T>,
    ino: u64,
    set_operations: fn(&NewInode<T>) -> Result,
) -> Result<ARef<Inode<T>>> {
    let Some(record) = T::inodes(sb).get(ino) else {
        // It may have no name.
        return sb.ilookup(ino).ok_or(ESTALE);
    };
    sb.iget(ino, |inode| {
        // Another inode may have lost the last name and left the cache meanwhile.
        if !record.has_name.load(Acquire) {
            return Err(ESTALE);
        }
        read(inode, record)?;
        set_operations(inode)
    })
}

/// Makes a new inode what its record says.
fn read<T: MemFs>(inode: &NewInode<T>, record: Arc<Record<T::Data>>) -> Result {
    let attrs = *record.attrs.lock();
    T::info(inode).record.set(record);
    inode.set_attrs(&attrs);
    fileattr::read(inode);
    posix_acl::read(inode);
    quota::initialize(inode)
}

/// Gives back what an inode has of this layer, for
/// [`SuperOperations::evict_inode`](crate::vfs::SuperOperations::evict_inode). If it has no name,
/// also what its record has: its owner is uncharged, and then its data goes.
pub(crate) fn evict_inode<T: MemFs>(inode: &Inode<T>) {
    let info = T::info(inode);
    let record = info.record();
    if record.has_name.load(Acquire) {
        // One that could not be read has no links, see `NewInode`.
        if inode.nlink() > 0 {
            *record.attrs.lock() = inode.attrs();
        }
    } else {
        let bytes = record.xattrs.clear();
        // Cannot fail: it counts less.
        let _ = space::adjust_bytes(inode, bytes, 0);
        quota::free_inode(inode, T::blocks(inode));
        T::inodes(inode.super_block()).space.free_inode();
    }
    quota::drop_references(inode);
    // SAFETY: The inode is being evicted, so that it has no users; path walks in RCU mode do not
    // look at the record.
    unsafe { info.record.clear() };
}
