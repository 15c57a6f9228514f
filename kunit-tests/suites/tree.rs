// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_tree`: blocks and holes are where they were put, at every height.

use crate::{
    store::{
        block::BlockRef,
        Tree, //
    },
    support::trees::{
        check_holds,
        first_of,
        found,
        full_tree,
        insert_block,
        pool,
        remove,
        span,
        tree_of,
        Found,
        Page,
        CORNERS,
        FANOUT,
        LAST,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// A tree with a block at each of the corners, put there in the order of `indexes`, and the
/// blocks in ascending order.
fn corners(indexes: impl Iterator<Item = u64>) -> Result<(Tree, KVec<(u64, Page)>)> {
    let pool = pool()?;
    let mut tree = Tree::new(pool.clone());
    let mut pages = KVec::new();
    for (n, index) in indexes.enumerate() {
        pages.push((index, insert_block(&mut tree, index)?), GFP_KERNEL)?;
        check_eq!(tree.blocks(), n as u64 + 1);
        check_eq!(pool.used(), n as u64 + 1);
    }
    let mut blocks = KVec::new();
    for corner in CORNERS {
        let block = pages
            .iter()
            .find(|(index, _)| *index == corner)
            .ok_or(ENOENT)?;
        blocks.push(*block, GFP_KERNEL)?;
    }
    Ok((tree, blocks))
}

/// The first index at or after `from` and the last before `to` that are in `blocks`, removed.
fn without(blocks: &[(u64, Page)], from: u64, to: u64) -> Result<KVec<(u64, Page)>> {
    let mut left = KVec::new();
    for &block in blocks
        .iter()
        .filter(|(index, _)| !(from..to).contains(index))
    {
        left.push(block, GFP_KERNEL)?;
    }
    Ok(left)
}

#[kunit_tests(reflinkfs_tree)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_tree_is_one_hole() -> Result {
        let tree = Tree::new(pool()?);
        check_holds(&tree, &[])?;
        for index in CORNERS {
            check_eq!(found(&tree, index), Found::Hole);
            check_eq!(tree.next_block(index), None);
            check_eq!(tree.next_hole(index), index);
            check_eq!(tree.get_blocks(index, &mut [const { None }; 4]), 1);
        }
        Ok(())
    }

    #[test]
    fn block_zero_alone() -> Result {
        let mut tree = Tree::new(pool()?);
        let page = insert_block(&mut tree, 0)?;
        check_holds(&tree, &[(0, page)])?;
        check_eq!(found(&tree, 0), Found::Owned(page));
        for index in &CORNERS[1..] {
            check_eq!(found(&tree, *index), Found::Hole);
            check_eq!(tree.next_hole(*index), *index);
            check_eq!(tree.next_block(*index), None);
        }
        Ok(())
    }

    #[test]
    fn one_block_at_each_height() -> Result {
        for index in CORNERS {
            let mut tree = Tree::new(pool()?);
            let page = insert_block(&mut tree, index)?;
            check_holds(&tree, &[(index, page)])?;
            check_eq!(found(&tree, index), Found::Owned(page));
            for other in CORNERS.into_iter().filter(|other| *other != index) {
                check_eq!(
                    found(&tree, other),
                    Found::Hole,
                    "{other}, a block at {index}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn the_root_grows_over_what_is_there() -> Result {
        let (tree, blocks) = corners(CORNERS.into_iter())?;
        check_holds(&tree, &blocks)
    }

    #[test]
    fn from_the_last_index_down() -> Result {
        let (tree, blocks) = corners(CORNERS.into_iter().rev())?;
        check_holds(&tree, &blocks)
    }

    #[test]
    fn a_new_block_replaces_the_old() -> Result {
        for index in CORNERS {
            let pool = pool()?;
            let mut tree = tree_of(&pool, CORNERS)?;
            let old = found(&tree, index).page();
            let page = insert_block(&mut tree, index)?;
            // The old one was still there when the new one was allocated.
            check!(old != Some(page), "index {index}");
            check_eq!(found(&tree, index), Found::Owned(page));
            check_eq!(tree.blocks(), CORNERS.len() as u64);
            check_eq!(pool.used(), CORNERS.len() as u64);
        }
        Ok(())
    }

    #[test]
    fn removing_takes_the_range_and_nothing_else() -> Result {
        let (tree, blocks) = corners(CORNERS.into_iter())?;
        let ends = [
            0,
            1,
            63,
            64,
            65,
            4096,
            span(4) - 1,
            span(4),
            span(8) + 1,
            LAST,
            u64::MAX,
        ];
        for from in ends {
            for to in ends {
                let mut tree = tree.edit();
                remove(&mut tree, from, to)?;
                check_holds(&tree, &without(&blocks, from, to)?)
                    .inspect_err(|_| pr_err!("after removing {from}..{to}\n"))?;
            }
        }
        check_holds(&tree, &blocks)
    }

    #[test]
    fn removing_from_a_leaf() -> Result {
        for (from, to) in [
            (0, 1),
            (0, 63),
            (1, 64),
            (1, 63),
            (20, 30),
            (63, 64),
            (5, 5),
            (9, 3),
        ] {
            let pool = pool()?;
            let mut tree = tree_of(&pool, 0..FANOUT)?;
            remove(&mut tree, from, to)?;
            let left = FANOUT - to.saturating_sub(from);
            check_eq!((tree.blocks(), pool.used()), (left, left), "{from}..{to}");
            for index in 0..FANOUT {
                let is_hole = found(&tree, index) == Found::Hole;
                check_eq!(
                    is_hole,
                    (from..to).contains(&index),
                    "{index} of {from}..{to}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn removing_block_zero_alone() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0])?;
        remove(&mut tree, 1, u64::MAX)?;
        remove(&mut tree, 0, 0)?;
        check_eq!((tree.blocks(), pool.used()), (1, 1));
        remove(&mut tree, 0, 1)?;
        check_holds(&tree, &[])?;
        check_eq!(pool.used(), 0);
        insert_block(&mut tree, 0)?;
        check_eq!((tree.blocks(), pool.used()), (1, 1));
        Ok(())
    }

    #[test]
    fn an_emptied_tree_is_as_good_as_new() -> Result {
        for height in 1..=MAX_HEIGHT {
            for index in CORNERS {
                let pool = pool()?;
                let mut tree = tree_of(&pool, [0, first_of(height)])?;
                remove(&mut tree, 0, u64::MAX)?;
                check_holds(&tree, &[])?;
                check_eq!(pool.used(), 0);
                let page = insert_block(&mut tree, index)
                    .inspect_err(|_| pr_err!("a tree of height {height} once\n"))?;
                check_holds(&tree, &[(index, page)])?;
            }
        }
        Ok(())
    }

    #[test]
    fn emptied_block_by_block() -> Result {
        let (mut tree, blocks) = corners(CORNERS.into_iter())?;
        for (n, index) in CORNERS.into_iter().enumerate() {
            remove(&mut tree, index, index + 1)?;
            check_holds(&tree, &blocks[n + 1..])?;
            check_eq!(tree.pool().used(), (CORNERS.len() - n - 1) as u64);
        }
        Ok(())
    }

    #[test]
    fn the_end_of_what_is_full() -> Result {
        for height in 1..=4 {
            let mut tree = full_tree(&pool()?, height)?;
            let end = span(height);
            check_eq!((tree.blocks(), tree.pool().used()), (end, FANOUT));
            let hole = end / 2 + 7;
            for from in [0, 1, FANOUT - 1, hole - 1, hole, hole + 1, end - 1] {
                check_eq!(tree.next_hole(from), end, "from {from} of {end}");
                check_eq!(tree.next_block(from), Some(from));
            }
            check_eq!((tree.next_hole(end), tree.next_block(end)), (end, None));
            check_eq!(found(&tree, end), Found::Hole);

            remove(&mut tree, hole, hole + 1)?;
            check_eq!(tree.blocks(), end - 1);
            for (from, at) in [(0, hole), (hole - 1, hole), (hole, hole), (hole + 1, end)] {
                check_eq!(tree.next_hole(from), at, "from {from} of {end}");
            }
            check_eq!(tree.next_block(hole), Some(hole + 1));
        }
        Ok(())
    }

    #[test]
    fn reading_several_at_once() -> Result {
        // One leaf after the other, with a hole at both sides of the border.
        let tree = tree_of(&pool()?, [50..63, 65..90].into_iter().flatten())?;
        for from in [0..130, LAST - 3..LAST + 1].into_iter().flatten() {
            let mut blocks = [const { None }; 10];
            let n = tree.get_blocks(from, &mut blocks);
            check!((1..=10).contains(&n), "from {from}: {n}");
            if from < 2 * FANOUT {
                // As far as the leaf reaches.
                check_eq!(n as u64, (FANOUT - from % FANOUT).min(10), "from {from}");
            }
            for (index, block) in (from..).zip(&blocks[..n]) {
                let page = block.as_ref().map(BlockRef::as_ptr);
                check_eq!(page, found(&tree, index).page(), "{index}, from {from}");
            }
            check!(blocks[n..].iter().all(Option::is_none), "from {from}");
        }
        check_eq!(tree.get_blocks(50, &mut []), 0);
        Ok(())
    }

    #[test]
    fn reading_leaves_nothing_of_before() -> Result {
        let tree = tree_of(&pool()?, [0, 70])?;
        let mut blocks = [const { None }; 2];
        check_eq!(tree.get_blocks(70, &mut blocks), 2);
        check!(blocks[0].is_some() && blocks[1].is_none());
        for index in [71, 4096, LAST] {
            tree.get_blocks(70, &mut blocks);
            let n = tree.get_blocks(index, &mut blocks);
            check!(blocks[..n].iter().all(Option::is_none), "index {index}");
        }
        Ok(())
    }
}
