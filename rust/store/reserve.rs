// SPDX-License-Identifier: GPL-2.0

//! Tree nodes allocated ahead of a change that must not fail or sleep.

use super::{
    block::{Pool, Shared},
    node::Node,
};
use kernel::{prelude::*, sync::Arc};

/// Nodes for a change to a [`Tree`](super::Tree): reserve, then lock, then change.
///
/// ```text
/// loop {
///     reserve.fill()?;                       // may sleep and fail
///     let mut tree = tree.lock();
///     match tree.insert(index, block, &mut reserve) { .. }
/// }
/// ```
#[derive(Default)]
pub struct Reserve {
    /// None at first, as even a vector that is empty goes by way of the allocator.
    nodes: Option<KVec<Shared<Node>>>,
    /// How many nodes a change wanted that did not find them.
    wanted: usize,
    source: Source,
}

/// Where a node comes from when one is asked for.
#[derive(Default, PartialEq, Eq)]
enum Source {
    /// The reserve.
    #[default]
    Reserve,
    /// An allocation, within the pool's limit.
    Allocation,
    /// An allocation.
    AllocationOverLimit,
}

impl Reserve {
    /// An empty reserve: a change that needs a node says so, for [`Reserve::fill`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A reserve that allocates when a node is asked for: for changes to a tree that no lock
    /// protects and nobody else sees.
    pub fn on_demand() -> Self {
        Self {
            source: Source::Allocation,
            ..Self::default()
        }
    }

    /// As [`Reserve::on_demand`], but goes over the pool's limit of nodes where it must, as
    /// [`Pool::alloc_over`] does.
    pub fn on_demand_over() -> Self {
        Self {
            source: Source::AllocationOverLimit,
            ..Self::default()
        }
    }

    /// Allocates what the last change wanted.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more nodes, `ENOMEM`.
    pub fn fill(&mut self, pool: &Arc<Pool>) -> Result {
        while self.len() < self.wanted {
            pool.may_add_node()?;
            let node = Shared::new(Node::leaf(pool.clone()))?;
            let nodes = self.nodes.get_or_insert_with(KVec::new);
            nodes.push(node, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.nodes.as_ref().map_or(0, KVec::len)
    }

    fn pop(&mut self) -> Result<Shared<Node>> {
        self.nodes.as_mut().and_then(KVec::pop).ok_or(ENOMEM)
    }

    /// Whether `n` nodes can be had; if not, they are noted for [`Reserve::fill`].
    pub(super) fn has(&mut self, n: usize) -> bool {
        self.wanted = n;
        self.source != Source::Reserve || self.len() >= n
    }

    /// An empty node of height `height`, of `pool`, for which this was filled.
    ///
    /// # Errors
    ///
    /// As [`Reserve::node`].
    pub(super) fn empty(&mut self, height: u32, pool: &Arc<Pool>) -> Result<Shared<Node>> {
        match self.source {
            // What is kept are empty leaves.
            Source::Reserve if height == 1 => self.pop(),
            _ => self.node(Node::empty(height, pool), pool),
        }
    }

    /// A node of `pool` with this content.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless [`Reserve::has`] said otherwise and the reserve is not on demand;
    /// `ENOSPC` on demand, where there may be no more nodes.
    pub(super) fn node(&mut self, content: Node, pool: &Pool) -> Result<Shared<Node>> {
        match self.source {
            Source::Reserve => {
                let mut node = self.pop()?;
                // A node from the reserve has no other owner.
                *node.get_mut().ok_or(EINVAL)? = content;
                Ok(node)
            }
            Source::Allocation => {
                pool.may_add_node()?;
                Shared::new(content)
            }
            Source::AllocationOverLimit => Shared::new(content),
        }
    }
}
