// SPDX-License-Identifier: GPL-2.0

//! The users and groups that are charged for an inode: `i_dquot`.
//!
//! C header: [`include/linux/quotaops.h`](srctree/include/linux/quotaops.h).

use crate::bindings;
use core::cell::UnsafeCell;

/// References to a `struct dquot` for each kind of quota, which the kernel manages.
pub struct Dquots(UnsafeCell<[*mut bindings::dquot; bindings::MAXQUOTAS as usize]>);

// SAFETY: The kernel changes them under its own locks.
unsafe impl Send for Dquots {}
// SAFETY: The kernel changes them under its own locks; `read` asks its caller for one.
unsafe impl Sync for Dquots {}

impl Dquots {
    /// Returns no references.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(
            [core::ptr::null_mut(); bindings::MAXQUOTAS as usize],
        ))
    }

    /// Returns the first of them.
    pub(crate) fn as_raw(&self) -> *mut *mut bindings::dquot {
        self.0.get().cast()
    }

    /// Returns them as they are.
    ///
    /// # Safety
    ///
    /// The caller holds a lock under which they do not change.
    pub(crate) unsafe fn read(&self) -> [*mut bindings::dquot; bindings::MAXQUOTAS as usize] {
        // SAFETY: The caller holds a lock under which they do not change.
        unsafe { self.0.get().read() }
    }
}
