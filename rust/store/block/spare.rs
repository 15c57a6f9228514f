// SPDX-License-Identifier: GPL-2.0

//! Spare blocks: allocated in advance, to become duplicates of full blocks under a lock.

use super::{
    page::{
        BlockRef,
        NewBlock,
        RawBlock, //
    },
    BlockBatch,
    Pool, //
};
use core::mem::ManuallyDrop;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A [`NewBlock`] that holds a reference to its pool.
///
/// # Invariants
///
/// As [`NewBlock`].
pub struct Spare {
    block: RawBlock,
    pool: Arc<Pool>,
}

// SAFETY: A block may be freed on any thread.
unsafe impl Send for Spare {}
// SAFETY: A `&Spare` gives access to nothing.
unsafe impl Sync for Spare {}

impl Spare {
    /// Allocates a block of `pool`, whose limit may be exceeded by `overcommit` blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::alloc`].
    pub fn new(pool: &Arc<Pool>, overcommit: u64) -> Result<Self> {
        Self::from_batch(BlockBatch::new(pool, 1, overcommit), pool)
    }

    /// As [`Spare::new`], without waiting for memory.
    ///
    /// # Errors
    ///
    /// As there; `ENOMEM` also where waiting would help.
    pub fn no_reclaim(pool: &Arc<Pool>, overcommit: u64) -> Result<Self> {
        Self::from_batch(BlockBatch::no_reclaim(pool, overcommit), pool)
    }

    fn from_batch(mut batch: BlockBatch<'_>, pool: &Arc<Pool>) -> Result<Self> {
        let block = batch.take()?;
        // INVARIANT: `block` gives up what it owned.
        Ok(Self {
            block: block.into_raw(),
            pool: pool.clone(),
        })
    }

    fn into_block<R>(self, f: impl FnOnce(NewBlock<'_>) -> R) -> R {
        let this = ManuallyDrop::new(self);
        // SAFETY: Read once, as `this` is not dropped.
        let pool = unsafe { core::ptr::read(&this.pool) };
        // SAFETY: The type invariant, which `this` gives up.
        f(unsafe { NewBlock::from_raw(&pool, this.block) })
    }

    /// Makes the block a duplicate of `old`, with this number, for a slot that owns it from then
    /// on.
    ///
    /// # Errors
    ///
    /// `EIO` if `old` is poisoned.
    pub(super) fn into_duplicate_of(self, old: RawBlock, number: u64) -> Result<RawBlock> {
        self.into_block(|block| {
            block.bytes().copy_block(&BlockRef::new(old))?;
            Ok(block.into_slot(number))
        })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: The type invariant, which ends here.
        drop(unsafe { NewBlock::from_raw(&self.pool, self.block) });
    }
}

/// A source of blocks for duplicates of full blocks.
pub trait SpareSource {
    /// Returns a block that is to become a duplicate of a full one.
    ///
    /// `None` lets one more slot hold the full block. That is only right if a spinning lock has
    /// been held since the block was seen not to be full: see [`page`](super::page).
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM`.
    fn take_spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>>;
}
