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
    referenced::Referenced,
    remap::RemapRequest,
    room::Room,
    truncate,
    BlocksGuard,
    Changing,
    ChargedTree,
    FileBlocks,
    LockedInode, //
};
use crate::{
    store::{
        block::NewBlock,
        Prealloc,
        Tree, //
    },
    vfs::cond_resched_killable, //
};
use kernel::prelude::*;

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
    let (first, to_first) = (block_of(span.from_pos), block_of(span.to_pos));
    let file_blocks = files.from().blocks();
    file_blocks.check_room_to_share(first..first + blocks_for(len), to_first)?;
    let mut steps = u64::MAX;
    clone_span(files.from(), &to, span, request.only_shared, &mut steps)
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
/// which become fewer, do not suffice, and with `only_shared` where a block follows that is
/// referenced. Otherwise such a block is duplicated.
///
/// # Errors
///
/// `ENOMEM`; `EDQUOT`; `ENOSPC` where a block has to be duplicated; `EBUSY` where the first block
/// is referenced, with `only_shared`; `EINTR` if a fatal signal is pending. Both files are as they
/// were.
pub(crate) fn clone_span(
    from: &LockedInode,
    to: &Changing<'_>,
    span: Span,
    only_shared: bool,
    steps: &mut u64,
) -> Result<u64> {
    let Span { to_pos, len, .. } = span;
    let (first, to_first, n) = (block_of(span.from_pos), block_of(to_pos), blocks_for(len));
    let taken = take(from, first, n, only_shared)?;
    let replaces_all =
        first == 0 && to_first == 0 && len >= from.size() && len >= to.size() && taken.len == n;

    let (content, done) = content(to, taken, first, to_first, replaces_all, steps)?;
    let len = len.min(done * super::BLOCK_SIZE as u64);
    let mut content = Some(content);
    let replaced = Room::new(to.blocks().pool()).retry(|room| {
        let guard = BlocksGuard::lock(to)?;
        let lock = guard.get();
        if to_pos > to.size() {
            // What was stored behind the end is within the file then.
            let tail = block_of(to.size());
            lock.unmap(tail..tail + 1);
            truncate::wipe_tail(to, lock.blocks(), u64::MAX);
        }
        let tree = match &content {
            Some(content) if !replaces_all => {
                let nodes = room.nodes(false);
                let mut tree = lock.blocks().edit(nodes)?;
                let stop = cond_resched_killable;
                tree.share_range(to_first, content, to_first, done, nodes, stop)?;
                Some(tree)
            }
            _ => content.take(),
        };
        // So that nothing is shared with what is dropped anyway, when the lock is.
        drop(content.take());
        let tree = ChargedTree::new(lock, tree.ok_or(EINVAL)?)?;
        lock.unmap(to_first..to_first + done);
        let replaced = tree.commit();
        if to_pos + len > to.size() {
            to.set_size(to_pos + len);
        }
        Ok(replaced)
    })?;
    // After the locks, as it may be large.
    drop(replaced);
    Ok(len)
}

/// Returns a tree for the destination with the blocks that were taken from `first` on, at
/// `to_first`, and how many of them, as far as `steps` suffice.
///
/// With `replaces_all` nothing of the destination is left, and each block keeps its index: so the
/// tree that was taken becomes the destination's, in O(1). Otherwise it has only the blocks of the
/// range, and its caller puts them between those that the destination keeps.
fn content(
    to: &LockedInode,
    taken: Taken<'_>,
    first: u64,
    to_first: u64,
    replaces_all: bool,
    steps: &mut u64,
) -> Result<(Tree, u64)> {
    let Taken {
        tree,
        duplicates,
        len,
    } = taken;
    let mut prealloc = Prealloc::on_demand();
    let (mut content, mut done) = (tree, len);
    if !replaces_all {
        let from = core::mem::replace(&mut content, to.blocks().edit_empty());
        let stop = cond_resched_killable;
        done = content.share_bounded(to_first, &from, first, len, &mut prealloc, steps, stop)?;
    } else if content.next_block(len).is_some() {
        // What fallocate put beyond the end is not cloned.
        content.remove(len, u64::MAX, &mut prealloc)?;
    }
    for (index, duplicate) in duplicates {
        if index - first < done {
            content.insert(index - first + to_first, duplicate, &mut prealloc)?;
        }
    }
    Ok((content, done))
}

/// Blocks that another file may have from now on.
struct Taken<'a> {
    /// A tree with these at their indexes, but for those that are duplicated, and perhaps with
    /// others.
    tree: Tree,
    /// Duplicates of referenced blocks, by index.
    duplicates: KVVec<(u64, NewBlock<'a>)>,
    /// How many blocks, from the first on.
    len: u64,
}

/// Takes the `n` blocks from `first` on: none of them is written in place any more, but those of
/// which there are duplicates. With `only_shared` ends before the first of which there would be
/// one.
fn take(from: &LockedInode, first: u64, n: u64, only_shared: bool) -> Result<Taken<'_>> {
    let file_blocks = from.blocks();
    let snap_range = FileBlocks::range_to_snapshot(first, n);
    let mut referenced = Referenced::new();
    Room::new(file_blocks.pool()).retry(|room| {
        let mut duplicates = KVVec::with_capacity(referenced.reserve()?, GFP_KERNEL)?;
        let guard = BlocksGuard::lock(from)?;
        let lock = guard.get();
        referenced.scan(from, lock, &snap_range, &(first..first + n), room)?;
        let mut len = n;
        if only_shared {
            let before = referenced.wanted.first().map(|index| index - first);
            len = room.before_referenced(before, n)?;
            referenced.wanted.clear();
        }
        for &index in &referenced.wanted {
            if let Some(old) = file_blocks.lookup(index).block() {
                let duplicate = Referenced::duplicate(from, index, &old, room)?;
                room.push(&mut duplicates, (index, duplicate))?;
            }
        }
        let tree = referenced.snapshot(lock.blocks(), &snap_range, room.nodes(false))?;
        Ok(Taken {
            tree,
            duplicates,
            len,
        })
    })
}
