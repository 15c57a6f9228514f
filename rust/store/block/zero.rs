// SPDX-License-Identifier: GPL-2.0

//! [`ZeroBlock`]: a block of zeros that stands for many holes.

use super::{
    page::{BlockRef, NewBlock},
    Pool,
};
use kernel::{new_spinlock, prelude::*, sync::SpinLock};

/// A block of zeros, in no tree, which pipes and mappings refer to in the place of holes.
///
/// Every process that maps it can pin it, until its count is too high for further references. Then
/// another takes its place; it stays as long as it is referred to.
#[pin_data]
pub struct ZeroBlock {
    #[pin]
    block: SpinLock<BlockRef>,
}

fn alloc(pool: &Pool) -> Result<BlockRef> {
    let block = pool.alloc()?;
    block.zero_around(0, 0);
    Ok(NewBlock::bytes(&block).clone())
}

impl ZeroBlock {
    /// Allocates one, which is not counted as a block of `pool`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub fn new(pool: &Pool) -> impl PinInit<Self, Error> + '_ {
        pin_init::pin_init_scope(move || {
            let block = alloc(pool)?;
            Ok(try_pin_init!(Self {
                block <- new_spinlock!(block),
            }? Error))
        })
    }

    /// Returns it. `None` where too much refers to it: [`ZeroBlock::replace`] helps.
    pub fn get(&self) -> Option<BlockRef> {
        Some(self.block.lock())
            .filter(|block| !block.refcount_high())
            .map(|block| block.clone())
    }

    /// Puts another in its place, if too much still refers to it. May wait for memory.
    ///
    /// # Errors
    ///
    /// As [`ZeroBlock::new`].
    pub fn replace(&self, pool: &Pool) -> Result {
        // What is not needed goes after the lock.
        let mut other = alloc(pool)?;
        let mut block = self.block.lock();
        if block.refcount_high() {
            core::mem::swap(&mut *block, &mut other);
        }
        drop(block);
        drop(other);
        Ok(())
    }
}
