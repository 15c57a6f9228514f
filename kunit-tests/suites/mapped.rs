// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_mapped`: which blocks carry an inode's mapping, and how long.

use crate::{
    store::Tree,
    support::inode::{
        index_of,
        page_count,
        with_page_count,
        Inode, //
    },
    support::trees::{
        block_at,
        found,
        insert_block,
        pool,
        remove,
        tree_of,
        was_shared,
        Found,
        Page,
        CORNERS, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// More blocks than the store looks at under one hold of the lock.
const MANY: u64 = 200;

/// Maps the block at `index` writable, as a write fault does. Returns its page.
fn map(inode: &Inode, tree: &Tree, index: u64) -> Result<Page> {
    let Found::Owned(page) = found(tree, index) else {
        return Err(EINVAL);
    };
    let block = block_at(tree, index)?;
    // SAFETY: The block is this tree's alone, and no block is handed from one inode to another.
    unsafe { inode.associate(&block, index) };
    check!(inode.is_carried_by(page), "index {index}");
    check_eq!(index_of(&block), index);
    Ok(page)
}

/// A file with blocks at `indexes`, all of them mapped writable once.
fn mapped_tree(inode: &Inode, indexes: impl IntoIterator<Item = u64>) -> Result<Tree> {
    let mut tree = Tree::new(pool()?);
    for index in indexes {
        insert_block(&mut tree, index)?;
        map(inode, &tree, index)?;
    }
    Ok(tree)
}

/// The indexes of the blocks in `range` that something else refers to, in ascending order.
fn referenced(inode: &Inode, range: core::ops::Range<u64>) -> Result<KVec<u64>> {
    let mut referenced = KVec::new();
    inode.for_each_referenced(range, |index| {
        referenced.push(index, GFP_KERNEL)?;
        // Insertion sort, as `sort` may panic.
        let mut i = referenced.len() - 1;
        while i > 0 && referenced[i - 1] > referenced[i] {
            referenced.swap(i - 1, i);
            i -= 1;
        }
        Ok(())
    })?;
    Ok(referenced)
}

#[kunit_tests(reflinkfs_mapped)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_block_carries_mapping_and_index() -> Result {
        let inode = Inode::new()?;
        let tree = tree_of(&pool()?, CORNERS)?;
        for index in CORNERS {
            check!(!block_at(&tree, index)?.is_mapped_writable());
            map(&inode, &tree, index)?;
            check!(block_at(&tree, index)?.is_mapped_writable());
            // A second time changes nothing.
            map(&inode, &tree, index)?;
        }
        Ok(())
    }

    #[test]
    fn an_association_is_no_reference() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, [3])?;
        let page = found(&tree, 3).page().ok_or(ENOENT)?;
        check_eq!(page_count(page), 1);
        drop(tree);
        // No orphan is left: the block is gone, and so is its association.
        check!(!inode.is_carried_by(page));
        Ok(())
    }

    #[test]
    fn it_ends_before_the_block_is_shared() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, 0..MANY)?;
        let held = block_at(&tree, 50)?;
        // Also outside of the range.
        check_eq!(referenced(&inode, 50..60)?[..], [50]);
        for index in 0..MANY {
            let page = block_at(&tree, index)?.as_ptr();
            check_eq!(inode.is_carried_by(page), index == 50, "index {index}");
        }
        check_eq!(index_of(&held), 50);
        drop(held);
        check_eq!(referenced(&inode, 50..60)?.len(), 0);
        check!(!block_at(&tree, 50)?.is_mapped_writable());
        // And can begin again.
        map(&inode, &tree, 50)?;
        map(&inode, &tree, 51)?;
        Ok(())
    }

    #[test]
    fn a_replaced_block_keeps_it_while_it_is_referred_to() -> Result {
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, [7])?;
        let old = block_at(&tree, 7)?;
        let new = insert_block(&mut tree, 7)?;
        check!(inode.is_carried_by(old.as_ptr()));
        check_eq!(index_of(&old), 7);
        check!(!inode.is_carried_by(new));
        // The test's, and that of the list of orphans.
        check_eq!(page_count(old.as_ptr()), 2);
        // It is charged as long as it is referred to.
        check_eq!(tree.pool().used(), 2);
        check_eq!(tree.pool().orphan_count(), 1);
        drop(old);
        check_eq!(tree.pool().used(), 1);
        check_eq!(tree.pool().orphan_count(), 0);
        Ok(())
    }

    #[test]
    fn a_dropped_block_waits_and_is_freed() -> Result {
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, 0..MANY)?;
        insert_block(&mut tree, 1000)?;
        let mut held = KVec::new();
        for index in 0..MANY {
            held.push(block_at(&tree, index)?, GFP_KERNEL)?;
        }
        remove(&mut tree, 0, MANY)?;
        // Reading the counts reaps: these must stay orphans.
        check_eq!(tree.pool().used(), 1 + MANY);
        for block in &held {
            check!(inode.is_carried_by(block.as_ptr()));
            check_eq!(page_count(block.as_ptr()), 2);
        }

        let mut pages = KVec::new();
        for block in held {
            pages.push(block.as_ptr(), GFP_KERNEL)?;
        }
        check_eq!(tree.pool().used(), 1);
        check!(pages.iter().all(|page| !inode.is_carried_by(*page)));
        // Some of the pages may have other users by now, but not nearly all.
        let free = pages.iter().filter(|page| page_count(**page) == 0).count();
        check!(free > pages.len() / 2, "{free} pages of {}", pages.len());
        Ok(())
    }

    #[test]
    fn one_that_waits_does_not_hold_up_others() -> Result {
        for held in 0..3 {
            let inode = Inode::new()?;
            let mut tree = mapped_tree(&inode, 0..3)?;
            insert_block(&mut tree, 100)?;
            let blocks = [
                block_at(&tree, 0)?,
                block_at(&tree, 1)?,
                block_at(&tree, 2)?,
            ];
            let pages = [0, 1, 2].map(|i: usize| blocks[i].as_ptr());
            remove(&mut tree, 0, 3)?;
            let still = blocks[held].clone();
            drop(blocks);
            check_eq!(tree.pool().used(), 2);
            for (i, page) in pages.into_iter().enumerate() {
                check_eq!(inode.is_carried_by(page), i == held, "{i} of {held}");
            }
            drop(still);
        }
        Ok(())
    }

    #[test]
    fn without_other_references_it_is_freed_at_once() -> Result {
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, 0..MANY)?;
        let mut pages = KVec::new();
        for index in 0..MANY {
            pages.push(found(&tree, index).page().ok_or(ENOENT)?, GFP_KERNEL)?;
        }
        // Some scanned, some not.
        check_eq!(referenced(&inode, 0..MANY)?.len(), 0);
        for index in (0..MANY).step_by(3) {
            map(&inode, &tree, index)?;
        }
        remove(&mut tree, 0, MANY)?;
        check!(pages.iter().all(|page| !inode.is_carried_by(*page)));
        let free = pages.iter().filter(|page| page_count(**page) == 0).count();
        check!(free > pages.len() / 2, "{free} pages of {}", pages.len());
        Ok(())
    }

    #[test]
    fn eviction_ends_every_association() -> Result {
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, 0..3 * MANY)?;
        let mut held = KVec::new();
        for index in 0..MANY {
            held.push(block_at(&tree, index)?, GFP_KERNEL)?;
        }
        // A third dropped and waiting, a third of no association, a third mapped writable again.
        remove(&mut tree, 0, MANY)?;
        check_eq!(referenced(&inode, 0..u64::MAX)?.len(), 0);
        for index in 2 * MANY..3 * MANY {
            map(&inode, &tree, index)?;
        }
        inode.disassociate_all();
        for block in &held {
            check!(!block.is_mapped_writable());
            // The store's reference is the pool's now.
            check_eq!(page_count(block.as_ptr()), 2);
        }
        check_eq!(tree.pool().used(), 3 * MANY);
        for block in &held {
            check_eq!(page_count(block.as_ptr()), 2);
        }
        drop(held);
        check_eq!(tree.pool().used(), 2 * MANY);
        for index in MANY..3 * MANY {
            let block = block_at(&tree, index)?;
            check!(!block.is_mapped_writable(), "index {index}");
            check_eq!(page_count(block.as_ptr()), 2, "index {index}");
        }
        check_eq!(tree.blocks(), 2 * MANY);
        Ok(())
    }

    #[test]
    fn what_others_refer_to_is_busy() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, 0..MANY)?;
        let held = [
            block_at(&tree, 0)?,
            block_at(&tree, 77)?,
            block_at(&tree, MANY - 1)?,
        ];
        check_eq!(referenced(&inode, 0..MANY)?[..], [0, 77, MANY - 1]);
        // As long as they are referred to.
        check_eq!(referenced(&inode, 0..MANY)?[..], [0, 77, MANY - 1]);
        check_eq!(referenced(&inode, 1..MANY)?[..], [77, MANY - 1]);
        check_eq!(referenced(&inode, 0..77)?[..], [0]);
        check_eq!(referenced(&inode, 77..78)?[..], [77]);
        check_eq!(referenced(&inode, 78..MANY - 1)?.len(), 0);
        drop(held);
        check_eq!(referenced(&inode, 0..MANY)?.len(), 0);
        Ok(())
    }

    #[test]
    fn a_count_that_overflowed_is_busy() -> Result {
        for count in [i32::MAX, i32::MIN, i32::MIN + 1, -128] {
            let inode = Inode::new()?;
            let tree = mapped_tree(&inode, 0..3)?;
            let block = block_at(&tree, 1)?;
            let found = with_page_count(&block, count, || referenced(&inode, 0..3))?;
            check_eq!(found[..], [1], "{count} references");
            drop(block);
            check_eq!(referenced(&inode, 0..3)?.len(), 0);
        }
        Ok(())
    }

    #[test]
    fn a_dropped_block_whose_count_overflowed_waits() -> Result {
        for count in [i32::MAX, i32::MIN, i32::MIN + 1, -128] {
            let inode = Inode::new()?;
            let mut tree = mapped_tree(&inode, [0])?;
            insert_block(&mut tree, 1000)?;
            let block = block_at(&tree, 0)?;
            with_page_count(&block, count, || {
                remove(&mut tree, 0, 1)?;
                // Reaps.
                map(&inode, &tree, 1000)
            })?;
            check!(inode.is_carried_by(block.as_ptr()), "{count} references");
            check_eq!(page_count(block.as_ptr()), 2);
        }
        Ok(())
    }

    #[test]
    fn many_are_busy() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, 0..MANY)?;
        let mut held = KVec::new();
        for index in 0..MANY {
            held.push(block_at(&tree, index)?, GFP_KERNEL)?;
        }
        for _ in 0..2 {
            check!((0..MANY).eq(referenced(&inode, 0..u64::MAX)?.iter().copied()));
        }
        drop(held);
        check_eq!(referenced(&inode, 0..u64::MAX)?.len(), 0);
        Ok(())
    }

    #[test]
    fn what_was_scanned_is_not_looked_at_again() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, 0..MANY)?;
        check_eq!(referenced(&inode, 0..MANY)?.len(), 0);
        // A reference since then cannot write: nothing was mapped writable.
        let held = [block_at(&tree, 5)?, block_at(&tree, 6)?];
        check_eq!(referenced(&inode, 0..MANY)?.len(), 0);
        map(&inode, &tree, 6)?;
        check_eq!(referenced(&inode, 0..MANY)?[..], [6]);
        drop(held);
        Ok(())
    }

    #[test]
    fn an_error_ends_it_but_forgets_nothing() -> Result {
        let inode = Inode::new()?;
        let tree = mapped_tree(&inode, 0..MANY)?;
        let held = [
            block_at(&tree, 1)?,
            block_at(&tree, 100)?,
            block_at(&tree, 199)?,
        ];
        let mut calls = 0;
        let result = inode.for_each_referenced(0..MANY, |_| {
            calls += 1;
            Err(ENOMEM)
        });
        check_eq!((result, calls), (Err(ENOMEM), 1));
        check_eq!(referenced(&inode, 0..MANY)?[..], [1, 100, 199]);
        drop(held);
        Ok(())
    }

    #[test]
    fn the_last_owner_is_another_file() -> Result {
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, [2, 3])?;
        let other = tree.snapshot();
        let [two, three] = [block_at(&tree, 2)?, block_at(&tree, 3)?];
        let two_page = two.as_ptr();
        drop((tree, two));
        check!(inode.is_carried_by(two_page));
        drop(other);
        check!(!inode.is_carried_by(two_page));
        check!(inode.is_carried_by(three.as_ptr()));
        check_eq!(page_count(three.as_ptr()), 2);
        Ok(())
    }

    #[test]
    fn the_file_has_it_back() -> Result {
        // As a clone does with a block that is in use: it duplicates that, and keeps this one.
        let inode = Inode::new()?;
        let mut tree = mapped_tree(&inode, [9])?;
        drop(tree.snapshot());
        check!(was_shared(&tree, 9));
        check_eq!(referenced(&inode, 0..10)?.len(), 0);
        tree.restore_owned(9);
        map(&inode, &tree, 9)?;
        let held = block_at(&tree, 9)?;
        check_eq!(referenced(&inode, 0..10)?[..], [9]);
        drop(held);
        Ok(())
    }

    #[test]
    fn two_inodes_have_nothing_in_common() -> Result {
        let (first, second) = (Inode::new()?, Inode::new()?);
        let tree = mapped_tree(&first, 0..MANY)?;
        let other = mapped_tree(&second, 0..MANY)?;
        let held = [block_at(&tree, 10)?, block_at(&other, 20)?];
        check_eq!(referenced(&first, 0..MANY)?[..], [10]);
        first.disassociate_all();
        check!(!held[0].is_mapped_writable());
        for index in 0..MANY {
            check!(
                second.is_carried_by(block_at(&other, index)?.as_ptr()),
                "index {index}"
            );
        }
        check_eq!(referenced(&second, 0..MANY)?[..], [20]);
        drop(held);
        Ok(())
    }
}
