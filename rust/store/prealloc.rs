// SPDX-License-Identifier: GPL-2.0

//! Tree nodes, and spare blocks, allocated extra of a change that must not fail or sleep.

use super::{
    block::{NodeCharge, NodeRef, Pool, Spare, SpareSource, UninitNode},
    node::Node,
};
use kernel::{prelude::*, sync::Arc};

/// Nodes for a change to a [`Tree`](super::Tree): prealloc, then lock, then change.
///
/// ```text
/// loop {
///     prealloc.fill()?;                       // may sleep and fail
///     let mut tree = tree.lock();
///     match tree.insert(index, block, &mut prealloc) { .. }
/// }
/// ```
#[derive(Default)]
pub struct Prealloc {
    /// None at first, as even a vector that is empty goes by way of the allocator.
    nodes: Option<KVec<PreallocNode>>,
    /// How many nodes the last change wanted.
    wanted: usize,
    /// How many more the changes after that one want, perhaps.
    extra: usize,
    /// Blocks to be copies of those that no more slots may hold; none at first.
    spares: Option<KVec<Spare>>,
    /// How many of them the last change wanted.
    wanted_spares: usize,
    /// How many of them were taken.
    copied: u64,
    source: NodeSource,
}

/// Room for a node: memory, and the pool's count of it.
struct PreallocNode {
    memory: UninitNode<Node>,
    charge: NodeCharge,
}

impl PreallocNode {
    fn new(charge: NodeCharge) -> Result<Self> {
        Ok(Self {
            memory: UninitNode::new()?,
            charge,
        })
    }
}

/// Where a node comes from when one is asked for.
#[derive(Default, PartialEq, Eq)]
enum NodeSource {
    /// The prealloc.
    #[default]
    Prealloc,
    /// An allocation, within the pool's limit.
    Alloc,
    /// An allocation.
    Overcommit,
}

impl Prealloc {
    /// An empty prealloc: a change that needs a node says so, for [`Prealloc::fill`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A prealloc that allocates when a node is asked for: for changes to a tree that no lock
    /// protects and nobody else sees.
    pub fn on_demand() -> Self {
        Self {
            source: NodeSource::Alloc,
            ..Self::default()
        }
    }

    /// As [`Prealloc::on_demand`], but goes over the pool's limit of nodes where it must, as
    /// [`Pool::alloc_overcommit`] does.
    pub fn on_demand_overcommit() -> Self {
        Self {
            source: NodeSource::Overcommit,
            ..Self::default()
        }
    }

    /// Allocates what the last change wanted, and, if they can be had, what may be wanted soon.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more nodes, `ENOMEM`.
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
            let spare = Spare::new(pool)?;
            let spares = self.spares.get_or_insert_with(KVec::new);
            spares.push(spare, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Allocates as many as can be had until there are `n`, for a change that is about to take a lock for
    /// which others wait. What is missing then is asked for when it is needed.
    pub fn try_fill(&mut self, n: usize, pool: &Arc<Pool>) {
        (self.wanted, self.extra) = (0, n);
        let _ = self.fill(pool);
    }

    fn add(&mut self, pool: &Arc<Pool>) -> Result {
        let node = PreallocNode::new(NodeCharge::new(pool.clone())?)?;
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

    /// Whether `n` nodes can be had; if not, they are noted for [`Prealloc::fill`], and that `extra` more
    /// may be wanted soon.
    pub(super) fn require(&mut self, n: usize, extra: usize) -> bool {
        (self.wanted, self.extra) = (n, extra);
        self.source != NodeSource::Prealloc || self.len() >= n
    }

    /// Whether `n` spares can be had; if not, they are noted for [`Prealloc::fill`].
    pub(super) fn require_spares(&mut self, n: usize) -> bool {
        self.wanted_spares = n;
        self.source != NodeSource::Prealloc || self.spares() >= n
    }

    /// How many blocks were copied as no more slots may hold them, since the last call.
    pub(super) fn take_copied(&mut self) -> u64 {
        core::mem::take(&mut self.copied)
    }

    /// Whether those that were to be wanted soon can be had, too.
    pub(super) fn has_extra(&self) -> bool {
        self.source != NodeSource::Prealloc || self.len() >= self.wanted + self.extra
    }

    /// A node of `pool`, for which this was filled: what `content` makes of the pool's count of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless [`Prealloc::require`] said otherwise and the prealloc is not on demand;
    /// `ENOSPC` on demand, where there may be no more nodes.
    #[inline]
    pub(super) fn node(
        &mut self,
        pool: &Arc<Pool>,
        content: impl FnOnce(NodeCharge) -> Node,
    ) -> Result<NodeRef<Node>> {
        let PreallocNode { memory, charge } = self.take_node(pool)?;
        Ok(memory.fill(|| content(charge)))
    }

    fn take_node(&mut self, pool: &Arc<Pool>) -> Result<PreallocNode> {
        if let Some(node) = self.nodes.as_mut().and_then(KVec::pop) {
            return Ok(node);
        }
        match self.source {
            NodeSource::Prealloc => Err(ENOMEM),
            NodeSource::Alloc => PreallocNode::new(NodeCharge::new(pool.clone())?),
            NodeSource::Overcommit => PreallocNode::new(NodeCharge::overcommit(pool.clone())?),
        }
    }
}

impl SpareSource for Prealloc {
    /// None where the prealloc is not on demand, and [`Prealloc::require_spares`] was asked for fewer: as the
    /// block became full since, while the tree is locked.
    fn take_spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>> {
        let spare = match self.source {
            NodeSource::Prealloc => self.spares.as_mut().and_then(KVec::pop),
            NodeSource::Alloc => Some(Spare::new(pool)?),
            NodeSource::Overcommit => Some(Spare::overcommit(pool)?),
        };
        self.copied += u64::from(spare.is_some());
        Ok(spare)
    }
}
