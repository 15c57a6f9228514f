// SPDX-License-Identifier: GPL-2.0

//! Sharing blocks of another tree.

use super::{height_for, Root, Tree};
use crate::store::{
    block::{Leaf, NodeRef},
    node::{self, span, Node, FANOUT},
    Prealloc,
};
use kernel::prelude::*;

impl Tree {
    /// Makes the `len` blocks at `index` those at `from_index` of `from`, holes included, by
    /// sharing them: whole subtrees where both indexes are multiples of a subtree's span, single
    /// blocks elsewhere.
    ///
    /// `from` may be a snapshot of this tree. Both must be of one pool. `check_stop` is asked before each
    /// step. Where both indexes are the same, there are no more than the height of a tree and its fan-out
    /// make; where they are not congruent, a leaf takes up to two, so that there is no end to them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, as [`Tree::remove`]; what `check_stop` says.
    pub fn share(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: u64,
        prealloc: &mut Prealloc,
        check_stop: impl Fn() -> Result,
    ) -> Result {
        let mut steps = u64::MAX;
        self.share_some(
            index, from, from_index, len, prealloc, &mut steps, check_stop,
        )?;
        Ok(())
    }

    /// As [`Tree::share`], in at most `steps`, which become fewer. Returns how many of the blocks it did,
    /// from the first on.
    #[allow(clippy::too_many_arguments)]
    pub fn share_some(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: u64,
        prealloc: &mut Prealloc,
        steps: &mut u64,
        check_stop: impl Fn() -> Result,
    ) -> Result<u64> {
        let mut done = 0;
        while done < len && *steps > 0 {
            check_stop()?;
            *steps -= 1;
            done += self.share_step(index + done, from, from_index + done, len - done, prealloc)?;
        }
        Ok(done)
    }

    /// A step of [`Tree::share`]. Returns how many blocks it did.
    fn share_step(
        &mut self,
        to: u64,
        from: &Tree,
        at: u64,
        left: u64,
        prealloc: &mut Prealloc,
    ) -> Result<u64> {
        // Also where it begins with a hole: or else a file with a hole in each leaf would be shared leaf
        // by leaf.
        if let Some((content, height)) = from.subtree_for(at, to, left) {
            let content = content.clone();
            let needed = height_for(to + span(height) - 1);
            let (root, top, pool) = self.raise_height(needed, prealloc)?;
            node::graft(root, top, height, to, content, pool, prealloc)?;
            self.copied += prealloc.take_copied();
            return Ok(span(height));
        }
        let next = from.next_block(at).unwrap_or(u64::MAX);
        if next > at {
            let hole = left.min(next - at);
            self.remove(to, to + hole, prealloc)?;
            return Ok(hole);
        }
        // As far as both leaves reach; a block in the root has no leaf.
        let run = match &from.root {
            Root::One(_) => 1,
            Root::Node { .. } => left
                .min(FANOUT as u64 - at % FANOUT as u64)
                .min(FANOUT as u64 - to % FANOUT as u64),
        };
        self.share_run(to, from, at, run as usize, prealloc)?;
        Ok(run)
    }

    /// The highest node that begins at `at`, fits `left`, and may stand at `to` too.
    fn subtree_for(&self, at: u64, to: u64, left: u64) -> Option<(&NodeRef<Node>, u32)> {
        let (root, top) = self.root_for(at)?;
        let fits = |height: &u32| {
            at % span(*height) == 0 && to % span(*height) == 0 && left >= span(*height)
        };
        let height = (1..=top).rev().find(fits)?;
        let (node, _) = node::descend(root, top, height, at)?;
        Some((node, height))
    }

    /// As [`Tree::share`], within one leaf on both sides.
    fn share_run(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: usize,
        prealloc: &mut Prealloc,
    ) -> Result {
        if let (Root::One(slots), true, 0) = (&from.root, self.fits_in_root(index), from_index) {
            let mut one = Leaf::new(self.pool.clone());
            one.share(0, slots, 0, prealloc)?;
            self.root = Root::One(one);
            self.copied += prealloc.take_copied();
            return Ok(());
        }
        let (root, height, pool) = self.raise_height(height_for(index), prealloc)?;
        match &from.root {
            Root::One(slots) => {
                node::share_run(root, height, index, (slots, 0), len, pool, prealloc)?;
            }
            Root::Node { .. } => {
                let (slots, i, _) = from.leaf_for(from_index).ok_or(EINVAL)?;
                node::share_run(root, height, index, (slots, i), len, pool, prealloc)?;
            }
        }
        self.copied += prealloc.take_copied();
        Ok(())
    }
}
