// SPDX-License-Identifier: GPL-2.0

//! Seeking blocks and holes, and extents.

use super::{
    Root,
    Tree, //
};
use crate::store::node::{
    self,
    span,
    Wanted, //
};
use core::ops::Range;

/// A run of blocks with consecutive numbers, all or none of which are shared, and all or none
/// unwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockExtent {
    /// The index in the file of the first block.
    pub index: u64,
    /// The number of the first block, see [`Slots`](crate::store::block::Slots); 0 for a single
    /// block that has none.
    pub number: u64,
    /// How many blocks.
    pub len: u64,
    /// Whether other slots hold these blocks, too.
    pub shared: bool,
    /// Whether these are blocks of zeros that were never written.
    pub unwritten: bool,
}

impl BlockExtent {
    /// Extends this extent by `next` if that continues it. Returns whether it does.
    pub fn join(&mut self, next: &BlockExtent) -> bool {
        let joins = next.index == self.index + self.len
            && next.number == self.number + self.len
            && next.shared == self.shared
            && next.unwritten == self.unwritten;
        if joins {
            self.len += next.len;
        }
        joins
    }
}

impl Tree {
    /// Returns the first index at or after `from` with a block.
    pub fn next_block(&self, from: u64) -> Option<u64> {
        self.find(from, Wanted::Block)
    }

    /// Returns the first index at or after `from` without a block.
    pub fn next_hole(&self, from: u64) -> u64 {
        self.find_or_end(from, Wanted::Hole)
    }

    /// Returns the first index at or after `from` with a block that is not unwritten.
    pub fn next_written(&self, from: u64) -> Option<u64> {
        self.find(from, Wanted::Written)
    }

    /// Returns the first index at or after `from` without a block, or with one that is unwritten.
    pub fn next_not_written(&self, from: u64) -> u64 {
        self.find_or_end(from, Wanted::NotWritten)
    }

    /// Returns the first index at or after `from` with what is wanted, as far as the root reaches.
    ///
    /// Visits the children of at most two nodes on each level, also where many lie between.
    fn find(&self, from: u64, wanted: Wanted) -> Option<u64> {
        if let Root::One(one) = &self.root {
            return (from == 0 && wanted.is_in(one.count(0), 1)).then_some(0);
        }
        let (root, height) = self.root_for(from)?;
        node::find(root, height, from, wanted)
    }

    /// As [`Tree::find`], of what is there beyond the root's reach, too.
    fn find_or_end(&self, from: u64, wanted: Wanted) -> u64 {
        self.find(from, wanted).unwrap_or(from.max(self.end()))
    }

    /// Counts the blocks in `range`; a block counts as often as it occurs.
    pub fn blocks_in(&self, range: Range<u64>) -> u64 {
        match &self.root {
            Root::One(_) => range.contains(&0).into(),
            Root::Node {
                node: Some(node),
                height,
            } if range.start < range.end.min(span(*height)) => {
                node::blocks_in(node, *height, range.start, range.end)
            }
            Root::Node { .. } => 0,
        }
    }

    /// Returns the first extent at or after `from`, of not many more than `max` blocks.
    pub fn extent(&self, from: u64, max: u64) -> Option<BlockExtent> {
        let mut extent = self.extent_in_leaf(self.next_block(from)?)?;
        while extent.len < max {
            match self.extent_in_leaf(extent.index + extent.len) {
                Some(next) if extent.join(&next) => (),
                _ => break,
            }
        }
        Some(extent)
    }

    /// Returns the extent that begins at `index`, up to the end of the leaf.
    fn extent_in_leaf(&self, index: u64) -> Option<BlockExtent> {
        let (slots, first, unique) = self.slots_at(index)?;
        let one = |i: usize| {
            Some(BlockExtent {
                index: index + i as u64,
                number: slots.number(first + i)?,
                len: 1,
                shared: !unique || !slots.is_sole_holder(first + i),
                unwritten: slots.is_unwritten(first + i),
            })
        };
        let mut extent = one(0)?;
        while one(extent.len as usize).is_some_and(|next| extent.join(&next)) {}
        Some(extent)
    }
}
