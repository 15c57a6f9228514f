// SPDX-License-Identifier: GPL-2.0

//! The blocks of one mount.

use super::{
    leaf::InPool, numbers::Numbers, orphans::Orphans, page::NewBlock, BlockBatch, NodeRef,
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
/// let go of it, and nobody else refers to its page any more ([`super::orphans`]).
///
/// # Tree nodes
///
/// They are memory that anybody can make much of with few blocks, so that they count, too, by what
/// they really take, [`Pool::NODE_BYTES`]. Those of a dense file take less than 1/256 of what its
/// blocks do: so as many bytes are free, and [`MIN_FREE_NODE_BYTES`], in order that a mount can be filled to
/// the last block. All nodes beyond take the room of blocks. Thus what is allocated never takes more
/// than `limit * BLOCK_SIZE * 257 / 256 + MIN_FREE_NODE_BYTES` bytes, but for [`MAX_OVERCOMMIT_BLOCKS`].
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
    below_order: Atomic<u64>,
    #[pin]
    pub(super) orphans: Orphans,
}

/// After so many blocks more pages are asked for at a time, where that failed before.
const ORDER_RETRY_BLOCKS: u64 = 1024;

/// How many bytes of nodes are free in the smallest of pools.
const MIN_FREE_NODE_BYTES: u64 = 64 << 10;

/// Of how many bytes of blocks one of nodes is free.
const BLOCK_BYTES_PER_FREE_NODE_BYTE: u64 = 256;

/// By how many blocks an operation that gives back as much as it takes may go over the limit, as the
/// one comes before the other. Together with all others: somebody may keep what is given back.
const MAX_OVERCOMMIT_BLOCKS: u64 = 256;

/// Counts a tree node for as long as it lives.
pub struct NodeCharge(Arc<Pool>);

impl NodeCharge {
    /// Counts a node.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is no room for it.
    pub fn new(pool: Arc<Pool>) -> Result<Self> {
        Self::with_overcommit(pool, 0)
    }

    /// Counts a node that goes over the limit where it must, as [`Pool::alloc_overcommit`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn overcommit(pool: Arc<Pool>) -> Result<Self> {
        Self::with_overcommit(pool, MAX_OVERCOMMIT_BLOCKS)
    }

    fn with_overcommit(pool: Arc<Pool>, overcommit: u64) -> Result<Self> {
        let nodes = pool.nodes.fetch_add(1, Full) + 1;
        let charge = Self(pool);
        let pool = &*charge.0;
        let fits = || {
            let taken = pool.node_charge(nodes);
            taken == 0
                || pool.used.load(Relaxed).saturating_add(taken) <= pool.max_charge(overcommit)
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
                below_order: Atomic::new(0),
                orphans <- Orphans::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn orphans(&self) -> &Orphans {
        &self.orphans
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
        let nodes = Self::node_charge_at(limit, self.nodes());
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
    pub fn charged(&self) -> u64 {
        self.used().saturating_add(self.node_charge(self.nodes()))
    }

    /// The number of tree nodes that exist.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Relaxed)
    }

    /// The number of blocks, of those that exist, that no file has any more, and that others still
    /// refer to.
    pub fn orphan_count(&self) -> u64 {
        self.orphans.count()
    }

    /// How many blocks' room so many nodes take beyond what is free, where `limit` blocks may exist.
    fn node_charge_at(limit: u64, nodes: u64) -> u64 {
        let free = limit
            .saturating_mul(BLOCK_SIZE as u64 / BLOCK_BYTES_PER_FREE_NODE_BYTE)
            .saturating_add(MIN_FREE_NODE_BYTES);
        let bytes = nodes.saturating_mul(Self::NODE_BYTES);
        bytes.saturating_sub(free).div_ceil(BLOCK_SIZE as u64)
    }

    fn node_charge(&self, nodes: u64) -> u64 {
        Self::node_charge_at(self.limit.load(Relaxed), nodes)
    }

    /// The most blocks that may exist for who may go over the limit by `over`, with what nodes take.
    fn max_charge(&self, overcommit: u64) -> u64 {
        self.limit.load(Relaxed).saturating_add(overcommit)
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
    pub fn check_room(&self, n: u64) -> Result {
        match self.charged().checked_add(n) {
            Some(taken) if taken <= self.limit.load(Relaxed) => Ok(()),
            _ => Err(ENOSPC),
        }
    }

    /// Counts `n` more blocks, or as many as there may be. Returns how many.
    pub(super) fn charge(&self, n: u64) -> u64 {
        self.charge_up_to(n, 0)
    }

    /// As [`Pool::charge`], for [`Pool::alloc_overcommit`].
    pub(super) fn charge_overcommit(&self, n: u64) -> u64 {
        self.charge_up_to(n, MAX_OVERCOMMIT_BLOCKS)
    }

    fn charge_up_to(&self, n: u64, overcommit: u64) -> u64 {
        let taken = self.try_charge(n, overcommit);
        if taken == n {
            return n;
        }
        self.reap();
        taken + self.try_charge(n - taken, overcommit)
    }

    fn try_charge(&self, n: u64, overcommit: u64) -> u64 {
        let mut used = self.used.load(Relaxed);
        loop {
            let most = || {
                self.max_charge(overcommit)
                    .saturating_sub(self.node_charge(self.nodes()))
            };
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
    pub(super) fn uncharge(&self, n: u64) {
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
    /// `ENOSPC` where all such operations together are over it by [`MAX_OVERCOMMIT_BLOCKS`] blocks: what was given back
    /// is kept by others.
    pub fn alloc_overcommit(&self) -> Result<NewBlock<'_>> {
        BlockBatch::overcommit(self).take()
    }

    /// The order up to which pages are worth asking for: more were not to be had lately.
    pub(super) fn order(&self) -> u32 {
        self.order.load(Relaxed)
    }

    /// Counts `n` blocks for which more pages were not asked for. Whether more are to be, once in so many.
    pub(super) fn should_raise_order(&self, n: u64) -> bool {
        let before = self.below_order.fetch_add(n, Relaxed);
        before / ORDER_RETRY_BLOCKS != (before + n) / ORDER_RETRY_BLOCKS
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
        if !self.orphans.is_closed() {
            self.close();
        }
    }
}
