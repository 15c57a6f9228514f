// SPDX-License-Identifier: GPL-2.0

//! Inserting and removing blocks.

use super::{
    height_for,
    left_in_leaf,
    Root,
    Tree,
    EMPTY, //
};
use crate::store::{
    block::{
        BlockCount,
        ContigBlocks,
        Leaf,
        NewBlock,
        Pool,
        Slots, //
    },
    cow::{
        self,
        CopyOnWrite,
        InPlace, //
    },
    node::{
        self,
        span,
        LeafNode,
        Node,
        Subtree,
        FANOUT, //
    },
    Prealloc, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Tree {
    /// Returns whether `prealloc` has what [`Tree::insert`] at `index` takes. If not, it is
    /// recorded there.
    pub fn can_insert(&self, index: u64, prealloc: &mut Prealloc) -> bool {
        // Both, so that both are recorded.
        let spares = prealloc.require_spares(self.spares_to_insert(index, index + 1));
        prealloc.require(self.nodes_to_insert(index), 0) && spares
    }

    /// Returns how many spare blocks it takes to copy the shared leaves of `from..to`.
    fn spares_to_insert(&self, from: u64, to: u64) -> usize {
        let mut index = from;
        let mut spares = 0;
        while index < to {
            let Some((root, height)) = self.root_for(index) else {
                break;
            };
            if let Some((leaf, false)) = node::descend(root, height, 1, index) {
                spares += leaf.slots().map_or(0, Slots::spares_to_copy);
            }
            index += left_in_leaf(index) as u64;
        }
        spares
    }

    /// Returns whether no node on the path to `index` is shared, as far as there are nodes. Then a
    /// change there to a tree from [`Tree::edit`] copies only nodes that are dropped with this one.
    pub fn owns_path(&self, index: u64) -> bool {
        self.root_for(index).is_none_or(|(root, height)| {
            (1..=height)
                .find_map(|at| node::descend(root, height, at, index))
                .is_none_or(|(_, unique)| unique)
        })
    }

    /// Returns how many nodes it takes at most to insert blocks from `first` to `last`.
    pub fn nodes_for(&self, first: u64, last: u64) -> usize {
        let leaves_after = (last / span(1) - first / span(1)) as usize;
        let mut nodes = self.nodes_to_insert(first);
        if leaves_after > 0 {
            nodes += self.nodes_to_update(last) + leaves_after - 1 + leaves_after / FANOUT;
        }
        nodes
    }

    fn nodes_to_insert(&self, index: u64) -> usize {
        if self.fits_in_root(index) {
            0
        } else {
            self.nodes_to_update(index)
        }
    }

    /// Returns whether a block at `index` takes no node.
    pub(super) fn fits_in_root(&self, index: u64) -> bool {
        index == 0 && matches!(&self.root, Root::One(_) | Root::Node { node: None, .. })
    }

    /// Returns how many nodes [`Tree::update`] takes at `index`.
    fn nodes_to_update(&self, index: u64) -> usize {
        let needed = height_for(index);
        match &self.root {
            // A leaf for block 0, the nodes above it, and the path down to `index`.
            Root::One(_) => (2 * needed - 1) as usize,
            Root::Node { node: None, .. } => needed as usize,
            Root::Node {
                node: Some(node),
                height,
            } if needed <= *height => cow::nodes_to_update(node, *height, index),
            // A new root for each level, and from the topmost down to `index`.
            Root::Node { height, .. } => (needed - height + needed - 1) as usize,
        }
    }

    /// Raises the root to a node of this height at least. Returns it, its height, and the pool.
    pub(super) fn raise_height(
        &mut self,
        needed: u32,
        prealloc: &mut Prealloc,
    ) -> Result<(&mut Subtree, u32, &Arc<Pool>)> {
        if let Root::One(one) = &mut self.root {
            let leaf = prealloc.node(&self.pool, |charge| Node::leaf_with(one, charge))?;
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

    /// Calls `change` with the leaf that covers `index`, which is made if there is none, and with
    /// its place there, see [`cow::update_leaf`]. Returns by how much that changed the number of
    /// blocks.
    pub(super) fn update(
        &mut self,
        index: u64,
        prealloc: &mut Prealloc,
        change: impl FnOnce(&mut LeafNode, usize, &mut CopyOnWrite<'_>) -> Result<BlockCount>,
    ) -> Result<BlockCount> {
        let (root, height, pool) = self.raise_height(height_for(index), prealloc)?;
        let mut nodes = CopyOnWrite { pool, prealloc };
        let result = cow::update_leaf(root, height, index, &mut nodes, change);
        self.duplicated += prealloc.take_duplicated();
        result
    }

    /// Calls `change` with the slots that cover `index`, and its place there, if nothing on the
    /// path is missing or shared. Returns by how much that changed the number of blocks.
    pub(super) fn update_in_place(
        &mut self,
        index: u64,
        change: impl FnOnce(&mut Slots, usize) -> BlockCount,
    ) -> BlockCount {
        if let (Root::One(one), 0) = (&mut self.root, index) {
            return change(one, 0);
        }
        let Some((root, height)) = self.root_mut_for(index) else {
            return BlockCount::default();
        };
        let change = |node: &mut LeafNode, i, _: &mut _| Ok(change(&mut node.leaf, i));
        cow::update_leaf(root, height, index, &mut InPlace, change).unwrap_or_default()
    }

    /// Puts `content` in the place of what is in `range`, see [`cow::replace`].
    pub(super) fn replace(
        &mut self,
        range: Range<u64>,
        mut content: Subtree,
        prealloc: &mut Prealloc,
    ) -> Result {
        let (root, height, pool) = self.raise_height(height_for(range.end - 1), prealloc)?;
        let mut nodes = CopyOnWrite { pool, prealloc };
        let result = cow::replace(root, height, range, &mut content, &mut nodes);
        self.duplicated += prealloc.take_duplicated();
        result.map(|_| ())
    }

    /// Inserts as [`Tree::insert`] if every node on the path exists and is not shared, and so no
    /// node is needed. Gives the block back otherwise.
    pub fn insert_in_place<'p>(
        &mut self,
        index: u64,
        block: NewBlock<'p>,
    ) -> Result<(), NewBlock<'p>> {
        let generation = self.generation;
        let mut block = Some(block);
        let mut delta = BlockCount::default();
        if let Some((root, height)) = self.root_mut_for(index) {
            let insert = |node: &mut LeafNode, i, _: &mut _| {
                Ok(block.take().map_or_else(BlockCount::default, |block| {
                    node.leaf.insert(i, block, generation)
                }))
            };
            delta = cow::update_leaf(root, height, index, &mut InPlace, insert).unwrap_or_default();
        }
        match block {
            Some(block) => Err(block),
            None => {
                self.count_replaced(1, delta);
                Ok(())
            }
        }
    }

    fn root_mut_for(&mut self, index: u64) -> Option<(&mut Subtree, u32)> {
        match &mut self.root {
            Root::Node { node, height } if index < span(*height) => Some((node, *height)),
            _ => None,
        }
    }

    /// Makes those of the `n` blocks from `index` on written that are [`Lookup::Unwritten`], and
    /// [`Lookup::Owned`] from then on: before they are stored to. Returns how many. (If the
    /// store fails, zeros count as data, which does no harm.)
    ///
    /// [`Lookup::Owned`]: super::Lookup::Owned
    /// [`Lookup::Unwritten`]: super::Lookup::Unwritten
    pub fn set_written(&mut self, index: u64, n: usize) -> u64 {
        let generation = self.generation;
        let mut done = 0;
        let mut written = 0;
        while done < n {
            let at = index + done as u64;
            let len = (n - done).min(left_in_leaf(at));
            let set = |slots: &mut Slots, i| slots.set_written(i, i + len, generation);
            written += self.update_in_place(at, set).written;
            done += len;
        }
        written
    }

    /// Inserts a new block at `index`, in place of what is there.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if `prealloc` has too few nodes, which [`Tree::can_insert`] tells in advance; the
    /// tree holds the same blocks as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use crate::store::{block::Pool, Prealloc, Tree};
    /// # use kernel::prelude::*;
    /// # let pool = Pool::new(None)?;
    /// let mut tree = Tree::new(pool.clone());
    /// let mut prealloc = Prealloc::new();
    /// assert_eq!(tree.insert(3, pool.alloc()?, &mut prealloc), Err(ENOMEM));
    ///
    /// // Block 0 alone takes no node.
    /// tree.insert(0, pool.alloc()?, &mut prealloc)?;
    /// assert_eq!(tree.blocks(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn insert(&mut self, index: u64, block: NewBlock<'_>, prealloc: &mut Prealloc) -> Result {
        let generation = self.generation;
        if self.fits_in_root(index) {
            let mut one = Leaf::new(self.pool.clone());
            let mut delta = one.insert(0, block, generation);
            delta.blocks -= self.blocks();
            self.root = Root::One(one);
            self.count_replaced(1, delta);
            return Ok(());
        }
        let delta = self.update(index, prealloc, |node, i, _| {
            Ok(node.leaf.insert(i, block, generation))
        })?;
        self.count_replaced(1, delta);
        Ok(())
    }

    /// Counts those of `inserted` blocks that took the place of others.
    fn count_replaced(&self, inserted: u64, delta: BlockCount) {
        if delta.blocks < inserted {
            self.pool.add_replaced(inserted - delta.blocks);
        }
    }

    /// Inserts several blocks from `index` on, as far as `prealloc` has the nodes; those are taken
    /// from `blocks`. What the next ones need is recorded in `prealloc`.
    ///
    /// # Errors
    ///
    /// Those of a `prealloc` that allocates on demand.
    pub fn insert_run(
        &mut self,
        index: u64,
        blocks: &mut ContigBlocks<'_>,
        prealloc: &mut Prealloc,
    ) -> Result {
        let generation = self.generation;
        let end = index + blocks.len() as u64;
        while !blocks.is_empty() {
            let mut at = end - blocks.len() as u64;
            // Up to the end of a node of this height, as far as the root reaches then.
            let reach = end.min(self.end().max(span(height_for(at))));
            let end_in = |height| reach.min((at / span(height) + 1) * span(height));
            // Of the leaves below one node, each but the first takes one node at most.
            let leaves_after = (end_in(2) - 1) / span(1) - at / span(1);
            let has_nodes = prealloc.require(self.nodes_to_update(at), leaves_after as usize);
            let to = end_in(if prealloc.has_extra() { 2 } else { 1 });
            if !prealloc.require_spares(self.spares_to_insert(at, to)) || !has_nodes {
                break;
            }
            while at < to {
                let n = left_in_leaf(at).min((to - at) as usize);
                let delta = self.update(at, prealloc, |node, i, _| {
                    let mut delta = BlockCount::default();
                    if node.blocks > 0 {
                        delta += node.leaf.remove_run(i, i + n);
                    }
                    delta += node.leaf.insert_run(i, n, blocks, generation);
                    Ok(delta)
                })?;
                self.count_replaced(n as u64, delta);
                at += n as u64;
            }
        }
        Ok(())
    }

    /// Empties `from..to`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` if `prealloc` has too few nodes; some of the range may be empty then. So
    /// this is for a tree from [`Tree::edit`], which is dropped after an error.
    pub fn remove(&mut self, from: u64, to: u64, prealloc: &mut Prealloc) -> Result {
        let to = to.min(self.end());
        if from >= to {
            return Ok(());
        }
        if from == 0 && to == self.end() {
            self.root = EMPTY;
            return Ok(());
        }
        self.replace(from..to, None, prealloc)?;
        if self.blocks() == 0 {
            self.root = EMPTY;
        }
        Ok(())
    }

    /// Returns the end of what the root covers.
    pub(super) fn end(&self) -> u64 {
        match &self.root {
            Root::One(_) => 1,
            Root::Node { node: None, .. } => 0,
            Root::Node { height, .. } => span(*height),
        }
    }
}
