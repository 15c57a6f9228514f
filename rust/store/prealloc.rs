// SPDX-License-Identifier: GPL-2.0

//! [`Prealloc`]: nodes and spare blocks, allocated before a change that must not sleep.

use super::{
    block::{
        NodeCharge,
        Pool,
        Spare,
        SpareSource,
        MAX_OVERCOMMIT_BLOCKS, //
    },
    node::{
        Node,
        NodeRef, //
    },
    node_ref::UninitNode, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Nodes, and blocks for copies, for changes to a [`Tree`](super::Tree) under a spinning lock.
///
/// A change first asks whether there are enough. If not, the caller drops the lock, fills the
/// `Prealloc` and tries again.
///
/// # Examples
///
/// ```
/// use crate::{
///     store::{block::{NewBlock, Pool}, Prealloc, Tree},
///     vfs::RwLock,
/// };
/// use kernel::{prelude::*, static_lock_class, sync::Arc};
///
/// fn insert(
///     lock: &RwLock<Tree>,
///     pool: &Arc<Pool>,
///     index: u64,
///     block: NewBlock<'_>,
/// ) -> Result {
///     let mut prealloc = Prealloc::new();
///     loop {
///         {
///             let mut tree = lock.write();
///             if tree.can_insert(index, &mut prealloc) {
///                 return tree.insert(index, block, &mut prealloc);
///             }
///         }
///         // May sleep, and fail.
///         prealloc.fill(pool)?;
///     }
/// }
///
/// let pool = Pool::new(None)?;
/// let lock = RwLock::new(Tree::new(pool.clone()), c"example", static_lock_class!());
/// let lock = KBox::pin_init(lock, GFP_KERNEL)?;
/// insert(&lock, &pool, 1 << 20, pool.alloc()?)?;
/// assert_eq!(lock.read().next_block(0), Some(1 << 20));
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Prealloc {
    /// `None` at first: even dropping an empty vector calls the allocator.
    nodes: Option<KVec<PreallocNode>>,
    /// How many nodes the last change needs.
    wanted: usize,
    /// How many more the changes after it will need, probably.
    extra: usize,
    /// Blocks for copies of full blocks.
    spares: Option<KVec<Spare>>,
    /// How many of them the last change needs.
    wanted_spares: usize,
    /// How many were used.
    copied: u64,
    source: NodeSource,
}

/// Memory for a node, charged to the pool.
struct PreallocNode {
    memory: UninitNode<Node>,
    charge: NodeCharge,
}

impl PreallocNode {
    fn new(pool: &Arc<Pool>, overcommit: u64) -> Result<Self> {
        Ok(Self {
            charge: NodeCharge::new(pool.clone(), overcommit)?,
            memory: UninitNode::new()?,
        })
    }
}

/// Where nodes and spare blocks come from.
#[derive(Default, PartialEq, Eq)]
enum NodeSource {
    /// What [`Prealloc::fill`] allocated.
    #[default]
    Prealloc,
    /// The allocator, which may exceed the pool's limit by `overcommit` blocks.
    Alloc { overcommit: u64 },
}

impl Prealloc {
    /// Makes an empty one, to be filled when a change needs nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that allocates whenever a node is needed: for a tree that no lock protects and no
    /// other thread can reach.
    pub fn on_demand() -> Self {
        Self {
            source: NodeSource::Alloc { overcommit: 0 },
            ..Self::default()
        }
    }

    /// As [`Prealloc::on_demand`], and may exceed the pool's limit, see [`Pool::alloc_overcommit`].
    pub fn on_demand_overcommit() -> Self {
        Self {
            source: NodeSource::Alloc {
                overcommit: MAX_OVERCOMMIT_BLOCKS,
            },
            ..Self::default()
        }
    }

    /// Allocates what the last change needs, and as much as possible of what the next ones may
    /// need.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the pool's limit, `ENOMEM`.
    pub fn fill(&mut self, pool: &Arc<Pool>) -> Result {
        let missing = (self.wanted + self.extra).saturating_sub(self.len());
        if missing > 0 {
            let nodes = self.nodes.get_or_insert_with(KVec::new);
            nodes.reserve(missing, GFP_KERNEL)?;
        }
        while self.len() < self.wanted {
            self.add(pool)?;
        }
        while self.len() < self.wanted + self.extra && self.add(pool).is_ok() {}
        while self.spares() < self.wanted_spares {
            let spare = Spare::new(pool, 0)?;
            let spares = self.spares.get_or_insert_with(KVec::new);
            spares.push(spare, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Allocates up to `n` nodes in advance of taking a contended lock. If fewer can be allocated,
    /// the change that needs them asks again.
    pub fn try_fill(&mut self, n: usize, pool: &Arc<Pool>) {
        (self.wanted, self.extra) = (0, n);
        let _ = self.fill(pool);
    }

    fn add(&mut self, pool: &Arc<Pool>) -> Result {
        let node = PreallocNode::new(pool, 0)?;
        let nodes = self.nodes.get_or_insert_with(KVec::new);
        nodes.push(node, GFP_KERNEL)?;
        Ok(())
    }

    fn spares(&self) -> usize {
        self.spares.as_ref().map_or(0, KVec::len)
    }

    fn len(&self) -> usize {
        self.nodes.as_ref().map_or(0, KVec::len)
    }

    /// Returns whether there are `n` nodes. Records for [`Prealloc::fill`] that `n` are needed, and
    /// that the next changes may need `extra` more.
    pub(super) fn require(&mut self, n: usize, extra: usize) -> bool {
        (self.wanted, self.extra) = (n, extra);
        self.source != NodeSource::Prealloc || self.len() >= n
    }

    /// Returns whether there are `n` spare blocks. Records for [`Prealloc::fill`] that they are
    /// needed.
    pub(super) fn require_spares(&mut self, n: usize) -> bool {
        self.wanted_spares = n;
        self.source != NodeSource::Prealloc || self.spares() >= n
    }

    /// Returns whether the extra nodes of the last [`Prealloc::require`] are there, too.
    pub(super) fn has_extra(&self) -> bool {
        self.source != NodeSource::Prealloc || self.len() >= self.wanted + self.extra
    }

    /// Returns how many full blocks were copied since the last call.
    pub(super) fn take_copied(&mut self) -> u64 {
        core::mem::take(&mut self.copied)
    }

    /// Makes a node of `pool`, initialised with what `content` makes of its charge.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there are too few nodes, which [`Prealloc::require`] tells in advance. On
    /// demand: `ENOMEM`, and `ENOSPC` at the pool's limit.
    #[inline]
    pub(super) fn node(
        &mut self,
        pool: &Arc<Pool>,
        content: impl FnOnce(NodeCharge) -> Node,
    ) -> Result<NodeRef> {
        let PreallocNode { memory, charge } = self.take_node(pool)?;
        Ok(memory.init(|| content(charge)))
    }

    fn take_node(&mut self, pool: &Arc<Pool>) -> Result<PreallocNode> {
        if let Some(node) = self.nodes.as_mut().and_then(KVec::pop) {
            return Ok(node);
        }
        match self.source {
            NodeSource::Prealloc => Err(ENOMEM),
            NodeSource::Alloc { overcommit } => PreallocNode::new(pool, overcommit),
        }
    }
}

impl SpareSource for Prealloc {
    /// Returns `None` if it has none and may not allocate: when the block became full after
    /// [`Prealloc::require_spares`], under the same hold of the tree's lock.
    fn take_spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>> {
        let spare = match self.source {
            NodeSource::Prealloc => self.spares.as_mut().and_then(KVec::pop),
            NodeSource::Alloc { overcommit } => Some(Spare::new(pool, overcommit)?),
        };
        self.copied += u64::from(spare.is_some());
        Ok(spare)
    }
}
