// SPDX-License-Identifier: GPL-2.0

//! Putting blocks in, and taking them out.

use super::{height_for, Root, Tree, EMPTY};
use crate::store::{
    block::{BlockCount, ContigBlocks, Leaf, NewBlock, Pool},
    node::{self, span, Node, NodeLeaf, RunInsertion, Subtree, FANOUT},
    Prealloc,
};
use kernel::{prelude::*, sync::Arc};

impl Tree {
    /// Whether [`Tree::insert`] at `index` finds the nodes it needs in `prealloc`; if not, they
    /// are noted there.
    pub fn can_insert(&self, index: u64, prealloc: &mut Prealloc) -> bool {
        // Both, so that both are noted.
        let spares = prealloc.require_spares(self.spares_to_insert(index, index + 1));
        prealloc.require(self.nodes_to_insert(index), 0) && spares
    }

    /// How many spares it takes to copy the leaves of `from..to` that have other owners.
    fn spares_to_insert(&self, from: u64, to: u64) -> usize {
        let mut index = from;
        let mut spares = 0;
        while index < to {
            let Some((root, height)) = self.root_for(index) else {
                break;
            };
            if let Some((leaf, false)) = node::descend(root, height, 1, index) {
                spares += leaf.slots().map_or(0, Leaf::spares_to_copy);
            }
            index = (index / FANOUT as u64 + 1) * FANOUT as u64;
        }
        spares
    }

    /// Whether the nodes on the way to `index`, as far as there are any, are this tree's alone. Where they
    /// are, a change there to a tree from [`Tree::edit`], which is put in the place of this one, copies
    /// only nodes that go then.
    pub fn owns_path(&self, index: u64) -> bool {
        self.root_for(index).is_none_or(|(root, height)| {
            (1..=height)
                .find_map(|at| node::descend(root, height, at, index))
                .is_none_or(|(_, unique)| unique)
        })
    }

    /// How many nodes it takes at most to put blocks in from `first` to `last`.
    pub fn nodes_for(&self, first: u64, last: u64) -> usize {
        let leaves_after = (last / span(1) - first / span(1)) as usize;
        let mut nodes = self.nodes_to_insert(first);
        if leaves_after > 0 {
            nodes += self.nodes_for_leaf(last) + leaves_after - 1 + leaves_after / FANOUT;
        }
        nodes
    }

    fn nodes_to_insert(&self, index: u64) -> usize {
        if self.fits_in_root(index) {
            0
        } else {
            self.nodes_for_leaf(index)
        }
    }

    /// How many nodes it takes to have a leaf for `index`, to be changed.
    fn nodes_for_leaf(&self, index: u64) -> usize {
        let needed = height_for(index);
        match &self.root {
            // A leaf for the block that there is, nodes above it, and the way to the new one.
            Root::One(_) => (2 * needed - 1) as usize,
            Root::Node { node: None, .. } => needed as usize,
            Root::Node {
                node: Some(node),
                height,
            } if needed <= *height => node::nodes_to_insert(node, *height, index),
            // A new root for each level, and from the topmost down to the new block.
            Root::Node { height, .. } => (needed - height + needed - 1) as usize,
        }
    }

