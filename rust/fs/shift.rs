// SPDX-License-Identifier: GPL-2.0

//! `FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`: what lies behind a place in a file moves,
//! by whole blocks.

use super::{blocks_for, clone::stop_stores, data, Changing, ChargedTree};
use crate::{store::Reserve, vfs::go_on};
use kernel::prelude::*;

/// Moves what lies at block `from` and behind to block `to`; between the two there is a hole then,
/// or what was there is gone. The size is `size` afterwards.
///
/// Blocks move as subtrees where both places are congruent modulo those, one by one otherwise.
///
/// # Errors
///
/// `ENOMEM`; `ENOSPC` where there is no room for a node, or a copy; `EINTR` where the process is to end. The
/// file is as it was.
pub(crate) fn shift(inode: &Changing<'_>, from: u64, to: u64, size: u64) -> Result {
    let data = inode.data();
    let lock = inode.invalidate();
    let first = from.min(to);
    stop_stores(inode, &lock, first..data::ALL.end);
    // A block knows the index at which somebody may still write to it, and so does not move. A
    // copy goes instead, as a page cache would forget the page.
    let mut busy = KVVec::new();
    inode.mapped().settle(from..data::ALL.end, |index| {
        Ok(busy.push(index, GFP_KERNEL)?)
    })?;

    let source = data.edit()?;
    let mut tree = source.edit();
    let mut reserve = Reserve::on_demand();
    tree.remove(first, u64::MAX, &mut reserve)?;
    let len = data::ALL.end - from;
    tree.share(to, &source, from, len, &mut reserve, go_on)?;
    for index in busy {
        let Some(pinned) = source.lookup(index).block() else {
            continue;
        };
        // The other keeps its room, as long as somebody refers to it.
        let copy = data.pool().alloc()?;
        copy.bytes().copy_from(0, &pinned, 0, usize::MAX)?;
        tree.insert(index - from + to, copy, &mut reserve)?;
    }
    drop(source);
    let tree = ChargedTree::new(&lock, tree)?;
    // Nothing fails from here on. A reader must find no hole where the end was: so the end moves
    // down first, and up last.
    if size < inode.size() {
        inode.set_size(size);
        // As truncation does: what lies beyond the end is in no private mapping either.
        lock.unmap_with_copies(blocks_for(size)..data::ALL.end);
    }
    drop(tree.put());
    inode.set_size(size);
    Ok(())
}
