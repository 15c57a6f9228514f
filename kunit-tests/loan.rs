// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_loan`: a block that was lent to a reader is not written in place any more.

use crate::{
    store::{Loan, Tree},
    trees::{found, pool, put, tree_of, Found, CORNERS},
};
use kernel::{macros::kunit_tests, prelude::*};

fn is_private(tree: &Tree, index: u64) -> bool {
    matches!(found(tree, index), Found::Private(_))
}

fn is_unshared(tree: &Tree, index: u64) -> bool {
    matches!(found(tree, index), Found::Unshared(_))
}

#[kunit_tests(reflinkfs_loan)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_is_copied_before_it_is_written() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            check!(is_private(&tree, index));
            check!(matches!(tree.lend(index), Loan::Block(_)));
            check!(is_unshared(&tree, index), "index {index}");
            check!(is_private(&tree, index + 1), "index {index}");
            // Once more changes nothing; a new block is the tree's own again.
            check!(matches!(tree.lend(index), Loan::Block(_)));
            put(&mut tree, index)?;
            check!(is_private(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn a_hole_is_lent_as_one() -> Result {
        let mut empty = Tree::new(pool()?);
        check!(matches!(empty.lend(0), Loan::Hole));
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index])?;
            check!(matches!(tree.lend(index + 1), Loan::Hole));
            check!(is_private(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn what_others_hold_is_lent_as_it_is() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index])?;
            let mut copy = tree.snapshot();
            check!(matches!(tree.lend(index), Loan::Block(_)));
            check!(matches!(copy.lend(index), Loan::Block(_)));
            drop(copy);
            check!(is_unshared(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn while_the_tree_is_edited_it_is_not() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            // What comes of the edit has the mark, too, and would write in place.
            let mut edit = tree.edit();
            check!(
                matches!(tree.lend(index), Loan::Unsteady(_)),
                "index {index}"
            );
            put(&mut edit, index + 1)?;
            check!(
                matches!(tree.lend(index), Loan::Unsteady(_)),
                "index {index}"
            );
            drop(tree);
            check!(is_private(&edit, index), "index {index}");
            check!(matches!(edit.lend(index), Loan::Block(_)), "index {index}");
            check!(is_unshared(&edit, index), "index {index}");
        }
        Ok(())
    }
}
