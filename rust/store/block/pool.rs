// SPDX-License-Identifier: GPL-2.0

//! The blocks of one mount.

use super::{page::NewBlock, Run};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// The blocks of one mount: how many there may be, how many there are, and the numbers they get.
///
/// A block is counted once, however many files hold it: from its allocation until the last slot
/// lets go of it.
pub struct Pool {
    /// The most blocks that may exist; `u64::MAX` where there is no limit.
    limit: Atomic<u64>,
    used: Atomic<u64>,
    next_number: Atomic<u64>,
    next_epoch: Atomic<u64>,
    /// The tree nodes that exist.
    nodes: Atomic<u64>,
    /// See [`Pool::order`].
    order: Atomic<u32>,
}

/// How many nodes there may be for each block that there may be. A dense file has one for 63 blocks;
/// a block on its own in the largest of files has one at each of nine heights. So blocks that are
/// not shared always find the nodes they need, and `statfs` need not tell of them.
const NODES_PER_BLOCK: u64 = 9;

/// How many nodes there may be in the smallest of pools.
const NODES_AT_LEAST: u64 = 1024;

/// Counts a tree node for as long as it lives.
pub struct NodeCharge(Arc<Pool>);

impl NodeCharge {
    /// Counts a node, without a look at the limit: see [`Pool::may_add_node`].
    pub fn new(pool: Arc<Pool>) -> Self {
        pool.nodes.add(1, Relaxed);
        Self(pool)
    }
}

impl Drop for NodeCharge {
    fn drop(&mut self) {
        self.0.nodes.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// A pool of at most `limit` blocks; `None` for no limit.
    pub fn new(limit: Option<u64>) -> Self {
        Self {
            limit: Atomic::new(limit.unwrap_or(u64::MAX)),
            used: Atomic::new(0),
            next_number: Atomic::new(1),
            next_epoch: Atomic::new(1),
            nodes: Atomic::new(0),
            order: Atomic::new(u32::MAX),
        }
    }

    /// The most blocks that may exist, `None` where there is no limit.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|&limit| limit != u64::MAX)
    }

    /// Changes the limit.
    ///
    /// # Errors
    ///
    /// `EINVAL` if more blocks exist already.
    pub fn set_limit(&self, limit: Option<u64>) -> Result {
        let limit = limit.unwrap_or(u64::MAX);
        if self.used() > limit {
            return Err(EINVAL);
        }
        self.limit.store(limit, Relaxed);
        Ok(())
    }

    /// The number of blocks that exist.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Whether another tree node may be made. Sharing blocks over and over takes no block, but
    /// nodes, which must not fill the memory either.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn may_add_node(&self) -> Result {
        let limit = self.limit.load(Relaxed).saturating_mul(NODES_PER_BLOCK);
        if self.nodes.load(Relaxed) >= limit.max(NODES_AT_LEAST) {
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// The number of tree nodes that exist.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Relaxed)
    }

    /// An epoch that no tree of this pool had, see [`Slots`](super::Slots).
    pub(in crate::store) fn new_epoch(&self) -> u64 {
        self.next_epoch.fetch_add(1, Relaxed)
    }

    /// Whether `n` more blocks may exist, as things are now.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn has_room(&self, n: u64) -> Result {
        match self.used().checked_add(n) {
            Some(used) if used <= self.limit.load(Relaxed) => Ok(()),
            _ => Err(ENOSPC),
        }
    }

    /// Counts `n` more blocks, or as many as there may be. Returns how many.
    pub(super) fn take_room(&self, n: u64) -> u64 {
        let mut used = self.used.load(Relaxed);
        loop {
            let taken = n.min(self.limit.load(Relaxed).saturating_sub(used));
            match self.used.cmpxchg(used, used + taken, Relaxed) {
                Ok(_) => return taken,
                Err(now) => used = now,
            }
        }
    }

    /// Counts `n` blocks less.
    pub(super) fn give_room(&self, n: u64) {
        self.used.fetch_sub(n, Relaxed);
    }

    /// The first of `n` numbers that no block had.
    pub(super) fn take_numbers(&self, n: u64) -> u64 {
        self.next_number.fetch_add(n, Relaxed)
    }

    /// Counts what else takes room, as if it were blocks: `after`, where it was `before` until now.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is not the room for more; it counts as before.
    pub fn recount(&self, before: u64, after: u64) -> Result {
        let more = after.saturating_sub(before);
        let taken = self.take_room(more);
        if taken < more {
            self.give_room(taken);
            return Err(ENOSPC);
        }
        self.give_room(before.saturating_sub(after));
        Ok(())
    }

    /// Up to `n` new blocks, as many as there may be.
    pub fn alloc_run(&self, n: u64) -> Run<'_> {
        Run::new(self, n)
    }

    /// Allocates a block. Its bytes are undefined until its owner has written them.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit, `ENOMEM` where there is no page.
    pub fn alloc(&self) -> Result<NewBlock<'_>> {
        self.alloc_run(1).take()
    }

    /// As [`Pool::alloc`], but goes over the limit where it must: for an operation that gives
    /// blocks back and must not fail for want of one, as truncation.
    pub fn alloc_over(&self) -> Result<NewBlock<'_>> {
        Run::over(self).take()
    }

    /// The order up to which pages are worth asking for: more were not to be had lately.
    pub(super) fn order(&self) -> u32 {
        self.order.load(Relaxed)
    }

    /// Says up to which order pages are to be asked for.
    pub(super) fn set_order(&self, order: u32) {
        self.order.store(order, Relaxed);
    }

    /// Counts `n` blocks more, whatever the limit.
    pub(super) fn add_room(&self, n: u64) {
        self.used.add(n, Relaxed);
    }
}
