// SPDX-License-Identifier: GPL-2.0

//! Referenced blocks: those with a reference to their page besides the store's, such as a pin for
//! DMA, or one of `ptrace`. A store by way of such a reference needs no page table entry, so that
//! these blocks do not become shared.

use super::{
    room::Room,
    sort::sort,
    truncate,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    dax,
    store::{
        Prealloc,
        Tree, //
    },
    vfs::InvalidateGuard, //
};
use core::ops::Range;
use kernel::prelude::*;

/// The indexes of referenced blocks of a file.
pub(super) struct Referenced {
    /// Those in the range that is asked for, in ascending order.
    pub(super) in_range: KVVec<u64>,
    /// Those that can be written in place, also some beyond the range.
    pub(super) own: KVVec<u64>,
    /// How many the last scan found, of either.
    found: usize,
}

impl Referenced {
    /// Returns empty lists, without room for any block.
    pub(super) fn new() -> Self {
        Self {
            in_range: KVVec::new(),
            own: KVVec::new(),
            found: 0,
        }
    }

    /// Makes room for as many as the last scan found. Comes before each scan, and before the lock.
    /// Returns how many.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self) -> Result<usize> {
        self.in_range.clear();
        self.own.clear();
        self.in_range.reserve(self.found, GFP_KERNEL)?;
        self.own.reserve(self.found, GFP_KERNEL)?;
        Ok(self.found)
    }

    /// Unmaps the blocks in `range` that may be mapped writable, before they become shared or are
    /// compared, and zeroes what was stored beyond the end of the file. Then looks for the
    /// referenced ones in `wanted`, and the own ones of these in `range`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there is no room for all of them, which `room` notes.
    pub(super) fn scan(
        &mut self,
        file: &LockedInode,
        lock: &InvalidateGuard<'_, ReflinkFs>,
        range: &Range<u64>,
        wanted: &Range<u64>,
        room: &mut Room<'_>,
    ) -> Result {
        let unmapped = dax::unmap_writable_locked(lock, range.clone(), || Ok(()));
        debug_assert!(unmapped.is_ok());
        truncate::wipe_tail(file, u64::MAX);
        self.in_range.clear();
        self.own.clear();
        self.found = 0;
        let mut result = Ok(());
        let mapped = file.info().dax.mapped();
        let listed = mapped.for_each_referenced(range.clone(), |index| {
            self.found += 1;
            if file.info().blocks.is_owned(index) {
                result = result.and(room.push(&mut self.own, index));
            }
            if wanted.contains(&index) {
                result = result.and(room.push(&mut self.in_range, index));
            }
            Ok(())
        });
        debug_assert!(listed.is_ok());
        sort(&mut self.in_range);
        result
    }

    /// Removes the own blocks from `tree`, a snapshot of the file's, and makes them owned in
    /// the file again: a store by way of the reference must reach the file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(super) fn leave_out(
        &self,
        tree: &mut Tree,
        file: &LockedInode,
        prealloc: &mut Prealloc,
    ) -> Result {
        let mut own = self.own.iter();
        let result = own.try_for_each(|&index| tree.remove(index, index + 1, prealloc));
        if result.is_err() {
            *tree = Tree::new(file.info().blocks.pool().clone());
        }
        file.info().blocks.restore_owned(self.own.iter());
        result
    }
}
