// SPDX-License-Identifier: GPL-2.0

//! Disk quotas, for filesystems that keep everything in memory.
//!
//! C header: [`include/linux/quotaops.h`](srctree/include/linux/quotaops.h). Compare
//! `mm/shmem_quota.c`.
//!
//! Quotas are enabled when a superblock is made, and stay enabled until it goes: user space can
//! turn off the enforcement of limits, not the accounting (`dquot_quotactl_sysfile_ops`). So every
//! inode is charged from its beginning, and [`has_quota`] does not change.
//!
//! `i_blocks` and `i_bytes` of an inode are what it is charged, which is what the kernel moves from
//! owner to owner. `stat(2)` reports another number, [`MemFs::blocks`].
//!
//! What is here may sleep, but for [`has_quota`]: a block is charged before the lock of a file's
//! tree is taken, and the [`Charge`] committed or given back after it.

mod bound;
mod charge;
mod format;

pub(crate) use self::charge::Charge;
pub(crate) use self::format::Format;

use super::MemFs;
use crate::{
    bindings,
    vfs::{
        Iattr,
        IdMap,
        Inode,
        LockedInode,
        NewInode,
        SuperBlock, //
    },
};
use kernel::{
    error::to_result,
    prelude::*,
    warn_on, //
};

/// Whether a user or a group is charged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The owner of an inode.
    User = bindings::quota_type_USRQUOTA as isize,
    /// Its group.
    Group = bindings::quota_type_GRPQUOTA as isize,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::User, Self::Group];
}

/// The limits of a user or group. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// The most bytes.
    pub(crate) space: i64,
    /// The most bytes for longer than the grace time.
    pub(crate) soft_space: i64,
    /// The most inodes.
    pub(crate) inodes: i64,
    /// The most inodes for longer than the grace time.
    pub(crate) soft_inodes: i64,
}

/// Both the counting and the limits.
const ENABLED: u32 = bindings::DQUOT_USAGE_ENABLED | bindings::DQUOT_LIMITS_ENABLED;

/// Returns whether users or groups are charged for what is on the superblock,
/// `sb_any_quota_loaded`.
pub(crate) fn has_quota<T: MemFs>(sb: &SuperBlock<T>) -> bool {
    // SAFETY: The superblock is live.
    unsafe { bindings::sb_any_quota_loaded(sb.as_raw()) }
}

/// Enables quotas as [`MemFs::quota_limits`] says, before the first inode is created.
///
/// # Errors
///
/// `ENOMEM`; quotas are disabled.
pub(crate) fn enable<T: MemFs>(sb: &crate::vfs::NewSuperBlock<'_, T>) -> Result {
    let wanted = |kind: &Kind| T::quota_limits(sb, *kind).is_some();
    if !Kind::ALL.iter().any(wanted) {
        return Ok(());
    }
    // SAFETY: The superblock is new, so that nothing else accesses it.
    unsafe {
        let raw = &mut *sb.as_raw();
        raw.dq_op = &raw const bindings::dquot_operations;
        raw.s_qcop = &raw const bindings::dquot_quotactl_sysfile_ops;
        raw.s_quota_types = bindings::QTYPE_MASK_USR | bindings::QTYPE_MASK_GRP;
        // There are no quota files, and nothing is written back.
        raw.s_dquot.flags |= bindings::DQUOT_QUOTA_SYS_FILE | bindings::DQUOT_NOLIST_DIRTY;
    }
    for kind in Kind::ALL.into_iter().filter(wanted) {
        // SAFETY: The superblock is live, and being made, so that `s_umount` is held.
        to_result(unsafe {
            bindings::dquot_load_quota_sb(sb.as_raw(), kind as c_int, Format::<T>::ID, ENABLED)
        })
        .inspect_err(|_| disable(sb))?;
    }
    Ok(())
}

/// Disables quotas, for [`FileSystem::put_super`](crate::vfs::SuperOperations::put_super): when
/// there are no inodes, and with `s_umount` held. Does nothing where they are disabled.
pub(crate) fn disable<T: MemFs>(sb: &SuperBlock<T>) {
    // SAFETY: The superblock is live; `dquot_disable` takes the locks that it needs but `s_umount`.
    unsafe { bindings::dquot_disable(sb.as_raw(), -1, ENABLED) };
}

/// Charges its owner for a new inode.
///
/// # Errors
///
/// `EDQUOT`, `ENOMEM`. The inode is exempt from quotas then.
pub(super) fn alloc_inode<T: MemFs>(inode: &NewInode<T>) -> Result {
    let raw = inode.as_raw();
    // SAFETY: The inode has its owner, and nothing else refers to it.
    let charge = || to_result(unsafe { bindings::dquot_alloc_inode(raw) });
    initialize(inode).and_then(|()| charge()).inspect_err(|_| {
        drop_references(inode);
        // SAFETY: Nothing else refers to the inode.
        unsafe { (*raw).i_flags |= bindings::S_NOQUOTA };
    })
}

/// Prepares charges to the owner of an inode that was made or read.
///
/// # Errors
///
/// `ENOMEM`, `EIO`.
pub(super) fn initialize<T: MemFs>(inode: &NewInode<T>) -> Result {
    // SAFETY: The inode has its owner, and nothing else uses it.
    to_result(unsafe { bindings::dquot_initialize(inode.as_raw()) })
}

/// Drops the references of an inode to what its owner is charged with, before or after it is in use.
pub(super) fn drop_references<T: MemFs>(inode: &Inode<T>) {
    // SAFETY: The inode is new or being evicted, and nothing else refers to it.
    unsafe { bindings::dquot_drop(inode.as_raw()) };
}

/// Ends the charges for an inode that goes, and for `blocks` that go with it.
pub(super) fn free_inode<T: MemFs>(inode: &Inode<T>, blocks: u64) {
    if !has_quota(inode.super_block()) {
        return;
    }
    drop(Charge::freed(inode, blocks));
    // SAFETY: The inode is going, and nothing else refers to it.
    unsafe {
        // Otherwise its owner would stay charged.
        warn_on!(bindings::inode_get_bytes(inode.as_raw()) != 0);
        bindings::dquot_free_inode(inode.as_raw());
    }
}

/// Moves the charges for an inode to the owner that `attr` gives it, if it does.
///
/// # Errors
///
/// `EDQUOT`, `ENOMEM`; nothing has changed.
pub(super) fn transfer<T: MemFs>(
    inode: &LockedInode<T>,
    idmap: IdMap<'_>,
    attr: &Iattr<'_>,
) -> Result {
    if !has_quota(inode.super_block()) {
        return Ok(());
    }
    bound::transfer_within(inode, idmap, attr, || {
        // SAFETY: All are valid; the inode is locked. Checks itself what changes.
        to_result(unsafe {
            bindings::dquot_transfer(idmap.as_raw(), inode.as_raw(), attr.as_raw())
        })
    })
}
