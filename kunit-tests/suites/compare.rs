// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_compare`: comparing trees by pointer.

use crate::{
    store::{
        Prealloc,
        Tree, //
    },
    support::trees::{
        full_tree,
        insert_block,
        pool,
        remove,
        share_range,
        span,
        tree_of,
        CORNERS,
        FANOUT,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

const EVERYTHING: u64 = LAST + 1;

/// [`Tree::same_len`] without a limit of steps.
fn same(a: &Tree, i: u64, b: &Tree, j: u64, len: u64) -> u64 {
    a.same_len(i, b, j, len, &mut { u64::MAX })
}

#[kunit_tests(reflinkfs_compare)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_the_same() -> Result {
        for indexes in [&CORNERS[..], &CORNERS[..1], &CORNERS[19..], &[]] {
            let mut tree = tree_of(&pool()?, indexes.iter().copied())?;
            let copy = tree.snapshot();
            for (index, len) in [(0, EVERYTHING), (1, LAST), (0, 0), (63, 2), (LAST, 1)] {
                check_eq!(
                    same(&tree, index, &copy, index, len),
                    len,
                    "{len} from {index}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn up_to_the_first_difference() -> Result {
        for written in CORNERS {
            let mut tree = tree_of(&pool()?, CORNERS)?;
            let mut copy = tree.snapshot();
            insert_block(&mut copy, written)?;
            check_eq!(same(&tree, 0, &copy, 0, EVERYTHING), written);
            check_eq!(same(&copy, 0, &tree, 0, EVERYTHING), written);
            let rest = LAST - written;
            check_eq!(
                same(&tree, written + 1, &copy, written + 1, rest),
                rest,
                "after {written}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_hole_differs_from_a_block() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, CORNERS)?;
            let mut copy = tree.snapshot();
            remove(&mut copy, index, index + 1)?;
            check_eq!(same(&tree, 0, &copy, 0, EVERYTHING), index);
            check_eq!(same(&copy, 0, &tree, 0, EVERYTHING), index);
        }
        Ok(())
    }

    #[test]
    fn equal_bytes_are_not_known_to_be_equal() -> Result {
        let pool = pool()?;
        let (a, b) = (tree_of(&pool, [0, 1])?, tree_of(&pool, [0, 1])?);
        check_eq!(same(&a, 0, &b, 0, 2), 0);
        let (a, b) = (tree_of(&pool, [0])?, tree_of(&pool, [0])?);
        check_eq!(same(&a, 0, &b, 0, 1), 0);
        check_eq!(same(&a, 1, &b, 5, 9), 9);
        Ok(())
    }

    #[test]
    fn holes_are_the_same_wherever_they_lie() -> Result {
        let pool = pool()?;
        let (a, b) = (tree_of(&pool, [0, 100])?, tree_of(&pool, [7, 5000])?);
        check_eq!(same(&a, 1, &b, 10, 99), 99);
        check_eq!(same(&a, 1, &b, 10, 1000), 99);
        check_eq!(same(&a, 101, &b, 8, EVERYTHING), 4992);
        check_eq!(same(&a, 200, &b, 6000, EVERYTHING), EVERYTHING);
        check_eq!(same(&a, 5, &Tree::new(pool.clone()), 0, 300), 95);
        Ok(())
    }

    #[test]
    fn at_other_places() -> Result {
        let pool = pool()?;
        let source = tree_of(&pool, (0..300).filter(|i| i % 50 != 9))?;
        for to in [0, 1, 64, 100, 4096, 5000] {
            let mut target = Tree::new(pool.clone());
            share_range(&mut target, to, &source, 0, 300)?;
            check_eq!(same(&target, to, &source, 0, 300), 300, "to {to}");
            check_eq!(same(&target, to + 3, &source, 3, 200), 200, "to {to}");
            check_eq!(same(&target, to, &source, 1, 300), 0, "to {to}");
            insert_block(&mut target, to + 70)?;
            check_eq!(same(&target, to, &source, 0, 300), 70, "to {to}");
            check_eq!(same(&source, 71, &target, to + 71, 229), 229, "to {to}");
        }
        Ok(())
    }

    #[test]
    fn block_zero_alone_and_elsewhere() -> Result {
        let pool = pool()?;
        let one = tree_of(&pool, [0])?;
        let mut other = Tree::new(pool.clone());
        share_range(&mut other, 70, &one, 0, 1)?;
        check_eq!(same(&one, 0, &other, 70, 10), 10);
        check_eq!(same(&other, 70, &one, 0, 10), 10);
        insert_block(&mut other, 75)?;
        check_eq!(same(&one, 0, &other, 70, 10), 5);
        check_eq!(same(&other, 70, &one, 0, 10), 5);
        check_eq!(same(&one, 0, &other, 75, 1), 0);
        check_eq!(same(&other, 75, &one, 0, 1), 0);
        Ok(())
    }

    #[test]
    fn no_more_than_was_asked_for() -> Result {
        let mut tree = full_tree(&pool()?, 3)?;
        let mut copy = tree.snapshot();
        insert_block(&mut copy, span(3) - 1)?;
        for (index, len) in [(0, 1), (0, 63), (0, 65), (1, span(2)), (64, span(2) + 3)] {
            check_eq!(
                same(&tree, index, &copy, index, len),
                len,
                "{len} from {index}"
            );
        }
        // The same leaf over and over again.
        check_eq!(
            same(&tree, 0, &copy, FANOUT, span(3) - 2 * FANOUT),
            span(3) - 2 * FANOUT
        );
        check_eq!(same(&tree, 0, &copy, FANOUT, span(3)), span(3) - FANOUT - 1);
        Ok(())
    }

    #[test]
    fn ends_after_so_many_steps() -> Result {
        // Other leaves, so that each takes a step.
        let mut tree = tree_of(&pool()?, (0..1000).step_by(2))?;
        let mut copy = tree.snapshot();
        insert_block(&mut copy, span(2))?;
        for index in (0..1000).step_by(64) {
            insert_block(&mut copy, index + 1)?;
            remove(&mut copy, index + 1, index + 2)?;
        }
        for wanted in [1, 2, 10] {
            let mut steps = wanted;
            let same = tree.same_len(0, &copy, 0, 1000, &mut steps);
            check_eq!(steps, 0, "{wanted} steps");
            check!((wanted..1000).contains(&same), "{same} in {wanted} steps");
        }
        check_eq!(same(&tree, 0, &copy, 0, 1000), 1000);
        Ok(())
    }

    #[test]
    fn a_subtree_that_begins_with_a_hole_is_one_step() -> Result {
        let pool = pool()?;
        let mut source = tree_of(&pool, (1..span(2)).step_by(64))?;
        let source = source.snapshot();
        let mut target = tree_of(&pool, [span(2) + 5])?;
        let mut prealloc = Prealloc::on_demand();
        let mut steps = 3;
        let share = |target: &mut Tree, prealloc: &mut Prealloc, to, steps: &mut u64| {
            target.share_bounded(to, &source, 0, span(2), prealloc, steps, || Ok(()))
        };
        let done = share(&mut target, &mut prealloc, 0, &mut steps)?;
        check_eq!((done, steps), (span(2), 2));
        let mut steps = 3;
        check_eq!(target.same_len(0, &source, 0, span(2), &mut steps), span(2));
        check_eq!(steps, 2);

        // By a block, as far as the steps reach.
        let mut steps = 10;
        let done = share(&mut target, &mut prealloc, 1, &mut steps)?;
        check_eq!(steps, 0);
        check!((10..span(2)).contains(&done), "{done} blocks");
        check_eq!(same(&target, 1, &source, 0, done), done);
        Ok(())
    }

    #[test]
    fn blocks_in_a_range_are_counted() -> Result {
        let tree = tree_of(&pool()?, CORNERS)?;
        let corners = || Iterator::chain(CORNERS.iter().copied(), [LAST, EVERYTHING]);
        for from in corners() {
            for to in corners() {
                let there = CORNERS.iter().filter(|&&at| at >= from && at < to).count();
                check_eq!(tree.blocks_in(from..to), there as u64, "{from} to {to}");
            }
        }
        let full = full_tree(&pool()?, 3)?;
        check_eq!(full.blocks_in(7..span(3) - 9), span(3) - 16);
        check_eq!(full.blocks_in(span(3)..u64::MAX), 0);
        let one = tree_of(&pool()?, [0])?;
        check_eq!((one.blocks_in(0..9), one.blocks_in(1..9)), (1, 0));
        Ok(())
    }
}
