// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_full`: a full block is duplicated, and nothing outlives the trees.

use crate::{
    store::{
        block::Pool,
        Prealloc,
        Tree, //
    },
    support::{
        bytes::check_bytes,
        full::{
            many,
            one,
            FULL, //
        },
        trees::{
            block_at,
            found,
            insert_unwritten,
            is_owned,
            pool,
            remove,
            share_range,
            tree_of,
            was_shared,
            FANOUT, //
        },
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// Checks that the block at `index` is the one of [`one`], or a copy.
fn check_block(tree: &Tree, index: u64) -> Result {
    check_bytes(&block_at(tree, index)?, 99, [0, 1, 2, 3, 0])
        .inspect_err(|_| pr_err!("  index {index}\n"))
}

#[kunit_tests(reflinkfs_full)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_is_duplicated() -> Result {
        let pool = pool()?;
        let one = one(&pool)?;
        // One slot is that of the source.
        let mut tree = many(&one, FULL - 1)?;
        check_eq!((pool.used(), tree.take_duplicated()), (1, 0));
        for (i, index) in (FULL..FULL + 5).enumerate() {
            share_range(&mut tree, index, &one, 0, 1)?;
            check_eq!((pool.used(), tree.take_duplicated()), (2 + i as u64, 1));
            check_block(&tree, index)?;
            check!(was_shared(&tree, index));
        }
        // Room for one more, which is shared.
        remove(&mut tree, 7, 8)?;
        share_range(&mut tree, 7, &one, 0, 1)?;
        check_eq!((pool.used(), tree.take_duplicated()), (6, 0));
        check_eq!(found(&tree, 7).page(), found(&one, 0).page());
        drop(tree);
        check_eq!(pool.used(), 1);
        check!(is_owned(&one, 0));
        drop(one);
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        Ok(())
    }

    #[test]
    fn what_is_unwritten_stays_so_in_a_copy() -> Result {
        let pool = pool()?;
        let mut one = Tree::new(pool.clone());
        insert_unwritten(&mut one, 0)?;
        let tree = many(&one, FULL + 3)?;
        check_eq!((pool.used(), tree.next_written(0)), (5, None));
        Ok(())
    }

    /// The block is in the root itself, which is shared without a node.
    #[test]
    fn a_file_of_one_full_block_is_cloned() -> Result {
        let pool = pool()?;
        let mut one = one(&pool)?;
        let tree = many(&one, FULL - 1)?;
        let mut prealloc = Prealloc::new();
        check_eq!(
            one.make_shareable(&mut prealloc),
            Err(ENOMEM),
            "it takes a node"
        );
        prealloc.fill(&pool)?;
        one.make_shareable(&mut prealloc)?;
        let mut clones = KVec::new();
        for _ in 0..10 {
            one.make_shareable(&mut Prealloc::new())?;
            clones.push(one.snapshot(), GFP_KERNEL)?;
        }
        check_eq!(pool.used(), 1);
        for clone in &clones {
            check_eq!(found(clone, 0).page(), found(&tree, 0).page());
        }
        drop((clones, tree, one, prealloc));
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        Ok(())
    }

    #[test]
    fn a_leaf_of_full_blocks_is_duplicated() -> Result {
        let pool = pool()?;
        let one = one(&pool)?;
        let mut tree = many(&one, FULL - 1)?;
        let clone = tree.snapshot();
        let nodes = pool.nodes();
        // Under a lock: only with what was allocated before.
        let mut prealloc = Prealloc::new();
        check!(!tree.can_insert(5, &mut prealloc));
        prealloc.fill(&pool)?;
        check_eq!(pool.used(), 2, "one copy for all slots of the leaf");
        check!(tree.can_insert(5, &mut prealloc));
        tree.insert(5, pool.alloc()?, &mut prealloc)?;
        check_eq!((pool.used(), tree.take_duplicated()), (3, 1));
        for index in (0..FANOUT).filter(|index| *index != 5) {
            check_block(&tree, index)?;
            check_block(&clone, index)?;
            check!(found(&tree, index).page() != found(&clone, index).page());
        }
        check_eq!(tree.blocks(), clone.blocks());
        check_eq!(pool.nodes(), nodes + 3);

        // In runs, over several leaves.
        let mut contig = pool.alloc_batch(256).take_contig()?;
        let len = contig.len() as u64;
        let before = pool.used();
        let mut duplicated = 0;
        let end = 64 * 32 + len;
        while !contig.is_empty() {
            tree.insert_run(end - contig.len() as u64, &mut contig, &mut prealloc)?;
            duplicated += tree.take_duplicated();
            prealloc.fill(&pool)?;
        }
        drop(prealloc);
        check!(duplicated >= 1);
        check_eq!(tree.blocks(), clone.blocks());
        check!(pool.used() <= before + len.div_ceil(FANOUT));
        for index in (FANOUT..64 * 32 + len + FANOUT).filter(|i| !(64 * 32..end).contains(i)) {
            check_block(&tree, index)?;
        }
        drop((one, tree, clone));
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        Ok(())
    }

    /// The original was mapped writable, not the copy.
    #[test]
    fn a_copy_is_not_written_in_place() -> Result {
        let pool = pool()?;
        let tree = tree_of(&pool, 0..3)?;
        // Without a clone, so that the owned bits stay.
        let mut others = Tree::new(pool.clone());
        for index in 0..FULL - 1 {
            share_range(&mut others, index, &tree, 1, 1)?;
        }
        let mut edited = tree.edit();
        edited.insert(2, pool.alloc()?, &mut Prealloc::on_demand())?;
        check_eq!(edited.take_duplicated(), 1);
        drop(tree);
        check!(is_owned(&edited, 0));
        check!(was_shared(&edited, 1));
        check!(is_owned(&edited, 2));
        Ok(())
    }

    /// All or nothing is shared if there is no room for the duplicates.
    #[test]
    fn without_room_nothing_changes() -> Result {
        let pool = Pool::new(Some(1024))?;
        let one = one(&pool)?;
        let mut tree = many(&one, FULL - 1)?;
        let clone = tree.snapshot();
        let mut rest = KVec::new();
        while let Ok(block) = pool.alloc() {
            rest.push(block, GFP_KERNEL)?;
        }
        let mut prealloc = Prealloc::new();
        check!(!tree.can_insert(5, &mut prealloc));
        check_eq!(prealloc.fill(&pool), Err(ENOSPC));
        check!(!tree.can_insert(5, &mut prealloc));
        let mut other = Tree::new(pool.clone());
        check_eq!(share_range(&mut other, 3, &one, 0, 1), Err(ENOSPC));
        let mut edit = tree.edit();
        check_eq!(remove(&mut edit, 1, 2), Err(ENOSPC));
        drop((edit, other, prealloc));
        check_eq!((tree.blocks(), clone.blocks()), (FULL - 1, FULL - 1));
        check_eq!(pool.used(), 1 + rest.len() as u64);
        for index in 0..FULL - 1 {
            check_eq!(found(&tree, index), found(&clone, index));
        }
        drop((one, tree, clone, rest));
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        Ok(())
    }
}
