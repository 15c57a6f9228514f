// SPDX-License-Identifier: GPL-2.0

//! The blocks of one file: a persistent radix tree.

mod compare;
mod extent;
mod owned;
mod share;
mod update;

pub use self::extent::BlockExtent;
pub use self::owned::StableRef;

use super::{
    block::{
        BlockRef,
        Leaf,
        Pool,
        Slots, //
    },
    node::{
        self,
        span,
        NodeRef,
        Subtree,
        FANOUT, //
    },
    Prealloc, //
};
use kernel::{prelude::*, sync::Arc};

/// The blocks of a file, by index; holes have none.
///
/// [`Tree::snapshot`] shares the whole tree in O(1). A change to either of the two then copies the
/// shared nodes on its path. Which blocks may be written in place: see the
/// [theory of operation](crate::store).
///
/// # Examples
///
/// A file with one block, a clone, and a write to the clone:
///
/// ```
/// use crate::store::{block::Pool, Lookup, Prealloc, Tree};
/// use kernel::prelude::*;
///
/// let pool = Pool::new(None)?;
/// // No lock protects the tree here, so that nodes are allocated when they are needed.
/// let mut prealloc = Prealloc::on_demand();
/// let mut tree = Tree::new(pool.clone());
/// tree.insert(7, pool.alloc()?, &mut prealloc)?;
/// assert!(matches!(tree.lookup(7), Lookup::Owned(_)));
/// assert!(tree.lookup(8).is_hole());
///
/// let mut clone = tree.snapshot();
/// assert!(matches!(tree.lookup(7), Lookup::Shared(_)));
/// assert_eq!(pool.used(), 1);
///
/// clone.insert(7, pool.alloc()?, &mut prealloc)?;
/// assert!(matches!(clone.lookup(7), Lookup::Owned(_)));
/// // The clone may have given a reference to the block away, for a pipe.
/// assert!(matches!(tree.lookup(7), Lookup::WasShared(_)));
/// assert_eq!(pool.used(), 2);
/// # Ok::<(), Error>(())
/// ```
pub struct Tree {
    pool: Arc<Pool>,
    /// The generation in which new blocks are owned.
    generation: u64,
    /// See [`Tree::take_duplicated`].
    duplicated: u64,
    root: Root,
}

// As for `Leaf`: only the `Arc` is not `Unpin` by itself.
impl Unpin for Tree {}

#[derive(Clone)]
enum Root {
    /// Block 0 and no other: most files are that small.
    One(Leaf<1>),
    /// A node of this height, at least 1, which covers `span(height)` blocks. Without a node the
    /// height is 0, and the tree is empty.
    Node { node: Subtree, height: u32 },
}

const EMPTY: Root = Root::Node {
    node: None,
    height: 0,
};

/// What a tree holds at an index, and whether that may be written.
pub enum Lookup {
    /// No block: reads as zeros.
    Hole,
    /// A block of this tree alone, which may be written while the tree cannot be snapshot.
    Owned(BlockRef),
    /// As [`Lookup::Owned`] once [`Tree::set_written`] was called; until then a block of zeros
    /// that counts as a hole.
    Unwritten(BlockRef),
    /// A block that other trees may hold, too: to be copied, never written.
    Shared(BlockRef),
    /// A block of this tree alone that other trees held, so that references obtained through those
    /// may exist: to be copied, too. The copy takes no more room, as the block is released.
    WasShared(BlockRef),
}

impl Lookup {
    /// Returns whether there is no block.
    pub fn is_hole(&self) -> bool {
        matches!(self, Self::Hole)
    }

    /// Returns whether a write needs no new block: [`Lookup::Owned`] or [`Lookup::Unwritten`].
    pub fn needs_no_block(&self) -> bool {
        matches!(self, Self::Owned(_) | Self::Unwritten(_))
    }

    /// Returns the block, if there is one.
    pub fn as_block(&self) -> Option<&BlockRef> {
        match self {
            Self::Hole => None,
            Self::Owned(block)
            | Self::Unwritten(block)
            | Self::Shared(block)
            | Self::WasShared(block) => Some(block),
        }
    }

    /// As [`Lookup::as_block`], by value.
    pub fn block(self) -> Option<BlockRef> {
        match self {
            Self::Hole => None,
            Self::Owned(block)
            | Self::Unwritten(block)
            | Self::Shared(block)
            | Self::WasShared(block) => Some(block),
        }
    }
}

