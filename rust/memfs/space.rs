// SPDX-License-Identifier: GPL-2.0

//! How many inodes there may be on a superblock, and how many bytes of attributes.
//!
//! Both count against `nr_inodes=`. As on tmpfs each further name of a file counts as an inode,
//! since it keeps a dentry in memory, and attributes count in bytes, [`INODE_SPACE`] of them as
//! much as an inode.

use super::{
    quota::Charge,
    MemFs, //
};
use crate::vfs::Inode;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// How many bytes of the space of `nr_inodes=` an inode takes, or a further name of one: tmpfs's
/// `BOGO_INODE_SIZE`.
pub(crate) const INODE_SPACE: u64 = 1024;

/// The space of `nr_inodes=`: counts the inodes of a superblock, and what counts as such.
pub(crate) struct InodeSpace {
    /// The most inodes; `u64::MAX` for no limit.
    max_inodes: Atomic<u64>,
    /// The space that is taken, in bytes: [`INODE_SPACE`] for each inode and each further name, and
    /// `attribute_bytes`.
    used_ispace: Atomic<u64>,
    /// Attributes, access control lists and long targets of symbolic links, in bytes.
    attribute_bytes: Atomic<u64>,
    next_ino: Atomic<u64>,
}

impl InodeSpace {
    /// Returns one without inodes.
    pub(crate) fn new(max_inodes: Option<u64>) -> Self {
        Self {
            max_inodes: Atomic::new(max_inodes.unwrap_or(u64::MAX)),
            used_ispace: Atomic::new(0),
            attribute_bytes: Atomic::new(0),
            // 0 is no inode.
            next_ino: Atomic::new(1),
        }
    }

    /// Returns the most inodes, `None` for no limit.
    pub(crate) fn max_inodes(&self) -> Option<u64> {
        Some(self.max_inodes.load(Relaxed)).filter(|&max| max != u64::MAX)
    }

    /// Changes the most inodes.
    pub(crate) fn set_max_inodes(&self, max_inodes: Option<u64>) {
        self.max_inodes
            .store(max_inodes.unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns how many inodes exist, or would take the space that is taken.
    pub(crate) fn used(&self) -> u64 {
        self.used_ispace.load(Relaxed).div_ceil(INODE_SPACE)
    }

    /// Returns how many inodes and further names exist.
    pub(crate) fn names(&self) -> u64 {
        let used = self.used_ispace.load(Relaxed);
        used.saturating_sub(self.attribute_bytes()) / INODE_SPACE
    }

    /// Returns how many bytes of attributes, access control lists and long targets exist.
    pub(crate) fn attribute_bytes(&self) -> u64 {
        self.attribute_bytes.load(Relaxed)
    }

    /// Counts a new inode. Returns its number, which no other inode of the superblock had.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(crate) fn reserve_inode(&self) -> Result<u64> {
        self.reserve_name()?;
        Ok(self.next_ino.fetch_add(1, Relaxed))
    }

    /// Counts a further name of an inode.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(crate) fn reserve_name(&self) -> Result {
        self.reserve_ispace(INODE_SPACE)
    }

    /// Counts an inode, or a further name, less.
    pub(crate) fn free_inode(&self) {
        self.used_ispace.fetch_sub(INODE_SPACE, Relaxed);
    }

    /// Counts `after` bytes of attributes in the place of `before`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is no space for more; nothing has changed.
    fn adjust_bytes(&self, before: u64, after: u64) -> Result {
        let (more, less) = (after.saturating_sub(before), before.saturating_sub(after));
        if more > 0 {
            self.reserve_ispace(more)?;
            self.attribute_bytes.add(more, Relaxed);
        }
        self.attribute_bytes.fetch_sub(less, Relaxed);
        self.used_ispace.fetch_sub(less, Relaxed);
        Ok(())
    }

    fn reserve_ispace(&self, bytes: u64) -> Result {
        let most = self.max_inodes.load(Relaxed).saturating_mul(INODE_SPACE);
        let before = self.used_ispace.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > most {
            self.used_ispace.fetch_sub(bytes, Relaxed);
            return Err(ENOSPC);
        }
        Ok(())
    }
}

/// Counts `after` bytes of attributes of an inode in the place of `before`, and charges its owner
/// for them, rounded up to blocks.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`; nothing has changed. Not where there are no more than before.
pub(super) fn adjust_bytes<T: MemFs>(inode: &Inode<T>, before: u64, after: u64) -> Result {
    let blocks = |bytes: u64| bytes.div_ceil(PAGE_SIZE as u64);
    let more = blocks(after).saturating_sub(blocks(before));
    let charge = Charge::new(inode, more)?;
    T::inodes(inode.super_block())
        .space
        .adjust_bytes(before, after)?;
    charge.commit(more);
    drop(Charge::freed(
        inode,
        blocks(before).saturating_sub(blocks(after)),
    ));
    Ok(())
}
