// SPDX-License-Identifier: GPL-2.0

//! Sharing blocks between files: `FICLONE`, `FICLONERANGE`.
//!
//! With `i_rwsem` of both files held there are three steps, so that no fault waits for long:
//! [`take`] takes the source's blocks with its `invalidate_lock` held, in O(1) if there are many; a
//! tree for the destination is made of them without a lock, in any number of steps; and its blocks
//! are inserted with the destination's `invalidate_lock` held, at the index that they have in it.

use super::{
    block_of,
    blocks_for,
    remap::RemapRequest,
    truncate,
    Changing,
    ChargedTree,
    Data,
    Inode,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    store::{
        block::NewBlock,
        Prealloc,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        InvalidateGuard, //
    },
};
use core::{
    cmp::Ordering,
    ops::Range, //
};
use kernel::{
    prelude::*,
    rbtree::RBTree,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often a block that seems to be pinned is looked at again, if a pinned block fails the call:
/// some references last for a moment only, such as DAMON's.
pub(super) const PIN_TRIES: usize = 5;

/// How many nodes it may take to share a range at the same index of another tree.
const PREALLOC_NODES: usize = 20;

/// How many stretches are unmapped one by one; if there are more, the whole range is.
const MAX_UNMAP_RANGES: usize = 256;

/// Clones a range: [`RemapKind::Clone`](super::remap::RemapKind). Returns how many bytes.
pub(crate) fn clone(request: &RemapRequest<'_>) -> Result<u64> {
    let files = request.lock();
    let Some((to, len)) = request.prepare_clone(&files)? else {
        return Ok(0);
    };
    let span = Span {
        from_pos: request.from_pos,
        to_pos: request.to_pos,
        len,
    };
    let mut steps = u64::MAX;
    share(files.from(), &to, span, request.only_shared, &mut steps)
}

/// A range of one file that another is to share, in bytes.
///
/// Both positions are multiples of the block size; `len` is, or ends at the end of the source and
/// at or beyond that of the destination.
pub(crate) struct Span {
    pub(crate) from_pos: u64,
    pub(crate) to_pos: u64,
    pub(crate) len: u64,
}

/// Makes the bytes of the destination those of the source by sharing their blocks, and moves the
/// destination's end up where that lies beyond it. Returns how many bytes: fewer where `steps`,
/// which become fewer, do not suffice, and with `only_shared` where a block follows that is pinned.
/// Otherwise such a block is copied.
///
/// # Errors
///
/// `ENOMEM`; `EDQUOT`; `ENOSPC` where a block has to be copied; `EBUSY` where the first block is
/// pinned, with `only_shared`; `EINTR` if a fatal signal is pending. Both files are as they were.
pub(crate) fn share(
    from: &LockedInode,
    to: &Changing<'_>,
    span: Span,
    only_shared: bool,
    steps: &mut u64,
) -> Result<u64> {
    let Span { to_pos, len, .. } = span;
    let (first, to_first, n) = (block_of(span.from_pos), block_of(to_pos), blocks_for(len));
    let taken = take(from, first..first + n, only_shared)?;
    let whole =
        first == 0 && to_first == 0 && len >= from.size() && len >= to.size() && taken.len == n;

    let mut prealloc = Prealloc::on_demand();
    let (mut tree, done) = if whole {
        let mut tree = taken.tree;
        // What fallocate put beyond the end is not cloned.
        if tree.next_block(n).is_some() {
            tree.remove(n, u64::MAX, &mut prealloc)?;
        }
        (tree, n)
    } else {
        let mut tree = to.data().tree.edit_empty()?;
        let done = tree.share_bounded(
            to_first,
            &taken.tree,
            first,
            taken.len,
            &mut prealloc,
            steps,
            cond_resched_killable,
        )?;
        drop(taken.tree);
        (tree, done)
    };
    for (index, copy) in taken.copies {
        if index - first < done {
            tree.insert(index - first + to_first, copy, &mut prealloc)?;
        }
    }
    let len = len.min(done * super::BLOCK_SIZE as u64);
    if !whole {
        prealloc_nodes(&mut prealloc, to);
    }

    let lock = to.invalidate_lock();
    if to_pos > to.size() {
        // What was stored beyond the end would become part of the file.
        let tail = block_of(to.size());
        lock.unmap(tail..tail + 1);
        truncate::wipe_tail(to, u64::MAX);
    }
    if !whole {
        let content = tree;
        tree = to.data().tree.edit()?;
        tree.share(
            to_first,
            &content,
            to_first,
            done,
            &mut prealloc,
            cond_resched_killable,
        )?;
    }
    let tree = ChargedTree::new(&lock, tree)?;
    lock.unmap(to_first..to_first + done);
    drop(tree.commit());
    if to_pos + len > to.size() {
        to.set_size(to_pos + len);
    }
    Ok(len)
}

/// Blocks that another file may have from now on.
struct Taken<'a> {
    /// A tree with these at their indexes, but for those that are copied, and perhaps with others.
    tree: Tree,
    /// Copies of blocks that may still be written to through a pin, by index.
    copies: KVVec<(u64, NewBlock<'a>)>,
    /// How many blocks, from the first on.
    len: u64,
}

/// Takes the blocks in `range`: afterwards the file writes none of them in place but the pinned
/// ones, of which there are copies. With `only_shared` ends before the first pinned block.
///
/// Allocates before it takes the lock, for as many pinned blocks as there were the last time.
fn take(from: &LockedInode, range: Range<u64>, only_shared: bool) -> Result<Taken<'_>> {
    let data = &from.data().tree;
    let mut range = range;
    let snap_range = Data::range_to_snapshot(range.start, range.end - range.start);
    let mut room = KVVec::new();
    let mut prealloc = Prealloc::on_demand();
    let mut tries = 0;
    loop {
        cond_resched_killable()?;
        let lock = from.invalidate_lock();
        unmap_writable(from, &lock, snap_range.clone());
        let Pinned { mut all, own } = Pinned::of(from, &snap_range, &range)?;
        if only_shared && !all.is_empty() {
            if tries < PIN_TRIES {
                tries += 1;
                drop(lock);
                fsleep(Delta::from_millis(1));
                continue;
            }
            range.end = all[0];
            if range.is_empty() {
                return Err(EBUSY);
            }
            all.clear();
        }
        if room.len() < all.len() {
            drop(lock);
            while room.len() < all.len() {
                room.push(data.pool().alloc()?, GFP_KERNEL)?;
            }
            prealloc_nodes(&mut prealloc, from);
            continue;
        }
        let mut copies = KVVec::with_capacity(all.len(), GFP_KERNEL)?;
        for &index in &all {
            if let (Some(old), Some(copy)) = (data.lookup(index).block(), room.pop()) {
                copy.bytes().copy_block(&old)?;
                copies.push((index, copy), GFP_KERNEL)?;
            }
        }
        let mut tree = data.snapshot(&snap_range)?;
        leave_out(&mut tree, from, &own, &mut prealloc)?;
        return Ok(Taken {
            tree,
            copies,
            len: range.end - range.start,
        });
    }
}

