// SPDX-License-Identifier: GPL-2.0

//! That what somebody is charged stays a number of 63 bits: the kernel adds up bytes without a look at
//! overflow, and files that share their blocks, and have more than anybody could store, cost nothing.
//!
//! Nobody is charged more than [`MOST`] bytes, whatever the limits. Between the look at a sum and the
//! addition others may add to it, too. So what is [`LARGE`] waits for a lock, and what is smaller does
//! not come to more than what lies between `MOST` and the overflow, however many do it at a time.

use super::{super::filesystem::FileSystem, Inode, Kind, Locked};
use crate::bindings;
use kernel::{prelude::*, sync::global_lock};

global_lock! {
    // SAFETY: `init` below is called before anything is charged.
    unsafe(uninit) static ADDING: Mutex<()> = ();
}

/// To be called once, before there is a superblock.
///
/// # Safety
///
/// As it says.
pub(super) unsafe fn init() {
    // SAFETY: By the safety requirements.
    unsafe { ADDING.init() };
}

/// The most bytes that anybody is charged: 7 EiB.
const MOST: i64 = i64::MAX - (1 << 60);

/// So many bytes, by as many threads as Linux has at most, 2^22, are what lies beyond [`MOST`].
const LARGE: i64 = 1 << 38;

/// Calls `add`, which charges somebody for `bytes` more, where they may be: `charged` says what they are
/// charged now.
///
/// # Errors
///
/// `EDQUOT`, and those of `add`.
fn within<R>(
    bytes: i64,
    charged: impl FnOnce() -> i64,
    add: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let _alone = (bytes >= LARGE).then(|| ADDING.lock());
    match charged().checked_add(bytes) {
        Some(sum) if sum <= MOST => add(),
        _ => Err(EDQUOT),
    }
}

/// What is charged to `dquot`, in bytes.
///
/// # Safety
///
/// `dquot` is a dquot to which there is a reference.
unsafe fn charged(dquot: *mut bindings::dquot) -> i64 {
    // SAFETY: By the safety requirements; what is read is protected by this lock.
    unsafe {
        bindings::spin_lock(&raw mut (*dquot).dq_dqb_lock);
        let block = (*dquot).dq_dqb;
        bindings::spin_unlock(&raw mut (*dquot).dq_dqb_lock);
        block.dqb_curspace.saturating_add(block.dqb_rsvspace)
    }
}

impl<T: FileSystem> Inode<T> {
    /// Charges, by `add`, those who own the inode for `bytes` more.
    ///
    /// # Errors
    ///
    /// `EDQUOT`, and those of `add`.
    pub(super) fn add_within(&self, bytes: i64, add: impl FnOnce() -> Result) -> Result {
        within(bytes, || self.most_charged(), add)
    }

    /// What the owner is charged, or the group, which of them is more.
    fn most_charged(&self) -> i64 {
        let inode = self.as_raw();
        // SAFETY: The inode is live. Its dquots change under this lock, and it has references to them.
        unsafe {
            bindings::spin_lock(&raw mut (*inode).i_lock);
            let dquots = self.dquots().0.get().read();
            let each = dquots.into_iter().filter(|dquot| !dquot.is_null());
            let most = each.map(|dquot| charged(dquot)).max();
            bindings::spin_unlock(&raw mut (*inode).i_lock);
            most.unwrap_or(0)
        }
    }
}

impl<T: FileSystem> Locked<T> {
    /// Charges, by `transfer`, those who own the inode by `attr`.
    ///
    /// # Errors
    ///
    /// `EDQUOT`, and those of `transfer`.
    ///
    /// # Safety
    ///
    /// `idmap` and `attr` are valid.
    pub(super) unsafe fn transfer_within(
        &self,
        idmap: *mut bindings::mnt_idmap,
        attr: *mut bindings::iattr,
        transfer: impl FnOnce() -> Result,
    ) -> Result {
        let most_charged = || {
            let each = Kind::ALL.into_iter().map(|kind| {
                // SAFETY: The caller says that `idmap` and `attr` are valid; the inode is locked. The
                // function takes a reference, which is given back.
                unsafe {
                    let dquot =
                        bindings::reflinkfs_new_dquot(idmap, self.as_raw(), attr, kind as c_int);
                    // Where there is none, `transfer` says why, or need not have one.
                    let charged = if dquot.is_null() { 0 } else { charged(dquot) };
                    bindings::dqput(dquot);
                    charged
                }
            });
            each.max().unwrap_or(0)
        };
        // SAFETY: The inode is live.
        let bytes = unsafe { bindings::inode_get_bytes(self.as_raw()) };
        within(bytes, most_charged, transfer)
    }
}