impl Tree {
    /// Makes an empty tree for blocks of `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        let generation = pool.new_generation();
        Self {
            pool,
            generation,
            duplicated: 0,
            root: EMPTY,
        }
    }

    /// Returns the pool of the blocks.
    #[cfg(reflinkfs_count)]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns a tree with the same blocks, in O(1), to be changed and then put in the place of
    /// this one. While both exist, every block is shared.
    ///
    /// [`Tree::make_shareable`] comes first, under the same hold of the lock.
    pub fn edit(&self) -> Self {
        Self {
            root: self.root.clone(),
            duplicated: self.duplicated,
            ..self.edit_empty()
        }
    }

    /// Prepares the root to be shared: moves a full block without a node into a leaf.
    ///
    /// # Errors
    ///
    /// Those of `prealloc`, where it has no node for that.
    pub fn make_shareable(&mut self, prealloc: &mut Prealloc) -> Result {
        match &self.root {
            Root::One(leaf) if leaf.spares_to_copy() > 0 => {
                if !prealloc.require(1, 0) {
                    return Err(ENOMEM);
                }
                self.raise_height(1, prealloc).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Returns how many full blocks were duplicated since the last call. Page tables may map
    /// the originals, and the duplicates are not shared with where the blocks came from.
    pub fn take_duplicated(&mut self) -> u64 {
        core::mem::take(&mut self.duplicated)
    }

    /// Counts the blocks, shared or not; a block counts as often as it occurs.
    pub fn blocks(&self) -> u64 {
        match &self.root {
            Root::One(_) => 1,
            Root::Node { node, .. } => node::count(node).blocks,
        }
    }

    /// Returns the root and its height, if it has a node and covers `index`.
    fn root_for(&self, index: u64) -> Option<(&NodeRef, u32)> {
        match &self.root {
            Root::Node {
                node: Some(node),
                height,
            } if index < span(*height) => Some((node, *height)),
            _ => None,
        }
    }

    /// Returns the slots that cover `index`, its place in them, and whether nothing on the path is
    /// shared.
    fn slots_at(&self, index: u64) -> Option<(&Slots, usize, bool)> {
        match &self.root {
            Root::One(leaf) if index == 0 => Some((leaf, 0, true)),
            _ => {
                let (root, height) = self.root_for(index)?;
                let (leaf, unique) = node::descend(root, height, 1, index)?;
                Some((leaf.slots()?, node::child_index(1, index), unique))
            }
        }
    }

    /// Returns what the tree holds at `index`.
    pub fn lookup(&self, index: u64) -> Lookup {
        self.slots_at(index)
            .map_or(Lookup::Hole, |(slots, i, unique)| {
                self.lookup_in(slots, i, unique)
            })
    }

    fn lookup_in(&self, slots: &Slots, i: usize, unique: bool) -> Lookup {
        match slots.get(i) {
            None => Lookup::Hole,
            Some(block) if !unique || !slots.is_sole_holder(i) => Lookup::Shared(block),
            Some(block) if !slots.has_owned_bit(i, self.generation) => Lookup::WasShared(block),
            Some(block) if slots.is_unwritten(i) => Lookup::Unwritten(block),
            Some(block) => Lookup::Owned(block),
        }
    }

    /// Returns whether the block at `index` is unwritten, shared or not.
    pub fn is_unwritten(&self, index: u64) -> bool {
        self.slots_at(index)
            .is_some_and(|(slots, i, _)| slots.is_unwritten(i))
    }

    /// Returns how many of the up to `max` blocks from `index` on a write must allocate: those that
    /// are [`Lookup::Hole`] or [`Lookup::Shared`].
    pub fn len_to_alloc(&self, index: u64, max: usize) -> usize {
        let mut len = 0;
        while len < max {
            let at = index + len as u64;
            let n = (max - len).min(left_in_leaf(at));
            let to_alloc = match self.slots_at(at) {
                Some((slots, first, true)) => (first..first + n)
                    .take_while(|&i| !slots.is_sole_holder(i))
                    .count(),
                _ => n,
            };
            len += to_alloc;
            if to_alloc < n {
                break;
            }
        }
        len
    }

    /// Returns the blocks from `index` on up to the end of a leaf; `None` is a hole. Returns none
    /// where there is no leaf, and so a hole at `index`.
    pub fn blocks_at(&self, index: u64) -> &[Option<BlockRef>] {
        let slots = match &self.root {
            Root::One(leaf) if index == 0 => Some(&**leaf),
            _ => self
                .root_for(index)
                .and_then(|(root, height)| node::find_leaf(root, height, index)),
        };
        slots
            .and_then(|slots| slots.blocks().get(node::child_index(1, index)..))
            .unwrap_or_default()
    }

    /// As [`Tree::blocks_at`], up to the first that is not [`Lookup::Owned`]; at most `max`.
    pub fn owned_run(&self, index: u64, max: usize) -> &[Option<BlockRef>] {
        match self.slots_at(index) {
            Some((slots, i, true)) => slots.owned_run(i, max, self.generation),
            _ => &[],
        }
    }

    /// Fills `blocks` with references to the blocks from `index` on; `None` is a hole. Returns how
    /// many entries are valid, at least one.
    pub fn get_blocks(&self, index: u64, blocks: &mut [Option<BlockRef>]) -> usize {
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

/// Returns the height of a tree that covers `index`.
fn height_for(index: u64) -> u32 {
    let mut height = 1;
    while index >= span(height) {
        height += 1;
    }
    height
}

/// Returns how many blocks there are from `index` to the end of its leaf.
fn left_in_leaf(index: u64) -> usize {
    FANOUT - node::child_index(1, index)
}
