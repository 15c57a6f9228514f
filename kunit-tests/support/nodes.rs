// SPDX-License-Identifier: GPL-2.0

//! Counting the nodes that a change takes, by what it leaves of a prealloc.

use crate::{
    store::{
        block::Pool,
        Prealloc,
        Tree, //
    },
    support::trees::{
        first_of,
        tree_of,
        MAX_HEIGHT, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The most nodes that an insertion takes: a leaf for block 0 that was kept in the root, the
/// nodes above it, and from the topmost down to the last index.
pub(crate) const MOST: usize = 2 * MAX_HEIGHT as usize - 1;

/// Makes a `Prealloc` of exactly `n` nodes, at most [`MOST`].
pub(crate) fn prealloc_of(pool: &Arc<Pool>, n: usize) -> Result<Prealloc> {
    let mut prealloc = Prealloc::new();
    if n > 0 {
        // A node for each level above the leaf and as many down again; the leaf, too, where the
        // only block was in the root.
        let height = n as u32 / 2 + 1;
        let tree = tree_of(pool, [(n as u64 + 1) % 2])?;
        check!(
            !tree.can_insert(first_of(height), &mut prealloc),
            "{n} nodes"
        );
        let before = pool.nodes();
        prealloc.fill(pool)?;
        check_eq!(pool.nodes() - before, n as u64);
    }
    Ok(prealloc)
}

/// Returns how many nodes there are in it.
pub(crate) fn count(pool: &Pool, prealloc: Prealloc) -> usize {
    let before = pool.nodes();
    drop(prealloc);
    (before - pool.nodes()) as usize
}

/// How many nodes a change takes, at most [`MOST`].
pub(crate) fn cost(
    pool: &Arc<Pool>,
    change: impl FnOnce(&mut Prealloc) -> Result,
) -> Result<usize> {
    let mut prealloc = prealloc_of(pool, MOST)?;
    change(&mut prealloc)?;
    Ok(MOST - count(pool, prealloc))
}

/// How many nodes an insertion takes. The tree has a new block at `index` afterwards.
pub(crate) fn insert_cost(tree: &mut Tree, index: u64) -> Result<usize> {
    let pool = tree.pool().clone();
    cost(&pool, |prealloc| {
        tree.insert(index, pool.alloc()?, prealloc)
    })
}
