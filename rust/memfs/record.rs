// SPDX-License-Identifier: GPL-2.0

//! Records: what a file is, independent of whether its inode is in the cache.
//!
//! # May a record be changed?
//!
//! A record is in the tables of all superblocks that were forked since it was made, and nothing but
//! its **epoch** tells whether there are any: it may be changed as long as the superblock has that
//! epoch, too ([`Epoch`]). Otherwise the first change puts a copy in its place, which costs as much
//! for a file of any size: see [`Transaction`](super::Transaction).
//!
//! What is in a record is protected by the lock of the one inode that has it. A record that is
//! never changed needs no lock: the inodes of several superblocks may have it, each with a lock of
//! its own.

use super::{
    family::{
        Epoch,
        Steady,
        Stopped, //
    },
    names::{
        Entry,
        Names, //
    },
    space::{
        InodeCharge,
        NodeCharge, //
    },
    xattrs::Xattrs, //
};
use crate::vfs::{
    rwlock::{
        ReadGuard,
        WriteGuard, //
    },
    InodeAttrs,
    RwLock,
    Time, //
};
use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    }, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// The data of a regular file.
pub(crate) trait Data: Send + Sync + Sized {
    /// Returns a copy in O(1), for a record that replaces the one with this. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    fn try_clone(&self) -> Result<Self>;
}

/// The names in a directory.
pub(super) type DirNames = Names<Entry, NodeCharge>;

/// What a file, directory or link is.
pub(crate) struct Content<D> {
    /// That of the only superblock that has the record.
    pub(super) epoch: Epoch,
    /// The attributes that `struct inode` has.
    pub(super) attrs: InodeAttrs,
    /// When the file was created.
    pub(super) btime: Time,
    /// `FS_*_FL`.
    pub(super) fsflags: u32,
    /// The number of the directory that a directory is in.
    pub(super) parent: u64,
    /// The target of a symbolic link.
    pub(super) target: Option<Arc<CString>>,
    /// What is in a directory.
    pub(super) names: DirNames,
    pub(super) xattrs: Xattrs,
    /// What counts against `nr_inodes=`.
    pub(super) charge: InodeCharge,
    /// The data of a regular file.
    pub(crate) data: D,
}

impl<D: Data> Content<D> {
    /// Returns a copy, for another epoch. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC` where there is no room for another inode.
    pub(super) fn try_clone(&self, epoch: Epoch) -> Result<Self> {
        self.with_data(self.data.try_clone()?, epoch)
    }

    /// Returns a copy with other data, for another epoch.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is no room for another inode.
    pub(super) fn with_data(&self, data: D, epoch: Epoch) -> Result<Self> {
        Ok(Self {
            epoch,
            attrs: self.attrs,
            btime: self.btime,
            fsflags: self.fsflags,
            parent: self.parent,
            target: self.target.clone(),
            names: self.names.clone(),
            xattrs: self.xattrs.clone(),
            charge: self.charge.try_clone()?,
            data,
        })
    }
}

/// The content, shared by inodes and tables.
///
/// # Invariants
///
/// The content is changed only through [`RecordCell::write`], or with [`Epoch::NEVER`] not at all.
pub(crate) struct Record<D>(UnsafeCell<Content<D>>);

// SAFETY: Gives out `&Content` and `&mut Content` as a lock does.
unsafe impl<D: Send + Sync> Send for Record<D> {}
// SAFETY: Gives out `&Content` and `&mut Content` as a lock does.
unsafe impl<D: Send + Sync> Sync for Record<D> {}

impl<D> Record<D> {
    /// Creates one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(content: Content<D>, flags: Flags) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(UnsafeCell::new(content)), flags)?)
    }
}

/// The record that an inode has.
struct Slot<D> {
    record: Arc<Record<D>>,
    /// Whether it is in the table of the superblock. If not, it is released with its inode.
    has_name: bool,
}

