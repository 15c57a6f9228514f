// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_alloc`: new blocks, several at once.

use crate::{
    store::{
        block::{
            Leaf,
            NodeCharge,
            Pool, //
        },
        Prealloc,
        Tree, //
    },
    support::trees::{
        found,
        insert_run,
        is_owned,
        is_shared,
        pool,
        tree_of,
        was_shared,
        Found, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::Arc, //
};

/// Charges nodes until there is room for one more only.
fn leave_one_node(pool: &Arc<Pool>) -> Result<KVec<NodeCharge>> {
    let mut taken = KVec::new();
    while let Ok(node) = NodeCharge::new(pool.clone(), 0) {
        taken.push(node, GFP_KERNEL)?;
    }
    drop(taken.pop());
    Ok(taken)
}

#[kunit_tests(reflinkfs_alloc)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_may_be() -> Result {
        let pool = Pool::new(Some(5))?;
        let mut run = pool.alloc_batch(9);
        check_eq!(pool.used(), 5);
        let mut blocks = KVec::new();
        for _ in 0..5 {
            blocks.push(run.take()?, GFP_KERNEL)?;
        }
        check_eq!(run.take().err(), Some(ENOSPC));
        check_eq!(pool.used(), 5);
        drop(blocks);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn what_is_not_taken_is_given_back() -> Result {
        for taken in 0..20 {
            let pool = Pool::new(Some(40))?;
            let mut run = pool.alloc_batch(33);
            let mut blocks = KVec::new();
            for _ in 0..taken {
                blocks.push(run.take()?, GFP_KERNEL)?;
            }
            check_eq!(pool.used(), 33);
            drop(run);
            check_eq!(pool.used(), taken);
            drop(blocks);
            check_eq!(pool.used(), 0);
        }
        Ok(())
    }

    #[test]
    fn none_is_none() -> Result {
        let pool = Pool::new(None)?;
        check_eq!(pool.alloc_batch(0).take().err(), Some(ENOSPC));
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn two_runs_do_not_interleave() -> Result {
        let pool = pool()?;
        let (mut a, mut b) = (Tree::new(pool.clone()), Tree::new(pool.clone()));
        let mut prealloc = Prealloc::on_demand();
        let (mut run, mut other) = (pool.alloc_batch(40), pool.alloc_batch(40));
        for index in 0..40 {
            a.insert(index, run.take()?, &mut prealloc)?;
            b.insert(index, other.take()?, &mut prealloc)?;
        }
        for tree in [&a, &b] {
            let extent = tree.extent(0, 40).ok_or(EINVAL)?;
            check_eq!((extent.len, extent.shared), (40, false));
        }
        Ok(())
    }

    #[test]
    fn pages_of_one_allocation_are_pages_of_their_own() -> Result {
        let pool = pool()?;
        let mut run = pool.alloc_batch(16);
        let mut slots = Leaf::<16>::new(pool.clone());
        for i in 0..16 {
            let block = run.take()?;
            block.bytes().zero(0, usize::MAX);
            slots.insert(i, block, 0);
        }
        // Each is freed on its own.
        for i in (0..16).step_by(2) {
            slots.remove(i);
        }
        check_eq!(pool.used(), 8);
        for i in (1..16).step_by(2) {
            check!(slots
                .get(i)
                .is_some_and(|block| block.is_zero(0, usize::MAX) == Ok(true)));
        }
        Ok(())
    }

    #[test]
    fn a_piece_goes_in_as_far_as_there_are_nodes() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0, 63, 129])?;
        let before = pool.used();
        let mut contig = pool.alloc_batch(64).take_contig()?;
        let n = contig.len() as u64;
        check_eq!(pool.used(), before + n);
        // There is no leaf at 64.
        let mut prealloc = Prealloc::new();
        tree.insert_run(60, &mut contig, &mut prealloc)?;
        let inserted = n.min(4);
        check_eq!(contig.len() as u64, n - inserted);
        check_eq!(tree.blocks(), 3 + inserted - u64::from(inserted == 4));
        prealloc.fill(&pool)?;
        tree.insert_run(60 + inserted, &mut contig, &mut prealloc)?;
        check!(contig.is_empty());
        for index in 60..60 + n {
            check!(is_owned(&tree, index), "{index}");
        }
        let extent = tree.extent(60, 64).ok_or(ENOENT)?;
        check_eq!((extent.index, extent.len, extent.shared), (60, n, false));
        // Below a shared node, insertion takes nodes.
        let other = tree.snapshot();
        let mut contig = pool.alloc_batch(8).take_contig()?;
        let left = contig.len();
        tree.insert_run(64, &mut contig, &mut Prealloc::new())?;
        check_eq!(contig.len(), left);
        drop(other);
        drop(contig);
        check_eq!(pool.used(), tree.blocks());
        Ok(())
    }

    #[test]
    fn a_long_piece_takes_the_nodes_of_all_its_leaves_at_once() -> Result {
        let pool = pool()?;
        let mut tree = Tree::new(pool.clone());
        let mut contig = pool.alloc_batch(256).take_contig()?;
        let n = contig.len() as u64;
        check!(n > 64, "{n} blocks contiguous, of all that memory");
        let mut prealloc = Prealloc::new();
        tree.insert_run(64, &mut contig, &mut prealloc)?;
        check_eq!(contig.len() as u64, n);
        prealloc.fill(&pool)?;
        tree.insert_run(64, &mut contig, &mut prealloc)?;
        check!(contig.is_empty());
        check_eq!(tree.blocks(), n);
        check_eq!(pool.nodes(), 1 + n.div_ceil(64));
        Ok(())
    }

    #[test]
    fn a_long_piece_takes_the_place_of_shared_blocks_in_all_its_leaves() -> Result {
        let pool = pool()?;
        // The last of the leaves is below another node than the others.
        let begin = 4096 - 100;
        let mut tree = tree_of(&pool, begin - 10..begin + 200)?;
        let other = tree.snapshot();
        let n = insert_run(&mut tree, begin, 200)?;
        check!(n > 100, "{n} blocks contiguous, of all that memory");
        check_eq!(tree.blocks(), 210);
        check_eq!(pool.used(), 210 + n);
        for index in begin - 10..begin + 200 {
            let as_it_should_be = if (begin..begin + n).contains(&index) {
                is_owned(&tree, index) && was_shared(&other, index)
            } else {
                is_shared(&tree, index)
            };
            check!(as_it_should_be, "{index}");
        }
        drop(other);
        check_eq!(pool.used(), 210);
        Ok(())
    }

    #[test]
    fn nodes_that_may_be_wanted_soon_are_no_reason_to_fail() -> Result {
        let pool = Pool::new(Some(64))?;
        let mut contig = pool.alloc_batch(32).take_contig()?;
        let _others = leave_one_node(&pool)?;
        let mut tree = Tree::new(pool.clone());
        let mut prealloc = Prealloc::new();
        let n = contig.len();
        check!(n > 4, "{n} blocks contiguous, of all that memory");
        tree.insert_run(60, &mut contig, &mut prealloc)?;
        prealloc.fill(&pool)?;
        tree.insert_run(60, &mut contig, &mut prealloc)?;
        check_eq!(contig.len(), n - 4);
        check_eq!(prealloc.fill(&pool), Err(ENOSPC));
        check_eq!(tree.blocks(), 4);
        Ok(())
    }

    #[test]
    fn what_went_in_before_there_was_no_node_is_counted() -> Result {
        let pool = Pool::new(Some(64))?;
        let mut tree = tree_of(&pool, [4000])?;
        let mut contig = pool.alloc_batch(32).take_contig()?;
        let _others = leave_one_node(&pool)?;
        let n = contig.len();
        check!(n > 4, "{n} blocks contiguous, of all that memory");
        // There is no leaf at 60, nor at 64.
        let result = tree.insert_run(60, &mut contig, &mut Prealloc::on_demand());
        check_eq!(result, Err(ENOSPC));
        check_eq!(contig.len(), n - 4);
        check_eq!(tree.blocks(), 1 + 4);
        check!(is_owned(&tree, 63));
        check!(matches!(found(&tree, 64), Found::Hole));
        drop(contig);
        check_eq!(pool.used(), 1 + 4);
        Ok(())
    }

    #[test]
    fn a_piece_goes_in_where_there_was_no_leaf() -> Result {
        // Into an empty tree; with a block in the root; lower and higher than the others; with the
        // end in a leaf of its own, below another node.
        let cases: [(&[u64], u64); 9] = [
            (&[], 0),
            (&[], 70),
            (&[0], 0),
            (&[0], 3),
            (&[5], 4096),
            (&[4096], 1),
            (&[], 60),
            (&[0], 60),
            (&[5], 4092),
        ];
        for (before, index) in cases {
            let pool = pool()?;
            let mut tree = tree_of(&pool, before.iter().copied())?;
            let inserted = insert_run(&mut tree, index, 8)?;
            for index in index..index + inserted {
                check!(is_owned(&tree, index), "{index}");
            }
            let kept = before
                .iter()
                .filter(|at| !(index..index + inserted).contains(at));
            check_eq!(
                tree.blocks(),
                inserted + kept.count() as u64,
                "{before:?} {index}"
            );
            check_eq!(pool.used(), tree.blocks());
            drop(tree);
            check_eq!((pool.used(), pool.nodes()), (0, 0));
        }
        Ok(())
    }

    #[test]
    fn a_piece_is_taken_from_both_ends() -> Result {
        let pool = pool()?;
        let mut prealloc = Prealloc::on_demand();
        let mut tree = Tree::new(pool.clone());
        let mut contig = pool.alloc_batch(8).take_contig()?;
        let len = contig.len() as u64;
        tree.insert(len - 1, contig.take_last().ok_or(ENOENT)?, &mut prealloc)?;
        for index in 0..len - 1 {
            tree.insert(index, contig.take().ok_or(ENOENT)?, &mut prealloc)?;
        }
        check!(contig.is_empty() && contig.take().is_none() && contig.take_last().is_none());
        check_eq!(tree.extent(0, 8).map(|extent| extent.len), Some(len));
        Ok(())
    }
}