    /// As [`Tree::insert`], where all nodes on the way are there, and this tree's own: no others are
    /// needed then. Otherwise gives the block back.
    pub fn insert_in_place<'p>(
        &mut self,
        index: u64,
        block: NewBlock<'p>,
    ) -> Result<(), NewBlock<'p>> {
        let generation = self.generation;
        let mut block = Some(block);
        self.update_leaf_in_place(index, |slots, i| match block.take() {
            Some(block) => slots.insert(i, block, generation),
            None => BlockCount::default(),
        });
        block.map_or(Ok(()), Err)
    }

    fn update_leaf_in_place(
        &mut self,
        index: u64,
        change: impl FnOnce(&mut NodeLeaf, usize) -> BlockCount,
    ) -> Option<BlockCount> {
        match &mut self.root {
            Root::Node { node, height } if index < span(*height) => {
                node::update_leaf_in_place(node, *height, index, change)
            }
            _ => None,
        }
    }

    /// Makes written those of the `n` blocks at `index` that are [`Lookup::Unwritten`]: about to be
    /// stored to, in place. They are [`Lookup::Exclusive`] then. Returns how many.
    ///
    /// [`Lookup::Exclusive`]: super::Lookup::Exclusive
    /// [`Lookup::Unwritten`]: super::Lookup::Unwritten
    pub fn set_written(&mut self, index: u64, n: usize) -> u64 {
        let generation = self.generation;
        if let (Root::One(slots), 0) = (&mut self.root, index) {
            return slots.set_written(0, 1, generation).written;
        }
        let mut done = 0;
        let mut written = 0;
        while done < n {
            let at = index + done as u64;
            let in_leaf = (n - done).min(FANOUT - node::child_index(1, at));
            let set = |slots: &mut NodeLeaf, i| slots.set_written(i, i + in_leaf, generation);
            written += self
                .update_leaf_in_place(at, set)
                .map_or(0, |delta| delta.written);
            done += in_leaf;
        }
        written
    }

    /// Puts a new block in at `index`, in place of what was there.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where `prealloc` has too few nodes, which [`Tree::can_insert`] tells in advance:
    /// the blocks of the tree are as they were.
    pub fn insert(&mut self, index: u64, block: NewBlock<'_>, prealloc: &mut Prealloc) -> Result {
        if self.fits_in_root(index) {
            let mut slots = Leaf::new(self.pool.clone());
            slots.insert(0, block, self.generation);
            self.root = Root::One(slots);
            return Ok(());
        }
        let generation = self.generation;
        let (root, height, pool) = self.raise_height(height_for(index), prealloc)?;
        let put = |slots: &mut NodeLeaf, i| slots.insert(i, block, generation);
        let result = node::update_leaf(root, height, index, put, pool, prealloc);
        self.copied += prealloc.take_copied();
        result.map(|_| ())
    }

    /// As [`Tree::insert`], of several blocks from `index` on, as far as `prealloc` has the nodes; those
    /// are `piece`'s no more. What the next ones need is noted in `prealloc`.
    ///
    /// # Errors
    ///
    /// Those of a `prealloc` that is on demand.
    pub fn insert_run(
        &mut self,
        index: u64,
        piece: &mut ContigBlocks<'_>,
        prealloc: &mut Prealloc,
    ) -> Result {
        let end = index + piece.len() as u64;
        while !piece.is_empty() {
            let at = end - piece.len() as u64;
            // The end of what lies in one node of this height.
            let end_in = |height| end.min((at / span(height) + 1) * span(height));
            // Of the leaves of one parent, each takes one node at most, but for the first.
            let leaves_after = (end_in(2) - 1) / span(1) - at / span(1);
            let has_nodes = prealloc.require(self.nodes_for_leaf(at), leaves_after as usize);
            let to = end_in(if prealloc.has_extra() { 2 } else { 1 });
            if !prealloc.require_spares(self.spares_to_insert(at, to)) || !has_nodes {
                break;
            }
            let mut blocks = RunInsertion {
                left: (to - at) as usize,
                generation: self.generation,
                piece,
            };
            let (root, height, pool) = self.raise_height(height_for(at), prealloc)?;
            let (_, result) = node::insert_run(root, height, at, &mut blocks, pool, prealloc);
            self.copied += prealloc.take_copied();
            result?;
        }
        Ok(())
    }

    /// Makes the root a node of at least this height. Returns it, its height, and the pool.
    pub(super) fn raise_height(
        &mut self,
        needed: u32,
        prealloc: &mut Prealloc,
    ) -> Result<(&mut Subtree, u32, &Arc<Pool>)> {
        if let Root::One(slots) = &mut self.root {
            let leaf = prealloc.node(&self.pool, |charge| Node::leaf_with(slots, charge))?;
            self.root = Root::Node {
                node: Some(leaf),
                height: 1,
            };
        }
        match &mut self.root {
            Root::One(_) => Err(EINVAL),
            Root::Node { node, height } => {
                while *height < needed {
                    if let Some(top) = node {
                        let above =
                            prealloc.node(&self.pool, |charge| Node::inner_above(top, charge))?;
                        *node = Some(above);
                    }
                    *height += 1;
                }
                Ok((node, *height, &self.pool))
            }
        }
    }

    /// Empties `from..to`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `prealloc` has too few nodes; some of the range may be empty then.
    /// So this is for a tree got from [`Tree::edit`], which is thrown away on an error.
    pub fn remove(&mut self, from: u64, to: u64, prealloc: &mut Prealloc) -> Result {
        if from >= to {
            return Ok(());
        }
        match &mut self.root {
            Root::One(_) if from == 0 => self.root = EMPTY,
            Root::One(_) => (),
            Root::Node { node, height } if from < span(*height) => {
                node::remove(node, *height, from, to, &self.pool, prealloc)?;
                self.copied += prealloc.take_copied();
                if node.is_none() {
                    *height = 0;
                }
            }
            Root::Node { .. } => (),
        }
        Ok(())
    }
}
