// SPDX-License-Identifier: GPL-2.0

//! The blocks of one file: a persistent radix tree.

mod compare;
mod exclusive;
mod extent;
mod share;
mod update;

pub use self::exclusive::StableRef;
pub use self::extent::Extent;

use super::{
    block::{BlockRef, InPool, Leaf, NodeRef, Pool},
    node::{self, span, Node, NodeLeaf, Subtree, FANOUT},
    Prealloc,
};
use kernel::sync::Arc;

/// The blocks of a file, by block index. No entry for a hole.
///
/// The tree is persistent: [`Tree::snapshot`] shares all of it in O(1), and a change to one of
/// the two copies the nodes on its way that have several owners, and those alone.
///
/// # What may be written in place
///
/// A node or a block with one owner, reached from the root through nodes with one owner each,
/// belongs to this tree alone. That is a fact about the path, found anew by each walk, and cannot
/// go stale: the count of what lies on such a path can only be raised by way of this tree, whose
/// lock the walker holds. Below a node with several owners everything is shared, whatever its own
/// count says: another tree may be about to copy that node, and raise the counts below it.
///
/// A count may *fall* to one at any time, when another tree lets go. Then the walk that still
/// read two copies a node it need not have copied, which is harmless.
///
/// A block that other trees held until then is not written in place all the same, but copied once
/// more ([`Lookup::WasShared`]): there may still be references to its page that were got through
/// them, see [`Leaf`].
pub struct Tree {
    pool: Arc<Pool>,
    /// What new blocks are marked with, see [`Leaf`].
    generation: u64,
    /// See [`Tree::take_copied`].
    copied: u64,
    root: Root,
}

// As for `Leaf`: the `Arc` keeps it from being so by itself.
impl Unpin for Tree {}

#[derive(Clone)]
enum Root {
    /// Block 0 and nothing else: most files are this small.
    One(Leaf<1>),
    /// A node of this height, at least 1: a tree of `span(height)` blocks. Without a node the
    /// height is 0, and there is no block.
    Node { node: Subtree, height: u32 },
}

const EMPTY: Root = Root::Node {
    node: None,
    height: 0,
};

/// What a tree holds at an index.
pub enum Lookup {
    /// Nothing: reads as zeros.
    Hole,
    /// A block of this tree alone: it may be written while the tree cannot be cloned.
    Exclusive(BlockRef),
    /// As [`Lookup::Exclusive`], once [`Tree::set_written`] was called: until then it is one of zeros that
    /// count as a hole.
    Unwritten(BlockRef),
    /// A block that other trees may hold too: to be copied, never written.
    Shared(BlockRef),
    /// A block of this tree alone that others held once: to be copied, too, as somebody may still
    /// look at it. The copy takes no room, since the block goes.
    WasShared(BlockRef),
}

impl Lookup {
    /// Whether there is nothing.
    pub fn is_hole(&self) -> bool {
        matches!(self, Self::Hole)
    }

    /// The block, whosever it is.
    pub fn as_block(&self) -> Option<&BlockRef> {
        match self {
            Self::Hole => None,
            Self::Exclusive(block)
            | Self::Unwritten(block)
            | Self::Shared(block)
            | Self::WasShared(block) => Some(block),
        }
    }

    /// As [`Lookup::as_block`], by itself.
    pub fn block(self) -> Option<BlockRef> {
        match self {
            Self::Hole => None,
            Self::Exclusive(block)
            | Self::Unwritten(block)
            | Self::Shared(block)
            | Self::WasShared(block) => Some(block),
        }
    }
}

