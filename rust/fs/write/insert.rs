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

/// Inserts a new block at `index`, of which `part` was written.
///
/// # Errors
///
/// Those of [`ChargedBlock::insert`].
pub(super) fn insert_block(
    lock: &InvalidateGuard<'_, ReflinkFs>,
    index: u64,
    block: ChargedBlock<'_>,
    part: Range<usize>,
    prealloc: &mut Prealloc,
) -> Result {
    // A fault has inserted an exclusive block since the lookup. It may hold newer stores: only our
    // bytes are copied to it.
    if lock.inode().data().dax.was_mapped() {
        if let Lookup::Exclusive(own) = lock.inode().data().tree.lookup(index) {
            return own.copy_from(part.start, block.bytes(), part.start, part.len());
        }
    }
    block.insert(lock, index, prealloc)
}
