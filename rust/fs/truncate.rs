// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size, and what lies beyond its end.

use super::{
    block_of,
    blocks_for,
    clear::Clearing,
    offset_in_block,
    room::Room,
    Changing,
    Inode,
    LockedInode, //
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
pub(crate) fn wipe_tail(inode: &LockedInode, pos: u64) {
    let size = inode.size();
    if pos <= size || !has_tail(inode, block_of(size)) {
        return;
    }
    if let Lookup::Owned(block) = inode.info().blocks().lookup(block_of(size)) {
        let offset = offset_in_block(size);
        block.zero(offset, BLOCK_SIZE - offset);
    }
}

/// Changes the size. Shrinking frees blocks, growing makes a hole.
///
/// # Errors
///
/// `ENOMEM`; the file is as it was.
pub(crate) fn truncate(inode: &Changing<'_>, size: u64) -> Result {
    let beyond = |end| inode.info().blocks().next_block(blocks_for(end)).is_some();
    // If the size stays, what fallocate put beyond the end is removed.
    if size > inode.size() || size == inode.size() && !beyond(size) {
        wipe_tail(inode, size);
        inode.set_size(size);
        return Ok(());
    }
    Room::new(inode.info().blocks().pool()).retry(|room| {
        let lock = inode.invalidate_lock();
        let clearing = Clearing::prepare(&lock, size..u64::MAX, room)?;
        // Nothing fails from here on.
        inode.set_size(size);
        drop(clearing.commit(true));
        Ok(())
    })
}
