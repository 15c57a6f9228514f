// SPDX-License-Identifier: GPL-2.0

//! `FIDEDUPERANGE`: sharing what is equal.
//!
//! Comparing may take long, and holds no lock. So a [`View`] is taken with the locks of both files
//! held, which is O(1); it is compared without any; and then, with the locks held again, those
//! blocks are shared that are still the view's ([`commit`]). That is seen by pointer, as what a
//! view has is not written in place. Blocks that were changed meanwhile are compared there, a few
//! at a time.
//!
//! Nothing is shared before all of the range, or of what is left of it, was found to be equal.

mod blocks;
mod view;

use self::{
    blocks::{
        compare,
        stretch,
        Blocks,
        ReferencedPair, //
    },
    view::View, //
};
use super::{
    blocks_for,
    file_blocks::BlocksLock,
    offset_in_block,
    remap::RemapRequest,
    room::Room,
    ChargedTree,
    FileBlocks,
    LockedInode,
    Transaction, //
};
use crate::{
    compat::EBADE,
    store::{
        block::BLOCK_SIZE,
        Prealloc,
        Tree, //
    },
    vfs::cond_resched_killable, //
};
use kernel::prelude::*;

/// How many blocks are compared with the locks held: 1 MiB.
const LOCKED_COMPARE_BLOCKS: u64 = 256;

/// How many steps it may take, with the locks held, to see what is the same.
const LOCKED_COMPARE_STEPS: u64 = 1 << 12;

/// How often everything is compared again, if too much of it has changed meanwhile.
const MAX_RETRIES: usize = 2;

/// Shares the range if it holds the same bytes in both files. Returns how many bytes. They are
/// fewer than all where the request may stop: after a signal, after as many blocks as a view compares, or if
/// the files go on changing.
///
/// # Errors
///
/// `EBADE` where the bytes differ; `EBUSY` if the files go on changing, and, with `only_shared`,
/// where the first block is referenced; `EINTR`, `EDQUOT`, `ENOMEM`, `ENOSPC`, and those
/// of [`prepare`].
pub(crate) fn dedupe(request: &RemapRequest<'_>) -> Result<u64> {
    let range = Blocks::of(request);
    let mut room = Room::new(request.to.inode().blocks().pool());
    let mut referenced = ReferencedPair::new();
    let mut view = None;
    for retries_left in (0..=MAX_RETRIES).rev() {
        let is_last = retries_left == 0;
        // What was compared is not compared again where memory is short.
        let shared = room.retry(|room| {
            if view.is_none() && blocks_for(request.len) > LOCKED_COMPARE_BLOCKS {
                let Some(mut taken) = View::take(request, &range, &mut referenced, room)? else {
                    return Ok(Some(0));
                };
                taken.compare(request, &range)?;
                view = Some(taken);
            }
            commit(request, &range, &mut view, is_last, &mut referenced, room)
        })?;
        if let Some(len) = shared {
            return Ok(len);
        }
        view = None;
        cond_resched_killable()?;
    }
    Err(EBUSY)
}

/// Shares what `view` found to be equal, or what is seen to be equal here. The view is gone where
/// that is done. Returns how many bytes; `None` if too much has changed since the comparison, and,
/// unless this is the last try, if not all is equal.
fn commit(
    request: &RemapRequest<'_>,
    range: &Blocks,
    view: &mut Option<View>,
    is_last: bool,
    referenced: &mut ReferencedPair,
    room: &mut Room<'_>,
) -> Result<Option<u64>> {
    referenced.reserve()?;
    // Dropped after the locks, as it may be large.
    let mut replaced = None;
    let files = request.lock();
    let (from, to) = (files.from(), files.to());
    let transaction = Transaction::begin([&**from, &**to])?.of_data();
    let locks = files.invalidate_lock();
    let (from_lock, to_lock) = (locks.from(), locks.to());
    let [from_own, to_own] = transaction.each();
    let from_lock = BlocksLock::of(&from_lock, from_own);
    let to_lock = BlocksLock::of(&to_lock, to_own);
    let mut len = len_to_share(request, from, to, view.as_ref())?;
    let n = blocks_for(len);
    if n == 0 {
        return Ok(Some(0));
    }
    let from_range = FileBlocks::range_to_snapshot(range.first, n);
    let ranges = [&from_range, &range.to(n)];
    let both = (from_lock, to_lock);
    let n = referenced.scan(request, (range, n), &files, both, ranges, room)?;
    len = len.min(n * BLOCK_SIZE as u64);

    let nodes = room.nodes(false);
    let source = from_lock.blocks().snapshot(&from_range, nodes);
    let result = source.and_then(|source| {
        let target = to_lock.blocks().edit(nodes)?;
        let trees = (&source, &target);
        shared_tree(
            range,
            trees,
            view.as_ref(),
            &referenced.both,
            (n, len),
            nodes,
        )
    });
    let result = result.and_then(|(tree, equal)| {
        // So that nothing is shared with what is dropped anyway, when the locks are.
        *view = None;
        if equal < n {
            if !is_last || !request.may_stop || equal == 0 {
                return Ok(None);
            }
            len = equal * BLOCK_SIZE as u64;
        }
        let tree = ChargedTree::new(to_lock, tree)?;
        to_lock.unmap(range.to(n));
        replaced = Some(tree.commit().tree);
        Ok(Some(len))
    });
    to_lock
        .blocks()
        .restore_owned(referenced.to.owned_in_snapshot.iter());
    from_lock
        .blocks()
        .restore_owned(referenced.from.owned_in_snapshot.iter());
    result
}

