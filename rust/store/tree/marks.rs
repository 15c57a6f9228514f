// SPDX-License-Identifier: GPL-2.0

//! What a tree may write in place, and what it lends out.

use super::{Root, Tree};
use crate::store::{
    block::{BlockRef, InPool, Slots},
    node::{self, span, FANOUT},
};
use core::ops::Range;

/// What [`Tree::lend`] gives.
pub enum Loan {
    /// Nothing: reads as zeros.
    Hole,
    /// The block: this tree will not write it in place any more.
    Block(BlockRef),
    /// The block, to be copied, as this tree may.
    Unsteady(BlockRef),
}

impl Tree {
    /// A tree with the same blocks, in O(1), for another file. From now on this tree writes none of
    /// the blocks in place that it has.
    ///
    /// See [`Tree::can_share`] for what comes before, with the same hold of the lock.
    pub fn snapshot(&mut self) -> Self {
        self.epoch = self.pool.new_epoch();
        self.edit_with_new_epoch()
    }

    /// As [`Tree::snapshot`], of which another file gets only the blocks in `range`, and only for
    /// these it matters. Takes a step for each leaf.
    pub fn snapshot_range(&mut self, range: Range<u64>) -> Self {
        let mut index = range.start;
        while index < range.end {
            let leaf_end = (index - index % FANOUT as u64).saturating_add(FANOUT as u64);
            let end = leaf_end.min(range.end);
            match &mut self.root {
                Root::One(slots) if index == 0 => slots.unmark(0, 1),
                Root::Node { node, height } if index < span(*height) => {
                    // A leaf that is shared already has no marks that count.
                    if let Some(slots) = node::own_slots(node, *height, index) {
                        let first = node::slot(1, index);
                        slots.unmark(first, first + (end - index) as usize);
                    }
                }
                _ => break,
            }
            index = end;
        }
        self.edit_with_new_epoch()
    }

    fn edit_with_new_epoch(&self) -> Self {
        Self {
            epoch: self.pool.new_epoch(),
            ..self.edit()
        }
    }

    /// Lets this tree write the block at `index` in place, if no other slot holds it.
    ///
    /// The caller knows that no reference to its page was got through another tree, or by
    /// [`Tree::lend`]: as it was [`Lookup::Private`] until just now.
    pub fn keep_private(&mut self, index: u64) {
        fn keep<const N: usize, P: InPool>(slots: &mut Slots<N, P>, i: usize, epoch: u64) {
            // What several slots hold may be lent through one that has no mark.
            if slots.is_sole_owner(i) {
                slots.mark(i, epoch);
            }
        }
        let epoch = self.epoch;
        match &mut self.root {
            Root::One(slots) if index == 0 => keep(slots, 0, epoch),
            Root::Node { node, height } if index < span(*height) => {
                if let Some(slots) = node::own_slots(node, *height, index) {
                    keep(slots, node::slot(1, index), epoch);
                }
            }
            _ => (),
        }
    }

    /// The block at `index`, for somebody who looks at it later, when the file may have been written
    /// to: its mark goes, so that it is copied then, as one is that others held once. That is of no
    /// use for a block that is mapped writable, nor while the tree is being edited, as the edited
    /// one has the mark, too.
    pub fn lend(&mut self, index: u64) -> Loan {
        let epoch = self.epoch;
        let slots = match &mut self.root {
            Root::One(slots) if index == 0 => return Self::lend_from(slots, 0, epoch),
            Root::Node { node, height } if index < span(*height) => {
                node::own_slots(node, *height, index)
            }
            _ => return Loan::Hole,
        };
        let i = node::slot(1, index);
        if let Some(slots) = slots {
            return Self::lend_from(slots, i, epoch);
        }
        match self.slots_for(index) {
            Some((slots, i, _)) => match slots.get(i) {
                None => Loan::Hole,
                Some(block) if slots.is_marked(i, epoch) => Loan::Unsteady(block),
                Some(block) => Loan::Block(block),
            },
            None => Loan::Hole,
        }
    }

    fn lend_from<const N: usize, P: InPool>(slots: &mut Slots<N, P>, i: usize, epoch: u64) -> Loan {
        match slots.get(i) {
            None => Loan::Hole,
            Some(block) if !slots.is_marked(i, epoch) => Loan::Block(block),
            Some(block) if !slots.is_sole_owner(i) || block.is_mapped_writable() => {
                Loan::Unsteady(block)
            }
            Some(block) => {
                slots.unmark(i, i + 1);
                Loan::Block(block)
            }
        }
    }
}
