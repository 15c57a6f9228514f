// SPDX-License-Identifier: GPL-2.0

//! Keeps what a user or group is charged below 2^63 bytes: the kernel adds charges up without
//! checking for overflow, and files that share their blocks have more bytes than could be stored.
//!
//! No user or group is charged more than [`MOST_BYTES`], with any limits. Between the check of
//! a sum and the addition other tasks may add to it. So a charge of [`LARGE_BYTES`] takes a lock,
//! and the smaller ones of all tasks together do not reach from `MOST_BYTES` to the overflow.

use super::{
    super::MemFs,
    Kind, //
};
use crate::{
    bindings,
    compat::EDQUOT,
    vfs::{
        Iattr,
        IdMap,
        Inode,
        LockedInode, //
    },
};
use kernel::{
    prelude::*,
    sync::global_lock, //
};

global_lock! {
    // SAFETY: `init` below is called before the first charge.
    unsafe(uninit) static ADDING: Mutex<()> = ();
}

/// Initialises the lock.
///
/// # Safety
///
/// Called once, before there is a superblock.
pub(super) unsafe fn init() {
    // SAFETY: The caller guarantees that this is the first and only call.
    unsafe { ADDING.init() };
}

/// The most bytes that a user or group is charged: 7 EiB.
const MOST_BYTES: i64 = i64::MAX - (1 << 60);

/// This many bytes for each of 2^22 threads, the most that Linux has, reach from [`MOST_BYTES`] to
/// the overflow.
const LARGE_BYTES: i64 = 1 << 38;

/// Calls `add`, which charges a user or group for `bytes` more, if the sum stays within
/// [`MOST_BYTES`]. `charged` returns what they are charged now.
///
/// # Errors
///
/// `EDQUOT`, and those of `add`.
fn within<R>(
    bytes: i64,
    charged: impl FnOnce() -> i64,
    add: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let _alone = (bytes >= LARGE_BYTES).then(|| ADDING.lock());
    match charged().checked_add(bytes) {
        Some(sum) if sum <= MOST_BYTES => add(),
        _ => Err(EDQUOT),
    }
}

/// Returns the usage and the limits in `dquot`.
///
/// # Safety
///
/// `dquot` is a dquot to which there is a reference, or whose `dq_lock` is held.
pub(super) unsafe fn dqblk(dquot: *mut bindings::dquot) -> bindings::mem_dqblk {
    // SAFETY: The caller guarantees that the dquot is live; `dq_dqb_lock` protects what is read.
    unsafe {
        bindings::spin_lock(&raw mut (*dquot).dq_dqb_lock);
        let block = (*dquot).dq_dqb;
        bindings::spin_unlock(&raw mut (*dquot).dq_dqb_lock);
        block
    }
}

/// Returns what is charged to `dquot`, in bytes.
///
/// # Safety
///
/// `dquot` is a dquot to which there is a reference.
unsafe fn charged(dquot: *mut bindings::dquot) -> i64 {
    // SAFETY: The caller guarantees a reference to the dquot.
    let block = unsafe { dqblk(dquot) };
    block.dqb_curspace.saturating_add(block.dqb_rsvspace)
}

/// Charges, by `add`, the owners of the inode for `bytes` more.
///
/// # Errors
///
/// `EDQUOT`, and those of `add`.
pub(super) fn add_within<T: MemFs>(
    inode: &Inode<T>,
    bytes: i64,
    add: impl FnOnce() -> Result,
) -> Result {
    within(bytes, || most_charged(inode), add)
}

/// Returns what the owner or the group of an inode is charged, the larger of both.
fn most_charged<T: MemFs>(inode: &Inode<T>) -> i64 {
    let raw = inode.as_raw();
    // SAFETY: The inode is live. Its dquots change under this lock, and it has references to them.
    unsafe {
        bindings::spin_lock(&raw mut (*raw).i_lock);
        let dquots = T::info(inode).dquots.read();
        let each = dquots.into_iter().filter(|dquot| !dquot.is_null());
        let most = each.map(|dquot| charged(dquot)).max();
        bindings::spin_unlock(&raw mut (*raw).i_lock);
        most.unwrap_or(0)
    }
}

/// Charges, by `transfer`, the owner and group that `attr` gives the inode.
///
/// # Errors
///
/// `EDQUOT`, and those of `transfer`.
pub(super) fn transfer_within<T: MemFs>(
    inode: &LockedInode<T>,
    idmap: IdMap<'_>,
    attr: &Iattr<'_>,
    transfer: impl FnOnce() -> Result,
) -> Result {
    let most_charged = || {
        let each = Kind::ALL.into_iter().map(|kind| {
            // SAFETY: All are valid; the inode is locked. Takes a reference, which is given back.
            unsafe {
                let dquot = bindings::reflinkfs_new_dquot(
                    idmap.as_raw(),
                    inode.as_raw(),
                    attr.as_raw(),
                    kind as c_int,
                );
                // Without one `transfer` fails, or charges nothing.
                let charged = if dquot.is_null() { 0 } else { charged(dquot) };
                bindings::dqput(dquot);
                charged
            }
        });
        each.max().unwrap_or(0)
    };
    // SAFETY: The inode is live.
    let bytes = unsafe { bindings::inode_get_bytes(inode.as_raw()) };
    within(bytes, most_charged, transfer)
}