/// Returns what the destination's tree is to be: the `n` blocks, `len` bytes, shared with those of
/// the source, but for those that are `referenced`. Also returns how many blocks from the first on
/// are equal; where these are not all, what follows would take too long.
///
/// # Errors
///
/// `EBADE` where they differ; `ENOMEM`, `ENOSPC`, `EINTR`.
fn shared_tree(
    range: &Blocks,
    (source, target): (&Tree, &Tree),
    view: Option<&View>,
    referenced: &[u64],
    (n, len): (u64, u64),
    nodes: &mut Prealloc,
) -> Result<(Tree, u64)> {
    let stop = cond_resched_killable;
    let mut tree = target.edit();
    let mut few = LOCKED_COMPARE_STEPS;
    if source.same_len(range.first, target, range.to_first, n, &mut few) == n {
        // All is shared already: takes no node.
        return Ok((tree, n));
    }
    let (mut at, mut left, mut steps) = (0, LOCKED_COMPARE_BLOCKS, LOCKED_COMPARE_STEPS);
    while at < n {
        cond_resched_killable()?;
        let (index, to_index) = range.at(at);
        let (is_referenced, end) = stretch(referenced, at, n);
        if !is_referenced {
            if let Some(view) = view {
                let still = view.still(range, at, end, (source, target), &mut steps);
                if still > 0 {
                    tree.share_range(to_index, &view.shared, to_index, still, nodes, stop)?;
                    at += still;
                    continue;
                }
            }
            let same = source.same_len(index, target, to_index, end - at, &mut steps);
            if same > 0 {
                at += same;
                continue;
            }
        }
        if left == 0 || steps == 0 {
            break;
        }
        let (max, bytes) = (left.min(end - at), len - at * BLOCK_SIZE as u64);
        let found = compare((source, index), (target, to_index), max, bytes)?;
        if !is_referenced {
            tree.share_range(to_index, source, index, found, nodes, stop)?;
        }
        left -= found;
        at += found;
    }
    Ok((tree, at))
}

/// Does what `generic_remap_file_range_prep` and `generic_remap_checks` do for a deduplication,
/// which compare through the page cache. Returns the length to compare.
///
/// # Errors
///
/// `EPERM`, `EINVAL` for files and ranges that cannot be shared, `EFBIG`.
fn prepare(request: &RemapRequest<'_>, from: &LockedInode, to: &LockedInode) -> Result<u64> {
    if to.is_immutable() {
        return Err(EPERM);
    }
    // Both are regular files, as the VFS has checked, and no swap files, which need `bmap`.
    let (from_pos, to_pos, len) = (request.from_pos, request.to_pos, request.len);
    if len == 0 {
        return Ok(0);
    }
    if offset_in_block(from_pos) != 0 || offset_in_block(to_pos) != 0 {
        return Err(EINVAL);
    }
    // Neither sum exceeds what the VFS has checked, 2^63.
    if from_pos + len > from.size() || to_pos + len > to.size() {
        return Err(EINVAL);
    }
    let mut count = request.to.write_check_limits(to_pos, len)?;
    let mut span = count;
    if from_pos + count == from.size() && to_pos + count == to.size() {
        span = blocks_for(count) * BLOCK_SIZE as u64;
    } else {
        count -= offset_in_block(count) as u64;
        span = span.min(count);
    }
    let same_file = core::ptr::eq(from, to);
    if same_file && to_pos + span > from_pos && to_pos < from_pos + span {
        return Err(EINVAL);
    }
    if count != len && !request.may_shorten {
        return Err(EINVAL);
    }
    Ok(count)
}

/// Returns how many bytes are to be shared: what is left of the request, as far as `view` is equal.
/// A partial last block may be shared only where it is the destination's last, too:
/// `generic_remap_check_len`.
///
/// # Errors
///
/// Those of [`prepare`]; `EBADE` for such a block where the request may not be shortened.
fn len_to_share(
    request: &RemapRequest<'_>,
    from: &LockedInode,
    to: &LockedInode,
    view: Option<&View>,
) -> Result<u64> {
    let mut len = prepare(request, from, to)?;
    if let Some(view) = view.filter(|view| view.equal < blocks_for(view.len)) {
        len = len.min(view.equal * BLOCK_SIZE as u64);
    }
    let partial = offset_in_block(len) as u64;
    if partial == 0 || request.to_pos + len >= to.size() {
        Ok(len)
    } else if request.may_shorten {
        Ok(len - partial)
    } else {
        Err(EBADE)
    }
}
