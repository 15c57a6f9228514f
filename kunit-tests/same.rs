// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_same`: which blocks are known to be equal without looking at them.

use crate::{
    store::Tree,
    trees::{full_tree, pool, put, remove, share, span, tree_of, CORNERS, FANOUT, LAST},
};
use kernel::{macros::kunit_tests, prelude::*};

const EVERYTHING: u64 = LAST + 1;

#[kunit_tests(reflinkfs_same)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_the_same() -> Result {
        for indexes in [&CORNERS[..], &CORNERS[..1], &CORNERS[19..], &[]] {
            let mut tree = tree_of(&pool()?, indexes.iter().copied())?;
            let copy = tree.snapshot();
            for (index, len) in [(0, EVERYTHING), (1, LAST), (0, 0), (63, 2), (LAST, 1)] {
                check_eq!(
                    tree.same(index, &copy, index, len, &mut { u64::MAX }),
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
            put(&mut copy, written)?;
            check_eq!(
                tree.same(0, &copy, 0, EVERYTHING, &mut { u64::MAX }),
                written
            );
            check_eq!(
                copy.same(0, &tree, 0, EVERYTHING, &mut { u64::MAX }),
                written
            );
            let rest = LAST - written;
            check_eq!(
                tree.same(written + 1, &copy, written + 1, rest, &mut { u64::MAX }),
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
            check_eq!(tree.same(0, &copy, 0, EVERYTHING, &mut { u64::MAX }), index);
            check_eq!(copy.same(0, &tree, 0, EVERYTHING, &mut { u64::MAX }), index);
        }
        Ok(())
    }

    #[test]
    fn equal_bytes_are_not_known_to_be_equal() -> Result {
        let pool = pool()?;
        let (a, b) = (tree_of(&pool, [0, 1])?, tree_of(&pool, [0, 1])?);
        check_eq!(a.same(0, &b, 0, 2, &mut { u64::MAX }), 0);
        let (a, b) = (tree_of(&pool, [0])?, tree_of(&pool, [0])?);
        check_eq!(a.same(0, &b, 0, 1, &mut { u64::MAX }), 0);
        check_eq!(a.same(1, &b, 5, 9, &mut { u64::MAX }), 9);
        Ok(())
    }

    #[test]
    fn holes_are_the_same_wherever_they_lie() -> Result {
        let pool = pool()?;
        let (a, b) = (tree_of(&pool, [0, 100])?, tree_of(&pool, [7, 5000])?);
        check_eq!(a.same(1, &b, 10, 99, &mut { u64::MAX }), 99);
        check_eq!(a.same(1, &b, 10, 1000, &mut { u64::MAX }), 99);
        check_eq!(a.same(101, &b, 8, EVERYTHING, &mut { u64::MAX }), 4992);
        check_eq!(
            a.same(200, &b, 6000, EVERYTHING, &mut { u64::MAX }),
            EVERYTHING
        );
        check_eq!(
            a.same(5, &Tree::new(pool.clone()), 0, 300, &mut { u64::MAX }),
            95
        );
        Ok(())
    }

    #[test]
    fn at_other_places() -> Result {
        let pool = pool()?;
        let source = tree_of(&pool, (0..300).filter(|i| i % 50 != 9))?;
        for to in [0, 1, 64, 100, 4096, 5000] {
            let mut target = Tree::new(pool.clone());
            share(&mut target, to, &source, 0, 300)?;
            check_eq!(
                target.same(to, &source, 0, 300, &mut { u64::MAX }),
                300,
                "to {to}"
            );
            check_eq!(
                target.same(to + 3, &source, 3, 200, &mut { u64::MAX }),
                200,
                "to {to}"
            );
            check_eq!(
                target.same(to, &source, 1, 300, &mut { u64::MAX }),
                0,
                "to {to}"
            );
            put(&mut target, to + 70)?;
            check_eq!(
                target.same(to, &source, 0, 300, &mut { u64::MAX }),
                70,
                "to {to}"
            );
            check_eq!(
                source.same(71, &target, to + 71, 229, &mut { u64::MAX }),
                229,
                "to {to}"
            );
        }
        Ok(())
    }

    #[test]
    fn block_zero_alone_and_elsewhere() -> Result {
        let pool = pool()?;
        let one = tree_of(&pool, [0])?;
        let mut other = Tree::new(pool.clone());
        share(&mut other, 70, &one, 0, 1)?;
        check_eq!(one.same(0, &other, 70, 10, &mut { u64::MAX }), 10);
        check_eq!(other.same(70, &one, 0, 10, &mut { u64::MAX }), 10);
        put(&mut other, 75)?;
        check_eq!(one.same(0, &other, 70, 10, &mut { u64::MAX }), 5);
        check_eq!(other.same(70, &one, 0, 10, &mut { u64::MAX }), 5);
        check_eq!(one.same(0, &other, 75, 1, &mut { u64::MAX }), 0);
        check_eq!(other.same(75, &one, 0, 1, &mut { u64::MAX }), 0);
        Ok(())
    }

    #[test]
    fn no_more_than_was_asked_for() -> Result {
        let mut tree = full_tree(&pool()?, 3)?;
        let mut copy = tree.snapshot();
        put(&mut copy, span(3) - 1)?;
        for (index, len) in [(0, 1), (0, 63), (0, 65), (1, span(2)), (64, span(2) + 3)] {
            check_eq!(
                tree.same(index, &copy, index, len, &mut { u64::MAX }),
                len,
                "{len} from {index}"
            );
        }
        // The same leaf over and over again.
        check_eq!(
            tree.same(0, &copy, FANOUT, span(3) - 2 * FANOUT, &mut { u64::MAX }),
            span(3) - 2 * FANOUT
        );
        check_eq!(
            tree.same(0, &copy, FANOUT, span(3), &mut { u64::MAX }),
            span(3) - FANOUT - 1
        );
        Ok(())
    }
}
