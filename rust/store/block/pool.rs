// SPDX-License-Identifier: GPL-2.0

//! Pools: what a mount's blocks and nodes may take, and take.

use super::{
    numbers::Numbers,
    orphans::Orphans,
    BLOCK_SIZE, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::Full,
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// The blocks of a mount: their limit, how many exist, and their numbers.
///
/// # Examples
///
/// ```
/// use crate::store::block::Pool;
/// use kernel::prelude::*;
///
/// let pool = Pool::new(Some(2))?;
/// let (one, other) = (pool.alloc()?, pool.alloc()?);
/// assert_eq!(pool.used(), 2);
/// assert_eq!(pool.alloc().err(), Some(ENOSPC));
///
/// drop(one);
/// assert_eq!(pool.used(), 1);
/// assert_eq!(pool.set_limit(Some(0)), Err(EINVAL));
/// # drop(other);
/// # Ok::<(), Error>(())
/// ```
///
/// A block counts once, however many slots hold it, from its allocation until no slot holds it and
/// the store has the only reference to its page: see [`super::orphans`].
///
/// # Nodes
///
/// Many nodes can be made with few blocks, so they are charged, too, by what they take of a slab
/// page, [`Pool::NODE_BYTES`]. The nodes of a file without holes take less than 1/256 of what its
/// blocks do. As much is free, and [`MIN_FREE_NODE_BYTES`], so that a mount can be filled to its
/// last block; all other nodes are charged in blocks. So what is allocated takes at most
/// `limit * BLOCK_SIZE * 257 / 256 + MIN_FREE_NODE_BYTES` bytes, and
/// [`MAX_OVERCOMMIT_BLOCKS`].
///
/// The charge of nodes is computed from their number and the limit. To charge means to add with
/// full ordering, and to compare with the limit after that: of two threads that add to the two
/// counts at the same time, one sees both.
#[pin_data(PinnedDrop)]
pub struct Pool {
    /// The most blocks that may exist; `u64::MAX` for no limit.
    limit: Atomic<u64>,
    used: Atomic<u64>,
    pub(super) numbers: Numbers,
    nodes: Atomic<u64>,
    /// See [`Pool::replaced`].
    replaced: Atomic<u64>,
    next_generation: Atomic<u64>,
    /// See [`Pool::order`].
    order: Atomic<u32>,
    /// How many blocks were allocated by a lower order than they might have been.
    below_order: Atomic<u64>,
    #[pin]
    pub(super) orphans: Orphans,
}

/// After how many blocks a higher order is tried again.
const ORDER_RETRY_BLOCKS: u64 = 1024;

/// How many bytes of nodes are free in the smallest pool.
const MIN_FREE_NODE_BYTES: u64 = 64 << 10;

/// For how many bytes of blocks a byte of nodes is free.
const BLOCK_BYTES_PER_FREE_NODE_BYTE: u64 = 256;

/// By how much all operations together may exceed the limit that free as much as they allocate,
/// but allocate first. What they free may become orphans.
pub const MAX_OVERCOMMIT_BLOCKS: u64 = 256;

/// A value that holds a reference to its pool.
pub trait InPool {
    /// Returns the pool.
    fn pool(&self) -> &Arc<Pool>;
}

impl InPool for Arc<Pool> {
    fn pool(&self) -> &Arc<Pool> {
        self
    }
}

/// The charge of a node.
pub struct NodeCharge(Arc<Pool>);

impl NodeCharge {
    /// Charges a node. The limit may be exceeded by `overcommit` blocks, see
    /// [`Pool::alloc_overcommit`].
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub fn new(pool: Arc<Pool>, overcommit: u64) -> Result<Self> {
        let nodes = pool.nodes.fetch_add(1, Full) + 1;
        let charge = Self(pool);
        let pool = &*charge.0;
        let fits = || {
            let blocks = pool.node_charge(nodes);
            blocks == 0
                || pool.used.load(Relaxed).saturating_add(blocks) <= pool.max_charge(overcommit)
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
    /// The most bytes that a node may have.
    pub(in crate::store) const NODE_SIZE: usize = 576;

    /// How many bytes a node takes: its part of a slab page.
    pub const NODE_BYTES: u64 = (BLOCK_SIZE / (BLOCK_SIZE / Self::NODE_SIZE)) as u64;

    /// Makes a pool of at most `limit` blocks; `None` for no limit.
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
                replaced: Atomic::new(0),
                numbers: Numbers::new(),
                next_generation: Atomic::new(1),
                order: Atomic::new(u32::MAX),
                below_order: Atomic::new(0),
                orphans <- Orphans::new(Self::reap_work),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the most blocks that may exist, `None` for no limit.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|&limit| limit != u64::MAX)
    }

    /// Changes the limit.
    ///
    /// # Errors
    ///
    /// `EINVAL` if more is charged already.
    pub fn set_limit(&self, limit: Option<u64>) -> Result {
        let limit = limit.unwrap_or(u64::MAX);
        let nodes = Self::node_charge_at(limit, self.nodes());
        if self.used().saturating_add(nodes) > limit {
            return Err(EINVAL);
        }
        self.limit.store(limit, Relaxed);
        Ok(())
    }

    /// Returns how many blocks exist.
    pub fn used(&self) -> u64 {
        self.reap();
        self.used.load(Relaxed)
    }

    /// Returns how many blocks exist, and what nodes are charged, in blocks.
    pub fn charged(&self) -> u64 {
        self.used().saturating_add(self.node_charge(self.nodes()))
    }

    /// Returns how many nodes exist.
    pub fn nodes(&self) -> u64 {
        self.nodes.load(Relaxed)
    }

    /// Returns how many new blocks took the place of others in trees: copies on write, duplicates
    /// of referenced blocks, those of UNSHARE and truncation; also in trees that were dropped after
    /// an error.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Relaxed)
    }

    /// Counts such blocks.
    pub(in crate::store) fn add_replaced(&self, n: u64) {
        self.replaced.add(n, Relaxed);
    }

    /// Returns how many of the blocks no slot holds, but are referenced.
    pub fn orphan_count(&self) -> u64 {
        self.orphans.count()
    }

    /// Returns what `nodes` are charged, in blocks, with this limit.
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

    fn max_charge(&self, overcommit: u64) -> u64 {
        self.limit.load(Relaxed).saturating_add(overcommit)
    }

    /// Returns a generation that no tree of this pool had, see the
    /// [theory of operation](crate::store).
    pub(in crate::store) fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Relaxed)
    }

    /// Checks that `n` more blocks may exist at this moment.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn check_room(&self, n: u64) -> Result {
        match self.charged().checked_add(n) {
            Some(charged) if charged <= self.limit.load(Relaxed) => Ok(()),
            _ => Err(ENOSPC),
        }
    }

    /// Checks that `n` more nodes may exist at this moment.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub(in crate::store) fn check_node_room(&self, n: u64) -> Result {
        let blocks = self.node_charge(self.nodes().saturating_add(n));
        if blocks == 0 || self.used().saturating_add(blocks) <= self.limit.load(Relaxed) {
            return Ok(());
        }
        Err(ENOSPC)
    }

    /// Charges `n` blocks, or as many as the limit and `overcommit` blocks over it allow. Returns
    /// how many.
    pub(super) fn charge(&self, n: u64, overcommit: u64) -> u64 {
        let charged = self.try_charge(n, overcommit);
        if charged == n {
            return n;
        }
        self.reap();
        charged + self.try_charge(n - charged, overcommit)
    }

    fn try_charge(&self, n: u64, overcommit: u64) -> u64 {
        let mut used = self.used.load(Relaxed);
        loop {
            let nodes = || self.node_charge(self.nodes());
            let max = || self.max_charge(overcommit).saturating_sub(nodes());
            let charged = n.min(max().saturating_sub(used));
            if charged == 0 {
                return 0;
            }
            match self.used.cmpxchg(used, used + charged, Full) {
                Ok(_) if used + charged <= max() => return charged,
                // Nodes were made meanwhile.
                Ok(_) => used = self.used.fetch_sub(charged, Relaxed) - charged,
                Err(now) => used = now,
            }
        }
    }

    /// Ends the charge of `n` blocks.
    pub(super) fn uncharge(&self, n: u64) {
        self.used.fetch_sub(n, Relaxed);
    }

    /// See [`Numbers::spend`].
    #[cfg(reflinkfs_count)]
    pub fn spend_numbers(&self, groups_left: u64, left: u64) {
        self.numbers.spend(groups_left, left);
    }

    /// Returns up to which order pages are worth allocating: higher orders failed lately.
    pub(super) fn order(&self) -> u32 {
        self.order.load(Relaxed)
    }

    /// Counts `n` blocks that were allocated by a lower order than they might have been. Returns
    /// whether to try a higher one.
    pub(super) fn should_raise_order(&self, n: u64) -> bool {
        let before = self.below_order.fetch_add(n, Relaxed);
        before / ORDER_RETRY_BLOCKS != (before + n) / ORDER_RETRY_BLOCKS
    }

    pub(super) fn set_order(&self, order: u32) {
        self.order.store(order, Relaxed);
    }
}

#[pinned_drop]
impl PinnedDrop for Pool {
    fn drop(self: Pin<&mut Self>) {
        // A mount closes its pool, which is dropped with the last inode, where nothing may sleep.
        if !self.orphans.is_closed() {
            self.close();
        }
    }
}
