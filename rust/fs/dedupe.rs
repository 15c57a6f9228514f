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
    clone::{
        leave_out,
        unmap_writable,
        Pinned,
        PIN_TRIES, //
    },
    offset_in_block,
    remap::RemapRequest,
    room::Room,
    ChargedTree,
    Data,
    LockedInode, //
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
        FileRange, //
    },
};
use core::ops::Range;
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

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
/// where the first block is pinned; `EINTR`, `EDQUOT`, `ENOMEM`, `ENOSPC`, and those of
/// [`prepare`].
pub(crate) fn dedupe(request: &RemapRequest<'_>) -> Result<u64> {
    let range = Blocks::of(request);
    let mut tries = Tries::default();
    let mut memory = Memory::new(request);
    let mut view = None;
    loop {
        match try_once(request, &range, &mut view, &tries, &mut memory) {
            Ok(len) => return Ok(len),
            // What was compared is not compared again.
            Err(NotShared::Failed(_)) if memory.is_short() => memory.fill()?,
            Err(NotShared::Failed(err)) => return Err(err),
            Err(NotShared::Changed) => {
                view = None;
                tries.changed += 1;
            }
            Err(NotShared::Pinned) => {
                view = None;
                tries.pinned += 1;
                fsleep(Delta::from_millis(1));
            }
        }
        cond_resched_killable()?;
    }
}

/// Makes one try of [`dedupe`]: compares, unless that has been done, and shares.
fn try_once(
    request: &RemapRequest<'_>,
    range: &Blocks,
    view: &mut Option<View>,
    tries: &Tries,
    memory: &mut Memory<'_>,
) -> Result<u64, NotShared> {
    if view.is_none() && blocks_for(request.len) > LOCKED_COMPARE_BLOCKS {
        let Some(mut taken) = View::take(request, range, tries, memory)? else {
            return Ok(0);
        };
        taken.compare(request, range)?;
        *view = Some(taken);
    }
    commit(request, range, view, tries, memory)
}

/// What is done with the locks held takes: had before, as far as it is known.
struct Memory<'a> {
    room: Room<'a>,
    /// Blocks that are pinned in the source, and in the destination.
    pinned: [Pinned; 2],
    /// The indexes in the range of both, in ascending order.
    both: KVVec<u64>,
    /// Whether there was no room for all of these.
    too_many: bool,
}

impl<'a> Memory<'a> {
    fn new(request: &RemapRequest<'a>) -> Self {
        Self {
            room: Room::new(request.to.inode().data().tree.pool()),
            pinned: [Pinned::new(), Pinned::new()],
            both: KVVec::new(),
            too_many: false,
        }
    }

    fn is_short(&self) -> bool {
        self.too_many || self.room.is_short()
    }

    /// Allocates what was missing. No lock is held.
    fn fill(&mut self) -> Result {
        if core::mem::take(&mut self.too_many) {
            self.both.clear();
            let found = self.pinned.iter().map(Pinned::found).sum();
            self.both.reserve(found, GFP_KERNEL)?;
            for pinned in &mut self.pinned {
                pinned.reserve()?;
            }
        }
        self.room.fill()
    }

    /// Looks for blocks that are pinned, in the two files: see [`Pinned::scan`].
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there is no room for all of them.
    fn scan(
        &mut self,
        files: [&LockedInode; 2],
        snap_ranges: [&Range<u64>; 2],
        ranges: [Range<u64>; 2],
    ) -> Result {
        let mut fits = true;
        let of_each = files.into_iter().zip(snap_ranges).zip(&ranges);
        for (pinned, ((file, snap_range), range)) in self.pinned.iter_mut().zip(of_each) {
            fits &= pinned.scan(file, snap_range, range);
        }
        let [from, to] = &self.pinned;
        let [from_first, to_first] = ranges.map(|range| range.start);
        let from = from.all.iter().map(|index| index - from_first);
        let to = to.all.iter().map(|index| index - to_first);
        self.too_many = !fits || !merge(from, to, &mut self.both);
        if self.too_many {
            return Err(ENOMEM);
        }
        Ok(())
    }
}

