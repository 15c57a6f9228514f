// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_ends`: ranges from and to 0, 1, the ends of leaves and nodes, and the end of the
//! largest file.

use crate::{
    store::{
        Prealloc,
        Tree, //
    },
    support::trees::{
        blocks,
        check_holds,
        found,
        insert_block,
        pool,
        remove,
        share_range,
        span,
        tree_of,
        Found,
        Page,
        CORNERS,
        FANOUT,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// The end of the largest file.
const END: u64 = LAST + 1;

const STARTS: [u64; 8] = [
    0,
    1,
    FANOUT - 1,
    FANOUT,
    span(2) - 1,
    span(4),
    LAST - 1,
    LAST,
];
const LENGTHS: [u64; 8] = [0, 1, FANOUT - 1, FANOUT, FANOUT + 1, span(2), span(4), END];

/// Calls `f` with two starts and each length, cut off where the largest file ends.
fn for_all(f: impl Fn(u64, u64, u64) -> Result) -> Result {
    for from in STARTS {
        for to in STARTS {
            for len in LENGTHS {
                let len = len.min(END - from.max(to));
                f(from, to, len).inspect_err(|_| pr_err!("{len} blocks from {from} to {to}\n"))?;
            }
        }
    }
    Ok(())
}

/// Returns what `target` holds once `len` blocks from `to` on are those of `source` from `from` on.
fn shared(
    target: &[(u64, Page)],
    to: u64,
    source: &[(u64, Page)],
    from: u64,
    len: u64,
) -> Result<KVec<(u64, Page)>> {
    let mut all = KVec::new();
    for block in target.iter().filter(|block| block.0 < to) {
        all.push(*block, GFP_KERNEL)?;
    }
    for (index, page) in source {
        if (from..from + len).contains(index) {
            all.push((index - from + to, *page), GFP_KERNEL)?;
        }
    }
    for block in target.iter().filter(|block| block.0 >= to + len) {
        all.push(*block, GFP_KERNEL)?;
    }
    Ok(all)
}

#[kunit_tests(reflinkfs_ends)]
mod tests {
    use super::*;

    #[test]
    fn sharing_takes_the_range_and_nothing_else() -> Result {
        let pool = pool()?;
        let (source, target) = (tree_of(&pool, CORNERS)?, tree_of(&pool, CORNERS)?);
        let (in_source, in_target) = (blocks(&source)?, blocks(&target)?);
        for_all(|from, to, len| {
            let mut tree = target.edit();
            share_range(&mut tree, to, &source, from, len)?;
            check_holds(&tree, &shared(&in_target, to, &in_source, from, len)?)?;
            check_eq!(
                tree.same_len(to, &source, from, len, &mut { u64::MAX }),
                len
            );
            check_eq!(
                source.same_len(from, &tree, to, len, &mut { u64::MAX }),
                len
            );
            check_holds(&source, &in_source)
        })?;
        check_holds(&target, &in_target)?;
        check_eq!(pool.used(), 2 * CORNERS.len() as u64);
        Ok(())
    }

    #[test]
    fn sharing_within_a_file() -> Result {
        let pool = pool()?;
        let mut tree = tree_of(&pool, CORNERS)?;
        let before = tree.snapshot();
        let held = blocks(&before)?;
        for_all(|from, to, len| {
            let mut tree = before.edit();
            share_range(&mut tree, to, &before, from, len)?;
            check_holds(&tree, &shared(&held, to, &held, from, len)?)
        })?;
        check_holds(&tree, &held)
    }

    #[test]
    fn sharing_into_an_empty_file_and_emptying_it() -> Result {
        let pool = pool()?;
        let source = tree_of(&pool, CORNERS)?;
        let in_source = blocks(&source)?;
        for_all(|from, to, len| {
            let nodes = pool.nodes();
            let mut tree = Tree::new(pool.clone());
            share_range(&mut tree, to, &source, from, len)?;
            check_holds(&tree, &shared(&[], to, &in_source, from, len)?)?;
            remove(&mut tree, to, to + len)?;
            check_holds(&tree, &[])?;
            check_eq!(pool.nodes(), nodes);
            Ok(())
        })
    }

    #[test]
    fn a_clone_of_a_range_and_a_write_at_its_ends() -> Result {
        for start in STARTS {
            for len in [0, 1, 2, FANOUT].map(|len| len.min(END - start)) {
                let mut tree = tree_of(&pool()?, CORNERS)?;
                drop(tree.snapshot_range(start..start + len, &mut Prealloc::on_demand())?);
                for index in CORNERS {
                    let page = found(&tree, index).page().ok_or(ENOENT)?;
                    let wanted = if (start..start + len).contains(&index) {
                        Found::WasShared(page)
                    } else {
                        Found::Owned(page)
                    };
                    check_eq!(found(&tree, index), wanted, "{index}, {len} from {start}");
                    // Written once more it is the file's own.
                    let page = insert_block(&mut tree, index)?;
                    check_eq!(found(&tree, index), Found::Owned(page));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn behind_the_largest_file_is_nothing() -> Result {
        let mut tree = tree_of(&pool()?, CORNERS)?;
        let held = blocks(&tree)?;
        for index in [END, END + 1, u64::MAX - 1] {
            check_eq!(found(&tree, index), Found::Hole);
            check_eq!(tree.next_block(index), None);
            check_eq!(tree.next_hole(index), index);
            check_eq!(tree.extent(index, 1), None);
            tree.restore_owned(index);
            remove(&mut tree, index, u64::MAX)?;
        }
        check_holds(&tree, &held)
    }
}
