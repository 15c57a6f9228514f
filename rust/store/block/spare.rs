// SPDX-License-Identifier: GPL-2.0

//! Copies of blocks that so many slots hold that no more may.

use super::{
    page::{BlockRef, NewBlock, RawBlock},
    Pool,
};
use core::mem::ManuallyDrop;
use kernel::{prelude::*, sync::Arc};

/// A block that no slot holds, as [`NewBlock`], and that keeps its pool.
///
/// # Invariants
///
/// As [`NewBlock`].
pub struct Spare {
    block: RawBlock,
    pool: Arc<Pool>,
}

// SAFETY: A block may be let go of on any thread.
unsafe impl Send for Spare {}
// SAFETY: There is nothing that can be done by way of a reference.
unsafe impl Sync for Spare {}

impl Spare {
    /// A new block of `pool`.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::alloc`].
    pub fn new(pool: &Arc<Pool>) -> Result<Self> {
        Ok(Self::from_block(pool.alloc()?, pool))
    }

    /// As [`Spare::new`], by way of [`Pool::alloc_overcommit`].
    ///
    /// # Errors
    ///
    /// Those of it.
    pub fn overcommit(pool: &Arc<Pool>) -> Result<Self> {
        Ok(Self::from_block(pool.alloc_overcommit()?, pool))
    }

    fn from_block(block: NewBlock<'_>, pool: &Arc<Pool>) -> Self {
        // INVARIANT: What `block` owned is this value's.
        Self {
            block: block.into_raw(),
            pool: pool.clone(),
        }
    }

    /// Makes it a copy of `old` in a slot, whose it is then, with this number.
    ///
    /// # Errors
    ///
    /// `EIO` where `old` is poisoned.
    pub(super) fn into_copy_of(self, old: RawBlock, number: u64) -> Result<RawBlock> {
        self.with_block(|block| {
            let old = BlockRef::new(old);
            block.bytes().copy_from(0, &old, 0, usize::MAX)?;
            Ok(block.into_slot(number))
        })
    }

    fn with_block<R>(self, take: impl FnOnce(NewBlock<'_>) -> R) -> R {
        let this = ManuallyDrop::new(self);
        // SAFETY: Read once, as `this` is not dropped.
        let pool = unsafe { core::ptr::read(&this.pool) };
        // SAFETY: By the type invariant, which ends here.
        take(unsafe { NewBlock::from_raw(&pool, this.block) })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, which ends here.
        drop(unsafe { NewBlock::from_raw(&self.pool, self.block) });
    }
}

/// Where copies come from of blocks that so many slots hold that no more may.
pub trait SpareSource {
    /// A block to be a copy of such a one.
    ///
    /// `None` has one more slot hold the block all the same, which is only right with a spinning lock
    /// held since it was seen that this one may: see [`page`](super::page).
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM`.
    fn take_spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>>;
}