/// Why a try shared nothing.
enum NotShared {
    /// Too much has changed since it was compared.
    Changed,
    /// A block is pinned that is to be shared.
    Pinned,
    /// The call fails.
    Failed(Error),
}

impl From<Error> for NotShared {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}

/// How many tries shared nothing, and why.
#[derive(Default)]
struct Tries {
    changed: usize,
    pinned: usize,
}

impl Tries {
    /// Returns how many of the `n` blocks are to be shared where these are pinned: up to the first
    /// that must be, if that was looked at often enough.
    ///
    /// # Errors
    ///
    /// [`NotShared::Pinned`] if not; `EBUSY` where that is the first of all.
    fn before_pinned(
        &self,
        request: &RemapRequest<'_>,
        pinned: &[u64],
        n: u64,
    ) -> Result<u64, NotShared> {
        match pinned.first() {
            Some(_) if request.only_shared && self.pinned < PIN_TRIES => Err(NotShared::Pinned),
            Some(0) if request.only_shared => Err(EBUSY.into()),
            Some(&first) if request.only_shared => Ok(n.min(first)),
            _ => Ok(n),
        }
    }

    /// Returns whether to share a part, if not all can be shared.
    fn is_last(&self) -> bool {
        self.changed >= MAX_RETRIES
    }
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

    /// Returns the first `n` blocks, in the source.
    fn from(&self, n: u64) -> Range<u64> {
        self.first..self.first + n
    }

    /// Returns the first `n` blocks, in the destination.
    fn to(&self, n: u64) -> Range<u64> {
        self.to_first..self.to_first + n
    }
}

/// Takes a view of a file, whose `invalidate_lock` is held, and whose pinned blocks are `pinned`:
/// no other is written in place any more.
fn take_side(
    file: &LockedInode,
    snap_range: &Range<u64>,
    pinned: &Pinned,
    nodes: &mut Prealloc,
) -> Result<Tree> {
    let mut tree = file.data().tree.snapshot(snap_range, nodes)?;
    leave_out(&mut tree, file, &pinned.own, nodes)?;
    Ok(tree)
}

