// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_pool`: the limit, the counts, and the numbers of blocks.

use crate::{
    store::{
        block::{
            BlockCount,
            Leaf,
            Pool, //
        },
        Prealloc,
        Tree, //
    },
    support::inode::page_count,
    support::trees::{
        block_at,
        insert_block,
        pool,
        remove,
        share_range,
        tree_of,
        CORNERS,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// By how many blocks, all of them written.
fn delta(by: BlockCount) -> i64 {
    core::debug_assert_eq!(by.blocks, by.written);
    by.blocks as i64
}

fn number_at(tree: &Tree, index: u64) -> Option<u64> {
    tree.extent(index, 1)
        .filter(|extent| extent.index == index)
        .map(|extent| extent.number)
}

#[kunit_tests(reflinkfs_pool)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() -> Result {
        let pool = Pool::new(Some(3))?;
        check_eq!((pool.limit(), pool.used()), (Some(3), 0));
        let blocks = [pool.alloc()?, pool.alloc()?, pool.alloc()?];
        check_eq!(pool.used(), 3);
        for _ in 0..2 {
            check_eq!(pool.alloc().err(), Some(ENOSPC));
            check_eq!(pool.used(), 3);
        }
        drop(blocks);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn a_block_given_back_can_be_had_again() -> Result {
        let pool = Pool::new(Some(2))?;
        let first = pool.alloc()?;
        let second = pool.alloc()?;
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        drop(first);
        check_eq!(pool.used(), 1);
        let third = pool.alloc()?;
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        drop((second, third));
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn a_pool_of_nothing() -> Result {
        let pool = Pool::new(Some(0))?;
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        let over = pool.alloc_overcommit()?;
        check_eq!(pool.used(), 1);
        drop(over);
        check_eq!((pool.used(), pool.limit()), (0, Some(0)));
        Ok(())
    }

    #[test]
    fn over_the_limit() -> Result {
        let pool = Pool::new(Some(1))?;
        let first = pool.alloc()?;
        let second = pool.alloc_overcommit()?;
        let third = pool.alloc_overcommit()?;
        check_eq!(pool.used(), 3);
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        drop((first, second));
        // Still at the limit.
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        drop(third);
        drop(pool.alloc()?);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn changing_the_limit() -> Result {
        let pool = Pool::new(None)?;
        check_eq!(pool.limit(), None);
        let blocks = [pool.alloc()?, pool.alloc()?];
        check_eq!(pool.set_limit(Some(1)), Err(EINVAL));
        check_eq!(pool.limit(), None);
        pool.set_limit(Some(2))?;
        check_eq!(pool.limit(), Some(2));
        check_eq!(pool.alloc().err(), Some(ENOSPC));
        check_eq!(pool.set_limit(Some(0)), Err(EINVAL));
        check_eq!(pool.limit(), Some(2));
        pool.set_limit(Some(3))?;
        drop(pool.alloc()?);
        pool.set_limit(None)?;
        check_eq!(pool.limit(), None);
        drop((blocks, pool.alloc()?));
        pool.set_limit(Some(0))
    }

    #[test]
    fn a_leaf_has_the_numbers_of_a_group() -> Result {
        let pool = pool()?;
        let tree = tree_of(&pool, CORNERS.into_iter().rev())?;
        let (mut leaf, mut group) = (None, 0);
        for index in CORNERS.into_iter().rev() {
            if leaf != Some(index / 64) {
                (leaf, group) = (Some(index / 64), group + 64);
            }
            check_eq!(
                number_at(&tree, index),
                Some(group + index % 64),
                "index {index}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_number_stays_and_is_not_given_out_again() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [5, 6, 7])?;
        let mut other = Tree::new(pool.clone());
        share_range(&mut other, LAST, &tree, 6, 1)?;
        let copy = tree.snapshot();
        remove(&mut tree, 0, 7)?;
        insert_block(&mut tree, 6)?;
        check_eq!(number_at(&tree, 6), Some(134));
        check_eq!(number_at(&tree, 7), Some(71));
        check_eq!(number_at(&copy, 5), Some(69));
        check_eq!(number_at(&copy, 6), Some(70));
        drop((tree, copy));
        check_eq!(number_at(&other, LAST), Some(70));
        drop(pool.alloc()?);
        insert_block(&mut other, 0)?;
        check_eq!(number_at(&other, 0), Some(192));
        Ok(())
    }

    #[test]
    fn a_block_counts_once_however_many_hold_it() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, 0..100)?;
        check_eq!(pool.used(), 100);
        let copy = tree.snapshot();
        share_range(&mut tree, 1000, &copy, 3, 90)?;
        share_range(&mut tree, 2048, &copy, 0, 100)?;
        check_eq!((tree.blocks(), pool.used()), (290, 100));
        remove(&mut tree, 0, 1000)?;
        check_eq!(pool.used(), 100);
        drop(copy);
        check_eq!(pool.used(), 100);
        remove(&mut tree, 2048, 3000)?;
        // Blocks 3 to 92 are left.
        check_eq!(pool.used(), 90);
        remove(&mut tree, 1010, 1020)?;
        check_eq!(pool.used(), 80);
        drop(tree);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn a_reference_keeps_a_block_counted() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0, 9])?;
        let (zero, nine) = (block_at(&tree, 0)?, block_at(&tree, 9)?);
        remove(&mut tree, 9, 10)?;
        check_eq!((pool.used(), pool.orphan_count()), (2, 1));
        drop(tree);
        check_eq!((pool.used(), pool.orphan_count()), (2, 2));
        // The bytes are still there.
        zero.copy_from(0, &nine, 0, 4096)?;
        check!(zero.bytes_equal(&nine, 4096)?);
        drop(nine);
        check_eq!(pool.used(), 1);
        drop(zero);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn an_insertion_that_fails_gives_its_block_back() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0])?;
        let mut none = Prealloc::new();
        for index in &CORNERS[1..] {
            check_eq!(tree.insert(*index, pool.alloc()?, &mut none), Err(ENOMEM));
            check_eq!((tree.blocks(), pool.used()), (1, 1));
        }
        Ok(())
    }

    #[test]
    fn nodes_are_counted_while_they_live() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0])?;
        // The root keeps it.
        check_eq!(pool.nodes(), 0);
        insert_block(&mut tree, 1)?;
        check_eq!(pool.nodes(), 1);
        insert_block(&mut tree, LAST)?;
        check_eq!(pool.nodes(), 1 + 8 + 8);
        let copy = tree.snapshot();
        check_eq!(pool.nodes(), 17);
        insert_block(&mut tree, LAST)?;
        check_eq!(pool.nodes(), 17 + 9);
        drop(copy);
        check_eq!(pool.nodes(), 17);
        remove(&mut tree, 0, 2)?;
        check_eq!(pool.nodes(), 9);
        remove(&mut tree, 0, u64::MAX)?;
        check_eq!(pool.nodes(), 0);
        Ok(())
    }

    #[test]
    fn nodes_take_the_room_of_blocks() -> Result {
        for limit in [1, 100, 300] {
            let pool = Pool::new(Some(limit))?;
            let leaf = tree_of(&pool, [1])?;
            // What is free, and the room of all blocks but that one.
            let free = limit * (4096 / 256) + (64 << 10);
            let most = (free + (limit - 1) * 4096) / Pool::NODE_BYTES;
            let mut many = Tree::new(pool.clone());
            let mut prealloc = Prealloc::on_demand();
            // A node for each.
            let mut share = |i: u64, prealloc: &mut Prealloc| {
                many.share_range(i * 64 + 2, &leaf, 1, 1, prealloc, || Ok(()))
            };
            let mut made = 0;
            while made <= most {
                match share(made, &mut prealloc) {
                    Ok(()) => made += 1,
                    Err(err) if err == ENOSPC => break,
                    Err(err) => return Err(err),
                }
            }
            // The one that is refused counts while it is asked for.
            check!(
                (most - 1..=most).contains(&pool.nodes()),
                "{} nodes of {most}",
                pool.nodes()
            );
            check_eq!(pool.charged(), limit);
            check_eq!(pool.alloc().err(), Some(ENOSPC));
            check_eq!(share(made, &mut prealloc), Err(ENOSPC));
            let mut over = Prealloc::no_reclaim();
            check_eq!(share(made, &mut over), Err(ENOSPC));
            over.set_overcommit(true);
            share(made, &mut over)?;
            check!(pool.nodes() >= most);

            let mut prealloc = Prealloc::new();
            check!(!Tree::new(pool.clone()).can_insert(1, &mut prealloc));
            check_eq!(prealloc.fill(&pool), Err(ENOSPC));
            // In place it goes on.
            share(0, &mut Prealloc::on_demand())?;
            check_eq!((pool.used(), many.blocks()), (1, made + 1));
            // A lower limit than what is charged is refused.
            check_eq!(pool.set_limit(Some(limit)), Err(EINVAL));
            pool.set_limit(Some(2 * limit + 1))?;
            drop(many);
            check_eq!((pool.charged(), pool.nodes()), (1, 1));
            prealloc.fill(&pool)?;
        }
        Ok(())
    }

    #[test]
    fn over_the_limit_there_is_a_limit() -> Result {
        let pool = Pool::new(Some(10))?;
        let mut blocks = KVec::new();
        while let Ok(block) = pool.alloc() {
            blocks.push(block, GFP_KERNEL)?;
        }
        check_eq!(blocks.len(), 10);
        while let Ok(block) = pool.alloc_overcommit() {
            blocks.push(block, GFP_KERNEL)?;
            check!(blocks.len() <= 10 + 256);
        }
        check_eq!(blocks.len(), 10 + 256);
        drop(blocks);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn blocks_wait_for_others() -> Result {
        for count in [1, 3, 100, 3000] {
            let pool = Pool::new(Some(count))?;
            let mut tree = tree_of(&pool, 0..count)?;
            let mut held = KVec::new();
            for index in 0..count {
                held.push(block_at(&tree, index)?, GFP_KERNEL)?;
            }
            remove(&mut tree, 0, u64::MAX)?;
            check_eq!(pool.orphan_count(), count);
            check_eq!(pool.alloc().err(), Some(ENOSPC));
            // One, then all.
            drop(held.pop());
            if count < 1000 {
                check_eq!(pool.used(), count - 1);
                drop(pool.alloc()?);
            }
            drop(held);
            while pool.used() > 0 {}
            check_eq!(pool.orphan_count(), 0);
        }
        Ok(())
    }

    /// The work item frees orphans, also those that were still referred to at its first run.
    #[test]
    fn what_others_let_go_of_is_free_soon() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0])?;
        let block = block_at(&tree, 0)?;
        remove(&mut tree, 0, u64::MAX)?;
        fsleep(Delta::from_millis(1500));
        check_eq!(pool.orphan_count(), 1);
        drop(block);
        for _ in 0..600 {
            if pool.orphan_count() == 0 {
                break;
            }
            fsleep(Delta::from_millis(100));
        }
        check_eq!(pool.orphan_count(), 0);
        Ok(())
    }

    #[test]
    fn what_is_kept_is_given_back_at_the_end() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, 0..200)?;
        let block = block_at(&tree, 100)?;
        remove(&mut tree, 0, u64::MAX)?;
        check_eq!(pool.used(), 1);
        pool.close();
        check_eq!((pool.used(), pool.orphan_count()), (0, 0));
        drop((block, tree, pool));
        // And without a call, by the work item.
        let pool = self::pool()?;
        let mut tree = tree_of(&pool, [0])?;
        let block = block_at(&tree, 0)?;
        remove(&mut tree, 0, u64::MAX)?;
        drop((tree, pool));
        check_eq!(page_count(block.as_ptr()), 1);
        Ok(())
    }

    #[test]
    fn without_a_limit_nodes_have_none() -> Result {
        let pool = pool()?;
        let leaf = tree_of(&pool, [1])?;
        let mut many = Tree::new(pool.clone());
        for i in 0..1100 {
            share_range(&mut many, i * 64 + 2, &leaf, 1, 1)?;
        }
        check!(pool.nodes() > 1100);
        check_eq!(pool.charged(), pool.used());
        Ok(())
    }

    #[test]
    fn slots() -> Result {
        let pool = Pool::new(None)?;
        let mut slots = Leaf::<3>::new(pool.clone());
        check_eq!(delta(slots.insert(1, pool.alloc()?, 7)), 1);
        check_eq!(delta(slots.insert(1, pool.alloc()?, 7)), 0);
        check_eq!(pool.used(), 1);
        let holds = |slots: &Leaf<3>| [0, 1, 2, 3].map(|i| (slots.is_some(i), slots.number(i)));
        let wanted = [
            (false, None),
            (true, Some(129)),
            (false, None),
            (false, None),
        ];
        check_eq!(holds(&slots), wanted);
        check_eq!(
            [0, 1, 2, 3].map(|i| slots.is_sole_holder(i)),
            [false, true, false, false]
        );

        let mut other = slots.clone();
        check_eq!(holds(&other), wanted);
        check!(!slots.is_sole_holder(1) && !other.is_sole_holder(1));
        let mut none = Prealloc::new();
        check_eq!(delta(other.share_slot(0, &slots, 1, &mut none)?), 1);
        check_eq!(delta(other.share_slot(1, &slots, 2, &mut none)?), -1);
        check_eq!(delta(other.share_slot(2, &slots, 2, &mut none)?), 0);
        check!(other.same_block(0, &slots, 1) && other.same_block(1, &slots, 0));
        check!(!other.same_block(0, &slots, 0) && !other.same_block(1, &slots, 1));
        check_eq!(delta(slots.remove(1)), -1);
        check_eq!(delta(slots.remove(1)), 0);
        check!(other.is_sole_holder(0));

        // There is no such slot: nothing is kept.
        check_eq!(delta(slots.insert(3, pool.alloc()?, 7)), 0);
        check_eq!(delta(slots.share_slot(3, &other, 0, &mut none)?), 0);
        check!(other.is_sole_holder(0));
        check_eq!(pool.used(), 1);
        drop((slots, other));
        check_eq!(pool.used(), 0);
        Ok(())
    }
}
