// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_cost`: cloning costs nothing, and the first write after it a path of nodes.
//!
//! The cost is how many nodes a change takes from a `Prealloc`, how many blocks the pool counts,
//! and how often the store accesses nodes and blocks.

use crate::{
    store::{
        accesses,
        Prealloc,
        Tree, //
    },
    support::nodes::{
        cost,
        insert_cost, //
    },
    support::trees::{
        first_of,
        full_tree,
        full_tree_of,
        insert_block,
        insert_unwritten,
        is_owned,
        pool,
        remove,
        span,
        tree_of,
        FANOUT,
        LAST,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// Returns how often `call` accesses nodes, and blocks.
fn looks<T>(call: impl FnOnce() -> T) -> (u64, u64) {
    let before = accesses();
    let result = call();
    let after = accesses();
    drop(result);
    (after.0 - before.0, after.1 - before.1)
}

#[kunit_tests(reflinkfs_cost)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_looks_at_the_root_and_at_no_block() -> Result {
        for height in 1..=5 {
            let pool = pool()?;
            let mut tree = full_tree(&pool, height)?;
            // Its count goes up.
            check_eq!(looks(|| tree.snapshot()), (1, 0), "height {height}");
            let clone = tree.snapshot();
            // And down.
            check_eq!(looks(|| drop(clone)), (1, 0), "height {height}");
            // Nor after every node on a path was copied.
            let clone = tree.snapshot();
            insert_cost(&mut tree, span(height) / 2)?;
            check_eq!(looks(|| tree.snapshot()), (1, 0), "height {height}");
            drop(clone);
        }
        // A block in the root, without a node: its slot count goes up.
        let mut tree = tree_of(&pool()?, [0])?;
        let (nodes, blocks) = looks(|| tree.snapshot());
        check_eq!((nodes, blocks <= 2), (0, true));
        Ok(())
    }

    #[test]
    fn comparing_what_is_shared_looks_at_no_block() -> Result {
        for height in 1..=5 {
            let mut tree = full_tree(&pool()?, height)?;
            let clone = tree.snapshot();
            let same = || tree.same_len(0, &clone, 0, span(height), &mut { u64::MAX });
            check_eq!(same(), span(height));
            check_eq!(looks(same), (0, 0), "height {height}");
        }
        Ok(())
    }

    #[test]
    fn reading_looks_at_one_node_on_each_level() -> Result {
        for height in 1..=5 {
            let tree = full_tree(&pool()?, height)?;
            let read = || tree.get_blocks(span(height) / 2, &mut [None]);
            check_eq!(looks(read).0, u64::from(height));
        }
        Ok(())
    }

    #[test]
    fn cloning_a_large_file_is_free() -> Result {
        // 2^30 blocks, 4 TiB. Anything that visits them all does not come to an end.
        let pool = pool()?;
        let mut tree = full_tree(&pool, 5)?;
        check_eq!((tree.blocks(), pool.used()), (span(5), FANOUT));
        let mut clones = KVec::new();
        for _ in 0..1000 {
            clones.push(tree.snapshot(), GFP_KERNEL)?;
        }
        check_eq!(pool.used(), FANOUT);
        for clone in &clones {
            check_eq!(
                clone.same_len(0, &tree, 0, span(5), &mut { u64::MAX }),
                span(5)
            );
        }
        drop(clones);
        // The same holds for counting, seeking and comparing.
        check_eq!(tree.next_hole(0), span(5));
        Ok(())
    }

    /// In a file of 2^30 blocks and more: those of one leaf over and over, and one other leaf.
    #[test]
    fn seeking_looks_at_two_nodes_children_on_each_level() -> Result {
        let most = |height: u32| 2 * FANOUT * u64::from(height);
        for height in 2..=8 {
            let pool = pool()?;
            for rest_is_unwritten in [true, false] {
                let mut leaf = Tree::new(pool.clone());
                for index in 0..FANOUT {
                    if rest_is_unwritten {
                        insert_unwritten(&mut leaf, index)?;
                    } else {
                        insert_block(&mut leaf, index)?;
                    }
                }
                let mut tree = full_tree_of(leaf, height)?;
                check_eq!(tree.blocks(), span(height));
                let seek = |tree: &Tree, from| {
                    if rest_is_unwritten {
                        tree.next_written(from).unwrap_or(span(height))
                    } else {
                        tree.next_not_written(from)
                    }
                };
                // In the middle of everything, and near its ends.
                for at in [span(height) / 2 + 33, 1, span(height) - 2] {
                    check_eq!(seek(&tree, 0), span(height));
                    if rest_is_unwritten {
                        insert_block(&mut tree, at)?;
                    } else {
                        insert_unwritten(&mut tree, at)?;
                    }
                    for (from, wanted) in
                        [(0, at), (at - at / 3, at), (at, at), (at + 1, span(height))]
                    {
                        check_eq!(seek(&tree, from), wanted, "height {height}, from {from}");
                        let (nodes, _) = looks(|| seek(&tree, from));
                        check!(nodes <= most(height), "{nodes} nodes, height {height}");
                    }
                    if rest_is_unwritten {
                        insert_unwritten(&mut tree, at)?;
                    } else {
                        insert_block(&mut tree, at)?;
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn dropping_a_clone_leaves_the_file_alone() -> Result {
        let mut tree = tree_of(&pool()?, [0, 1, LAST])?;
        drop(tree.snapshot());
        // Not a node is shared: everything is written in place.
        for index in [0, 1, LAST] {
            check_eq!(insert_cost(&mut tree, index)?, 0, "index {index}");
        }
        Ok(())
    }

    #[test]
    fn the_first_write_after_a_clone_copies_one_path() -> Result {
        for height in 1..=MAX_HEIGHT {
            let pool = pool()?;
            let index = first_of(height);
            let mut tree = tree_of(&pool, [0, 1, index, index + 1])?;
            let mut copy = tree.snapshot();
            let used = pool.used();
            let nodes = height as usize;
            check_eq!(insert_cost(&mut tree, index)?, nodes, "height {height}");
            check_eq!(pool.used(), used + 1);
            // Once copied, it is the file's own, neighbours in the leaf included.
            check_eq!(insert_cost(&mut tree, index)?, 0);
            check_eq!(insert_cost(&mut tree, index + 1)?, 0);
            // What only the other tree has is its own, too.
            check_eq!(insert_cost(&mut copy, index)?, 0, "height {height}");
            check_eq!(insert_cost(&mut copy, index + 1)?, 0);
        }
        Ok(())
    }

    #[test]
    fn the_second_write_copies_what_it_does_not_have_in_common() -> Result {
        for height in 2..=MAX_HEIGHT {
            let mut tree = tree_of(&pool()?, [0, 1, first_of(height)])?;
            let copy = tree.snapshot();
            insert_cost(&mut tree, first_of(height))?;
            // All but the root.
            check_eq!(
                insert_cost(&mut tree, 0)?,
                height as usize - 1,
                "height {height}"
            );
            check_eq!(insert_cost(&mut tree, 1)?, 0);
            check_eq!(copy.blocks(), 3);
        }
        Ok(())
    }

    #[test]
    fn a_write_after_many_clones_costs_as_much_as_after_one() -> Result {
        let pool = pool()?;
        let mut tree = full_tree(&pool, 4)?;
        let mut clones = KVec::new();
        for i in 0..100 {
            clones.push(tree.snapshot(), GFP_KERNEL)?;
            check_eq!(insert_cost(&mut tree, i * 1000)?, 4, "after {i} clones");
            check_eq!(pool.used(), FANOUT + i + 1);
        }
        drop(clones);
        check_eq!(insert_cost(&mut tree, 5)?, 0);
        Ok(())
    }

    #[test]
    fn sharing_a_subtree_takes_the_way_to_it() -> Result {
        for height in 1..=4 {
            let pool = pool()?;
            let source = full_tree(&pool, height)?;
            let len = source.blocks();
            let mut target = tree_of(&pool, [LAST])?;
            let share = |target: &mut Tree, index| {
                cost(&pool, |prealloc| {
                    target.share_range(index, &source, 0, len, prealloc, || Ok(()))
                })
            };
            // The nodes between the root and the subtree that is inserted.
            let between = (MAX_HEIGHT - 1 - height) as usize;
            check_eq!(share(&mut target, 0)?, between);
            check_eq!(share(&mut target, len)?, 0);
            check_eq!(share(&mut target, 0)?, 0);
            check_eq!((target.blocks(), pool.used()), (2 * len + 1, FANOUT + 1));
        }
        Ok(())
    }

    #[test]
    fn removing_costs_its_ends() -> Result {
        let pool = pool()?;
        let mut tree = full_tree(&pool, 4)?;
        let mut copy = tree.snapshot();
        let (from, to) = (span(3) + 5, span(4) - span(3) - 5);
        // The root, and below it three nodes at each end.
        let nodes = cost(&pool, |prealloc| tree.remove(from, to, prealloc))?;
        check_eq!(nodes, 7);
        check_eq!(tree.blocks(), from + span(4) - to);
        check_eq!(copy.blocks(), span(4));
        // A whole subtree: the path to it.
        let mut tree = copy.snapshot();
        check_eq!(
            cost(&pool, |prealloc| tree.remove(
                span(3),
                2 * span(3),
                prealloc
            ))?,
            1
        );
        let mut tree = copy.snapshot();
        check_eq!(
            cost(&pool, |prealloc| tree.remove(
                span(2),
                2 * span(2),
                prealloc
            ))?,
            2
        );
        let mut tree = copy.snapshot();
        check_eq!(tree.remove(0, span(4), &mut Prealloc::new()), Ok(()));
        check_eq!(tree.blocks(), 0);
        Ok(())
    }

    #[test]
    fn writing_in_place_costs_nothing() -> Result {
        let mut tree = tree_of(&pool()?, [0, 64, 4096, LAST])?;
        for index in [0, 1, 63, 64, 127, 4096, 4159, LAST - 1, LAST] {
            check_eq!(insert_cost(&mut tree, index)?, 0, "index {index}");
            check!(is_owned(&tree, index));
        }
        remove(&mut tree, 0, 64)?;
        check_eq!(insert_cost(&mut tree, 1)?, 1);
        Ok(())
    }
}
