// SPDX-License-Identifier: GPL-2.0

//! Inserting blocks that were written.

use super::super::{
    ChargedBlock,
    ReflinkFs, //
};
use crate::{
    store::{
        block::{
            BlockRef,
            BLOCK_SIZE, //
        },
        Lookup,
        Prealloc, //
    },
    vfs::InvalidateGuard, //
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

/// Inserts a new block at `index`, of which `part` was written. The lock is dropped where memory is
/// to be waited for, and taken again; then what lies from there up to `end` is unmapped again.
///
/// # Errors
///
/// Those of [`ChargedBlock::insert`] and [`Prealloc::fill`].
pub(super) fn insert_block(
    lock: &mut InvalidateGuard<'_, ReflinkFs>,
    (index, end): (u64, u64),
    block: ChargedBlock<'_>,
    part: Range<usize>,
    prealloc: &mut Prealloc,
) -> Result {
    let inode = lock.inode();
    let mut block = block;
    loop {
        // A fault has inserted an owned block since the lookup. It may hold newer stores: only
        // our bytes are copied to it.
        if inode.info().dax.was_mapped() {
            if let Lookup::Owned(own) = inode.info().blocks().lookup(index) {
                return own.copy_from(part.start, block.bytes(), part.start, part.len());
            }
        }
        block = match block.insert(lock, index, prealloc)? {
            None => return Ok(()),
            Some(back) => back,
        };
        lock.unlocked(|| prealloc.fill(inode.info().blocks().pool()))?;
        lock.unmap(index..end);
    }
}
