// SPDX-License-Identifier: GPL-2.0

//! A file's tree, and its lock.

use crate::store::{
    block::{BlockRef, NewBlock, Pool},
    Extent, Lookup, Reserve, Tree,
};
use core::ops::Range;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};

/// The blocks of a file.
///
/// The methods that change it are for callers that hold `invalidate_lock` exclusive.
#[pin_data]
pub(crate) struct Data {
    pool: Arc<Pool>,
    #[pin]
    tree: SpinLock<Tree>,
}

/// Every block that a file can have.
const ALL: Range<u64> = 0..super::blocks_for(u64::MAX);

/// See [`Data::reach`]: 16 leaves.
const FEW: u64 = 1024;

/// How many blocks an extent is followed under one hold of the lock.
const EXTENT_STEP: u64 = 1024;

impl Data {
    /// No blocks, of `pool`.
    pub(crate) fn new(pool: Arc<Pool>) -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- new_spinlock!(Tree::new(pool.clone())),
            pool,
        })
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> u64 {
        self.tree.lock().blocks()
    }

    /// The pool that the blocks are of.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The block at `index`.
    pub(crate) fn lookup(&self, index: u64) -> Lookup {
        self.tree.lock().lookup(index)
    }

    /// See [`Tree::read`].
    pub(crate) fn read(&self, index: u64, blocks: &mut [Option<BlockRef>]) -> usize {
        self.tree.lock().read(index, blocks)
    }

    /// The first index at or after `from` with a block.
    pub(crate) fn next_block(&self, from: u64) -> Option<u64> {
        self.tree.lock().next_block(from)
    }

    /// The first index at or after `from` without a block.
    pub(crate) fn next_hole(&self, from: u64) -> u64 {
        self.tree.lock().next_hole(from)
    }

    /// The first extent at or after `from`, of any length.
    pub(crate) fn extent(&self, from: u64) -> Option<Extent> {
        let mut extent = self.tree.lock().extent(from, EXTENT_STEP)?;
        loop {
            let end = extent.index + extent.len;
            let next = self.tree.lock().extent(end, EXTENT_STEP);
            if !next.is_some_and(|next| extent.join(&next)) {
                return Some(extent);
            }
        }
    }

    /// A tree with the same blocks, of which another file is to share those in `range`, which
    /// [`Data::reach`] gave.
    pub(crate) fn snapshot(&self, range: &Range<u64>) -> Tree {
        let mut tree = self.tree.lock();
        if *range == ALL {
            tree.snapshot()
        } else {
            tree.snapshot_range(range.clone())
        }
    }

    /// The blocks that are not written in place any more when the `n` at `first` become shared:
    /// just these where they are few, otherwise all of the file, which is done in O(1).
    pub(crate) fn reach(first: u64, n: u64) -> Range<u64> {
        if n <= FEW {
            first..first + n
        } else {
            ALL
        }
    }

    /// A tree with the same blocks, in O(1): to be changed without the lock, and put in place
    /// with [`Data::replace`]. While it lives, everything counts as shared.
    pub(crate) fn edit(&self) -> Tree {
        self.tree.lock().edit()
    }

    /// See [`Tree::keep_private`].
    pub(crate) fn keep_private(&self, index: u64) {
        self.tree.lock().keep_private(index);
    }

    /// Puts another tree in place.
    pub(crate) fn replace(&self, tree: Tree) {
        // The old one may be large, and goes after the lock.
        let old = core::mem::replace(&mut *self.tree.lock(), tree);
        drop(old);
    }

    /// Lets go of every block.
    pub(crate) fn clear(&self) {
        self.replace(Tree::new(self.pool.clone()));
    }

    /// Puts a new block in at `index`, in place of what was there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the tree is as it was.
    pub(crate) fn insert(&self, index: u64, block: NewBlock<'_>, reserve: &mut Reserve) -> Result {
        loop {
            {
                let mut tree = self.tree.lock();
                if tree.can_insert(index, reserve) {
                    return tree.insert(index, block, reserve);
                }
            }
            reserve.fill(&self.pool)?;
        }
    }
}