/// Allocates nodes for a change under `invalidate_lock` before that is taken, so that no fault
/// waits for memory. May allocate fewer than it takes.
pub(super) fn prealloc_nodes(prealloc: &mut Prealloc, file: &Inode) {
    prealloc.try_fill(PREALLOC_NODES, file.data().tree.pool());
}

/// Removes the blocks at the indexes `own` from `tree`, a snapshot of the file's, and makes them
/// exclusive in the file again: they are pinned, and a store through a pin must reach the file.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`.
pub(super) fn leave_out(
    tree: &mut Tree,
    file: &LockedInode,
    own: &[u64],
    prealloc: &mut Prealloc,
) -> Result {
    let mut result = Ok(());
    for &index in own {
        result = result.and_then(|()| tree.remove(index, index + 1, prealloc));
    }
    if result.is_err() {
        *tree = Tree::new(file.data().tree.pool().clone());
    }
    file.data().tree.restore_exclusive(own.iter());
    result
}

/// Removes writable mappings of the blocks in `range`, before these become shared or are compared,
/// and zeroes what was stored beyond the end of the file. Read-only mappings stay.
pub(super) fn unmap_writable(
    file: &LockedInode,
    lock: &InvalidateGuard<'_, ReflinkFs>,
    range: Range<u64>,
) {
    if file.data().dax.was_mapped() {
        let mut stretch = 0..0;
        let mut stretches = 0;
        let mut unmap = |stretch: Range<u64>| {
            stretches += 1;
            match stretches.cmp(&MAX_UNMAP_RANGES) {
                Ordering::Less => lock.unmap(stretch),
                Ordering::Equal => lock.unmap(range.clone()),
                Ordering::Greater => (),
            }
        };
        // A block that nothing else refers to is not mapped.
        let listed = file
            .data()
            .dax
            .mapped()
            .scan_pinned(range.clone(), |index| {
                if index == stretch.end {
                    stretch.end += 1;
                } else if index + 1 == stretch.start {
                    stretch.start -= 1;
                } else {
                    unmap(core::mem::replace(&mut stretch, index..index + 1));
                }
                Ok(())
            });
        unmap(stretch);
        debug_assert!(listed.is_ok());
    }
    truncate::wipe_tail(file, u64::MAX);
}

/// Blocks that may still be written to through a pin, by index.
pub(super) struct Pinned {
    /// In ascending order.
    pub(super) all: KVVec<u64>,
    /// Those that can be written in place, also some beyond the range.
    pub(super) own: KVVec<u64>,
}

impl Pinned {
    /// Returns those in `range`; and the own ones in `snap_range`, where stores have been stopped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn of(
        file: &LockedInode,
        snap_range: &Range<u64>,
        range: &Range<u64>,
    ) -> Result<Self> {
        let mut pinned = Self {
            all: KVVec::new(),
            own: KVVec::new(),
        };
        let mut in_order = RBTree::new();
        file.data()
            .dax
            .mapped()
            .scan_pinned(snap_range.clone(), |index| {
                if file.data().tree.is_exclusive(index) {
                    pinned.own.push(index, GFP_KERNEL)?;
                }
                if range.contains(&index) {
                    in_order.try_create_and_insert(index, (), GFP_KERNEL)?;
                }
                Ok(())
            })?;
        for &index in in_order.keys() {
            pinned.all.push(index, GFP_KERNEL)?;
        }
        Ok(pinned)
    }
}
