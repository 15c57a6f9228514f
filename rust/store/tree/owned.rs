// SPDX-License-Identifier: GPL-2.0

//! Which blocks a tree may write in place: snapshots, and references for later reads, end that.

use super::{
    left_in_leaf,
    Root,
    Tree,
    EMPTY, //
};
use crate::store::{
    block::{
        BlockCount,
        BlockRef, //
    },
    Prealloc, //
};
use core::ops::Range;
use kernel::prelude::*;

/// What [`Tree::get_stable`] returns.
pub enum StableRef {
    /// No block: reads as zeros.
    Hole,
    /// The block, which this tree no longer writes in place.
    Block(BlockRef),
    /// The block, which this tree may still write in place: to be copied.
    NeedsCopy(BlockRef),
}

impl Tree {
    /// Returns a tree with the same blocks for another file, in O(1). This tree no longer writes
    /// any of its blocks in place.
    ///
    /// [`Tree::make_shareable`] comes first, under the same hold of the lock.
    pub fn snapshot(&mut self) -> Self {
        self.generation = self.pool.new_generation();
        Self {
            generation: self.pool.new_generation(),
            ..self.edit()
        }
    }

    /// As [`Tree::snapshot`], with the blocks in `range` only: this tree goes on writing the others
    /// in place, also while the snapshot exists. Takes a step for each leaf.
    ///
    /// The snapshot shares no node that has a block outside of `range`. So a node that is shared
    /// has no owned bit of this tree's generation: none comes back when the snapshot is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Those of `prealloc`. Blocks in `range` may not be written in place any more.
    pub fn snapshot_range(&mut self, range: Range<u64>, prealloc: &mut Prealloc) -> Result<Self> {
        if self.blocks_in(range.clone()) == self.blocks() {
            return Ok(self.snapshot());
        }
        let end = range.end.min(self.end());
        let mut index = range.start;
        while index < end {
            let n = (left_in_leaf(index) as u64).min(end - index);
            self.update_in_place(index, |slots, i| {
                slots.clear_owned(i, i + n as usize);
                BlockCount::default()
            });
            index += n;
        }
        self.part(self.pool.new_generation(), range, prealloc)
    }

    /// As [`Tree::edit`], with the blocks in `range` only: the others do not count as shared.
    ///
    /// # Errors
    ///
    /// Those of `prealloc`.
    pub fn edit_range(&self, range: Range<u64>, prealloc: &mut Prealloc) -> Result<Self> {
        self.part(self.generation, range, prealloc)
    }

    /// Returns a tree with the same blocks for a file that takes the place of this one, whose tree
    /// is never changed again. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where a full block has to be duplicated.
    pub fn copy_shared(&self) -> Result<Self> {
        let mut copy = Self {
            generation: self.pool.new_generation(),
            ..self.edit_empty()
        };
        match &self.root {
            Root::One(_) => {
                let mut prealloc = Prealloc::on_demand();
                copy.share_range(0, self, 0, 1, &mut prealloc, || Ok(()))?;
            }
            Root::Node { .. } => copy.root = self.root.clone(),
        }
        Ok(copy)
    }

    /// As [`Tree::edit`], without a block.
    pub fn edit_empty(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            generation: self.generation,
            duplicated: 0,
            root: EMPTY,
        }
    }

    /// Returns a tree with the blocks in `range` at their indexes.
    fn part(&self, generation: u64, range: Range<u64>, prealloc: &mut Prealloc) -> Result<Self> {
        let mut part = Self {
            generation,
            ..self.edit_empty()
        };
        let (first, end) = (range.start, range.end.min(self.end()));
        if first < end {
            part.share_range(first, self, first, end - first, prealloc, || Ok(()))?;
        }
        Ok(part)
    }

    /// Makes the block at `index` owned again, if no other slot holds it.
    ///
    /// The caller knows that no reference to its page was obtained through another tree or by
    /// [`Tree::get_stable`], as it was [`Lookup::Owned`](super::Lookup::Owned) until just
    /// now.
    pub fn restore_owned(&mut self, index: u64) {
        let generation = self.generation;
        self.update_in_place(index, |slots, i| {
            // A block of several slots may be given out through one that is not owned.
            if slots.is_sole_holder(i) {
                slots.set_owned(i, i + 1, generation);
            }
            BlockCount::default()
        });
    }

    /// Returns a reference to the block at `index` that is stable, that is, not affected by later
    /// writes to the file: clears the owned bit, so that the next write copies the block.
    ///
    /// That does not help for a block that is mapped writable, nor while the tree is edited, as the
    /// edited tree has the bit, too.
    pub fn get_stable(&mut self, index: u64) -> StableRef {
        let generation = self.generation;
        let mut stable = None;
        self.update_in_place(index, |slots, i| {
            stable = slots.get(i).map(|block| {
                if slots.has_owned_bit(i, generation)
                    && (!slots.is_sole_holder(i) || block.is_mapped_writable())
                {
                    return StableRef::NeedsCopy(block);
                }
                slots.clear_owned(i, i + 1);
                StableRef::Block(block)
            });
            BlockCount::default()
        });
        stable.unwrap_or_else(|| match self.slots_at(index) {
            None => StableRef::Hole,
            Some((slots, i, _)) => match slots.get(i) {
                None => StableRef::Hole,
                Some(block) if slots.has_owned_bit(i, generation) => StableRef::NeedsCopy(block),
                Some(block) => StableRef::Block(block),
            },
        })
    }
}
