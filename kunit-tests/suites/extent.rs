// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_extent`: runs of blocks with consecutive numbers, all of them shared or none.

use crate::{
    store::{
        BlockExtent,
        Tree, //
    },
    support::trees::{
        found,
        insert_block,
        insert_run,
        insert_unwritten,
        is_owned,
        pool,
        remove,
        share_range,
        tree_of,
        Found,
        CORNERS,
        FANOUT,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// Checks that the tree's extents are these: index, number, length, whether shared.
fn check_extents(tree: &Tree, expected: &[(u64, u64, u64, bool)]) -> Result {
    let mut from = 0;
    for &(index, number, len, shared) in expected {
        let wanted = BlockExtent {
            index,
            number,
            len,
            shared,
            unwritten: false,
        };
        check_eq!(tree.extent(from, u64::MAX), Some(wanted), "from {from}");
        from = index + len;
    }
    check_eq!(tree.extent(from, u64::MAX), None, "from {from}");
    Ok(())
}

#[kunit_tests(reflinkfs_extent)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_in_one_go_is_one_extent() -> Result {
        for (first, len) in [(0, 1), (0, 64), (0, 300), (10, 54), (10, 55), (4000, 200)] {
            let tree = tree_of(&pool()?, first..first + len)?;
            check_extents(&tree, &[(first, 64 + first % FANOUT, len, false)])?;
        }
        check_extents(&Tree::new(pool()?), &[])
    }

    #[test]
    fn from_within_an_extent() -> Result {
        let tree = tree_of(&pool()?, 10..200)?;
        for from in [0, 10, 11, 63, 64, 65, 128, 199] {
            let index = from.max(10);
            let wanted = BlockExtent {
                index,
                number: 64 + index,
                len: 200 - index,
                shared: false,
                unwritten: false,
            };
            check_eq!(tree.extent(from, u64::MAX), Some(wanted), "from {from}");
        }
        check_eq!(tree.extent(200, u64::MAX), None);
        Ok(())
    }

    #[test]
    fn a_hole_ends_an_extent() -> Result {
        let mut tree = tree_of(&pool()?, 0..130)?;
        remove(&mut tree, 5, 7)?;
        remove(&mut tree, 64, 65)?;
        remove(&mut tree, 129, 130)?;
        check_extents(
            &tree,
            &[(0, 64, 5, false), (7, 71, 57, false), (65, 129, 64, false)],
        )
    }

    #[test]
    fn another_number_ends_an_extent() -> Result {
        let mut tree = tree_of(&pool()?, 0..70)?;
        insert_block(&mut tree, 20)?;
        insert_block(&mut tree, 64)?;
        check_extents(
            &tree,
            &[
                (0, 64, 20, false),
                (20, 212, 1, false),
                (21, 85, 43, false),
                (64, 256, 1, false),
                (65, 129, 5, false),
            ],
        )
    }

    #[test]
    fn what_was_written_in_any_order_is_one_extent_for_each_leaf() -> Result {
        for step in [1, 5, 63] {
            let order = move |leaf: u64| (0..64).map(move |i| 64 * leaf + i * step % 64);
            let pool = pool()?;
            let mut tree = tree_of(&pool, (0..3).rev().flat_map(order))?;
            let leaves = [
                (0, 192, 64, false),
                (64, 128, 64, false),
                (128, 64, 64, false),
            ];
            check_extents(&tree, &leaves)?;
            // A clone that is rewritten, too, while the other is there, and when it is not.
            let other = tree.snapshot();
            for index in (0..3).flat_map(order) {
                insert_block(&mut tree, index)?;
            }
            check_extents(&tree, &[(0, 256, 192, false)])?;
            check_extents(&other, &leaves)?;
            let mut rest = tree.snapshot();
            drop(tree);
            for index in (0..3).flat_map(order) {
                insert_block(&mut rest, index)?;
            }
            check_extents(&rest, &[(0, 448, 192, false)])?;
        }
        Ok(())
    }

    /// Groups first, then one by one, then none.
    #[test]
    fn when_numbers_are_spent() -> Result {
        let pool = pool()?;
        pool.spend_numbers(1, 3);
        let (groups, all) = (1 << 47, 1 << 48);
        let mut tree = tree_of(&pool, [3, 1, 2])?;
        check_extents(&tree, &[(1, groups - 63, 3, false)])?;
        insert_block(&mut tree, 2)?;
        insert_run(&mut tree, 70, 2)?;
        for index in 71..74 {
            insert_block(&mut tree, index)?;
        }
        let extent = tree.extent(2, 1).ok_or(ENOENT)?;
        check_eq!((extent.index, extent.number), (2, all - 3));
        // Blocks without a number do not join.
        for index in 72..74 {
            let extent = tree.extent(index, 9).ok_or(ENOENT)?;
            check_eq!((extent.index, extent.number, extent.len), (index, 0, 1));
        }
        Ok(())
    }

    #[test]
    fn consecutive_numbers_at_other_indexes_are_not_a_run() -> Result {
        let tree = tree_of(&pool()?, CORNERS)?;
        let mut from = 0;
        // Corners come in pairs of neighbours: of one leaf, of two, and of one.
        let numbers = |pair: u64| match pair {
            0 => 64,
            1..=8 => 127 + 128 * (pair - 1),
            _ => 1150,
        };
        for (i, pair) in (0..).zip(CORNERS.chunks(2)) {
            let wanted = BlockExtent {
                index: pair[0],
                number: numbers(i),
                len: 2,
                shared: false,
                unwritten: false,
            };
            check_eq!(tree.extent(from, u64::MAX), Some(wanted));
            from = pair[1] + 1;
        }
        check_eq!(from, LAST + 1);
        check_eq!(tree.extent(from, u64::MAX), None);
        Ok(())
    }

    #[test]
    fn shared_and_private_blocks_are_kept_apart() -> Result {
        let pool = pool()?;
        let tree = tree_of(&pool, 0..200)?;
        let mut other = Tree::new(pool.clone());
        share_range(&mut other, 500, &tree, 30, 10)?;
        let expected = [
            (0, 64, 30, false),
            (30, 94, 10, true),
            (40, 104, 160, false),
        ];
        check_extents(&tree, &expected)?;
        check_extents(&other, &[(500, 94, 10, true)])?;
        drop(other);
        check_extents(&tree, &[(0, 64, 200, false)])
    }

    #[test]
    fn under_a_shared_node_all_is_shared() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, 0..200)?;
        let mut other = Tree::new(pool.clone());
        share_range(&mut other, FANOUT, &tree, FANOUT, FANOUT)?;
        check_extents(
            &tree,
            &[
                (0, 64, 64, false),
                (64, 128, 64, true),
                (128, 192, 72, false),
            ],
        )?;
        check_extents(&other, &[(64, 128, 64, true)])?;
        let copy = tree.snapshot();
        check_extents(&tree, &[(0, 64, 200, true)])?;
        check_extents(&copy, &[(0, 64, 200, true)])
    }

    #[test]
    fn a_write_after_a_snapshot() -> Result {
        let mut tree = tree_of(&pool()?, 0..100)?;
        let mut copy = tree.snapshot();
        insert_block(&mut copy, 70)?;
        let around = [(0, 64, 70, true), (70, 134, 1, false), (71, 135, 29, true)];
        check_extents(&tree, &around)?;
        check_extents(&copy, &[around[0], (70, 198, 1, false), around[2]])
    }

    #[test]
    fn block_zero_alone() -> Result {
        let mut tree = tree_of(&pool()?, [0])?;
        check_extents(&tree, &[(0, 64, 1, false)])?;
        let copy = tree.snapshot();
        check_extents(&copy, &[(0, 64, 1, true)])
    }

    #[test]
    fn a_limit_shortens_and_changes_nothing_else() -> Result {
        let tree = tree_of(&pool()?, 10..500)?;
        for max in [1, 2, 54, 55, 64, 100, 490, 1000] {
            let extent = tree.extent(0, max).ok_or(ENOENT)?;
            check_eq!(
                (extent.index, extent.number, extent.shared),
                (10, 74, false)
            );
            // At least what was asked for, and not more than a leaf beyond.
            let len = extent.len;
            check!(len >= max.min(490) && len < max + FANOUT, "{len} for {max}");
        }
        Ok(())
    }

    /// They stay unwritten in a clone, until they are written.
    #[test]
    fn unwritten_blocks_are_extents_of_their_own() -> Result {
        let pool = pool()?;
        let mut tree = Tree::new(pool.clone());
        for index in 0..10 {
            if (2..7).contains(&index) {
                insert_unwritten(&mut tree, index)?;
            } else {
                insert_block(&mut tree, index)?;
            }
        }
        let unwritten = |tree: &Tree| {
            let mut found = [false; 10];
            for (index, found) in (0..).zip(&mut found) {
                let extent = tree.extent(index, 1).ok_or(ENOENT)?;
                *found = extent.unwritten;
            }
            Ok::<_, Error>(found)
        };
        let mut wanted = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0].map(|n| n == 1);
        check_eq!(unwritten(&tree)?, wanted);
        check_eq!(
            tree.extent(2, 100).map(|e| (e.index, e.number, e.len)),
            Some((2, 66, 5))
        );
        let mut clone = tree.snapshot();
        check_eq!(unwritten(&clone)?, wanted);
        check_eq!(
            tree.set_written(0, 10),
            0,
            "nothing is stored to what is shared"
        );
        insert_block(&mut clone, 4)?;
        check_eq!(unwritten(&tree)?, wanted, "it is not the clone's block");
        let mut in_clone = wanted;
        in_clone[4] = false;
        check_eq!(unwritten(&clone)?, in_clone);
        drop(clone);
        check_eq!(tree.set_written(0, 10), 0, "nor to what others held");
        insert_unwritten(&mut tree, 5)?;
        check_eq!(tree.set_written(0, 10), 1);
        wanted[5] = false;
        check_eq!(unwritten(&tree)?, wanted);
        Ok(())
    }

    /// One at a time, in the root itself, and in files of every height.
    #[test]
    fn what_is_stored_to_is_written() -> Result {
        let pool = pool()?;
        let mut tree = Tree::new(pool.clone());
        insert_unwritten(&mut tree, 0)?;
        check!(matches!(found(&tree, 0), Found::Unwritten(_)));
        check_eq!(
            (tree.owned_run(0, 1).len(), tree.next_written(0)),
            (0, None)
        );
        check_eq!((tree.next_not_written(0), tree.next_hole(0)), (0, 1));
        check_eq!(tree.set_written(0, 1), 1);
        check!(is_owned(&tree, 0));
        check_eq!(
            (tree.owned_run(0, 1).len(), tree.next_written(0)),
            (1, Some(0))
        );
        for index in CORNERS {
            insert_unwritten(&mut tree, index)?;
        }
        for (i, index) in CORNERS.into_iter().enumerate() {
            check_eq!(tree.next_written(0), None);
            check_eq!(tree.next_not_written(index), index);
            check_eq!(tree.set_written(index, 1), 1, "index {index}");
            check_eq!(tree.set_written(index, 1), 0, "index {index}");
            check_eq!(tree.next_written(0), Some(index));
            check_eq!(tree.next_not_written(index), index + 1);
            remove(&mut tree, index, index + 1)?;
            check_eq!(tree.blocks(), (CORNERS.len() - i - 1) as u64);
        }
        Ok(())
    }

    #[test]
    fn joining() -> Result {
        let extent = BlockExtent {
            index: 5,
            number: 9,
            len: 3,
            shared: true,
            unwritten: false,
        };
        let next = BlockExtent {
            index: 8,
            number: 12,
            len: 2,
            shared: true,
            unwritten: false,
        };
        let mut whole = extent;
        check!(whole.join(&next));
        check_eq!(whole, BlockExtent { len: 5, ..extent });
        for other in [
            BlockExtent { index: 9, ..next },
            BlockExtent { index: 7, ..next },
            BlockExtent { number: 13, ..next },
            BlockExtent { number: 11, ..next },
            BlockExtent {
                shared: false,
                ..next
            },
            BlockExtent {
                unwritten: true,
                ..next
            },
        ] {
            let mut unchanged = extent;
            check!(!unchanged.join(&other));
            check_eq!(unchanged, extent);
        }
        Ok(())
    }
}
