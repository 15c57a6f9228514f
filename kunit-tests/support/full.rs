// SPDX-License-Identifier: GPL-2.0

//! Trees with a full block.

use super::{
    bytes::write,
    trees::{
        block_at,
        insert_block,
        share, //
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
    for index in 0..n {
        share(&mut tree, index, one, 0, 1)?;
    }
    Ok(tree)
}
