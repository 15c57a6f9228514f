// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_stable`: a block of which a stable reference was given out is not written in place
//! any more.

use crate::{
    store::{
        StableRef,
        Tree, //
    },
    support::trees::{
        insert_block,
        is_owned,
        pool,
        tree_of,
        was_shared,
        CORNERS, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

#[kunit_tests(reflinkfs_stable)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_out_is_copied_before_it_is_written() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            check!(is_owned(&tree, index));
            check!(matches!(tree.get_stable(index), StableRef::Block(_)));
            check!(was_shared(&tree, index), "index {index}");
            check!(is_owned(&tree, index + 1), "index {index}");
            // Once more changes nothing; a new block is the tree's own again.
            check!(matches!(tree.get_stable(index), StableRef::Block(_)));
            insert_block(&mut tree, index)?;
            check!(is_owned(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn a_hole_is_given_out_as_one() -> Result {
        let mut empty = Tree::new(pool()?);
        check!(matches!(empty.get_stable(0), StableRef::Hole));
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index])?;
            check!(matches!(tree.get_stable(index + 1), StableRef::Hole));
            check!(is_owned(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn what_others_hold_is_given_out_as_it_is() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index])?;
            let mut copy = tree.snapshot();
            check!(matches!(tree.get_stable(index), StableRef::Block(_)));
            check!(matches!(copy.get_stable(index), StableRef::Block(_)));
            drop(copy);
            check!(was_shared(&tree, index), "index {index}");
        }
        Ok(())
    }

    #[test]
    fn while_the_tree_is_edited_it_is_not() -> Result {
        for index in CORNERS {
            let mut tree = tree_of(&pool()?, [index, index + 1])?;
            // The edited tree has the bit, too, and would write in place.
            let mut edit = tree.edit();
            check!(
                matches!(tree.get_stable(index), StableRef::NeedsCopy(_)),
                "index {index}"
            );
            insert_block(&mut edit, index + 1)?;
            check!(
                matches!(tree.get_stable(index), StableRef::NeedsCopy(_)),
                "index {index}"
            );
            drop(tree);
            check!(is_owned(&edit, index), "index {index}");
            check!(
                matches!(edit.get_stable(index), StableRef::Block(_)),
                "index {index}"
            );
            check!(was_shared(&edit, index), "index {index}");
        }
        Ok(())
    }
}
