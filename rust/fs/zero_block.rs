// SPDX-License-Identifier: GPL-2.0

//! The block of zeros that stands for the holes of one file.

use crate::{
    store::block::{
        BlockRef,
        Leaf,
        Pool, //
    },
    vfs::RwLock, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::Arc, //
};

/// The block of zeros that is mapped for holes of a file where the kernel's zero page must not be,
/// once it is made. Each file has its own: a process that may store to a file could pin a shared
/// one until the kernel refuses further pins.
#[pin_data]
pub(super) struct FileZeroBlock {
    #[pin]
    block: RwLock<Option<KBox<Leaf<1>>>>,
}

impl FileZeroBlock {
    /// Returns an initialiser without a block.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            block <- RwLock::new(None, c"reflinkfs_zero_block", static_lock_class!()),
        })
    }

    /// Returns the block, if it is made.
    pub(super) fn get(&self) -> Option<BlockRef> {
        self.block.read().as_ref()?.get(0)
    }

    /// Makes the block, if there is none yet. It lasts as long as the inode is in the cache, and is
    /// charged to the pool, but not to the file's owner.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn alloc(&self, pool: &Arc<Pool>) -> Result {
        let block = pool.alloc()?;
        block.zero_around(0, 0);
        let mut made = KBox::new(Leaf::new(pool.clone()), GFP_KERNEL)?;
        made.insert(0, block, 0);
        let mut made = Some(made);
        // A block that is not needed is freed after the lock is dropped.
        let mut current = self.block.write();
        if current.is_none() {
            *current = made.take();
        }
        drop(current);
        Ok(())
    }

    /// Drops the block, when the inode is evicted.
    pub(super) fn clear(&self) {
        let block = self.block.write().take();
        drop(block);
    }
}
