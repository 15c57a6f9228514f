// SPDX-License-Identifier: GPL-2.0

//! The blocks of one mount.

use super::{
    leaf::InPool, numbers::Numbers, page::NewBlock, waiting::Waiting, BlockBatch, NodeRef,
    BLOCK_SIZE,
};
use crate::store::node::Node;
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Full, Atomic, Relaxed},
        Arc,
    },
};

/// The blocks of one mount: how many there may be, how many there are, and the numbers they get.
///
/// A block is counted once, however many files hold it: from its allocation until the last slot has
/// let go of it, and nobody else refers to its page any more ([`super::waiting`]).
///
/// # Tree nodes
///
/// They are memory that anybody can make much of with few blocks, so that they count, too, by what
/// they really take, [`Pool::NODE_BYTES`]. Those of a dense file take less than 1/256 of what its
/// blocks do: so as many bytes are free, and [`FREE_AT_LEAST`], in order that a mount can be filled to
/// the last block. All nodes beyond take the room of blocks. Thus what is allocated never takes more
/// than `limit * BLOCK_SIZE * 257 / 256 + FREE_AT_LEAST` bytes, but for [`OVER`].
///
/// The room of nodes follows from their number and the limit, and is not kept. Who takes room adds
/// first, with full ordering, and then looks whether that was too much: so that of two who add to the
/// two counts at the same time one sees the other.
#[pin_data(PinnedDrop)]
pub struct Pool {
    /// The most blocks that may exist; `u64::MAX` where there is no limit.
    limit: Atomic<u64>,
    used: Atomic<u64>,
    pub(super) numbers: Numbers,
    /// The tree nodes that exist.
    nodes: Atomic<u64>,
    next_generation: Atomic<u64>,
    /// See [`Pool::order`].
    order: Atomic<u32>,
    /// Blocks allocated while fewer pages were asked for at a time than might have been.
    alone: Atomic<u64>,
    #[pin]
    pub(super) waiting: Waiting,
}

/// After so many blocks more pages are asked for at a time, where that failed before.
const RETRY: u64 = 1024;

/// How many bytes of nodes are free in the smallest of pools.
const FREE_AT_LEAST: u64 = 64 << 10;

/// Of how many bytes of blocks one of nodes is free.
const BYTES_FOR_FREE_ONE: u64 = 256;

/// By how many blocks an operation that gives back as much as it takes may go over the limit, as the
/// one comes before the other. Together with all others: somebody may keep what is given back.
const OVER: u64 = 256;

/// Counts a tree node for as long as it lives.
pub struct NodeCharge(Arc<Pool>);

impl NodeCharge {
    /// Counts a node.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is no room for it.
    pub fn new(pool: Arc<Pool>) -> Result<Self> {
        Self::up_to(pool, 0)
    }

    /// Counts a node that goes over the limit where it must, as [`Pool::alloc_over`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn over(pool: Arc<Pool>) -> Result<Self> {
        Self::up_to(pool, OVER)
    }

    fn up_to(pool: Arc<Pool>, over: u64) -> Result<Self> {
        let nodes = pool.nodes.fetch_add(1, Full) + 1;
        let charge = Self(pool);
        let pool = &*charge.0;
        let fits = || {
            let taken = pool.room_of(nodes);
            taken == 0 || pool.used.load(Relaxed).saturating_add(taken) <= pool.most(over)
        };
        if fits() {
            return Ok(charge);
        }
        pool.reap();
        if fits() {
            return Ok(charge);
        }
        Err(ENOSPC)
    }
}

impl InPool for NodeCharge {
    fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for NodeCharge {
    fn drop(&mut self) {
        self.0.nodes.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// What a node takes in memory, in bytes: its part of a page of its cache.
    pub const NODE_BYTES: u64 = (BLOCK_SIZE / (BLOCK_SIZE / NodeRef::<Node>::BYTES)) as u64;

    /// A pool of at most `limit` blocks; `None` for no limit.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(limit: Option<u64>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                limit: Atomic::new(limit.unwrap_or(u64::MAX)),
                used: Atomic::new(0),
                nodes: Atomic::new(0),
                numbers: Numbers::new(),
                next_generation: Atomic::new(1),
                order: Atomic::new(u32::MAX),
                alone: Atomic::new(0),
                waiting <- Waiting::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The most blocks that may exist, `None` where there is no limit.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|&limit| limit != u64::MAX)
    }

    /// Changes the limit.
    ///
    /// # Errors
    ///
    /// `EINVAL` if more is taken already.
    pub fn set_limit(&self, limit: Option<u64>) -> Result {
        let limit = limit.unwrap_or(u64::MAX);
        let nodes = Self::room_in(limit, self.nodes());
        if self.used().saturating_add(nodes) > limit {
            return Err(EINVAL);
        }
        self.limit.store(limit, Relaxed);
        Ok(())
    }

    /// The number of blocks that exist.
    pub fn used(&self) -> u64 {
        self.reap();
        self.used.load(Relaxed)
    }

