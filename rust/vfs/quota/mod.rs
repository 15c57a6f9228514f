// SPDX-License-Identifier: GPL-2.0

//! Disk quotas, for filesystems that keep everything in memory.
//!
//! C header: [`include/linux/quotaops.h`](srctree/include/linux/quotaops.h). Compare
//! `mm/shmem_quota.c`.
//!
//! Quotas are turned on when a superblock is made, and then stay on until it goes: user space can
//! turn off the enforcement of limits, never the counting (`dquot_quotactl_sysfile_ops`). So every
//! inode has been charged from its beginning, and [`SuperBlock::has_quota`] does not change.
//!
//! `i_blocks` and `i_bytes` of an inode count what it is charged, since that is what the kernel
//! moves from owner to owner. `stat` reports another number, [`FileSystem::inode_blocks`].
//!
//! What is here may sleep, but for [`SuperBlock::has_quota`]: a block is charged before the lock of a
//! file's tree is taken, and the [`Charge`] kept or given back after it.

mod bound;
mod charge;
mod format;

pub use self::charge::Charge;
pub(super) use self::format::Format;

use super::{
    filesystem::{FileSystem, SuperBlock},
    inode::{Inode, Locked},
};
use crate::bindings;
use core::cell::UnsafeCell;
use kernel::{error::to_result, prelude::*, warn_on};

/// Who is charged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The user that owns an inode.
    User = bindings::quota_type_USRQUOTA as isize,
    /// Its group.
    Group = bindings::quota_type_GRPQUOTA as isize,
}

impl Kind {
    const ALL: [Self; 2] = [Self::User, Self::Group];
}

/// The most that somebody may have: bytes, and inodes. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The most bytes.
    pub space: i64,
    /// The most bytes for longer than the grace time.
    pub soft_space: i64,
    /// The most inodes.
    pub inodes: i64,
    /// The most inodes for longer than the grace time.
    pub soft_inodes: i64,
}

/// Both the counting and the limits.
const ENABLED: u32 = bindings::DQUOT_USAGE_ENABLED | bindings::DQUOT_LIMITS_ENABLED;

impl<T: FileSystem> SuperBlock<T> {
    /// Whether anybody is charged for what is on it.
    pub fn has_quota(&self) -> bool {
        // SAFETY: The reference keeps the superblock.
        unsafe { bindings::sb_any_quota_loaded(self.as_raw()) }
    }
}

/// Turns quotas on, as [`FileSystem::quota`] says, before the first inode is made.
pub(super) fn enable<T: FileSystem>(sb: &SuperBlock<T>) -> Result {
    let wanted = |kind: &Kind| T::quota(sb, *kind).is_some();
    if !Kind::ALL.iter().any(wanted) {
        return Ok(());
    }
    // SAFETY: The superblock is new, so that nobody else accesses it.
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
        // SAFETY: No inode was made.
        .inspect_err(|_| unsafe { disable(sb) })?;
    }
    Ok(())
}

/// Turns quotas off. Does nothing where they are.
///
/// # Safety
///
/// The caller holds `s_umount` exclusive, and there are no inodes any more.
pub(super) unsafe fn disable<T: FileSystem>(sb: &SuperBlock<T>) {
    // SAFETY: By the safety requirements.
    unsafe { bindings::dquot_disable(sb.as_raw(), -1, ENABLED) };
}

/// Who is charged for an inode, of each kind: references that the kernel keeps.
pub(super) struct Dquots(UnsafeCell<[*mut bindings::dquot; bindings::MAXQUOTAS as usize]>);

impl Dquots {
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new(
            [core::ptr::null_mut(); bindings::MAXQUOTAS as usize],
        ))
    }
}

/// # Safety
///
/// `inode` is an inode of `T`.
pub(super) unsafe extern "C" fn get_dquots<T: FileSystem>(
    inode: *mut bindings::inode,
) -> *mut *mut bindings::dquot {
    // SAFETY: By the safety requirements.
    unsafe { Inode::<T>::from_raw(inode) }
        .dquots()
        .0
        .get()
        .cast()
}

/// Charges its owner for a new inode.
///
/// # Errors
///
/// `EDQUOT`, `ENOMEM`. Nobody is ever charged for the inode, then.
pub(super) fn admit<T: FileSystem>(inode: &Inode<T>) -> Result {
    let raw = inode.as_raw();
    // SAFETY: The inode is new and has its owner; nobody else has it yet.
    unsafe {
        to_result(bindings::dquot_initialize(raw))
            .and_then(|()| to_result(bindings::dquot_alloc_inode(raw)))
            .inspect_err(|_| {
                bindings::dquot_drop(raw);
                (*raw).i_flags |= bindings::S_NOQUOTA;
            })
    }
}

/// Charges nobody any more for an inode that goes, and `blocks` that went with it.
pub(super) fn dismiss<T: FileSystem>(inode: &Inode<T>, blocks: u64) {
    if !inode.super_block().has_quota() {
        return;
    }
    drop(inode.freed(blocks));
    // SAFETY: The inode is going, and nobody else has it any more.
    unsafe {
        // What it was charged was what it had, or its owner would pay for it forever.
        warn_on!(bindings::inode_get_bytes(inode.as_raw()) != 0);
        bindings::dquot_free_inode(inode.as_raw());
        bindings::dquot_drop(inode.as_raw());
    }
}

/// Charges those who own the inode from now on, if `attr` changes that, in the place of those who
/// did.
///
/// # Errors
///
/// `EDQUOT`, `ENOMEM`; nothing has changed.
///
/// # Safety
///
/// `idmap` and `attr` are valid.
pub(super) unsafe fn transfer<T: FileSystem>(
    inode: &Locked<T>,
    idmap: *mut bindings::mnt_idmap,
    attr: *mut bindings::iattr,
) -> Result {
    if !inode.super_block().has_quota() {
        return Ok(());
    }
    let transfer = || {
        // SAFETY: By the safety requirements; the inode is locked. Looks itself at what changes.
        to_result(unsafe { bindings::dquot_transfer(idmap, inode.as_raw(), attr) })
    };
    // SAFETY: As above.
    unsafe { inode.transfer_within(idmap, attr, transfer) }
}
