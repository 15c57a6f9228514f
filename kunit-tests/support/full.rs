// SPDX-License-Identifier: GPL-2.0

//! Trees with a full block.

use super::{
    bytes::write,
    trees::{
        block_at,
        insert_block,
        share_range,
        FANOUT, //
    },
};
use crate::store::{
    block::{
        Pool,
        BLOCK_SIZE, //
    },
    Tree, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// How many slots may hold a block.
pub(crate) const FULL: u64 = 1 << 15;

/// A tree of one block, in the root itself.
pub(crate) fn one(pool: &Arc<Pool>) -> Result<Tree> {
    let mut one = Tree::new(pool.clone());
    insert_block(&mut one, 0)?;
    let block = block_at(&one, 0)?;
    block.zero(0, BLOCK_SIZE);
    write(&block, 100, &mut [1, 2, 3]);
    Ok(one)
}

/// A tree with the block of `one` at `0..n`.
pub(crate) fn many(one: &Tree, n: u64) -> Result<Tree> {
    let mut tree = Tree::new(one.pool().clone());
    let mut leaf = Tree::new(one.pool().clone());
    for index in 0..FANOUT {
        share_range(&mut leaf, index, one, 0, 1)?;
    }
    share_range(&mut tree, 0, one, 0, 1)?;
    // At an index that is no multiple of a leaf's span each slot of `leaf` is shared by itself. The
    // slots of `leaf` count, too, until it is dropped: the last ones are shared one by one.
    let mut index = 1;
    while index + 2 * FANOUT <= n {
        share_range(&mut tree, index, &leaf, 0, FANOUT)?;
        index += FANOUT;
    }
    drop(leaf);
    for index in index..n {
        share_range(&mut tree, index, one, 0, 1)?;
    }
    Ok(tree)
}
