// SPDX-License-Identifier: GPL-2.0

//! What there is from an index on: blocks, holes, extents.

use super::{Root, Tree};
use crate::store::{
    block::{InPool, Leaf},
    node::{self, span, Wanted},
};
use core::ops::Range;

/// A run of blocks with consecutive numbers, all of them shared or none, and all written or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The index in the file of the first block.
    pub index: u64,
    /// The number of the first block, see [`numbers`](crate::store::block); 0 where the only block has none.
    pub number: u64,
    /// How many blocks.
    pub len: u64,
    /// Whether other slots hold these blocks too.
    pub shared: bool,
    /// Whether these are zeros that were never written.
    pub unwritten: bool,
}

impl Extent {
    /// Makes the extent longer by `next` if that continues it.
    pub fn join(&mut self, next: &Extent) -> bool {
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
    /// The first index at or after `from` with a block.
    pub fn next_block(&self, from: u64) -> Option<u64> {
        self.find(from, Wanted::Block)
    }

    /// The first index at or after `from` without a block.
    pub fn next_hole(&self, from: u64) -> u64 {
        self.find_or_end(from, Wanted::Hole)
    }

    /// The first index at or after `from` with a block that is not unwritten.
    pub fn next_written(&self, from: u64) -> Option<u64> {
        self.find(from, Wanted::Written)
    }

    /// The first index at or after `from` without a block, or with one that is unwritten.
    pub fn next_not_written(&self, from: u64) -> u64 {
        self.find_or_end(from, Wanted::NotWritten)
    }

    /// The first index at or after `from` with what is wanted, as far as the root reaches.
    ///
    /// Takes a step for each child of two nodes on each level at most, whatever lies between.
    fn find(&self, from: u64, wanted: Wanted) -> Option<u64> {
        match &self.root {
            Root::One(slots) => (from == 0 && wanted.is_in(slots.count(0), 1)).then_some(0),
            Root::Node { .. } => {
                let (root, height) = self.root_for(from)?;
                node::find(root, height, from, wanted)
            }
        }
    }

    /// As [`Tree::find`], of what there is behind the root's reach.
    fn find_or_end(&self, from: u64, wanted: Wanted) -> u64 {
        let end = match &self.root {
            Root::One(_) => 1,
            Root::Node { node: None, .. } => 0,
            Root::Node { height, .. } => span(*height),
        };
        self.find(from, wanted).unwrap_or(from.max(end))
    }

    /// How many blocks there are in `range`, each counted as often as it occurs.
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

    /// The first extent at or after `from`, of at most about `max` blocks.
    pub fn extent(&self, from: u64, max: u64) -> Option<Extent> {
        let mut extent = self.extent_in_leaf(self.next_block(from)?)?;
        while extent.len < max {
            match self.extent_in_leaf(extent.index + extent.len) {
                Some(next) if extent.join(&next) => (),
                _ => break,
            }
        }
        Some(extent)
    }

    /// The extent that begins at `index`, as far as its leaf reaches.
    fn extent_in_leaf(&self, index: u64) -> Option<Extent> {
        fn run<const N: usize, P: InPool>(
            (slots, first, unique): (&Leaf<N, P>, usize, bool),
            index: u64,
        ) -> Option<Extent> {
            let one = |i: usize| {
                Some(Extent {
                    index: index + i as u64,
                    number: slots.number(first + i)?,
                    len: 1,
                    shared: !unique || !slots.is_sole_owner(first + i),
                    unwritten: slots.is_unwritten(first + i),
                })
            };
            let mut extent = one(0)?;
            while one(extent.len as usize).is_some_and(|next| extent.join(&next)) {}
            Some(extent)
        }
        match &self.root {
            Root::One(slots) if index == 0 => run((slots, 0, true), 0),
            _ => run(self.leaf_for(index)?, index),
        }
    }
}
