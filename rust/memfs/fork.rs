// SPDX-License-Identifier: GPL-2.0

//! Forks: superblocks with the inodes that another one has at one instant.

use super::{
    family::{
        Epoch,
        Stopped, //
    },
    inodes::{
        is_exclusive,
        RecordNodes, //
    },
    record::Record,
    space::NodeCharge,
    MemFs,
    Transaction, //
};
use crate::vfs::{
    Inode,
    LockedInode,
    SuperBlock, //
};
use kernel::{
    alloc::flags::GFP_NOWAIT,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A fork that is being made: nothing in the family changes meanwhile, and nothing waits for
/// memory.
pub(crate) struct Forking<'s, T: MemFs> {
    fork: &'s SuperBlock<T>,
    stopped: &'s Stopped<'s>,
    kept: KVec<Kept<T>>,
}

/// An inode of the base whose record the fork does not get.
struct Kept<T: MemFs> {
    inode: ARef<Inode<T>>,
    /// The record that the fork gets instead.
    record: Arc<Record<T::Data>>,
}

impl<'s, T: MemFs> Forking<'s, T> {
    /// Begins a change of an inode of the base, if no fork has its record.
    pub(crate) fn begin<'a>(&self, inode: &'a Inode<T>) -> Option<Transaction<'a, T>>
    where
        's: 'a,
    {
        is_exclusive(inode).then(|| Transaction::within(self.stopped, [inode]))
    }

    /// Returns whether the fork gets the inode: not without a name.
    pub(crate) fn has(&self, inode: &Inode<T>) -> bool {
        T::info(inode).record.has_name()
    }

    /// Returns whether the times of an inode are in its record. Those of stores through a mapping
    /// may not be.
    pub(crate) fn is_saved(&self, inode: &Inode<T>) -> bool {
        let (attrs, now) = (T::info(inode).record.read().attrs, inode.attrs());
        attrs.same_times(&now)
    }

    /// Returns the inode as if it were locked: what its lock protects changes in transactions.
    pub(crate) fn lock<'i>(&self, inode: &'i Inode<T>) -> &'i LockedInode<T>
    where
        's: 'i,
    {
        // SAFETY: What holds the lock changes the inode in transactions only, of which there is
        // none as long as the family is stopped, which is longer than the result lasts.
        unsafe { LockedInode::assume(inode) }
    }

    /// Has the fork get a record like that of the inode, but with this data, and the base keep its
    /// own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(crate) fn keep(&mut self, inode: &Inode<T>, data: T::Data) -> Result {
        let epoch = T::inodes(self.fork).epoch();
        let record = T::info(inode).record.read();
        let content = record.with_data(data, epoch)?;
        drop(record);
        let record = Record::new(content, GFP_NOWAIT)?;
        let inode = inode.into();
        self.kept.push(Kept { inode, record }, GFP_NOWAIT)?;
        Ok(())
    }
}

/// Makes `fork`, a new superblock of the family of `base` without inodes, a fork of that. Calls
/// `prepare` to stop stores that are no transactions.
///
/// # Errors
///
/// Those of `prepare`; `EINTR` if a fatal signal is pending, `ENOMEM`, `ENOSPC`. Nothing has
/// changed.
pub(crate) fn fork<T: MemFs>(
    base: &SuperBlock<T>,
    fork: &SuperBlock<T>,
    prepare: impl FnOnce(&mut Forking<'_, T>) -> Result,
) -> Result {
    let (from, to) = (T::inodes(base), T::inodes(fork));
    let stopped = from.family.stop()?;
    let mut forking = Forking {
        fork,
        stopped: &stopped,
        kept: KVec::new(),
    };
    prepare(&mut forking)?;
    let kept = forking.kept;
    let mut records = from.clone_records();
    for Kept { inode, record } in &kept {
        let mut nodes = RecordNodes::<T::Data>::new();
        if !nodes.has(records.nodes_to_insert(inode.ino())) {
            nodes.fill(GFP_NOWAIT, || NodeCharge::new(&from.family.space))?;
        }
        records.insert(inode.ino(), record.clone(), &mut nodes)?;
    }
    // Nothing fails from here on.
    to.set_records(records);
    let (old, new) = (from.epoch(), Epoch::new());
    for Kept { inode, .. } in &kept {
        T::info(inode).record.keep(&stopped, old, new);
    }
    from.set_epoch(&stopped, new);
    drop(stopped);
    // After the lock, as the last reference to an inode may go.
    drop(kept);
    Ok(())
}