/// The place in an inode for its record.
///
/// # Invariants
///
/// A record whose epoch is not [`Epoch::NEVER`] and is that of the superblock, or
/// [`Epoch::PRIVATE`], is in no other cell; and outside of cells it is only looked at by
/// what holds the family's lock exclusive ([`Stopped`]).
#[pin_data]
pub(super) struct RecordCell<D> {
    #[pin]
    held: RwLock<Slot<D>>,
    /// The epoch of the record, to be read without the lock.
    epoch: Atomic<u64>,
}

impl<D> RecordCell<D> {
    /// Returns an initialiser with a record that is never changed.
    pub(super) fn new(unset: &Arc<Record<D>>) -> impl PinInit<Self> + '_ {
        let unset = Slot {
            record: unset.clone(),
            has_name: true,
        };
        pin_init!(Self {
            held <- RwLock::new(unset, c"reflinkfs_record", static_lock_class!()),
            epoch: Atomic::new(Epoch::NEVER.to_bits()),
        })
    }

    /// Returns whether the record may be changed in a superblock of this epoch. With the family's
    /// lock held that stays so.
    pub(super) fn is_exclusive(&self, epoch: Epoch) -> bool {
        let own = Epoch::from_bits(self.epoch.load(Relaxed));
        own == epoch || own == Epoch::PRIVATE
    }

    /// Locks the record to look at it. Nothing sleeps meanwhile.
    pub(super) fn read(&self) -> ReadRecord<'_, D> {
        ReadRecord(self.held.read())
    }

    /// Locks the record to change it. Nothing sleeps meanwhile.
    ///
    /// # Safety
    ///
    /// It may be changed ([`RecordCell::is_exclusive`]), and the family's lock is held as long as
    /// the result is.
    pub(super) unsafe fn write(&self) -> WriteRecord<'_, D> {
        WriteRecord(self.held.write())
    }

    /// Returns the record, if it may not be changed in a superblock whose epoch `epoch` returns: it
    /// never is.
    pub(super) fn shared(&self, epoch: impl FnOnce() -> Epoch) -> Option<SharedRecord<D>> {
        let slot = self.held.read();
        // Looked at with the lock held: an epoch from before might be older than the record.
        (!self.is_exclusive(epoch())).then(|| SharedRecord(slot.record.clone()))
    }

    /// Puts `copy` in the place of `old`, of which it is a copy, unless that was done meanwhile.
    /// `enter`, which is called if the inode has a name, puts it into the table; where it returns
    /// false, nothing has changed. Returns what is to be dropped.
    pub(super) fn replace(
        &self,
        _steady: &Steady<'_>,
        old: &SharedRecord<D>,
        copy: Arc<Record<D>>,
        epoch: Epoch,
        enter: impl FnOnce(&Arc<Record<D>>) -> bool,
    ) -> Arc<Record<D>> {
        let mut slot = self.held.write();
        if !Arc::ptr_eq(&slot.record, &old.0) || self.is_exclusive(epoch) {
            return copy;
        }
        let own = if slot.has_name { epoch } else { Epoch::PRIVATE };
        // SAFETY: Nothing else refers to the copy yet.
        unsafe { (*copy.0.get()).epoch = own };
        if slot.has_name && !enter(&copy) {
            return copy;
        }
        // INVARIANT: The copy is in this cell only, and in the table of its superblock, as no fork
        // is made meanwhile.
        self.epoch.store(own.to_bits(), Relaxed);
        core::mem::replace(&mut slot.record, copy)
    }

    /// Sets the record of an inode that nothing else uses: one of the table, or a new one, which
    /// has no name. Returns what is to be dropped.
    pub(super) fn set(&self, record: Arc<Record<D>>, has_name: bool) -> Arc<Record<D>> {
        let mut slot = self.held.write();
        // SAFETY: No cell has it but those of other superblocks, in which it may not be changed. A
        // fork changes an epoch only of a record that a cell has.
        let epoch = unsafe { (*record.0.get()).epoch };
        // INVARIANT: An inode of a number is the only one of it in its superblock.
        self.epoch.store(epoch.to_bits(), Relaxed);
        slot.has_name = has_name;
        core::mem::replace(&mut slot.record, record)
    }

    /// Enters the record of an inode without a name, by `enter`, into the table of a superblock of
    /// this epoch. Where that returns false, nothing has changed.
    pub(super) fn link(
        &self,
        _steady: &Steady<'_>,
        epoch: Epoch,
        enter: impl FnOnce(&Arc<Record<D>>) -> bool,
    ) -> bool {
        let mut slot = self.held.write();
        debug_assert!(self.is_exclusive(epoch));
        if !enter(&slot.record) {
            return false;
        }
        slot.has_name = true;
        // SAFETY: By the type invariant no other cell has it, and this one's lock is held.
        unsafe { (*slot.record.0.get()).epoch = epoch };
        self.epoch.store(epoch.to_bits(), Relaxed);
        true
    }

    /// Removes the record, by `remove`, from the table: the inode has no name any more. A record
    /// that may be changed stays so, as no fork gets it. Where `remove` returns false, nothing has
    /// changed.
    pub(super) fn unlink(
        &self,
        _steady: &Steady<'_>,
        epoch: Epoch,
        remove: impl FnOnce() -> bool,
    ) -> bool {
        let mut slot = self.held.write();
        if !remove() {
            return false;
        }
        slot.has_name = false;
        if self.is_exclusive(epoch) {
            // SAFETY: By the type invariant no other cell has it, and this one's lock is held.
            unsafe { (*slot.record.0.get()).epoch = Epoch::PRIVATE };
            self.epoch.store(Epoch::PRIVATE.to_bits(), Relaxed);
        }
        true
    }

    /// Keeps the record, which may be changed in a superblock of epoch `old`, so when the epoch
    /// becomes `new`. The caller sees to it that no fork has the record.
    pub(super) fn keep(&self, _stopped: &Stopped<'_>, old: Epoch, new: Epoch) {
        let slot = self.held.write();
        if Epoch::from_bits(self.epoch.load(Relaxed)) == old {
            // SAFETY: By the type invariant no other cell has it, and this one's lock is held.
            unsafe { (*slot.record.0.get()).epoch = new };
            self.epoch.store(new.to_bits(), Relaxed);
        }
    }

    /// Returns whether the inode has a name.
    pub(super) fn has_name(&self) -> bool {
        self.held.read().has_name
    }
}

