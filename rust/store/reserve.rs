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
    nodes: KVec<Shared<Node>>,
    /// How many nodes a change wanted that did not find them.
    wanted: usize,
    on_demand: bool,
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
            on_demand: true,
            ..Self::default()
        }
    }

    /// Allocates what the last change wanted.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn fill(&mut self, pool: &Arc<Pool>) -> Result {
        while self.nodes.len() < self.wanted {
            self.nodes
                .push(Shared::new(Node::leaf(pool.clone()))?, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Whether `n` nodes can be had; if not, they are noted for [`Reserve::fill`].
    pub(super) fn has(&mut self, n: usize) -> bool {
        self.wanted = n;
        self.on_demand || self.nodes.len() >= n
    }

    /// A node with this content.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless [`Reserve::has`] said otherwise and the reserve is not on demand.
    pub(super) fn node(&mut self, content: Node) -> Result<Shared<Node>> {
        if self.on_demand {
            return Shared::new(content);
        }
        let mut node = self.nodes.pop().ok_or(ENOMEM)?;
        // A node from the reserve has no other owner.
        *node.get_mut().ok_or(EINVAL)? = content;
        Ok(node)
    }
}
