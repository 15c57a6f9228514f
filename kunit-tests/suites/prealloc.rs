// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_prealloc`: a change takes the nodes that it asks for, and no more.

use crate::{
    store::{
        Prealloc,
        Tree, //
    },
    support::nodes::{
        count,
        prealloc_of,
        MOST, //
    },
    support::trees::{
        blocks,
        check_holds,
        first_of,
        found,
        insert_block,
        pool,
        remove,
        span,
        tree_of,
        Found,
        CORNERS,
        LAST,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// Heights of trees.
const HEIGHTS: [u32; 5] = [1, 2, 3, 6, MAX_HEIGHT];

/// Checks for an index at each height that the number of nodes that [`Tree::can_insert`] asks for
/// is the number that the insertion takes, and that with fewer it fails and does no harm.
///
/// `make` makes the tree, and something that shares nodes with it for as long as it is kept.
fn check_exact<T>(make: impl Fn() -> Result<(Tree, T)>) -> Result {
    for index in [
        0,
        1,
        63,
        64,
        4096,
        span(3),
        span(4),
        span(5),
        span(6),
        span(7),
        LAST,
    ] {
        check_exact_at(&make, index).inspect_err(|_| pr_err!("inserting at {index}\n"))?;
    }
    Ok(())
}

/// [`check_exact`] for trees of several heights.
fn check_exact_heights<T>(make: impl Fn(u32) -> Result<(Tree, T)>) -> Result {
    for height in HEIGHTS {
        check_exact(|| make(height)).inspect_err(|_| pr_err!("height {height}\n"))?;
    }
    Ok(())
}

fn check_exact_at<T>(make: impl Fn() -> Result<(Tree, T)>, index: u64) -> Result {
    let (tree, _sharer) = make()?;
    let pool = tree.pool().clone();
    let mut prealloc = Prealloc::new();
    if !tree.can_insert(index, &mut prealloc) {
        prealloc.fill(&pool)?;
    }
    let needed = count(&pool, prealloc);
    check!(needed <= MOST, "{needed} nodes");
    if needed > 0 {
        check_fails(make()?, index, needed - 1)?;
    }
    for spare in [0, 1].into_iter().filter(|spare| needed + spare <= MOST) {
        let (mut tree, _sharer) = make()?;
        let mut prealloc = prealloc_of(&pool, needed + spare)?;
        check!(tree.can_insert(index, &mut prealloc));
        tree.insert(index, pool.alloc()?, &mut prealloc)
            .inspect_err(|_| pr_err!("{needed} nodes were to do\n"))?;
        check_eq!(count(&pool, prealloc), spare, "{needed} nodes were to do");
    }
    Ok(())
}

/// Checks that an insertion fails with `n` nodes, and what the tree is like after that.
fn check_fails<T>((mut tree, _sharer): (Tree, T), index: u64, n: usize) -> Result {
    let pool = tree.pool().clone();
    let before = blocks(&tree)?;
    let used = pool.used();
    let mut prealloc = prealloc_of(&pool, n)?;
    check!(!tree.can_insert(index, &mut prealloc), "{n} nodes");
    check_eq!(
        tree.insert(index, pool.alloc()?, &mut prealloc),
        Err(ENOMEM),
        "{n} nodes"
    );
    check_holds(&tree, &before)?;
    check_eq!(pool.used(), used);
    // Nodes that it left behind do not disturb the next attempt.
    let page = insert_block(&mut tree, index)?;
    check_eq!(found(&tree, index), Found::Owned(page));
    Ok(())
}

#[kunit_tests(reflinkfs_prealloc)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_has_what_was_wanted() -> Result {
        let pool = pool()?;
        for n in 0..=MOST {
            check_eq!(count(&pool, prealloc_of(&pool, n)?), n);
        }
        for height in 1..=MAX_HEIGHT {
            let tree = Tree::new(pool.clone());
            let mut prealloc = Prealloc::new();
            check!(!tree.can_insert(first_of(height), &mut prealloc));
            // Filling again adds nothing.
            prealloc.fill(&pool)?;
            prealloc.fill(&pool)?;
            check!(tree.can_insert(first_of(height), &mut prealloc));
            check_eq!(count(&pool, prealloc), height as usize);
        }
        check_eq!(pool.nodes(), 0);
        Ok(())
    }

    #[test]
    fn on_demand_is_always_enough() -> Result {
        let pool = pool()?;
        let mut prealloc = Prealloc::on_demand();
        let mut tree = Tree::new(pool.clone());
        for index in CORNERS.into_iter().rev() {
            check!(tree.can_insert(index, &mut prealloc));
            tree.insert(index, pool.alloc()?, &mut prealloc)?;
        }
        check_eq!(tree.blocks(), CORNERS.len() as u64);
        Ok(())
    }

    #[test]
    fn an_empty_tree() -> Result {
        let pool = pool()?;
        check_exact(|| Ok((Tree::new(pool.clone()), ())))
    }

    #[test]
    fn block_zero_alone() -> Result {
        let pool = pool()?;
        check_exact(|| Ok((tree_of(&pool, [0])?, ())))?;
        check_exact(|| {
            let mut tree = tree_of(&pool, [0])?;
            let copy = tree.snapshot();
            Ok((tree, copy))
        })
    }

    #[test]
    fn a_tree_of_each_height() -> Result {
        let pool = pool()?;
        check_exact_heights(|height| Ok((tree_of(&pool, [first_of(height)])?, ())))
    }

    #[test]
    fn a_shared_tree_of_each_height() -> Result {
        let pool = pool()?;
        check_exact_heights(|height| {
            let mut tree = tree_of(&pool, [0, first_of(height)])?;
            let copy = tree.snapshot();
            Ok((tree, copy))
        })
    }

    #[test]
    fn a_tree_shared_from_each_height_down() -> Result {
        let pool = pool()?;
        check_exact_heights(|height| {
            let tree = tree_of(&pool, [0, first_of(height), LAST])?;
            let mut copy = Tree::new(pool.clone());
            crate::support::trees::share_range(&mut copy, 0, &tree, 0, span(height).min(LAST))?;
            Ok((tree, copy))
        })
    }

    #[test]
    fn an_emptied_tree_of_each_height() -> Result {
        let pool = pool()?;
        check_exact_heights(|height| {
            let mut tree = tree_of(&pool, [0, first_of(height)])?;
            remove(&mut tree, 0, u64::MAX)?;
            Ok((tree, ()))
        })
    }

    #[test]
    fn a_tree_with_nothing_at_the_left() -> Result {
        let pool = pool()?;
        check_exact(|| {
            let mut tree = tree_of(&pool, [0, 64, span(5), LAST])?;
            remove(&mut tree, 0, LAST)?;
            Ok((tree, ()))
        })
    }
}
