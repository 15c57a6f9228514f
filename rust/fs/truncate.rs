// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size, and what lies beyond its end.

use super::{
    block_of,
    blocks_for,
    clear::Clearing,
    file_blocks::OwnBlocks,
    offset_in_block,
    room::Room,
    BlocksGuard,
    Changing,
    Inode,
    LockedInode,
    Transaction, //
};
use crate::store::{
    block::BLOCK_SIZE,
    Lookup, //
};
use kernel::prelude::*;

/// Returns whether there may be something in block `index` that was stored through a mapping beyond
/// the end of the file. [`wipe_tail`] only finds it as long as the file owns the block.
pub(crate) fn has_tail(inode: &Inode, index: u64) -> bool {
    let size = inode.size();
    offset_in_block(size) > 0 && index == block_of(size) && inode.info().dax.was_mapped()
}

/// Zeroes what was stored through a mapping beyond the end of the file, before the end moves up to
/// `pos` or beyond.
///
/// There is nothing in a file that was never mapped, nor in a block that the file does not own: it
/// was wiped before it was shared, and is not given out for later reads.
pub(crate) fn wipe_tail(inode: &LockedInode, own: OwnBlocks<'_>, pos: u64) {
    let size = inode.size();
    if pos <= size || !has_tail(inode, block_of(size)) {
        return;
    }
    if let Lookup::Owned(block) = own.lookup(block_of(size)) {
        let offset = offset_in_block(size);
        block.zero(offset, BLOCK_SIZE - offset);
    }
}

/// Moves the end of the file up to `size`, if it lies before that. What was stored behind it
/// through a mapping becomes zeros.
///
/// # Errors
///
/// Those of [`Transaction::begin`].
pub(crate) fn extend(inode: &LockedInode, size: u64) -> Result {
    if size > inode.size() {
        let transaction = Transaction::begin([&**inode])?;
        let [exclusive] = transaction.each();
        wipe_tail(inode, OwnBlocks::of(exclusive), size);
        inode.set_size(size);
    }
    Ok(())
}

/// Changes the size. Shrinking frees blocks, growing makes a hole.
///
/// # Errors
///
/// `ENOMEM`; the file is as it was.
pub(crate) fn truncate(inode: &Changing<'_>, size: u64) -> Result {
    let beyond = |end| inode.blocks().next_block(blocks_for(end)).is_some();
    // If the size stays, what fallocate put beyond the end is removed.
    if size > inode.size() || size == inode.size() && !beyond(size) {
        return extend(inode, size);
    }
    let cleared = Room::new(inode.blocks().pool()).retry(|room| {
        let lock = BlocksGuard::lock(inode)?;
        let clearing = Clearing::prepare(lock.get(), size..u64::MAX, room)?;
        // Nothing fails from here on.
        inode.set_size(size);
        Ok(clearing.commit(true))
    })?;
    // After the locks, as it may be large.
    drop(cleared);
    Ok(())
}
