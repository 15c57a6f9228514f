// SPDX-License-Identifier: GPL-2.0

//! Trees for tests, and what is found in them.

use crate::{
    bindings,
    store::{
        block::{
            BlockRef,
            Pool,
            BLOCK_SHIFT, //
        },
        Lookup,
        Prealloc,
        Tree, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// How many children a node has.
pub(crate) const FANOUT: u64 = 64;

/// The height of a tree with room for [`LAST`].
pub(crate) const MAX_HEIGHT: u32 = 9;

/// The index of the last block of the largest file.
pub(crate) const LAST: u64 = (1 << (63 - BLOCK_SHIFT)) - 1;

/// How many blocks a tree of height `height` has room for.
pub(crate) const fn span(height: u32) -> u64 {
    FANOUT.pow(height)
}

/// The first index that needs a tree of height `height`.
pub(crate) const fn first_of(height: u32) -> u64 {
    if height == 1 {
        1
    } else {
        span(height - 1)
    }
}

/// The ends of what a tree of each height has room for, in ascending order.
pub(crate) const CORNERS: [u64; 20] = {
    let mut corners = [0; 20];
    corners[1] = 1;
    corners[18] = LAST - 1;
    corners[19] = LAST;
    let mut height = 1;
    while height < MAX_HEIGHT {
        corners[2 * height as usize] = span(height) - 1;
        corners[2 * height as usize + 1] = span(height);
        height += 1;
    }
    corners
};

/// The identity of a block: two blocks that exist are the same if their pages are.
pub(crate) type Page = *mut bindings::page;

/// What a tree says lies at an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Hole,
    Owned(Page),
    Unwritten(Page),
    Shared(Page),
    WasShared(Page),
}

impl Found {
    /// Returns the page, shared or not.
    pub(crate) fn page(self) -> Option<Page> {
        match self {
            Self::Hole => None,
            Self::Owned(page)
            | Self::Unwritten(page)
            | Self::Shared(page)
            | Self::WasShared(page) => Some(page),
        }
    }
}

/// A pool without limit.
pub(crate) fn pool() -> Result<Arc<Pool>> {
    Pool::new(None)
}

/// What lies at `index`.
pub(crate) fn found(tree: &Tree, index: u64) -> Found {
    match tree.lookup(index) {
        Lookup::Hole => Found::Hole,
        Lookup::Owned(block) => Found::Owned(block.as_ptr()),
        Lookup::Unwritten(block) => Found::Unwritten(block.as_ptr()),
        Lookup::Shared(block) => Found::Shared(block.as_ptr()),
        Lookup::WasShared(block) => Found::WasShared(block.as_ptr()),
    }
}

/// Whether the tree may write the block at `index` in place.
pub(crate) fn is_owned(tree: &Tree, index: u64) -> bool {
    matches!(found(tree, index), Found::Owned(_))
}

/// Whether another tree may hold the block at `index`, too.
pub(crate) fn is_shared(tree: &Tree, index: u64) -> bool {
    matches!(found(tree, index), Found::Shared(_))
}

/// Whether the block at `index` is the tree's alone, and was another's, too.
pub(crate) fn was_shared(tree: &Tree, index: u64) -> bool {
    matches!(found(tree, index), Found::WasShared(_))
}

/// A reference to the block at `index`, which must have one.
pub(crate) fn block_at(tree: &Tree, index: u64) -> Result<BlockRef> {
    tree.lookup(index).block().ok_or(ENOENT)
}

/// Puts a new block in at `index`, with the nodes that the tree asks for and no more.
pub(crate) fn insert_block(tree: &mut Tree, index: u64) -> Result<Page> {
    let pool = tree.pool().clone();
    let mut prealloc = Prealloc::new();
    let takes_nodes = !tree.can_insert(index, &mut prealloc);
    // Both ways of inserting are used.
    if index % 3 == 1 {
        check_eq!(insert_run(tree, index, 1)?, 1);
        return Ok(block_at(tree, index)?.as_ptr());
    }
    let mut block = pool.alloc()?;
    let page = block.bytes().as_ptr();
    if index % 3 == 2 {
        block = match tree.insert_in_place(index, block) {
            Ok(()) => return Ok(page),
            Err(back) => back,
        };
        // Other trees may have dropped nodes meanwhile.
        check!(takes_nodes, "index {index}");
    }
    if takes_nodes {
        prealloc.fill(&pool)?;
        check!(tree.can_insert(index, &mut prealloc), "index {index}");
    }
    tree.insert(index, block, &mut prealloc)
        .inspect_err(|err| pr_err!("insert at {index}: {err:?}, though it was sure to work\n"))?;
    Ok(page)
}

/// Puts a new unwritten block in at `index`.
pub(crate) fn insert_unwritten(tree: &mut Tree, index: u64) -> Result<Page> {
    let pool = tree.pool().clone();
    let mut block = pool.alloc()?;
    block.fill_unwritten();
    let page = block.bytes().as_ptr();
    // One way or the other.
    if let Err(back) = tree.insert_in_place(index, block) {
        tree.insert(index, back, &mut Prealloc::on_demand())?;
    }
    Ok(page)
}

/// Inserts new blocks from `index` on, as many as are contiguous, up to `n`, with the nodes that
/// the tree asks for. Returns how many.
pub(crate) fn insert_run(tree: &mut Tree, index: u64, n: u64) -> Result<u64> {
    let pool = tree.pool().clone();
    let mut prealloc = Prealloc::new();
    let mut contig = pool.alloc_batch(n).take_contig()?;
    let end = index + contig.len() as u64;
    tree.insert_run(index, &mut contig, &mut prealloc)?;
    while !contig.is_empty() {
        let left = contig.len();
        prealloc.fill(&pool)?;
        tree.insert_run(end - left as u64, &mut contig, &mut prealloc)?;
        check!(contig.len() < left, "nothing went in {left} before {end}");
    }
    Ok(end - index)
}

/// A tree with blocks at `indexes`.
pub(crate) fn tree_of(pool: &Arc<Pool>, indexes: impl IntoIterator<Item = u64>) -> Result<Tree> {
    let mut tree = Tree::new(pool.clone());
    for index in indexes {
        insert_block(&mut tree, index)?;
    }
    Ok(tree)
}

/// A tree of height `height` without a hole, of only [`FANOUT`] blocks.
pub(crate) fn full_tree(pool: &Arc<Pool>, height: u32) -> Result<Tree> {
    full_tree_of(tree_of(pool, 0..FANOUT)?, height)
}

/// A tree of height `height` without a hole, of those of `leaf`, which is full.
pub(crate) fn full_tree_of(leaf: Tree, height: u32) -> Result<Tree> {
    let mut tree = leaf;
    for lower in 1..height {
        let part = tree.snapshot();
        for i in 1..FANOUT {
            share_range(&mut tree, i * span(lower), &part, 0, span(lower))?;
        }
    }
    Ok(tree)
}

/// [`Tree::share_range`] with as many nodes as it takes.
pub(crate) fn share_range(
    tree: &mut Tree,
    index: u64,
    from: &Tree,
    from_index: u64,
    len: u64,
) -> Result {
    tree.share_range(
        index,
        from,
        from_index,
        len,
        &mut Prealloc::on_demand(),
        || Ok(()),
    )
}

/// [`Tree::remove`] with as many nodes as it takes.
pub(crate) fn remove(tree: &mut Tree, from: u64, to: u64) -> Result {
    tree.remove(from, to, &mut Prealloc::on_demand())
}

/// The blocks of a tree, in ascending order.
pub(crate) fn blocks(tree: &Tree) -> Result<KVec<(u64, Page)>> {
    let mut blocks = KVec::new();
    let mut from = 0;
    while let Some(index) = tree.next_block(from) {
        blocks.push(
            (index, found(tree, index).page().ok_or(ENOENT)?),
            GFP_KERNEL,
        )?;
        from = index + 1;
    }
    Ok(blocks)
}

/// Checks that the owned blocks from `index` on are those that a lookup finds owned, up to
/// the end of a leaf.
fn check_own(tree: &Tree, index: u64) -> Result {
    const MAX: usize = 4;
    let own = (index..index + MAX as u64)
        .take_while(|at| at / FANOUT == index / FANOUT)
        .take_while(|at| is_owned(tree, *at));
    check_eq!(
        tree.owned_run(index, MAX).len(),
        own.count(),
        "index {index}"
    );
    Ok(())
}

/// Checks that the tree holds these blocks, in ascending order, and nothing else, in all the ways
/// that a tree can be asked.
pub(crate) fn check_holds(tree: &Tree, expected: &[(u64, Page)]) -> Result {
    check_eq!(tree.blocks(), expected.len() as u64);
    let mut from = 0;
    let mut previous = None;
    for (i, &(index, page)) in expected.iter().enumerate() {
        check_eq!(tree.next_block(from), Some(index), "from {from}");
        check_eq!(tree.next_block(index), Some(index));
        if index > from {
            check_eq!(tree.next_hole(from), from);
            check_eq!(tree.next_hole(index - 1), index - 1);
            check_eq!(found(tree, index - 1), Found::Hole, "index {}", index - 1);
        }
        check_eq!(found(tree, index).page(), Some(page), "index {index}");
        let mut read = [None];
        check_eq!(tree.get_blocks(index, &mut read), 1);
        check_eq!(
            read[0].as_ref().map(BlockRef::as_ptr),
            Some(page),
            "index {index}"
        );
        check_own(tree, index)?;
        if previous != Some(index) {
            let run = expected[i..]
                .iter()
                .zip(index..)
                .take_while(|((at, _), to)| at == to);
            check_eq!(tree.next_hole(index), index + run.count() as u64);
        }
        from = index + 1;
        previous = Some(from);
    }
    check_eq!(tree.next_block(from), None, "from {from}");
    check_eq!(tree.next_hole(from), from);
    check_eq!(found(tree, from), Found::Hole, "index {from}");
    Ok(())
}
