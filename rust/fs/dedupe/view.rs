// SPDX-License-Identifier: GPL-2.0

//! [`View`]: what two files hold, compared without a lock.

use super::{
    super::{
        blocks_for,
        file_blocks::BlocksLock,
        remap::RemapRequest,
        room::Room,
        FileBlocks,
        Transaction, //
    },
    blocks::{
        compare,
        stretch,
        Blocks,
        ReferencedPair, //
    },
    prepare, //
};
use crate::{
    store::{
        block::BLOCK_SIZE,
        Prealloc,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        signal_pending, //
    },
};
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

/// How many blocks are compared between two checks for signals.
const CHECK_STOP_BLOCKS: u64 = 256;

/// What two files held.
pub(super) struct View {
    from: Tree,
    to: Tree,
    /// The destination's tree as it is to be, as far as it was compared.
    pub(super) shared: Tree,
    /// Blocks that are left out of the comparison, in ascending order.
    left_out: KVVec<u64>,
    /// How many bytes of the range are to be compared.
    pub(super) len: u64,
    /// How many blocks, from the first on, are equal, but for those left out.
    pub(super) equal: u64,
}

impl View {
    /// Takes what the range holds; `None` where it is empty.
    pub(super) fn take(
        request: &RemapRequest<'_>,
        range: &Blocks,
        referenced: &mut ReferencedPair,
        room: &mut Room<'_>,
    ) -> Result<Option<Self>> {
        referenced.reserve()?;
        let files = request.lock();
        let (from, to) = (files.from(), files.to());
        let transaction = Transaction::begin([&**from, &**to])?.of_data();
        let locks = files.invalidate_lock();
        let (from_lock, to_lock) = (locks.from(), locks.to());
        let [from_own, to_own] = transaction.each();
        let from_lock = BlocksLock::of(&from_lock, from_own);
        let to_lock = BlocksLock::of(&to_lock, to_own);
        let len = prepare(request, from, to)?;
        let n = blocks_for(len);
        if n == 0 {
            return Ok(None);
        }
        let from_range = FileBlocks::range_to_snapshot(range.first, n);
        let to_range = FileBlocks::range_to_snapshot(range.to_first, n);
        let ranges = [&from_range, &to_range];
        let both = (from_lock, to_lock);
        let n = referenced.scan(request, (range, n), &files, both, ranges, room)?;

        let nodes = room.nodes(false);
        let mut source = referenced
            .from
            .snapshot(from_lock.blocks(), &from_range, nodes)?;
        let mut target = referenced.to.snapshot(to_lock.blocks(), &to_range, nodes)?;
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
    pub(super) fn compare(&mut self, request: &RemapRequest<'_>, range: &Blocks) -> Result {
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
    pub(super) fn still(
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
