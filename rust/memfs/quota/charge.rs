// SPDX-License-Identifier: GPL-2.0

//! What the blocks of an inode cost its owner.

use super::{
    super::MemFs,
    bound,
    has_quota, //
};
use crate::{
    bindings,
    compat::EDQUOT,
    vfs::Inode, //
};
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Blocks that the owner of an inode is charged for, and that the inode does not have yet, or not
/// any more. What is not committed is uncharged when this is dropped.
///
/// Always of 0 blocks where there are no quotas.
#[must_use]
pub(crate) struct Charge<'a, T: MemFs> {
    inode: &'a Inode<T>,
    blocks: u64,
}

impl<'a, T: MemFs> Charge<'a, T> {
    /// Returns a charge of 0 blocks.
    pub(crate) fn empty(inode: &'a Inode<T>) -> Self {
        Self { inode, blocks: 0 }
    }

    /// Charges the owner for `blocks` that the inode is to get.
    ///
    /// # Errors
    ///
    /// `EDQUOT`.
    pub(crate) fn new(inode: &'a Inode<T>, blocks: u64) -> Result<Self> {
        let mut charge = Self::empty(inode);
        charge.reserve(blocks)?;
        Ok(charge)
    }

    /// Returns the charge for `blocks` that the inode does not have any more.
    pub(crate) fn freed(inode: &'a Inode<T>, blocks: u64) -> Self {
        let mut charge = Self::empty(inode);
        if has_quota(inode.super_block()) {
            charge.blocks = blocks;
        }
        charge
    }

    /// Raises it to `blocks`, if it is lower.
    ///
    /// # Errors
    ///
    /// `EDQUOT`; it is as it was.
    pub(crate) fn reserve(&mut self, blocks: u64) -> Result {
        let more = blocks.saturating_sub(self.blocks);
        if more == 0 || !has_quota(self.inode.super_block()) {
            return Ok(());
        }
        let bytes = i64::try_from(more)
            .ok()
            .filter(|&more| more <= i64::MAX >> PAGE_SHIFT)
            .ok_or(EDQUOT)?
            << PAGE_SHIFT;
        bound::add_within(self.inode, bytes, || {
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

    /// Splits off a charge of `blocks`, or of as many as there are.
    pub(crate) fn split(&mut self, blocks: u64) -> Self {
        let taken = blocks.min(self.blocks);
        self.blocks -= taken;
        Self {
            inode: self.inode,
            blocks: taken,
        }
    }

    /// Adds another charge of the same inode.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.blocks += core::mem::take(&mut other.blocks);
    }

    /// Keeps `blocks` of it charged, as the inode has them now.
    pub(crate) fn commit(mut self, blocks: u64) {
        self.blocks = self.blocks.saturating_sub(blocks);
    }
}

impl<T: MemFs> Drop for Charge<'_, T> {
    fn drop(&mut self) {
        if self.blocks > 0 {
            // SAFETY: The inode is live, and its owner was charged for these blocks.
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
