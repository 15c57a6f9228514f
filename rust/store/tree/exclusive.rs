// SPDX-License-Identifier: GPL-2.0

//! What a tree may write in place, and what it lends out.

use super::{Root, Tree};
use crate::store::{
    block::{BlockRef, InPool, Leaf},
    node::{self, span, FANOUT},
};
use core::ops::Range;

/// What [`Tree::get_stable`] gives.
pub enum StableRef {
    /// Nothing: reads as zeros.
    Hole,
    /// The block: this tree will not write it in place any more.
    Block(BlockRef),
    /// The block, to be copied, as this tree may.
    NeedsCopy(BlockRef),
}

impl Tree {
    /// A tree with the same blocks, in O(1), for another file. From now on this tree writes none of
    /// the blocks in place that it has.
    ///
    /// See [`Tree::make_shareable`] for what comes before, with the same hold of the lock.
    pub fn snapshot(&mut self) -> Self {
        self.generation = self.pool.new_generation();
        self.edit_with_new_generation()
    }

    /// As [`Tree::snapshot`], of which another file gets only the blocks in `range`, and only for
    /// these it matters. Takes a step for each leaf.
    pub fn snapshot_range(&mut self, range: Range<u64>) -> Self {
        let mut index = range.start;
        while index < range.end {
            let leaf_end = (index - index % FANOUT as u64).saturating_add(FANOUT as u64);
            let end = leaf_end.min(range.end);
            match &mut self.root {
                Root::One(slots) if index == 0 => slots.clear_exclusive(0, 1),
                Root::Node { node, height } if index < span(*height) => {
                    // A leaf that is shared already has no marks that count.
                    if let Some(slots) = node::exclusive_leaf(node, *height, index) {
                        let first = node::child_index(1, index);
                        slots.clear_exclusive(first, first + (end - index) as usize);
                    }
                }
                _ => break,
            }
            index = end;
        }
        self.edit_with_new_generation()
    }

    fn edit_with_new_generation(&self) -> Self {
        Self {
            generation: self.pool.new_generation(),
            ..self.edit()
        }
    }

    /// Lets this tree write the block at `index` in place, if no other slot holds it.
    ///
    /// The caller knows that no reference to its page was got through another tree, or by
    /// [`Tree::get_stable`]: as it was [`Lookup::Exclusive`] until just now.
    pub fn restore_exclusive(&mut self, index: u64) {
        fn keep<const N: usize, P: InPool>(slots: &mut Leaf<N, P>, i: usize, generation: u64) {
            // What several slots hold may be lent through one that has no mark.
            if slots.is_sole_owner(i) {
                slots.set_exclusive(i, generation);
            }
        }
        let generation = self.generation;
        match &mut self.root {
            Root::One(slots) if index == 0 => keep(slots, 0, generation),
            Root::Node { node, height } if index < span(*height) => {
                if let Some(slots) = node::exclusive_leaf(node, *height, index) {
                    keep(slots, node::child_index(1, index), generation);
                }
            }
            _ => (),
        }
    }

    /// The block at `index`, for somebody who looks at it later, when the file may have been written
    /// to: its mark goes, so that it is copied then, as one is that others held once. That is of no
    /// use for a block that is mapped writable, nor while the tree is being edited, as the edited
    /// one has the mark, too.
    pub fn get_stable(&mut self, index: u64) -> StableRef {
        let generation = self.generation;
        let slots = match &mut self.root {
            Root::One(slots) if index == 0 => return Self::get_stable_in(slots, 0, generation),
            Root::Node { node, height } if index < span(*height) => {
                node::exclusive_leaf(node, *height, index)
            }
            _ => return StableRef::Hole,
        };
        let i = node::child_index(1, index);
        if let Some(slots) = slots {
            return Self::get_stable_in(slots, i, generation);
        }
        match self.leaf_for(index) {
            Some((slots, i, _)) => match slots.get(i) {
                None => StableRef::Hole,
                Some(block) if slots.is_exclusive(i, generation) => StableRef::NeedsCopy(block),
                Some(block) => StableRef::Block(block),
            },
            None => StableRef::Hole,
        }
    }

    fn get_stable_in<const N: usize, P: InPool>(
        slots: &mut Leaf<N, P>,
        i: usize,
        generation: u64,
    ) -> StableRef {
        match slots.get(i) {
            None => StableRef::Hole,
            Some(block) if !slots.is_exclusive(i, generation) => StableRef::Block(block),
            Some(block) if !slots.is_sole_owner(i) || block.is_mapped_writable() => {
                StableRef::NeedsCopy(block)
            }
            Some(block) => {
                slots.clear_exclusive(i, i + 1);
                StableRef::Block(block)
            }
        }
    }
}
