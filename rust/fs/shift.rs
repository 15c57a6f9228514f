// SPDX-License-Identifier: GPL-2.0

//! `FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`: moves the rest of a file, by whole blocks.

use super::{
    blocks_for,
    clone::unmap_writable,
    data,
    Changing,
    ChargedTree,
    ReflinkFs, //
};
use crate::{
    store::{
        Prealloc,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        InvalidateGuard, //
    },
};
use kernel::prelude::*;

/// How often the tree is made without `invalidate_lock`, where stores change the file meanwhile.
const TRIES: usize = 2;

/// Moves the blocks from `from` on to `to`: leaves a hole between the two, or removes what was
/// there. The size is `size` afterwards.
///
/// Blocks move as subtrees where both indexes are congruent modulo their span, one by one
/// otherwise. As that takes long, faults do not wait for it; where one has changed the file
/// meanwhile it is done anew.
///
/// # Errors
///
/// `ENOMEM`; `ENOSPC` where there is no room for a node, or a copy; `EINTR` if a fatal signal is
/// pending. The file is as it was.
pub(crate) fn shift(inode: &Changing<'_>, from: u64, to: u64, size: u64) -> Result {
    let data = &inode.data().tree;
    let first = from.min(to);
    let mut tries = 0;
    loop {
        let lock = inode.invalidate_lock();
        unmap_writable(inode, &lock, first..data::ALL.end);
        // A pinned block carries the index at which it may still be stored to, and so does not
        // move. A copy does, as if a page cache had dropped the page.
        let mut pinned = KVVec::new();
        inode
            .data()
            .dax
            .mapped()
            .scan_pinned(from..data::ALL.end, |index| {
                Ok(pinned.push(index, GFP_KERNEL)?)
            })?;
        let source = data.edit()?;
        if tries == TRIES || !pinned.is_empty() {
            let tree = moved(inode, &source, (from, to), &pinned)?;
            drop(source);
            return commit(inode, &lock, tree, first, size);
        }
        drop(lock);
        let tree = moved(inode, &source, (from, to), &pinned)?;
        let lock = inode.invalidate_lock();
        if data.is_still(&source) {
            drop(source);
            return commit(inode, &lock, tree, first, size);
        }
        tries += 1;
    }
}

/// Returns a tree with the blocks of `source` as they are to be; of those that are pinned there are
/// copies.
fn moved(
    inode: &Changing<'_>,
    source: &Tree,
    (from, to): (u64, u64),
    pinned: &[u64],
) -> Result<Tree> {
    let mut tree = source.edit();
    let mut prealloc = Prealloc::on_demand();
    tree.remove(from.min(to), u64::MAX, &mut prealloc)?;
    let len = data::ALL.end - from;
    tree.share(to, source, from, len, &mut prealloc, cond_resched_killable)?;
    for &index in pinned {
        let Some(pinned) = source.lookup(index).block() else {
            continue;
        };
        // The original stays charged as long as it is referred to.
        let copy = inode.data().tree.pool().alloc()?;
        copy.bytes().copy_block(&pinned)?;
        tree.insert(index - from + to, copy, &mut prealloc)?;
    }
    Ok(tree)
}

fn commit(
    inode: &Changing<'_>,
    lock: &InvalidateGuard<'_, ReflinkFs>,
    tree: Tree,
    first: u64,
    size: u64,
) -> Result {
    let tree = ChargedTree::new(lock, tree)?;
    // Nothing fails from here on. A reader must find no hole where the end was: so the end moves
    // down first, and up last.
    lock.unmap(first..data::ALL.end);
    if size < inode.size() {
        inode.set_size(size);
        // As truncation does: what lies beyond the end is in no private mapping either.
        lock.unmap_even_cows(blocks_for(size)..data::ALL.end);
    }
    drop(tree.commit());
    inode.set_size(size);
    Ok(())
}
