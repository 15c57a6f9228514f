// SPDX-License-Identifier: GPL-2.0

//! Superblocks: `struct super_block`.
//!
//! C header: [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h).

use super::FileSystem;
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

/// A superblock of a filesystem, `struct super_block`.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: C changes the fields under its own locks; `SbInfo` is `Sync`.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// Access control lists, `SB_POSIXACL`.
    pub const POSIXACL: usize = bindings::SB_POSIXACL;

    /// Changes are counted in `i_version`, `SB_I_VERSION`.
    pub const I_VERSION: usize = bindings::SB_I_VERSION;

    /// Once an inode is known to have no `security.capability`, a write does not look for it:
    /// `SB_NOSEC`.
    pub const NOSEC: usize = bindings::SB_NOSEC;

    /// Allows fanotify's pre-content events, `SB_I_ALLOW_HSM`.
    pub const I_ALLOW_HSM: usize = bindings::SB_I_ALLOW_HSM as usize;

    /// # Safety
    ///
    /// `sb` is a superblock of `T` whose `s_fs_info` is set, and stays so during `'a`.
    pub(crate) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: The caller guarantees that the superblock is live; the types have the same
        // layout.
        unsafe { &*sb.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Returns what the filesystem keeps with the superblock.
    pub fn info(&self) -> &T::SbInfo {
        // SAFETY: `s_fs_info` was set by `fill_super` and stays until `kill_sb` returns.
        unsafe { KBox::<T::SbInfo>::borrow((*self.as_raw()).s_fs_info) }
    }

    /// Returns the number of its device, `s_dev`.
    pub fn s_dev(&self) -> u32 {
        // SAFETY: The superblock is live; the number does not change.
        unsafe { (*self.as_raw()).s_dev }
    }

    /// Returns the major and minor number of its device.
    pub fn dev(&self) -> (u32, u32) {
        let dev = self.s_dev();
        (
            dev >> bindings::MINORBITS,
            dev & ((1 << bindings::MINORBITS) - 1),
        )
    }

    /// Returns the ids of a user and a group in the user namespace that it was mounted in.
    pub fn munged_ids(&self, uid: bindings::kuid_t, gid: bindings::kgid_t) -> (u32, u32) {
        // SAFETY: The superblock is live, and has a reference to its namespace.
        unsafe {
            let ns = (*self.as_raw()).s_user_ns;
            (
                bindings::from_kuid_munged(ns, uid),
                bindings::from_kgid_munged(ns, gid),
            )
        }
    }
}

/// Takes what is kept with a superblock out of it.
///
/// # Safety
///
/// `sb` is a superblock of `T` all of whose inodes were evicted, and that nothing else accesses.
pub(super) unsafe fn take_data<T: FileSystem>(
    sb: *mut bindings::super_block,
) -> Option<KBox<T::SbInfo>> {
    // SAFETY: The caller guarantees that nothing else accesses the superblock.
    let data = unsafe { core::mem::replace(&mut (*sb).s_fs_info, null_mut()) };
    // SAFETY: `fill_super` set it, and nothing borrows it any more.
    (!data.is_null()).then(|| unsafe { KBox::from_foreign(data) })
}
