// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_share`: snapshots and shared ranges; what may be written in place.

use crate::{
    store::Tree,
    support::nodes::prealloc_of,
    support::trees::{
        found,
        insert_block,
        is_owned,
        is_shared,
        pool,
        remove,
        share_range,
        span,
        tree_of,
        was_shared,
        Found,
        Page,
        CORNERS,
        LAST,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// The pages at `len` indexes from `index` on.
fn pages(tree: &Tree, index: u64, len: u64) -> Result<KVec<Option<Page>>> {
    let mut pages = KVec::new();
    for i in index..index + len {
        pages.push(found(tree, i).page(), GFP_KERNEL)?;
    }
    Ok(pages)
}

/// Whether all blocks at the corners are what `kind` says.
fn check_corners(tree: &Tree, kind: fn(Page) -> Found) -> Result {
    for index in CORNERS {
        let page = found(tree, index).page().ok_or(ENOENT)?;
        check_eq!(found(tree, index), kind(page), "index {index}");
    }
    Ok(())
}

/// Shares `len` blocks from `from` on to `to` on, into a tree that has blocks of its own all over
/// the place, and looks at every index.
fn check_range(source: &Tree, from: u64, to: u64, len: u64) -> Result {
    let pool = source.pool();
    let mut target = tree_of(pool, to.saturating_sub(70)..to + len + 70)?;
    let before = pages(&target, 0, to + len + 200)?;
    let used = pool.used();
    share_range(&mut target, to, source, from, len)?;

    let wanted = pages(source, from, len)?;
    let mut blocks = 0;
    for (index, old) in (0..).zip(&before) {
        let now = found(&target, index);
        blocks += u64::from(now.page().is_some());
        match index.checked_sub(to).filter(|i| *i < len) {
            Some(i) => {
                check_eq!(now.page(), wanted[i as usize], "{index}: {i} of the range");
                check!(
                    matches!(now, Found::Hole | Found::Shared(_)),
                    "index {index}"
                );
            }
            None => {
                check_eq!(now.page(), *old, "{index}, outside of the range");
                check!(!matches!(now, Found::Shared(_)), "index {index}");
            }
        }
    }
    check_eq!(target.blocks(), blocks);
    // Blocks that were replaced are freed, and no new ones made.
    check_eq!(pool.used(), used - len);
    drop(target);
    for i in from..from + len {
        check!(!is_shared(source, i), "index {i}");
    }
    Ok(())
}

/// [`check_range`] for each of `ranges`: from, to, how many blocks.
fn check_ranges(source: &Tree, ranges: &[(u64, u64, u64)]) -> Result {
    for &(from, to, len) in ranges {
        check_range(source, from, to, len)
            .inspect_err(|_| pr_err!("{len} blocks from {from} to {to}\n"))?;
    }
    Ok(())
}

#[kunit_tests(reflinkfs_share)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shares_everything() -> Result {
        let mut tree = tree_of(&pool()?, CORNERS)?;
        check_corners(&tree, Found::Owned)?;
        let copy = tree.snapshot();
        check_eq!(copy.blocks(), tree.blocks());
        check_eq!(tree.pool().used(), CORNERS.len() as u64);
        for index in CORNERS {
            check_eq!(found(&copy, index), found(&tree, index));
        }
        check_corners(&tree, Found::Shared)?;
        check_corners(&copy, Found::Shared)?;
        drop(copy);
        check_corners(&tree, Found::WasShared)
    }

    #[test]
    fn a_snapshot_of_block_zero_alone() -> Result {
        let mut tree = tree_of(&pool()?, [0])?;
        let mut copy = tree.snapshot();
        let page = found(&tree, 0).page().ok_or(ENOENT)?;
        check_eq!(found(&tree, 0), Found::Shared(page));
        check_eq!(found(&copy, 0), Found::Shared(page));
        let own = insert_block(&mut copy, 0)?;
        check_eq!(found(&tree, 0), Found::WasShared(page));
        check_eq!(found(&copy, 0), Found::Owned(own));
        drop(tree);
        check_eq!(copy.pool().used(), 1);
        Ok(())
    }

    #[test]
    fn block_zero_stays_shared_when_its_file_grows() -> Result {
        for index in &CORNERS[1..] {
            let mut tree = tree_of(&pool()?, [0])?;
            let mut copy = tree.snapshot();
            let page = found(&tree, 0).page().ok_or(ENOENT)?;
            let own = insert_block(&mut copy, *index)?;
            check_eq!(found(&copy, 0), Found::Shared(page));
            check_eq!(found(&copy, *index), Found::Owned(own));
            check_eq!(found(&tree, 0), Found::Shared(page));
            drop(copy);
            check_eq!(found(&tree, 0), Found::WasShared(page));
        }
        Ok(())
    }

    #[test]
    fn whoever_is_left_owns_everything() -> Result {
        for last in 0..4 {
            let mut trees = [const { None::<Tree> }; 4];
            trees[0] = Some(tree_of(&pool()?, CORNERS)?);
            for i in 1..4 {
                trees[i] = trees[i - 1].as_mut().map(Tree::snapshot);
            }
            for (i, tree) in trees.iter_mut().enumerate() {
                if i != last {
                    check_corners(tree.as_ref().ok_or(EINVAL)?, Found::Shared)?;
                    *tree = None;
                }
            }
            let tree = trees[last].take().ok_or(EINVAL)?;
            check_corners(&tree, Found::WasShared)?;
            let pool = tree.pool().clone();
            check_eq!(pool.used(), CORNERS.len() as u64);
            drop(tree);
            check_eq!(pool.used(), 0);
        }
        Ok(())
    }

    #[test]
    fn a_write_after_a_snapshot_parts_one_block() -> Result {
        for written in CORNERS {
            let mut tree = tree_of(&pool()?, CORNERS)?;
            let copy = tree.snapshot();
            let old = found(&tree, written).page().ok_or(ENOENT)?;
            let new = insert_block(&mut tree, written)?;
            for index in CORNERS {
                if index == written {
                    check_eq!(found(&tree, index), Found::Owned(new));
                    check_eq!(found(&copy, index), Found::WasShared(old));
                } else {
                    check!(is_shared(&tree, index), "index {index}");
                    check_eq!(found(&tree, index), found(&copy, index));
                }
            }
            check_eq!(tree.pool().used(), CORNERS.len() as u64 + 1);
        }
        Ok(())
    }

    #[test]
    fn a_block_under_a_shared_node_is_shared() -> Result {
        // The slot count of each block is 1: only a shared node on the path tells that there are
        // two owners.
        for height in 1..=4 {
            let pool = pool()?;
            let source = tree_of(&pool, [0, 1, span(height) - 1])?;
            let mut target = Tree::new(pool.clone());
            share_range(&mut target, 3 * span(height), &source, 0, span(height))?;
            let page = found(&source, 1).page().ok_or(ENOENT)?;
            check_eq!(found(&source, 1), Found::Shared(page));
            check_eq!(found(&target, 3 * span(height) + 1), Found::Shared(page));
            drop(target);
            check_eq!(found(&source, 1), Found::Owned(page));
        }
        Ok(())
    }

    #[test]
    fn a_removal_parts_too() -> Result {
        let mut tree = tree_of(&pool()?, CORNERS)?;
        let mut copy = tree.snapshot();
        remove(&mut copy, 1, LAST)?;
        for index in CORNERS {
            let page = found(&tree, index).page().ok_or(ENOENT)?;
            if index == 0 || index == LAST {
                check_eq!(found(&tree, index), Found::Shared(page), "index {index}");
                check_eq!(found(&copy, index), Found::Shared(page), "index {index}");
            } else {
                check_eq!(found(&tree, index), Found::WasShared(page), "index {index}");
                check_eq!(found(&copy, index), Found::Hole, "index {index}");
            }
        }
        Ok(())
    }

    #[test]
    fn congruent_ranges() -> Result {
        let source = tree_of(&pool()?, (0..300).filter(|i| i % 37 != 5))?;
        check_ranges(
            &source,
            &[
                (0, 64, 64),
                (64, 0, 128),
                (3, 67, 10),
                (10, 10, 200),
                (1, 1, 63),
            ],
        )
    }

    #[test]
    fn incongruent_ranges() -> Result {
        let source = tree_of(&pool()?, (0..300).filter(|i| i % 37 != 5))?;
        check_ranges(
            &source,
            &[
                (0, 1, 64),
                (1, 0, 200),
                (5, 100, 1),
                (60, 3, 70),
                (63, 128, 130),
            ],
        )
    }

    #[test]
    fn holes_are_shared_too() -> Result {
        let source = tree_of(&pool()?, [0, 2, 70, 200])?;
        check_ranges(
            &source,
            &[
                (0, 0, 150),
                (0, 5, 150),
                (1, 0, 300),
                (201, 0, 20),
                (100, 77, 30),
            ],
        )
    }

    #[test]
    fn a_file_of_one_block_over_others() -> Result {
        let source = tree_of(&pool()?, [0])?;
        check_ranges(
            &source,
            &[
                (0, 0, 1),
                (0, 1, 1),
                (0, 0, 5),
                (0, 0, 70),
                (0, 3, 64),
                (0, 64, 64),
                (0, 100, 200),
                (1, 7, 30),
            ],
        )
    }

    #[test]
    fn block_zero_goes_anywhere() -> Result {
        for to in CORNERS {
            let pool = pool()?;
            let source = tree_of(&pool, [0])?;
            let mut target = Tree::new(pool.clone());
            share_range(&mut target, to, &source, 0, 1)?;
            check_eq!(found(&target, to), found(&source, 0));
            check!(is_shared(&source, 0));
            check_eq!((target.blocks(), pool.used()), (1, 1));
            // And back.
            let mut other = Tree::new(pool.clone());
            share_range(&mut other, 0, &target, to, 1)?;
            check_eq!(found(&other, 0), found(&source, 0));
            drop((source, target));
            check!(was_shared(&other, 0), "index {to}");
        }
        Ok(())
    }

    #[test]
    fn an_empty_source_empties() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, CORNERS)?;
        share_range(&mut tree, 1, &Tree::new(pool.clone()), 0, LAST)?;
        check_eq!((tree.blocks(), pool.used()), (1, 1));
        check_eq!(tree.next_block(0), Some(0));
        Ok(())
    }

    #[test]
    fn whole_subtrees_of_every_height() -> Result {
        for height in 1..MAX_HEIGHT {
            let pool = pool()?;
            let last = span(height) - 1;
            let source = tree_of(&pool, [0, last])?;
            for to in [0, span(height), 5 * span(height), 3 * span(MAX_HEIGHT - 1)] {
                let mut target = tree_of(&pool, [to + 1, to + span(height)])?;
                share_range(&mut target, to, &source, 0, span(height))?;
                check_eq!(
                    found(&target, to),
                    found(&source, 0),
                    "{to}, height {height}"
                );
                check_eq!(found(&target, to + last), found(&source, last));
                check_eq!(target.blocks(), 3);
                check_eq!(
                    target.next_block(to + 1),
                    Some(to + last),
                    "{to}, height {height}"
                );
                check_eq!(pool.used(), 3);
            }
        }
        Ok(())
    }

    #[test]
    fn within_one_file() -> Result {
        for (from, to, len) in [
            (0, 1, 100),
            (1, 0, 100),
            (0, 64, 64),
            (10, 74, 100),
            (0, 200, 50),
        ] {
            let pool = pool()?;
            let mut tree = tree_of(&pool, (0..150).filter(|i| i % 10 != 3))?;
            let before = tree.snapshot();
            let wanted = pages(&before, from, len)?;
            share_range(&mut tree, to, &before, from, len)?;
            for (i, page) in (0..).zip(&wanted) {
                check_eq!(
                    found(&tree, to + i).page(),
                    *page,
                    "{i}, from {from} to {to}"
                );
            }
            for i in (0..300).filter(|i| !(to..to + len).contains(i)) {
                check_eq!(
                    found(&tree, i).page(),
                    found(&before, i).page(),
                    "index {i}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn one_block_many_times() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, [0])?;
        for to in 1..200 {
            let before = tree.snapshot();
            share_range(&mut tree, to, &before, 0, 1)?;
        }
        let page = found(&tree, 0).page().ok_or(ENOENT)?;
        check_eq!((tree.blocks(), pool.used()), (200, 1));
        for index in 0..200 {
            check_eq!(found(&tree, index), Found::Shared(page));
        }
        remove(&mut tree, 1, 199)?;
        check_eq!(found(&tree, 0), Found::Shared(page));
        remove(&mut tree, 199, 200)?;
        check_eq!(found(&tree, 0), Found::WasShared(page));
        Ok(())
    }

    #[test]
    fn too_few_nodes_leave_both_files_as_they_were() -> Result {
        let pool = pool()?;
        let source = tree_of(&pool, [0..130, 5000..5001].into_iter().flatten())?;
        let blocks = || {
            [0..2, 100..300, 4095..4097, LAST - 1..LAST + 1]
                .into_iter()
                .flatten()
        };
        let target = tree_of(&pool, blocks())?;
        let before = pages(&target, 0, 400)?;
        for n in 0..6 {
            let mut copy = target.edit();
            let mut prealloc = prealloc_of(&pool, n)?;
            let used = pool.used();
            check_eq!(
                copy.share_range(7, &source, 0, 5200, &mut prealloc, || Ok(())),
                Err(ENOMEM)
            );
            drop(copy);
            let mut copy = target.edit();
            check_eq!(copy.remove(7, LAST - 9, &mut prealloc), Err(ENOMEM));
            drop(copy);
            check_eq!(pool.used(), used);
            check_eq!(pages(&target, 0, 400)?[..], before[..], "{n} nodes");
            for index in blocks() {
                check!(is_owned(&target, index), "index {index}");
            }
            for index in 0..130 {
                check!(is_owned(&source, index), "index {index}");
            }
        }
        Ok(())
    }
}
