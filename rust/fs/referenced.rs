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
    /// compared. Then looks for the referenced ones in `wanted`, and the own ones of these in
    /// `range`. At last zeroes what was stored beyond the end of the file: from then on nothing is
    /// stored there, unless the last block is referenced.
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
        truncate::wipe_tail(file, u64::MAX);
        sort(&mut self.in_range);
        result
    }

    /// Returns a snapshot of the blocks in `range` without the own ones. They stay owned by the
    /// file, also after an error: a store by way of the reference must reach the file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(super) fn snapshot(
        &self,
        file: &LockedInode,
        range: &Range<u64>,
        nodes: &mut Prealloc,
    ) -> Result<Tree> {
        let file_blocks = &file.info().blocks;
        let tree = file_blocks.snapshot(range, nodes).and_then(|mut tree| {
            for &index in &self.own {
                tree.remove(index, index + 1, nodes)?;
            }
            Ok(tree)
        });
        file_blocks.restore_owned(self.own.iter());
        tree
    }
}