impl Tree {
    /// An empty tree of blocks of `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        let generation = pool.new_generation();
        Self {
            pool,
            generation,
            copied: 0,
            root: EMPTY,
        }
    }

    /// The pool that the blocks are of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A tree with the same blocks, in O(1), to be changed and then put in the place of this one.
    ///
    /// See [`Tree::make_shareable`] for what comes before, with the same hold of the lock.
    pub fn edit(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            generation: self.generation,
            copied: 0,
            root: self.root.clone(),
        }
    }

    /// Makes sure that what the root holds may get another owner: a block alone that is held by so many
    /// slots that no more may is put into a leaf, which may. False where `prealloc` has no node for that.
    pub fn make_shareable(&mut self, prealloc: &mut Prealloc) -> bool {
        match &self.root {
            Root::One(slots) if slots.spares_to_copy() > 0 => {
                prealloc.require(1, 0) && self.raise_height(1, prealloc).is_ok()
            }
            _ => true,
        }
    }

    /// How many blocks were copied since the last call, as so many slots hold them that no more may: in
    /// place of what is mapped, it may be, and not shared with where they came from.
    pub fn take_copied(&mut self) -> u64 {
        core::mem::take(&mut self.copied)
    }

    /// The number of blocks, shared or not; a block is counted as often as it occurs.
    pub fn blocks(&self) -> u64 {
        match &self.root {
            Root::One(_) => 1,
            Root::Node { node, .. } => node::count(node).blocks,
        }
    }

    /// Whether a block at `index` is kept in the root itself.
    fn fits_in_root(&self, index: u64) -> bool {
        index == 0 && matches!(&self.root, Root::One(_) | Root::Node { node: None, .. })
    }

    /// The root and its height, where it has a node and room for `index`.
    fn root_for(&self, index: u64) -> Option<(&NodeRef<Node>, u32)> {
        match &self.root {
            Root::Node {
                node: Some(node),
                height,
            } if index < span(*height) => Some((node, *height)),
            _ => None,
        }
    }

    /// The slots that hold `index`, its place there, and whether the way has one owner all along.
    fn leaf_for(&self, index: u64) -> Option<(&NodeLeaf, usize, bool)> {
        let (root, height) = self.root_for(index)?;
        let (leaf, unique) = node::descend(root, height, 1, index)?;
        Some((leaf.slots()?, node::child_index(1, index), unique))
    }

    /// The block at `index`.
    pub fn lookup(&self, index: u64) -> Lookup {
        match &self.root {
            Root::One(slots) if index == 0 => self.lookup_in(slots, 0, true),
            _ => match self.leaf_for(index) {
                Some((slots, i, unique)) => self.lookup_in(slots, i, unique),
                None => Lookup::Hole,
            },
        }
    }

    fn lookup_in<const N: usize, P: InPool>(
        &self,
        slots: &Leaf<N, P>,
        i: usize,
        unique: bool,
    ) -> Lookup {
        match slots.get(i) {
            None => Lookup::Hole,
            Some(block) if !unique || !slots.is_sole_owner(i) => Lookup::Shared(block),
            Some(block) if !slots.is_exclusive(i, self.generation) => Lookup::WasShared(block),
            Some(block) if slots.is_unwritten(i) => Lookup::Unwritten(block),
            Some(block) => Lookup::Exclusive(block),
        }
    }

    /// Whether the block at `index` is unwritten, whosever it is.
    pub fn is_unwritten(&self, index: u64) -> bool {
        match &self.root {
            Root::One(slots) if index == 0 => slots.is_unwritten(0),
            _ => self
                .leaf_for(index)
                .is_some_and(|(slots, i, _)| slots.is_unwritten(i)),
        }
    }

    /// Fills `found` with what lies at `index` and after it, as [`Tree::lookup`] says.
    pub fn lookup_run(&self, index: u64, found: &mut [Lookup]) {
        let mut done = 0;
        while done < found.len() {
            let at = index + done as u64;
            let first = node::child_index(1, at);
            let n = (found.len() - done).min(FANOUT - first);
            let found = &mut found[done..done + n];
            match self.leaf_for(at) {
                Some((slots, _, unique)) => {
                    for (i, found) in found.iter_mut().enumerate() {
                        *found = self.lookup_in(slots, first + i, unique);
                    }
                }
                None => {
                    found.fill_with(|| Lookup::Hole);
                    found[0] = self.lookup(at);
                }
            }
            done += n;
        }
    }

    /// How many blocks from `index` on, up to `max`, are not this tree's own: [`Lookup::Hole`] or
    /// [`Lookup::Shared`], so that writing takes new ones.
    pub fn len_to_alloc(&self, index: u64, max: usize) -> usize {
        let mut found = 0;
        while found < max {
            let at = index + found as u64;
            let in_leaf = (max - found).min(FANOUT - node::child_index(1, at));
            let others = self.len_to_alloc_in_leaf(at, in_leaf);
            found += others;
            if others < in_leaf {
                break;
            }
        }
        found
    }

    fn len_to_alloc_in_leaf(&self, index: u64, max: usize) -> usize {
        match (self.leaf_for(index), &self.root) {
            (Some((slots, first, true)), _) => (first..first + max)
                .take_while(|&i| !slots.is_sole_owner(i))
                .count(),
            (None, Root::One(slots)) if index == 0 && slots.is_sole_owner(0) => 0,
            _ => max,
        }
    }

    /// The blocks at `index` and after it, up to the end of a leaf; `None` among them is a hole. None
    /// at all where there is no leaf: then there is a hole at `index`.
    pub fn blocks_at(&self, index: u64) -> &[Option<BlockRef>] {
        let leaf = self
            .root_for(index)
            .and_then(|(root, height)| node::find_leaf(root, height, index));
        match (leaf, &self.root) {
            (Some(slots), _) => &slots.blocks()[node::child_index(1, index)..],
            (None, Root::One(slots)) if index == 0 => slots.blocks(),
            _ => &[],
        }
    }

    /// As [`Tree::blocks_at`], up to the first that is not [`Lookup::Exclusive`]; at most `max`.
    pub fn exclusive_run(&self, index: u64, max: usize) -> &[Option<BlockRef>] {
        match &self.root {
            Root::One(slots) if index == 0 => slots.exclusive_run(0, max, self.generation),
            _ => match self.leaf_for(index) {
                Some((slots, i, true)) => slots.exclusive_run(i, max, self.generation),
                _ => &[],
            },
        }
    }

    /// Fills `blocks` with what lies at `index` and after it. Returns how many entries of
    /// `blocks` are valid, at least one: `None` among them is a hole.
    pub fn read(&self, index: u64, blocks: &mut [Option<BlockRef>]) -> usize {
        let found = self.blocks_at(index);
        if found.is_empty() {
            blocks.iter_mut().take(1).for_each(|block| *block = None);
            return blocks.len().min(1);
        }
        let n = blocks.len().min(found.len());
        blocks[..n].clone_from_slice(&found[..n]);
        n
    }
}

/// The height of a tree that has room for `index`.
fn height_for(index: u64) -> u32 {
    let mut height = 1;
    while index >= span(height) {
        height += 1;
    }
    height
}
