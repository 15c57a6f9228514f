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

use super::{
    block_of,
    blocks_for,
    offset_in_block,
    referenced::Referenced,
    remap::RemapRequest,
    room::Room,
    ChargedTree,
    FileBlocks,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    compat::EBADE,
    store::{
        block::{
            BlockRef,
            BLOCK_SIZE, //
        },
        Prealloc,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        signal_pending,
        InvalidatePair,
        LockedPair, //
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// How many blocks `FIDEDUPERANGE` compares at most, and how many steps it takes to see what is the
/// same already: 1 GiB, as much as it is asked for at a time, since its length must not be cut
/// short.
const LIMIT_BLOCKS: u64 = 1 << 18;

/// The same where the request may stop: 256 MiB, as freeze protection is held meanwhile.
const LIMIT_IF_STOPPABLE_BLOCKS: u64 = 1 << 16;

/// How many blocks could be compared in the time of a step that sees what is the same already: it
/// walks down both trees.
const STEP_COST_BLOCKS: u64 = 8;

/// How many blocks are compared with the locks held: 1 MiB.
const LOCKED_COMPARE_BLOCKS: u64 = 256;

/// How many steps it may take, with the locks held, to see what is the same.
const LOCKED_COMPARE_STEPS: u64 = 1 << 12;

/// How often everything is compared again, if too much of it has changed meanwhile.
const MAX_RETRIES: usize = 2;

/// How many blocks are compared between two checks for signals.
const CHECK_STOP_BLOCKS: u64 = 256;

/// Shares the range if it holds the same bytes in both files. Returns how many bytes. They are
/// fewer than all where the request may stop: after a signal, after [`LIMIT_BLOCKS`] blocks, or if
/// the files go on changing.
///
/// # Errors
///
/// `EBADE` where the bytes differ; `EBUSY` if the files go on changing, and, with `only_shared`,
/// where the first block is referenced; `EINTR`, `EDQUOT`, `ENOMEM`, `ENOSPC`, and those
/// of [`prepare`].
pub(crate) fn dedupe(request: &RemapRequest<'_>) -> Result<u64> {
    let range = Blocks::of(request);
    let mut room = Room::new(request.to.inode().info().blocks.pool());
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

/// Where the blocks of a request are: a block of the range has the index `i` here, `first + i` in
/// the source, and `to_first + i` in the destination.
struct Blocks {
    first: u64,
    to_first: u64,
}

impl Blocks {
    fn of(request: &RemapRequest<'_>) -> Self {
        Self {
            first: block_of(request.from_pos),
            to_first: block_of(request.to_pos),
        }
    }

    /// Returns the indexes of block `i` in both files.
    fn at(&self, i: u64) -> (u64, u64) {
        (self.first + i, self.to_first + i)
    }

    /// Returns the first `n` blocks, in the source.
    fn from(&self, n: u64) -> Range<u64> {
        self.first..self.first + n
    }

    /// Returns the first `n` blocks, in the destination.
    fn to(&self, n: u64) -> Range<u64> {
        self.to_first..self.to_first + n
    }
}

/// The referenced blocks of both files.
struct ReferencedPair {
    from: Referenced,
    to: Referenced,
    /// Those of either in the range, as [`Blocks`] counts, in ascending order.
    both: KVVec<u64>,
}

impl ReferencedPair {
    fn new() -> Self {
        Self {
            from: Referenced::new(),
            to: Referenced::new(),
            both: KVVec::new(),
        }
    }

    /// See [`Referenced::reserve`].
    fn reserve(&mut self) -> Result {
        let found = self.from.reserve()? + self.to.reserve()?;
        self.both.clear();
        self.both.reserve(found, GFP_KERNEL)?;
        Ok(())
    }

    /// Scans the ranges in the two files, see [`Referenced::scan`]. Returns how many of the first
    /// `n` blocks of the request are to be shared.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, as [`Referenced::scan`]; those of [`Room::before_referenced`].
    fn scan(
        &mut self,
        request: &RemapRequest<'_>,
        (range, n): (&Blocks, u64),
        (files, locks): (&LockedPair<'_, ReflinkFs>, &InvalidatePair<'_, ReflinkFs>),
        [from_range, to_range]: [&Range<u64>; 2],
        room: &mut Room<'_>,
    ) -> Result<u64> {
        let (from, to) = (files.from(), files.to());
        let scanned = self
            .from
            .scan(from, &locks.from(), from_range, &range.from(n), room);
        self.to
            .scan(to, &locks.to(), to_range, &range.to(n), room)
            .and(scanned)?;
        let from = self.from.wanted.iter().map(|index| index - range.first);
        let to = self.to.wanted.iter().map(|index| index - range.to_first);
        self.both.clear();
        let (mut from, mut to) = (from.peekable(), to.peekable());
        while let Some(&least) = match (from.peek(), to.peek()) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        } {
            from.next_if_eq(&least);
            to.next_if_eq(&least);
            room.push(&mut self.both, least)?;
        }
        match self.both.first().copied() {
            first if request.only_shared => room.before_referenced(first, n),
            _ => Ok(n),
        }
    }
}

/// Returns whether block `at` is in `list`, which is in ascending order, and up to where, at most
/// `n`, the next ones are like it.
fn stretch(list: &[u64], at: u64, n: u64) -> (bool, u64) {
    let (Ok(next) | Err(next)) = list.binary_search(&at);
    match list.get(next) {
        Some(&next) if next == at => (true, at + 1),
        Some(&next) => (false, next.min(n)),
        None => (false, n),
    }
}

/// What two files held.
struct View {
    from: Tree,
    to: Tree,
    /// The destination's tree as it is to be, as far as it was compared.
    shared: Tree,
    /// Blocks that are left out of the comparison, in ascending order.
    left_out: KVVec<u64>,
    /// How many bytes of the range are to be compared.
    len: u64,
    /// How many blocks, from the first on, are equal, but for those left out.
    equal: u64,
}

impl View {
    /// Takes what the range holds; `None` where it is empty.
    fn take(
        request: &RemapRequest<'_>,
        range: &Blocks,
        referenced: &mut ReferencedPair,
        room: &mut Room<'_>,
    ) -> Result<Option<Self>> {
        referenced.reserve()?;
        let files = request.lock();
        let locks = files.invalidate_lock();
        let (from, to) = (files.from(), files.to());
        let len = prepare(request, from, to)?;
        let n = blocks_for(len);
        if n == 0 {
            return Ok(None);
        }
        let from_range = FileBlocks::range_to_snapshot(range.first, n);
        let to_range = FileBlocks::range_to_snapshot(range.to_first, n);
        let ranges = [&from_range, &to_range];
        let n = referenced.scan(request, (range, n), (&files, &locks), ranges, room)?;

        let nodes = room.nodes(false);
        let mut source = referenced.from.snapshot(from, &from_range, nodes)?;
        let mut target = referenced.to.snapshot(to, &to_range, nodes)?;
        // Of either file: what is left out of one is not compared with the other.
        for (index, to_index) in referenced.both.iter().map(|&i| range.at(i)) {
            source.remove(index, index + 1, nodes)?;
            target.remove(to_index, to_index + 1, nodes)?;
        }
        Ok(Some(Self {
            from: source,
            shared: target.edit(),
            to: target,
            left_out: core::mem::take(&mut referenced.both),
            len: len.min(n * BLOCK_SIZE as u64),
            equal: 0,
        }))
    }

    /// Compares both, and shares in [`View::shared`] what is equal. Ends where a signal of any kind
    /// is pending, if the request may stop, or after as many blocks as the limit says.
    ///
    /// # Errors
    ///
    /// `EBADE` where they differ; `EINTR` if a fatal signal is pending; `ENOMEM`, `ENOSPC`.
    fn compare(&mut self, request: &RemapRequest<'_>, range: &Blocks) -> Result {
        let n = blocks_for(self.len);
        let mut prealloc = Prealloc::on_demand();
        let limit = if request.may_stop {
            LIMIT_IF_STOPPABLE_BLOCKS
        } else {
            LIMIT_BLOCKS
        };
        let (mut at, mut compared, mut left) = (0, 0, limit);
        let mut room = Ok(());
        while at < n && left > 0 {
            let (is_left_out, end) = stretch(&self.left_out, at, n);
            if is_left_out {
                at = end;
                continue;
            }
            let (index, to_index) = range.at(at);
            let (from, to) = (&self.from, &self.to);
            let mut steps = CHECK_STOP_BLOCKS;
            let same = from.same_len(index, to, to_index, end - at, &mut steps);
            at += same;
            let mut cost = same.min(STEP_COST_BLOCKS * (CHECK_STOP_BLOCKS - steps));
            if same == 0 {
                let max = (end - at).min(CHECK_STOP_BLOCKS);
                let len = self.len - at * BLOCK_SIZE as u64;
                let found = compare((from, index), (to, to_index), max, len)?;
                if room.is_ok() {
                    let (shared, stop) = (&mut self.shared, cond_resched_killable);
                    room = shared.share_range(to_index, from, index, found, &mut prealloc, stop);
                    if room.is_err() {
                        // Gives the nodes back; what follows may still differ.
                        *shared = to.edit();
                    }
                }
                at += found;
                cost = found;
            }
            left = left.saturating_sub(cost);
            compared += cost;
            if compared >= CHECK_STOP_BLOCKS {
                compared = 0;
                cond_resched_killable()?;
                if request.may_stop && signal_pending() {
                    break;
                }
            }
        }
        self.equal = at;
        room
    }

    /// Returns how many of the blocks from `at` on, up to `end`, are still those that were found to
    /// be equal.
    fn still(
        &self,
        range: &Blocks,
        at: u64,
        end: u64,
        (from, to): (&Tree, &Tree),
        steps: &mut u64,
    ) -> u64 {
        let (index, to_index) = range.at(at);
        let len = end.min(self.equal).saturating_sub(at);
        let len = from.same_len(index, &self.from, index, len, steps);
        to.same_len(to_index, &self.to, to_index, len, steps)
    }
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
    let files = request.lock();
    let locks = files.invalidate_lock();
    let (from, to) = (files.from(), files.to());
    let mut len = len_to_share(request, from, to, view.as_ref())?;
    let n = blocks_for(len);
    if n == 0 {
        return Ok(Some(0));
    }
    let from_range = FileBlocks::range_to_snapshot(range.first, n);
    let ranges = [&from_range, &range.to(n)];
    let n = referenced.scan(request, (range, n), (&files, &locks), ranges, room)?;
    len = len.min(n * BLOCK_SIZE as u64);

    let nodes = room.nodes(false);
    let source = from.info().blocks.snapshot(&from_range, nodes);
    let result = source.and_then(|source| {
        let target = to.info().blocks.edit(nodes)?;
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
        let to_lock = locks.to();
        let tree = ChargedTree::new(&to_lock, tree)?;
        to_lock.unmap(range.to(n));
        drop(tree.commit());
        Ok(Some(len))
    });
    to.info()
        .blocks
        .restore_owned(referenced.to.owned_in_snapshot.iter());
    from.info()
        .blocks
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

/// Compares up to `max` blocks, and no more than `len` bytes, up to the end of a leaf of either
/// tree. Returns how many blocks, at least one.
///
/// # Errors
///
/// `EBADE` where they differ.
fn compare((a, i): (&Tree, u64), (b, j): (&Tree, u64), max: u64, len: u64) -> Result<u64> {
    fn at(tree: &Tree, index: u64) -> &[Option<BlockRef>] {
        match tree.blocks_at(index) {
            [] => &[None],
            blocks => blocks,
        }
    }
    let mut done = 0;
    let both = at(a, i).iter().zip(at(b, j));
    for (a, b) in both.take(max as usize) {
        let bytes = (len - done * BLOCK_SIZE as u64).min(BLOCK_SIZE as u64) as usize;
        if !equal(a, b, bytes)? {
            return Err(EBADE);
        }
        done += 1;
    }
    Ok(done)
}

fn equal(a: &Option<BlockRef>, b: &Option<BlockRef>, len: usize) -> Result<bool> {
    match (a, b) {
        (Some(a), Some(b)) => a.bytes_equal(b, len),
        (Some(block), None) | (None, Some(block)) => block.is_zero(0, len),
        (None, None) => Ok(true),
    }
}