/// A record, locked to look at it.
pub(crate) struct ReadRecord<'a, D>(ReadGuard<'a, Slot<D>>);

impl<D> Deref for ReadRecord<'_, D> {
    type Target = Content<D>;

    fn deref(&self) -> &Content<D> {
        // SAFETY: The lock is held, without which this cell's record is not changed; and if it may
        // be changed it is in no other cell.
        unsafe { &*self.0.record.0.get() }
    }
}

/// A record, locked to change it.
///
/// # Invariants
///
/// It may be changed.
pub(crate) struct WriteRecord<'a, D>(WriteGuard<'a, Slot<D>>);

impl<D> Deref for WriteRecord<'_, D> {
    type Target = Content<D>;

    fn deref(&self) -> &Content<D> {
        // SAFETY: As for `deref_mut`.
        unsafe { &*self.0.record.0.get() }
    }
}

impl<D> DerefMut for WriteRecord<'_, D> {
    fn deref_mut(&mut self) -> &mut Content<D> {
        // SAFETY: The record may be changed: by the invariant of `RecordCell` it is in no other
        // cell, of which the lock is held exclusive, and this borrows the guard mutably.
        unsafe { &mut *self.0.record.0.get() }
    }
}

/// A record that is never changed again.
pub(super) struct SharedRecord<D>(Arc<Record<D>>);

impl<D> Deref for SharedRecord<D> {
    type Target = Content<D>;

    fn deref(&self) -> &Content<D> {
        // SAFETY: As its epoch is another one than its superblock's, nothing changes it.
        unsafe { &*self.0 .0.get() }
    }
}
