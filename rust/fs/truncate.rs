// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size, and what lies beyond its end.

use super::{block_of, blocks_for, offset_in_block, Locked};
use crate::store::{block::BLOCK_SIZE, Lookup, Reserve};
use kernel::prelude::*;

/// Before the end of the file moves up to `pos` or beyond: wipes what was stored through a mapping
/// beyond the end, as far as `pos`.
///
/// A block that was never mapped writable has nothing there, nor does one that is shared.
pub(crate) fn wipe_tail(inode: &Locked, pos: u64) {
    let size = inode.size();
    let offset = offset_in_block(size);
    if pos <= size || offset == 0 {
        return;
    }
    if let Lookup::Private(block) = inode.data().lookup(block_of(size)) {
        if block.is_mapped_writable() {
            block.zero(offset, BLOCK_SIZE - offset);
        }
    }
}

/// See [`FileOperations::truncate`](crate::vfs::FileOperations::truncate).
pub(crate) fn truncate(inode: &Locked, size: u64) -> Result {
    if size >= inode.size() {
        wipe_tail(inode, size);
        inode.set_size(size);
        return Ok(());
    }
    let data = inode.data();
    let lock = inode.invalidate();
    let (tail, offset) = (block_of(size), offset_in_block(size));
    // Before the edit, with which everything counts as shared.
    let last = data.lookup(tail);
    let mut tree = data.edit();
    // A full mount must not keep anybody from giving blocks back.
    let mut reserve = Reserve::on_demand_over();
    let end = blocks_for(size);
    tree.remove(end, u64::MAX, &mut reserve)?;
    let mut copied = false;
    if offset != 0 {
        if let Lookup::Shared(block) | Lookup::Unshared(block) = &last {
            if !block.is_zero(offset, BLOCK_SIZE) {
                let own = data.pool().alloc_over()?;
                own.bytes().copy_from(0, block, 0, offset);
                own.bytes().zero(offset, BLOCK_SIZE);
                tree.insert(tail, own, &mut reserve)?;
                copied = true;
            }
        }
    }
    // Nothing fails from here on.
    inode.set_size(size);
    lock.unmap_with_copies(end..blocks_for(u64::MAX));
    if copied {
        lock.unmap(tail..tail + 1);
    }
    if let (Lookup::Private(block), true) = (&last, offset != 0) {
        block.zero(offset, BLOCK_SIZE);
    }
    data.replace(tree);
    Ok(())
}