/// What two files held.
struct View {
    from: Tree,
    to: Tree,
    /// The destination's tree as it is to be, as far as it was compared.
    shared: Tree,
    /// Blocks that are left out of the comparison, in ascending order.
    pinned: KVVec<u64>,
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
        tries: &Tries,
        memory: &mut Memory<'_>,
    ) -> Result<Option<Self>, NotShared> {
        let files = request.lock();
        let locks = files.invalidate_lock();
        let (from, to) = (files.from(), files.to());
        let mut len = prepare(request, from, to)?;
        let n = blocks_for(len);
        if n == 0 {
            return Ok(None);
        }

        let from_range = Data::range_to_snapshot(range.first, n);
        let to_range = Data::range_to_snapshot(range.to_first, n);
        unmap_writable(from, &locks.from(), from_range.clone());
        unmap_writable(to, &locks.to(), to_range.clone());
        let ranges = [range.from(n), range.to(n)];
        memory.scan([from, to], [&from_range, &to_range], ranges)?;
        let n = tries.before_pinned(request, &memory.both, n)?;
        len = len.min(n * BLOCK_SIZE as u64);

        let nodes = memory.room.nodes(false);
        let [from_pinned, to_pinned] = &memory.pinned;
        let mut source = take_side(from, &from_range, from_pinned, nodes)?;
        let mut target = take_side(to, &to_range, to_pinned, nodes)?;
        // Of either file: what is pinned is not compared with the rest.
        for &i in &memory.both {
            let (from_index, to_index) = (range.first + i, range.to_first + i);
            source.remove(from_index, from_index + 1, nodes)?;
            target.remove(to_index, to_index + 1, nodes)?;
        }
        Ok(Some(Self {
            from: source,
            shared: target.edit(),
            to: target,
            pinned: core::mem::take(&mut memory.both),
            len,
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
        let mut pinned = self.pinned.iter().copied().peekable();
        let limit = if request.may_stop {
            LIMIT_IF_STOPPABLE_BLOCKS
        } else {
            LIMIT_BLOCKS
        };
        let (mut at, mut compared, mut left) = (0, 0, limit);
        let mut room = Ok(());
        while at < n && left > 0 {
            let end = pinned.peek().map_or(n, |&next| next.min(n));
            if at == end {
                pinned.next();
                at += 1;
                continue;
            }
            let (index, to_index) = (range.first + at, range.to_first + at);
            let mut few = CHECK_STOP_BLOCKS;
            let before = few;
            let same = self
                .from
                .same_len(index, &self.to, to_index, end - at, &mut few);
            at += same;
            let mut cost = same.min(STEP_COST_BLOCKS * (before - few));
            if same == 0 {
                let max = (end - at).min(CHECK_STOP_BLOCKS);
                let len = self.len - at * BLOCK_SIZE as u64;
                let found = compare((&self.from, index), (&self.to, to_index), max, len)?;
                if room.is_ok() {
                    room = self.shared.share(
                        to_index,
                        &self.from,
                        index,
                        found,
                        &mut prealloc,
                        cond_resched_killable,
                    );
                    if room.is_err() {
                        // Gives the nodes back; what follows may still differ.
                        self.shared = self.to.edit();
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
        let (index, to_index) = (range.first + at, range.to_first + at);
        let len = end.min(self.equal).saturating_sub(at);
        let len = from.same_len(index, &self.from, index, len, steps);
        to.same_len(to_index, &self.to, to_index, len, steps)
    }
}

/// Shares what `view` found to be equal, or what is seen to be equal here. The view is gone where
/// that is done.
fn commit(
    request: &RemapRequest<'_>,
    range: &Blocks,
    view: &mut Option<View>,
    tries: &Tries,
    memory: &mut Memory<'_>,
) -> Result<u64, NotShared> {
    let files = request.lock();
    let locks = files.invalidate_lock();
    let (from, to) = (files.from(), files.to());
    let mut len = prepare(request, from, to)?;
    if let Some(view) = view {
        if view.equal < blocks_for(view.len) {
            len = len.min(view.equal * BLOCK_SIZE as u64);
        }
    }
    len = shorten(request, to, len)?;
    let mut n = blocks_for(len);
    if n == 0 {
        return Ok(0);
    }
    let (from_lock, to_lock) = (locks.from(), locks.to());
    let snap_range = Data::range_to_snapshot(range.first, n);
    let to_range = range.to(n);
    unmap_writable(from, &from_lock, snap_range.clone());
    unmap_writable(to, &to_lock, to_range.clone());
    let ranges = [range.from(n), range.to(n)];
    memory.scan([from, to], [&snap_range, &to_range], ranges)?;
    n = tries.before_pinned(request, &memory.both, n)?;
    len = len.min(n * BLOCK_SIZE as u64);

    let nodes = memory.room.nodes(false);
    let source = from.data().tree.snapshot(&snap_range, nodes)?;
    let result = to.data().tree.edit(nodes).and_then(|target| {
        shared_tree(
            range,
            (&source, &target),
            view.as_ref(),
            &memory.both,
            (n, len),
            nodes,
        )
    });
    drop(source);
    let result = result.map_err(NotShared::Failed).and_then(|(tree, equal)| {
        // So that nothing is shared with what is dropped anyway, when the locks are.
        *view = None;
        if equal < n {
            if !tries.is_last() {
                return Err(NotShared::Changed);
            }
            if !request.may_stop || equal == 0 {
                return Err(EBUSY.into());
            }
            len = equal * BLOCK_SIZE as u64;
        }
        let tree = ChargedTree::new(&to_lock, tree)?;
        to_lock.unmap(range.to(n));
        drop(tree.commit());
        Ok(len)
    });
    let [from_pinned, to_pinned] = &memory.pinned;
    to.data().tree.restore_exclusive(to_pinned.own.iter());
    from.data().tree.restore_exclusive(from_pinned.own.iter());
    result
}

/// Returns what the destination's tree is to be: the `n` blocks, `len` bytes, shared with those of
/// the source, but for those that are pinned. Also returns how many blocks from the first on are
/// equal; where these are not all, what follows would take too long.
///
/// # Errors
///
/// `EBADE` where they differ; `ENOMEM`, `ENOSPC`, `EINTR`.
fn shared_tree(
    range: &Blocks,
    (source, target): (&Tree, &Tree),
    view: Option<&View>,
    pinned: &[u64],
    (n, len): (u64, u64),
    prealloc: &mut Prealloc,
) -> Result<(Tree, u64)> {
    let mut tree = target.edit();
    let mut few = LOCKED_COMPARE_STEPS;
    if source.same_len(range.first, target, range.to_first, n, &mut few) == n {
        // All is shared already: takes no node.
        return Ok((tree, n));
    }
    let mut pinned = pinned.iter().copied().peekable();
    let (mut at, mut left, mut steps) = (0, LOCKED_COMPARE_BLOCKS, LOCKED_COMPARE_STEPS);
    while at < n {
        cond_resched_killable()?;
        let (index, to_index) = (range.first + at, range.to_first + at);
        let is_pinned = pinned.next_if_eq(&at).is_some();
        let end = if is_pinned {
            at + 1
        } else {
            pinned.peek().map_or(n, |&next| next.min(n))
        };
        if !is_pinned {
            if let Some(view) = view {
                let still = view.still(range, at, end, (source, target), &mut steps);
                if still > 0 {
                    tree.share(
                        to_index,
                        &view.shared,
                        to_index,
                        still,
                        prealloc,
                        cond_resched_killable,
                    )?;
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
        let max = left.min(end - at);
        let bytes = len - at * BLOCK_SIZE as u64;
        let found = compare((source, index), (target, to_index), max, bytes)?;
        if !is_pinned {
            tree.share(
                to_index,
                source,
                index,
                found,
                prealloc,
                cond_resched_killable,
            )?;
        }
        left -= found;
        at += found;
    }
    Ok((tree, at))
}

/// Puts both lists, which are in ascending order, into `all` as one. Returns whether there is room.
fn merge(a: impl Iterator<Item = u64>, b: impl Iterator<Item = u64>, all: &mut KVVec<u64>) -> bool {
    all.clear();
    let (mut a, mut b) = (a.peekable(), b.peekable());
    while let Some(&least) = match (a.peek(), b.peek()) {
        (Some(x), Some(y)) => Some(x.min(y)),
        (x, y) => x.or(y),
    } {
        a.next_if_eq(&least);
        b.next_if_eq(&least);
        if all.push_within_capacity(least).is_err() {
            return false;
        }
    }
    true
}

/// Does what `generic_remap_file_range_prep` and `generic_remap_checks` do for a deduplication,
/// which compare through the page cache. Returns the length to compare.
///
/// # Errors
///
/// `EPERM`, `ETXTBSY`, `EISDIR`, `EINVAL` for files and ranges that cannot be shared, `EFBIG`.
fn prepare(request: &RemapRequest<'_>, from: &LockedInode, to: &LockedInode) -> Result<u64> {
    if to.is_immutable() {
        return Err(EPERM);
    }
    if from.is_swapfile() || to.is_swapfile() {
        return Err(ETXTBSY);
    }
    for inode in [from, to] {
        if inode.is_dir() {
            return Err(EISDIR);
        }
        if !inode.is_reg() {
            return Err(EINVAL);
        }
    }
    let FileRange {
        from_pos,
        to_pos,
        len,
        ..
    } = request.range;
    if len == 0 {
        return Ok(0);
    }
    if offset_in_block(from_pos) != 0 || offset_in_block(to_pos) != 0 {
        return Err(EINVAL);
    }
    let from_end = from_pos.checked_add(len).ok_or(EINVAL)?;
    let to_end = to_pos.checked_add(len).ok_or(EINVAL)?;
    if from_end > from.size() || to_end > to.size() {
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

/// Applies the rule for a partial last block, `generic_remap_check_len`: it may be shared only
/// where it is the destination's last, too.
fn shorten(request: &RemapRequest<'_>, to: &LockedInode, len: u64) -> Result<u64> {
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
