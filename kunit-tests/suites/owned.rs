// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_owned`: a block that another file held is not written in place, even once only
//! this file has it: a pipe or a reader may have a reference from the other file.

use crate::{
    store::{
        block::Leaf,
        Prealloc,
        StableRef,
        Tree, //
    },
    support::trees::{
        found,
        insert_block,
        insert_unwritten,
        is_owned,
        is_shared,
        pool,
        remove,
        share_range,
        span,
        tree_of,
        was_shared,
        Found,
        CORNERS,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

#[kunit_tests(reflinkfs_owned)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shared_once_is_not_written() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            check!(is_owned(&tree, index));
            drop(tree.snapshot());
            check!(was_shared(&tree, index), "index {index}");
            // Its replacement is, and so are its neighbours that are written.
            insert_block(&mut tree, index)?;
            check!(is_owned(&tree, index), "index {index}");
            check!(was_shared(&tree, index + 1), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn neither_by_the_clone() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            let mut copy = tree.snapshot();
            drop(tree);
            check!(was_shared(&copy, index), "index {index}");
            insert_block(&mut copy, index)?;
            check!(is_owned(&copy, index), "index {index}");
            check!(was_shared(&copy, index + 1), "index {index}");
            // Nor by the clone's clone.
            let second = copy.snapshot();
            drop(copy);
            check!(was_shared(&second, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn a_change_of_the_file_itself_is_no_clone() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index])?;
            let mut changed = tree.edit();
            // While both are there nothing is written in place.
            check!(is_shared(&tree, index), "index {index}");
            insert_block(&mut changed, index + 1)?;
            tree = changed;
            check!(is_owned(&tree, index), "index {index}");
            check!(is_owned(&tree, index + 1), "index {index}");
            // Nor does an edited tree that is dropped change that.
            insert_block(&mut tree.edit(), index + 2)?;
            check!(is_owned(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn growing_changes_nothing() -> Result {
        for index in &CORNERS[1..] {
            let mut tree = tree_of(&pool()?, [0, *index])?;
            check!(is_owned(&tree, 0), "index {index}");
            tree = tree_of(&pool()?, [0])?;
            drop(tree.snapshot());
            insert_block(&mut tree, *index)?;
            check!(was_shared(&tree, 0), "index {index}");
        }
        Ok(())
    }

    /// The owned bits stay, as no other tree holds the blocks.
    #[test]
    fn a_block_in_two_places_is_not_written() -> Result {
        let mut tree = tree_of(&pool()?, 0..3)?;
        insert_unwritten(&mut tree, 3)?;
        let edit = tree.edit();
        share_range(&mut tree, 200, &edit, 1, 1)?;
        share_range(&mut tree, 201, &edit, 3, 1)?;
        drop(edit);
        check_eq!(tree.owned_run(0, 4).len(), 1);
        check!(is_shared(&tree, 1));
        check_eq!(tree.set_written(3, 1), 0);
        check!(tree.is_unwritten(3));
        Ok(())
    }

    #[test]
    fn what_is_shared_into_a_file_is_not_its_own() -> Result {
        for (from, to, len) in [(0, 0, 1), (0, 64, 64), (3, 70, 5), (0, 0, 130), (64, 0, 64)] {
            let pool = pool()?;
            let mut source = tree_of(&pool, 0..200)?;
            let mut target = tree_of(&pool, 0..200)?;
            share_range(&mut target, to, &source.snapshot(), from, len)?;
            drop(source);
            for index in 0..200 {
                let shared = (to..to + len).contains(&index);
                check_eq!(was_shared(&target, index), shared, "index {index}");
                check_eq!(is_owned(&target, index), !shared, "index {index}");
            }
        }
        Ok(())
    }

    #[test]
    fn two_files_write_to_one_leaf() -> Result {
        let mut tree = tree_of(&pool()?, 0..10)?;
        let mut copy = tree.snapshot();
        insert_block(&mut tree, 3)?;
        insert_block(&mut copy, 4)?;
        insert_block(&mut tree, 5)?;
        check!(is_owned(&tree, 3) && is_owned(&copy, 4) && is_owned(&tree, 5));
        check!(was_shared(&copy, 3) && was_shared(&tree, 4) && was_shared(&copy, 5));
        drop(copy);
        for index in 0..10 {
            check_eq!(
                is_owned(&tree, index),
                index == 3 || index == 5,
                "index {index}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_leaf_comes_back_by_another_way() -> Result {
        // Written here, cloned, shared back: what was written before the clone does not become
        // owned again.
        let pool = pool()?;
        let mut tree = tree_of(&pool, 0..64)?;
        let mut copy = tree.snapshot();
        remove(&mut tree, 0, 64)?;
        insert_block(&mut tree, 200)?;
        share_range(&mut tree, 0, &copy.snapshot(), 0, 64)?;
        drop(copy);
        for index in 0..64 {
            check!(was_shared(&tree, index), "index {index}");
        }
        check!(is_owned(&tree, 200));
        Ok(())
    }

    #[test]
    fn kept_private() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            drop(tree.snapshot());
            tree.restore_owned(index);
            check!(is_owned(&tree, index), "index {index}");
            check!(was_shared(&tree, index + 1), "index {index}");
            // Until the next clone.
            drop(tree.snapshot());
            check!(was_shared(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn nothing_shared_is_kept_private() -> Result {
        for height in 1..=MAX_HEIGHT {
            let index = span(height) - 1;
            let mut tree = tree_of(&pool()?, [0, index])?;
            let copy = tree.snapshot();
            tree.restore_owned(index);
            check!(is_shared(&tree, index), "index {index}");
            drop(copy);
            check!(was_shared(&tree, index), "index {index}");
            tree.restore_owned(index - 1);
            check_eq!(found(&tree, index - 1), Found::Hole);
        }
        Ok(())
    }

    #[test]
    fn a_clone_of_a_range() -> Result {
        for range in [
            0..1,
            5..6,
            3..64,
            64..128,
            10..300,
            250..1000,
            0..u64::MAX,
            7..7,
        ] {
            let pool = pool()?;
            let mut tree = tree_of(&pool, 0..260)?;
            let copy = tree.snapshot_range(range.clone(), &mut Prealloc::on_demand())?;
            for index in 0..260 {
                let given = range.contains(&index);
                let is_shared = is_shared(&tree, index);
                check_eq!(is_shared, given, "index {index}, {range:?}");
                check_eq!(is_owned(&tree, index), !given, "index {index}, {range:?}");
                if given {
                    check_eq!(found(&copy, index), found(&tree, index), "index {index}");
                } else {
                    check_eq!(found(&copy, index), Found::Hole, "index {index}, {range:?}");
                }
            }
            let mut other = Tree::new(pool.clone());
            let len = range.end.min(300).saturating_sub(range.start);
            share_range(&mut other, 0, &copy, range.start, len)?;
            drop((copy, other));
            for index in 0..260 {
                let given = range.contains(&index);
                check_eq!(was_shared(&tree, index), given, "index {index}, {range:?}");
                check_eq!(is_owned(&tree, index), !given, "index {index}, {range:?}");
            }
        }
        Ok(())
    }

    /// The first is a view that a comparison holds; the second comes and goes meanwhile.
    #[test]
    fn a_clone_of_a_range_while_another_is_held() -> Result {
        for index in [1, 63, 70, 130, 200, 259] {
            for view in [100..110, 60..200, 64..128, index..index + 1] {
                let mut tree = tree_of(&pool()?, 0..260)?;
                let mut prealloc = Prealloc::on_demand();
                let view = tree.snapshot_range(view, &mut prealloc)?;
                drop(tree.snapshot_range(index..index + 1, &mut prealloc)?);
                check!(!is_owned(&tree, index), "index {index}");
                let other = index - 1;
                check!(matches!(tree.get_stable(other), StableRef::Block(_)));
                drop(view);
                check!(was_shared(&tree, index), "index {index}");
                check!(was_shared(&tree, other), "index {other}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_edit_of_a_range_leaves_the_rest_owned() -> Result {
        let tree = tree_of(&pool()?, 0..260)?;
        let edit = tree.edit_range(70..u64::MAX, &mut Prealloc::on_demand())?;
        for index in 0..260 {
            check_eq!(is_owned(&tree, index), index < 70, "index {index}");
            let wanted = if index < 70 {
                Found::Hole
            } else {
                found(&tree, index)
            };
            check_eq!(found(&edit, index), wanted, "index {index}");
        }
        drop(edit);
        check!((0..260).all(|index| is_owned(&tree, index)));
        Ok(())
    }

    #[test]
    fn a_clone_of_a_range_is_a_file_of_its_own() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index ^ 1])?;
            let mut copy = tree.snapshot_range(index..index + 1, &mut Prealloc::on_demand())?;
            drop(tree);
            check!(was_shared(&copy, index), "index {index}");
            check_eq!(found(&copy, index ^ 1), Found::Hole, "index {index}");
            insert_block(&mut copy, index)?;
            check!(is_owned(&copy, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn own_blocks_end_at_the_first_that_is_not() -> Result {
        let mut tree = tree_of(&pool()?, 0..130)?;
        let own = |tree: &Tree, index, max| tree.owned_run(index, max).len();
        check_eq!(
            [own(&tree, 0, 200), own(&tree, 60, 3), own(&tree, 129, 9)],
            [64, 3, 1]
        );
        // A block of which a reference was given out, and a hole.
        tree.get_stable(70);
        remove(&mut tree, 80, 81)?;
        let from = [64, 70, 71, 80, 81].map(|index| own(&tree, index, 64));
        check_eq!(from, [6, 0, 9, 0, 47]);
        // A leaf that is shared, and one whose blocks were.
        let copy = tree.snapshot();
        insert_block(&mut tree, 3)?;
        let from = [0, 2, 3, 4].map(|index| own(&tree, index, 64));
        check_eq!(from, [0, 0, 1, 0]);
        drop(copy);
        check_eq!(own(&tree, 3, 64), 1);
        check_eq!(own(&tree, 1 << 40, 1), 0);
        Ok(())
    }

    #[test]
    fn marks_of_slots() -> Result {
        let pool = pool()?;
        let mut slots = Leaf::<64>::new(pool.clone());
        let marked = |slots: &Leaf<64>, generation| {
            (0..70)
                .filter(|i| slots.has_owned_bit(*i, generation))
                .sum()
        };
        slots.insert(0, pool.alloc()?, 5);
        slots.insert(63, pool.alloc()?, 5);
        check_eq!((marked(&slots, 5), marked(&slots, 4)), (63usize, 0usize));
        let copy = slots.clone();
        slots.insert(1, pool.alloc()?, 6);
        check_eq!((marked(&slots, 5), marked(&slots, 6)), (0, 1));
        slots.set_owned(40, 41, 6);
        check_eq!(marked(&slots, 6), 41);
        slots.share_slot(1, &copy, 63, &mut Prealloc::new())?;
        check_eq!(marked(&slots, 6), 40);
        slots.remove(40);
        check_eq!(marked(&slots, 6), 0);
        check_eq!(marked(&copy, 5), 63);
        let mut unmarked = copy.clone();
        unmarked.clear_owned(1, 63);
        check_eq!(marked(&unmarked, 5), 63);
        unmarked.clear_owned(63, 70);
        check!(unmarked.has_owned_bit(0, 5) && !unmarked.has_owned_bit(63, 5));
        unmarked.clear_owned(0, 1);
        check!(!unmarked.has_owned_bit(0, 5));
        Ok(())
    }

    #[test]
    fn what_two_slots_hold_is_not_kept_private() -> Result {
        for index in CORNERS.into_iter().filter(|&index| index > 0) {
            let mut tree = tree_of(&pool()?, [0])?;
            let source = tree.snapshot();
            share_range(&mut tree, index, &source, 0, 1)?;
            drop(source);
            tree.restore_owned(0);
            tree.restore_owned(index);
            // Each was given out through the other.
            remove(&mut tree, 0, 1)?;
            check!(was_shared(&tree, index), "index {index}");
        }
        Ok(())
    }
}
