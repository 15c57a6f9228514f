// SPDX-License-Identifier: GPL-2.0

//! [`SpareNodes`]: nodes for changes of a map or table under a lock with which nothing is to be
//! allocated.

use super::node_ref::{
    Flags,
    NodeRef, //
};
use kernel::prelude::*;

/// A node that can be made before it is known what is in it.
pub trait EmptyNode {
    /// Returns one.
    fn empty() -> Self;
}

/// Nodes, and the charge of each.
///
/// A change takes them. Where there are too few it does nothing: the caller drops the lock, fills
/// this and tries again.
pub struct SpareNodes<N, C> {
    /// One of them, which is all that most changes need.
    first: Option<(NodeRef<N>, C)>,
    others: KVec<(NodeRef<N>, C)>,
    /// How many the last change needs.
    needed: usize,
}

impl<N, C> Default for SpareNodes<N, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N, C> SpareNodes<N, C> {
    /// Returns none.
    pub const fn new() -> Self {
        Self {
            first: None,
            others: KVec::new(),
            needed: 0,
        }
    }

    /// Returns whether there are as many as are needed, which [`SpareNodes::fill`] allocates.
    pub fn has(&mut self, needed: usize) -> bool {
        self.needed = needed;
        self.len() >= needed
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Allocates what the last change needs. May sleep, if `flags` say so. `charge` charges a node,
    /// until it is dropped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `charge`.
    pub fn fill(&mut self, flags: Flags, mut charge: impl FnMut() -> Result<C>) -> Result
    where
        N: EmptyNode,
    {
        while self.len() < self.needed {
            let spare = (NodeRef::new(N::empty(), flags)?, charge()?);
            match &self.first {
                None => self.first = Some(spare),
                Some(_) => self.others.push(spare, flags)?,
            }
        }
        Ok(())
    }

    /// Makes a node of one that was allocated. `content` is given its charge.
    pub(super) fn node(&mut self, content: impl FnOnce(C) -> N) -> Result<NodeRef<N>> {
        let spare = self.others.pop().or_else(|| self.first.take());
        let (mut node, charge) = spare.ok_or(ENOMEM)?;
        // It has a single reference.
        *node.get_mut().ok_or(EINVAL)? = content(charge);
        Ok(node)
    }
}
