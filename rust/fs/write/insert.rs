// SPDX-License-Identifier: GPL-2.0

//! Inserting blocks that were written.

use super::{
    super::{
        BlocksGuard,
        ChargedBlock,
        LockedInode, //
    },
    move_end,
};
use crate::store::{
    block::{
        BlockRef,
        BLOCK_SIZE, //
    },
    Lookup,
    Prealloc, //
};
use core::ops::Range;
use kernel::prelude::*;

/// Copies the bytes of `old` to `block`, but for those in `written`.
///
/// # Errors
///
/// `EIO` where `old` is poisoned.
pub(super) fn keep_around(block: &BlockRef, old: &BlockRef, written: Range<usize>) -> Result {
    block.copy_from(0, old, 0, written.start)?;
    block.copy_from(written.end, old, written.end, BLOCK_SIZE - written.end)
}

/// Inserts a new block at `index`, of which `part` was written, and moves the end of the file up to
/// the end of that. The lock is dropped where memory is to be waited for, and taken again; then what
/// lies from there up to `end` is unmapped again.
///
/// # Errors
///
/// Those of [`ChargedBlock::insert`], [`Prealloc::fill`] and [`BlocksGuard::lock`].
pub(super) fn insert_block<'a>(
    mut lock: BlocksGuard<'a>,
    inode: &'a LockedInode,
    (index, end): (u64, u64),
    block: ChargedBlock<'_>,
    part: Range<usize>,
    prealloc: &mut Prealloc,
) -> Result<BlocksGuard<'a>> {
    let mut block = block;
    loop {
        let own = lock.get().blocks();
        let written = index * BLOCK_SIZE as u64 + part.end as u64;
        // A fault has inserted an owned block since the lookup. It may hold newer stores: only
        // our bytes are copied to it.
        if inode.info().dax.was_mapped() {
            if let Lookup::Owned(old) = own.lookup(index) {
                old.copy_from(part.start, block.bytes(), part.start, part.len())?;
                move_end(inode, own, written);
                return Ok(lock);
            }
        }
        block = match block.insert(lock.get(), index, prealloc)? {
            None => {
                move_end(inode, own, written);
                return Ok(lock);
            }
            Some(back) => back,
        };
        drop(lock);
        prealloc.fill(inode.blocks().pool())?;
        lock = BlocksGuard::lock(inode)?;
        lock.unmap(index..end);
    }
}
