// SPDX-License-Identifier: GPL-2.0

//! `FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`: moves the rest of a file, by whole blocks.

use super::{
    blocks_for,
    clone::{
        unmap_writable,
        Pinned, //
    },
    data,
    room::Room,
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
    let mut room = Room::new(data.pool());
    let mut pinned = Pinned::new();
    let mut tries = 0;
    loop {
        let lock = inode.invalidate_lock();
        unmap_writable(inode, &lock, first..data::ALL.end);
        // A block that is pinned carries the index at which it may still be written to, and so does
        // not move. A copy goes instead, as a page cache would forget the page.
        let range = from..data::ALL.end;
        if !pinned.scan(inode, &range, &range) {
            drop(lock);
            pinned.reserve()?;
            continue;
        }
        let result = data.edit(room.nodes(false)).and_then(|source| {
            if tries < TRIES && pinned.all.is_empty() {
                return Ok(Err(source));
            }
            let mut tree = moved(&source, (from, to), room.nodes(false))?;
            for &index in &pinned.all {
                let Some(old) = source.lookup(index).block() else {
                    continue;
                };
                // The other stays counted as long as it is referred to.
                let copy = room.block(false)?;
                copy.bytes().copy_block(&old)?;
                tree.insert(index - from + to, copy, room.nodes(false))?;
            }
            Ok(Ok(tree))
        });
        let source = match result {
            Ok(Ok(tree)) => return commit(inode, &lock, tree, first, size),
            Ok(Err(source)) => source,
            Err(_) if room.is_short() => {
                drop(lock);
                room.fill()?;
                continue;
            }
            Err(err) => return Err(err),
        };
        drop(lock);
        let tree = moved(&source, (from, to), &mut Prealloc::on_demand())?;
        let lock = inode.invalidate_lock();
        if data.is_still(&source) {
            drop(source);
            return commit(inode, &lock, tree, first, size);
        }
        tries += 1;
    }
}

/// Returns a tree with the blocks of `source` as they are to be.
fn moved(source: &Tree, (from, to): (u64, u64), nodes: &mut Prealloc) -> Result<Tree> {
    let mut tree = source.edit();
    tree.remove(from.min(to), u64::MAX, nodes)?;
    let len = data::ALL.end - from;
    tree.share(to, source, from, len, nodes, cond_resched_killable)?;
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
