// SPDX-License-Identifier: GPL-2.0

//! Comparing trees by pointers.

use super::{
    Root,
    Tree, //
};
use crate::store::node::{
    self,
    span,
    NodeRef, //
};

impl Tree {
    /// Returns how many of the `len` blocks from `index` on are those of `other` from `other_index`
    /// on, up to the first that differs. Compares pointers to subtrees and blocks, not bytes. Ends
    /// after `steps`, which it reduces.
    ///
    /// # Examples
    ///
    /// ```
    /// # use crate::store::{block::Pool, Prealloc, Tree};
    /// # use kernel::prelude::*;
    /// # let pool = Pool::new(None)?;
    /// # let mut prealloc = Prealloc::on_demand();
    /// let mut tree = Tree::new(pool.clone());
    /// tree.insert(5, pool.alloc()?, &mut prealloc)?;
    ///
    /// let mut other = tree.snapshot();
    /// assert_eq!(tree.same_len(0, &other, 0, 10, &mut 100), 10);
    ///
    /// other.insert(5, pool.alloc()?, &mut prealloc)?;
    /// assert_eq!(tree.same_len(0, &other, 0, 10, &mut 100), 5);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn same_len(
        &self,
        index: u64,
        other: &Tree,
        other_index: u64,
        len: u64,
        steps: &mut u64,
    ) -> u64 {
        if let (Root::Node { node: Some(a), .. }, Root::Node { node: Some(b), .. }) =
            (&self.root, &other.root)
        {
            if index == other_index && NodeRef::ptr_eq(a, b) {
                return len;
            }
        }
        let mut done = 0;
        while done < len && *steps > 0 {
            *steps -= 1;
            let (a, b, left) = (index + done, other_index + done, len - done);
            let step = match self.same_subtrees(a, other, b, left) {
                0 => self.same_leaf_or_hole(a, other, b, left),
                step => step,
            };
            if step == 0 {
                break;
            }
            done += step;
        }
        done
    }

    /// Returns how many blocks adjacent subtrees cover that are the same from `a` on here and from
    /// `b` on in `other`.
    fn same_subtrees(&self, a: u64, other: &Tree, b: u64, left: u64) -> u64 {
        let (Some((root, top)), Some((other_root, other_top))) =
            (self.root_for(a), other.root_for(b))
        else {
            return 0;
        };
        for height in (1..=top.min(other_top)).rev() {
            let span = span(height);
            if a % span != 0 || b % span != 0 || left < span {
                continue;
            }
            let same = node::same_run((root, top, a), (other_root, other_top, b), height);
            if same > 0 {
                return span * same.min(left / span);
            }
        }
        0
    }

    /// Returns how long the hole is that both have, or how many blocks of two leaves are the same.
    fn same_leaf_or_hole(&self, a: u64, other: &Tree, b: u64, left: u64) -> u64 {
        match (self.next_block(a), other.next_block(b)) {
            (Some(next), Some(other_next)) if next == a && other_next == b => {
                self.same_in_leaf(a, other, b, left)
            }
            (next, other_next) => {
                let hole = next.unwrap_or(u64::MAX) - a;
                hole.min(other_next.unwrap_or(u64::MAX) - b).min(left)
            }
        }
    }

    /// Returns how many blocks are the same from `a` on here and from `b` on in `other`, up to the
    /// end of one of the leaves.
    fn same_in_leaf(&self, a: u64, other: &Tree, b: u64, left: u64) -> u64 {
        let (Some((x, i, _)), Some((y, j, _))) = (self.slots_at(a), other.slots_at(b)) else {
            return 0;
        };
        let max = (x.len() - i).min(y.len() - j).min(left as usize);
        (0..max)
            .take_while(|k| x.same_block(i + k, y, j + k))
            .count() as u64
    }
}
