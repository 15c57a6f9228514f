// SPDX-License-Identifier: GPL-2.0

//! Changes of inodes, each of which a fork shows whole or not at all.

use super::{
    family::{
        Steady,
        Stopped, //
    },
    inodes,
    record::{
        ReadRecord,
        WriteRecord, //
    },
    MemFs, //
};
use crate::vfs::Inode;
use core::ops::Deref;
use kernel::prelude::*;

/// A change under way of `N` inodes: no fork is made meanwhile, and their records are not those of
/// a fork. When it is dropped, their attributes are in their records.
///
/// It is bounded: see [`family`](super::family). It comes after the `i_rwsem` of the inodes, and
/// before `invalidate_lock`. There is one at a time in a task.
///
/// # Invariants
///
/// The records of the inodes may be changed.
#[must_use]
pub(crate) struct Transaction<'a, T: MemFs, const N: usize = 1> {
    inodes: [&'a Inode<T>; N],
    /// The sizes when it began, if no other attribute changes.
    sizes: Option<[u64; N]>,
    steady: Steady<'a>,
}

impl<'a, T: MemFs, const N: usize> Transaction<'a, T, N> {
    /// Begins a change of inodes of one family. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and `ENOSPC` where there is no room for a copy of a record that a fork has, too.
    pub(crate) fn begin(inodes: [&'a Inode<T>; N]) -> Result<Self> {
        loop {
            let steady = inodes::family_of(inodes[0]).steady();
            let Some(inode) = inodes.iter().find(|inode| !inodes::is_exclusive(inode)) else {
                // INVARIANT: Seen just now, with the family's lock held.
                return Ok(Self {
                    inodes,
                    sizes: None,
                    steady,
                });
            };
            drop(steady);
            inodes::make_exclusive(inode)?;
        }
    }

    /// As [`Transaction::begin`], if that can be done at once.
    pub(crate) fn try_begin(inodes: [&'a Inode<T>; N]) -> Option<Self> {
        let steady = inodes::family_of(inodes[0]).try_steady()?;
        if inodes.iter().all(|inode| inodes::is_exclusive(inode)) {
            // INVARIANT: Seen just now, with the family's lock held.
            return Some(Self {
                inodes,
                sizes: None,
                steady,
            });
        }
        None
    }

    /// As [`Transaction::begin`], while a fork is made, of inodes whose records may be changed.
    pub(super) fn within(stopped: &'a Stopped<'_>, inodes: [&'a Inode<T>; N]) -> Self {
        debug_assert!(inodes.iter().all(|inode| inodes::is_exclusive(inode)));
        // INVARIANT: The caller has seen it, and nothing else changes meanwhile.
        Self {
            inodes,
            sizes: None,
            steady: stopped.steady(),
        }
    }

    /// Says that no attribute changes but sizes, so that others need not be written into the
    /// records.
    pub(crate) fn of_data(mut self) -> Self {
        self.sizes = Some(self.inodes.map(Inode::size));
        self
    }

    /// Returns the inodes, whose records may be changed.
    pub(crate) fn each(&self) -> [Exclusive<'_, T>; N] {
        self.inodes.map(|inode| Exclusive {
            inode,
            steady: &self.steady,
        })
    }

    /// Returns the lock of the family.
    pub(crate) fn steady(&self) -> &Steady<'a> {
        &self.steady
    }
}

impl<T: MemFs, const N: usize> Drop for Transaction<'_, T, N> {
    fn drop(&mut self) {
        for (i, inode) in self.each().into_iter().enumerate() {
            let is_same = |other: &&Inode<T>| core::ptr::eq(*other, inode.inode);
            let is_as_it_was = |sizes: [u64; N]| sizes[i] == inode.size();
            if self.inodes[..i].iter().any(is_same) || self.sizes.is_some_and(is_as_it_was) {
                continue;
            }
            // With the lock held: of two transactions that end at the same time the second one
            // writes what it has read.
            let mut record = inode.write();
            record.attrs = inode.attrs();
        }
    }
}

/// An inode whose record may be changed.
pub(crate) struct Exclusive<'t, T: MemFs> {
    inode: &'t Inode<T>,
    steady: &'t Steady<'t>,
}

impl<T: MemFs> Clone for Exclusive<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: MemFs> Copy for Exclusive<'_, T> {}

impl<'t, T: MemFs> Exclusive<'t, T> {
    /// Returns the inode.
    pub(crate) fn inode(self) -> &'t Inode<T> {
        self.inode
    }

    /// Locks the record to look at it.
    pub(crate) fn read(self) -> ReadRecord<'t, T::Data> {
        T::info(self.inode).record.read()
    }

    /// Locks the record to change it. Nothing sleeps meanwhile.
    pub(crate) fn write(self) -> WriteRecord<'t, T::Data> {
        let _: &Steady<'_> = self.steady;
        debug_assert!(inodes::is_exclusive(self.inode));
        // SAFETY: By the invariant of the transaction it may be changed; the family's lock is held
        // for longer than the result.
        unsafe { T::info(self.inode).record.write() }
    }
}

impl<T: MemFs> Deref for Exclusive<'_, T> {
    type Target = Inode<T>;

    fn deref(&self) -> &Inode<T> {
        self.inode
    }
}
