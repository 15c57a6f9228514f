// SPDX-License-Identifier: GPL-2.0

//! Referenced blocks: those with a reference to their page besides the store's, such as a pin for
//! DMA, or one of `ptrace`. A store by way of such a reference needs no page table entry, so that
//! these blocks do not become shared.

use super::{
    block_of,
    file_blocks::{
        BlocksLock,
        OwnBlocks, //
    },
    offset_in_block,
    room::Room,
    sort::sort,
    truncate,
    Inode,
    LockedInode, //
};
use crate::{
    dax,
    store::{
        block::{
            BlockRef,
            NewBlock,
            BLOCK_SIZE, //
        },
        Prealloc,
        Tree, //
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// The indexes of referenced blocks of a file.
pub(super) struct Referenced {
    /// Those that are wanted: among the blocks that the caller shares, compares or moves. In
    /// ascending order.
    pub(super) wanted: KVVec<u64>,
    /// Those that are owned: among the blocks of the snapshot, which may be more than are wanted.
    pub(super) owned_in_snapshot: KVVec<u64>,
    /// How many the last scan found, of either.
    found: usize,
}

impl Referenced {
    /// Returns empty lists, without room for any block.
    pub(super) fn new() -> Self {
        Self {
            wanted: KVVec::new(),
            owned_in_snapshot: KVVec::new(),
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
        self.wanted.clear();
        self.owned_in_snapshot.clear();
        self.wanted.reserve(self.found, GFP_KERNEL)?;
        self.owned_in_snapshot.reserve(self.found, GFP_KERNEL)?;
        Ok(self.found)
    }

    /// Unmaps the blocks in `snapshot` that may be mapped writable, before they become shared or
    /// are compared. Then looks for the referenced ones among them: those in `wanted`, which lies
    /// within `snapshot`, and those that are owned. At last zeroes what was stored beyond the end
    /// of the file: from then on nothing is stored there, unless the last block is referenced.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there is no room for all of them, which `room` notes.
    pub(super) fn scan(
        &mut self,
        file: &LockedInode,
        lock: BlocksLock<'_, '_>,
        snapshot: &Range<u64>,
        wanted: &Range<u64>,
        room: &mut Room<'_>,
    ) -> Result {
        let unmapped = dax::unmap_writable_locked(&lock, snapshot.clone(), || Ok(()));
        debug_assert!(unmapped.is_ok());
        self.wanted.clear();
        self.owned_in_snapshot.clear();
        self.found = 0;
        let mut result = Ok(());
        let mapped = file.info().dax.mapped();
        let listed = mapped.for_each_referenced(snapshot.clone(), |index| {
            self.found += 1;
            if lock.blocks().is_owned(index) {
                result = result.and(room.push(&mut self.owned_in_snapshot, index));
            }
            if wanted.contains(&index) {
                result = result.and(room.push(&mut self.wanted, index));
            }
            Ok(())
        });
        debug_assert!(listed.is_ok());
        truncate::wipe_tail(file, lock.blocks(), u64::MAX);
        sort(&mut self.wanted);
        result
    }

    /// Returns a duplicate of the block at `index`, for another file. Its bytes beyond the end of
    /// the file are zeros: by way of the reference something may be stored there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; `EIO` where the block is poisoned.
    pub(super) fn duplicate<'a>(
        file: &Inode,
        index: u64,
        old: &BlockRef,
        room: &mut Room<'a>,
    ) -> Result<NewBlock<'a>> {
        let duplicate = room.block(false)?;
        duplicate.bytes().copy_block(old)?;
        if index == block_of(file.size()) {
            let end = offset_in_block(file.size());
            duplicate.bytes().zero(end, BLOCK_SIZE - end);
        }
        Ok(duplicate)
    }

    /// Takes the snapshot, of the blocks in `range`, without the referenced ones that are owned.
    /// They stay owned by the file, also after an error: a store by way of the reference must reach
    /// the file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(super) fn snapshot(
        &self,
        file_blocks: OwnBlocks<'_>,
        range: &Range<u64>,
        nodes: &mut Prealloc,
    ) -> Result<Tree> {
        let tree = file_blocks.snapshot(range, nodes).and_then(|mut tree| {
            for &index in &self.owned_in_snapshot {
                tree.remove(index, index + 1, nodes)?;
            }
            Ok(tree)
        });
        file_blocks.restore_owned(self.owned_in_snapshot.iter());
        tree
    }
}
