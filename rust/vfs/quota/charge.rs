// SPDX-License-Identifier: GPL-2.0

//! What the blocks of an inode cost its owner.

use super::super::{filesystem::FileSystem, inode::Inode};
use crate::bindings;
use kernel::{
    error::to_result,
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};

/// Blocks that the owner of an inode is charged for, and that the inode does not have yet, or no
/// more. What is not kept is given back when this is dropped.
///
/// Always of 0 blocks where there are no quotas.
#[must_use]
pub struct Charge<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    blocks: u64,
}

impl<T: FileSystem> Inode<T> {
    /// A charge of nothing yet.
    pub fn no_charge(&self) -> Charge<'_, T> {
        Charge {
            inode: self,
            blocks: 0,
        }
    }

    /// Charges the owner for `blocks` that the inode is to get.
    ///
    /// # Errors
    ///
    /// `EDQUOT`.
    pub fn charge(&self, blocks: u64) -> Result<Charge<'_, T>> {
        let mut charge = self.no_charge();
        charge.raise(blocks)?;
        Ok(charge)
    }

    /// The charge for `blocks` that the inode has no more.
    pub fn freed(&self, blocks: u64) -> Charge<'_, T> {
        let mut charge = self.no_charge();
        if self.super_block().has_quota() {
            charge.blocks = blocks;
        }
        charge
    }

    /// Counts what else the inode has: `after` bytes, where it was `before` until now. Its owner is
    /// charged for all of it, rounded up to a block.
    ///
    /// # Errors
    ///
    /// `EDQUOT`, and those of [`FileSystem::recount`]. Not where there are no more than before.
    pub(in super::super) fn recount(&self, before: u64, after: u64) -> Result {
        let blocks = |bytes: u64| bytes.div_ceil(PAGE_SIZE as u64);
        let more = blocks(after).saturating_sub(blocks(before));
        let charge = self.charge(more)?;
        T::recount(self.super_block(), before, after)?;
        charge.keep(more);
        drop(self.freed(blocks(before).saturating_sub(blocks(after))));
        Ok(())
    }
}

impl<T: FileSystem> Charge<'_, T> {
    /// Makes it one of `blocks`, where it is one of fewer.
    ///
    /// # Errors
    ///
    /// `EDQUOT`; it is as it was.
    pub fn raise(&mut self, blocks: u64) -> Result {
        let more = blocks.saturating_sub(self.blocks);
        if more == 0 || !self.inode.super_block().has_quota() {
            return Ok(());
        }
        let bytes = i64::try_from(more)
            .ok()
            .filter(|&more| more <= i64::MAX >> PAGE_SHIFT)
            .ok_or(EDQUOT)?
            << PAGE_SHIFT;
        self.inode.add_within(bytes, || {
            // SAFETY: The inode is live.
            to_result(unsafe {
                bindings::__dquot_alloc_space(
                    self.inode.as_raw(),
                    bytes,
                    bindings::DQUOT_SPACE_WARN as c_int,
                )
            })
        })?;
        self.blocks += more;
        Ok(())
    }

    /// Takes `blocks` out, or as many as there are.
    pub fn take(&mut self, blocks: u64) -> Self {
        let taken = blocks.min(self.blocks);
        self.blocks -= taken;
        Self {
            inode: self.inode,
            blocks: taken,
        }
    }

    /// Adds another charge of the same inode.
    pub fn join(&mut self, mut other: Self) {
        self.blocks += core::mem::take(&mut other.blocks);
    }

    /// The inode has got `blocks` of it.
    pub fn keep(mut self, blocks: u64) {
        self.blocks = self.blocks.saturating_sub(blocks);
    }
}

impl<T: FileSystem> Drop for Charge<'_, T> {
    fn drop(&mut self) {
        if self.blocks > 0 {
            // SAFETY: The inode is live, and was charged for them by the type's meaning.
            unsafe {
                bindings::__dquot_free_space(
                    self.inode.as_raw(),
                    (self.blocks << PAGE_SHIFT) as i64,
                    0,
                );
            }
        }
    }
}