    /// The number of blocks that exist, and of those whose room is taken by nodes.
    pub fn taken(&self) -> u64 {
        self.used().saturating_add(self.room_of(self.nodes()))
    }

    /// The number of tree nodes that exist.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Relaxed)
    }

    /// The number of blocks, of those that exist, that no file has any more, and that others still
    /// refer to.
    pub fn kept_for_others(&self) -> u64 {
        self.waiting.count()
    }

    /// How many blocks' room so many nodes take beyond what is free, where `limit` blocks may exist.
    fn room_in(limit: u64, nodes: u64) -> u64 {
        let free = limit
            .saturating_mul(BLOCK_SIZE as u64 / BYTES_FOR_FREE_ONE)
            .saturating_add(FREE_AT_LEAST);
        let bytes = nodes.saturating_mul(Self::NODE_BYTES);
        bytes.saturating_sub(free).div_ceil(BLOCK_SIZE as u64)
    }

    fn room_of(&self, nodes: u64) -> u64 {
        Self::room_in(self.limit.load(Relaxed), nodes)
    }

    /// The most blocks that may exist for who may go over the limit by `over`, with what nodes take.
    fn most(&self, over: u64) -> u64 {
        self.limit.load(Relaxed).saturating_add(over)
    }

    /// An generation that no tree of this pool had, see [`Leaf`](super::Leaf).
    pub(in crate::store) fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Relaxed)
    }

    /// Whether `n` more blocks may exist, as things are now.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn has_room(&self, n: u64) -> Result {
        match self.taken().checked_add(n) {
            Some(taken) if taken <= self.limit.load(Relaxed) => Ok(()),
            _ => Err(ENOSPC),
        }
    }

    /// Counts `n` more blocks, or as many as there may be. Returns how many.
    pub(super) fn take_room(&self, n: u64) -> u64 {
        self.take_up_to(n, 0)
    }

    /// As [`Pool::take_room`], for [`Pool::alloc_over`].
    pub(super) fn take_room_over(&self, n: u64) -> u64 {
        self.take_up_to(n, OVER)
    }

    fn take_up_to(&self, n: u64, over: u64) -> u64 {
        let taken = self.try_take(n, over);
        if taken == n {
            return n;
        }
        self.reap();
        taken + self.try_take(n - taken, over)
    }

    fn try_take(&self, n: u64, over: u64) -> u64 {
        let mut used = self.used.load(Relaxed);
        loop {
            let most = || self.most(over).saturating_sub(self.room_of(self.nodes()));
            let taken = n.min(most().saturating_sub(used));
            if taken == 0 {
                return 0;
            }
            match self.used.cmpxchg(used, used + taken, Full) {
                Ok(_) if used + taken <= most() => return taken,
                // Nodes were made meanwhile.
                Ok(_) => used = self.used.fetch_sub(taken, Relaxed) - taken,
                Err(now) => used = now,
            }
        }
    }

    /// Counts `n` blocks less.
    pub(super) fn give_room(&self, n: u64) {
        self.used.fetch_sub(n, Relaxed);
    }

    /// See [`Numbers::spend`].
    #[cfg(reflinkfs_count)]
    pub fn spend_numbers(&self, groups_left: u64, left: u64) {
        self.numbers.spend(groups_left, left);
    }

    /// Up to `n` new blocks, as many as there may be.
    pub fn alloc_batch(&self, n: u64) -> BlockBatch<'_> {
        BlockBatch::new(self, n)
    }

    /// Allocates a block. Its bytes are undefined until its owner has written them.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit, `ENOMEM` where there is no page.
    pub fn alloc(&self) -> Result<NewBlock<'_>> {
        self.alloc_batch(1).take()
    }

    /// As [`Pool::alloc`], but goes over the limit where it must: for an operation that gives
    /// as many blocks back, and must not fail for want of one.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where all such operations together are over it by [`OVER`] blocks: what was given back
    /// is kept by others.
    pub fn alloc_over(&self) -> Result<NewBlock<'_>> {
        BlockBatch::over(self).take()
    }

    /// The order up to which pages are worth asking for: more were not to be had lately.
    pub(super) fn order(&self) -> u32 {
        self.order.load(Relaxed)
    }

    /// Counts `n` blocks for which more pages were not asked for. Whether more are to be, once in so many.
    pub(super) fn may_ask_for_more(&self, n: u64) -> bool {
        let before = self.alone.fetch_add(n, Relaxed);
        before / RETRY != (before + n) / RETRY
    }

    /// Says up to which order pages are to be asked for.
    pub(super) fn set_order(&self, order: u32) {
        self.order.store(order, Relaxed);
    }
}

#[pinned_drop]
impl PinnedDrop for Pool {
    fn drop(self: Pin<&mut Self>) {
        // That of a mount was closed before, and goes with its last inode, where nothing may sleep.
        if !self.waiting.is_closed() {
            self.close();
        }
    }
}
