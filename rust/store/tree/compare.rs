// SPDX-License-Identifier: GPL-2.0

//! Comparing trees by what they share.

use super::{Root, Tree};
use crate::store::{
    block::NodeRef,
    node::{self, span, FANOUT},
};

impl Tree {
    /// How many of the `len` blocks at `index` are known to be those at `other_index` of `other`,
    /// from the first on, without looking at a byte. Whole subtrees are compared by pointer. Ends
    /// after so many `steps`, which become fewer.
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

    /// The length of adjacent subtrees that are the same at `a` here and at `b` in `other`.
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

    /// How far there is a hole on both sides, or the number of blocks in a leaf that are the same.
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

    /// The number of blocks in a leaf that are the same at `a` here and at `b` in `other`, where both
    /// hold a block.
    fn same_in_leaf(&self, a: u64, other: &Tree, b: u64, left: u64) -> u64 {
        match (&self.root, &other.root) {
            (Root::One(x), Root::One(y)) => x.same_block(0, y, 0).into(),
            (Root::One(x), _) => other
                .leaf_for(b)
                .is_some_and(|(y, j, _)| x.same_block(0, y, j))
                .into(),
            (_, Root::One(y)) => self
                .leaf_for(a)
                .is_some_and(|(x, i, _)| x.same_block(i, y, 0))
                .into(),
            _ => match (self.leaf_for(a), other.leaf_for(b)) {
                (Some((x, i, _)), Some((y, j, _))) => {
                    let most = (FANOUT - i.max(j)).min(left as usize);
                    (0..most)
                        .take_while(|k| x.same_block(i + k, y, j + k))
                        .count() as u64
                }
                _ => 0,
            },
        }
    }
}
