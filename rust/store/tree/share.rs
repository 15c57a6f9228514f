// SPDX-License-Identifier: GPL-2.0

//! Sharing blocks of another tree.

use super::{
    left_in_leaf,
    Root,
    Tree, //
};
use crate::store::{
    block::{
        BlockCount,
        Leaf, //
    },
    node::{
        self,
        span,
        NodeRef, //
    },
    Prealloc, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Tree {
    /// Makes the `len` blocks from `index` on those of `from` from `from_index` on, holes included:
    /// shares whole subtrees where both indexes are multiples of a subtree's span, and single
    /// blocks elsewhere. Calls `check_stop` before each step.
    ///
    /// `from` may be a snapshot of this tree, and is of the same pool. If both indexes are the
    /// same, there are at most as many steps as a tree's height times its fan-out. If they are not
    /// congruent, each leaf takes up to two, without a bound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, as [`Tree::remove`]; those of `check_stop`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use crate::store::{block::Pool, Prealloc, Tree};
    /// # use kernel::prelude::*;
    /// # let pool = Pool::new(None)?;
    /// # let mut prealloc = Prealloc::on_demand();
    /// let mut from = Tree::new(pool.clone());
    /// for index in 0..64 {
    ///     from.insert(index, pool.alloc()?, &mut prealloc)?;
    /// }
    ///
    /// let mut tree = Tree::new(pool.clone());
    /// tree.share_range(640, &from, 0, 64, &mut prealloc, || Ok(()))?;
    /// assert_eq!(tree.blocks(), 64);
    /// assert_eq!(pool.used(), 64);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn share_range(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: u64,
        prealloc: &mut Prealloc,
        check_stop: impl Fn() -> Result,
    ) -> Result {
        let mut steps = u64::MAX;
        self.share_bounded(
            index, from, from_index, len, prealloc, &mut steps, check_stop,
        )?;
        Ok(())
    }

    /// As [`Tree::share_range`], in at most `steps`, which it reduces. Returns how many of the
    /// blocks it shared, from the first on.
    #[allow(clippy::too_many_arguments)]
    pub fn share_bounded(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: u64,
        prealloc: &mut Prealloc,
        steps: &mut u64,
        check_stop: impl Fn() -> Result,
    ) -> Result<u64> {
        debug_assert!(Arc::ptr_eq(&self.pool, &from.pool));
        let mut done = 0;
        while done < len && *steps > 0 {
            check_stop()?;
            *steps -= 1;
            done += self.share_step(index + done, from, from_index + done, len - done, prealloc)?;
        }
        Ok(done)
    }

    /// Checks whether there may be room for the nodes that it takes to share the blocks in `range`
    /// from `to` on. Takes few steps, so that what cannot be done fails at once.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn check_room_to_share(&self, range: Range<u64>, to: u64) -> Result {
        let shift = range.start.abs_diff(to);
        if shift == 0 {
            return Ok(());
        }
        // No node of this height is shared, and each holds so many blocks at most.
        let mut height = 1;
        while shift % span(height) == 0 {
            height += 1;
        }
        self.pool
            .check_node_room(self.blocks_in(range) / span(height))
    }

    /// Takes one step of [`Tree::share_range`]. Returns how many blocks it shared.
    fn share_step(
        &mut self,
        to: u64,
        from: &Tree,
        at: u64,
        left: u64,
        prealloc: &mut Prealloc,
    ) -> Result<u64> {
        // Also a subtree that begins with a hole: a file with a hole in each leaf would otherwise
        // be shared leaf by leaf.
        if let Some((content, height)) = from.subtree_for(at, to, left) {
            self.replace(to..to + span(height), Some(content.clone()), prealloc)?;
            return Ok(span(height));
        }
        let next = from.next_block(at).unwrap_or(u64::MAX);
        if next > at {
            let hole = left.min(next - at);
            self.remove(to, to + hole, prealloc)?;
            return Ok(hole);
        }
        self.share_in_leaf(to, from, at, left, prealloc)
    }

    /// Returns the highest node that begins at `at`, fits into `left`, and may stand at `to`, too.
    fn subtree_for(&self, at: u64, to: u64, left: u64) -> Option<(&NodeRef, u32)> {
        let (root, top) = self.root_for(at)?;
        let fits = |height: &u32| {
            at % span(*height) == 0 && to % span(*height) == 0 && left >= span(*height)
        };
        let height = (1..=top).rev().find(fits)?;
        let (node, _) = node::descend(root, top, height, at)?;
        Some((node, height))
    }

    /// Shares blocks up to the end of a leaf on either side, or up to `left`. Returns how many.
    fn share_in_leaf(
        &mut self,
        to: u64,
        from: &Tree,
        at: u64,
        left: u64,
        prealloc: &mut Prealloc,
    ) -> Result<u64> {
        let (slots, first, _) = from.slots_at(at).ok_or(EINVAL)?;
        let n = (slots.len() - first).min(left_in_leaf(to));
        let n = (n as u64).min(left) as usize;
        if self.fits_in_root(to) && slots.len() == 1 {
            let mut one = Leaf::new(self.pool.clone());
            one.share_slot(0, slots, first, prealloc)?;
            self.root = Root::One(one);
            self.duplicated += prealloc.take_duplicated();
            return Ok(1);
        }
        self.update(to, prealloc, |node, i, nodes| {
            let mut delta = BlockCount::default();
            for k in 0..n {
                delta += node
                    .leaf
                    .share_slot(i + k, slots, first + k, nodes.prealloc)?;
            }
            Ok(delta)
        })?;
        Ok(n as u64)
    }
}
