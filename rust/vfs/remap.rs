// SPDX-License-Identifier: GPL-2.0

//! Ranges that go from one file to another, and the locks of both.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). Compare `fs/remap_range.c`, and
//! `xfs_reflink_remap_prep` for the order of the locks.

use super::{
    address_space::{invalidate_locked, invalidate_unlocked},
    Changing,
    File,
    FileSystem,
    InvalidateGuard,
    LockedInode, //
};
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A range of one file and a position in another, or in the same. In bytes.
pub struct FileRange<'a, T: FileSystem> {
    /// The source.
    pub from: &'a File<T>,
    /// Where the range begins in the source.
    pub from_pos: u64,
    /// The destination, which may be the source.
    pub to: &'a File<T>,
    /// Where the range goes.
    pub to_pos: u64,
    /// How long it is; 0 for a clone to the end of the source.
    pub len: u64,
}

impl<'a, T: FileSystem> FileRange<'a, T> {
    /// Returns the range that C passes to `->copy_file_range` and `->remap_file_range`. The VFS has
    /// checked that positions and length are not negative.
    ///
    /// # Safety
    ///
    /// Both are open files whose inodes are of `T`, during `'a`.
    pub(super) unsafe fn from_raw(
        from: *mut bindings::file,
        from_pos: bindings::loff_t,
        to: *mut bindings::file,
        to_pos: bindings::loff_t,
        len: u64,
    ) -> Self {
        // SAFETY: The caller guarantees that the files are open and of `T`.
        let (from, to) = unsafe { (File::from_raw(from), File::from_raw(to)) };
        Self {
            from,
            from_pos: from_pos as u64,
            to,
            to_pos: to_pos as u64,
            len,
        }
    }

    /// Takes `i_rwsem` of both files exclusive, `lock_two_nondirectories`.
    pub fn lock(&self) -> LockedPair<'a, T> {
        let (from, to) = (self.from.inode(), self.to.inode());
        // SAFETY: Both inodes are live. The guard unlocks them.
        unsafe { bindings::lock_two_nondirectories(from.as_raw(), to.as_raw()) };
        LockedPair {
            from: self.from,
            to: self.to,
        }
    }

    /// Checks a clone of this range, `generic_remap_file_range_prep`. Returns the destination and
    /// the length to be done; `None` where there is nothing to be done. `flags` are `REMAP_FILE_*`.
    ///
    /// # Errors
    ///
    /// See `ioctl_ficlonerange(2)`.
    pub fn prepare_clone<'l>(
        &self,
        files: &'l LockedPair<'_, T>,
        flags: u32,
    ) -> Result<Option<(Changing<'l, T>, u64)>> {
        let mut len = self.len as i64;
        // SAFETY: Both files are open and locked. The page caches are empty, so that there is
        // nothing to write back.
        to_result(unsafe {
            bindings::generic_remap_file_range_prep(
                self.from.as_raw(),
                self.from_pos as i64,
                self.to.as_raw(),
                self.to_pos as i64,
                &mut len,
                flags,
            )
        })?;
        if len <= 0 {
            return Ok(None);
        }
        // SAFETY: The function did all of it, as there is a length, with the lock held.
        let to = unsafe { Changing::assume(files.to()) };
        Ok(Some((to, len as u64)))
    }
}

/// Two files, or twice the same, whose `i_rwsem` is held exclusive.
#[must_use]
pub struct LockedPair<'a, T: FileSystem> {
    from: &'a File<T>,
    to: &'a File<T>,
}

impl<T: FileSystem> LockedPair<'_, T> {
    /// Returns the source.
    pub fn from(&self) -> &LockedInode<T> {
        // SAFETY: The guard holds the lock.
        unsafe { LockedInode::assume(self.from.inode()) }
    }

    /// Returns the destination.
    pub fn to(&self) -> &LockedInode<T> {
        // SAFETY: The guard holds the lock.
        unsafe { LockedInode::assume(self.to.inode()) }
    }

    /// Begins a change of the destination.
    ///
    /// # Errors
    ///
    /// `EPERM` where it is immutable, `ETXTBSY` where either is a swap file, and those of
    /// `file_modified`.
    pub fn change(&self) -> Result<Changing<'_, T>> {
        if self.from().is_swapfile() {
            return Err(ETXTBSY);
        }
        Changing::begin(self.to(), self.to)
    }

    /// Takes `invalidate_lock` of both exclusive, `filemap_invalidate_lock_two`.
    pub fn invalidate_lock(&self) -> InvalidatePair<'_, T> {
        // SAFETY: Both inodes are live. The guard unlocks them.
        unsafe {
            bindings::filemap_invalidate_lock_two(self.from().mapping(), self.to().mapping());
        }
        invalidate_locked();
        InvalidatePair(self)
    }
}

impl<T: FileSystem> Drop for LockedPair<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `FileRange::lock` took them.
        unsafe {
            bindings::unlock_two_nondirectories(self.from().as_raw(), self.to().as_raw());
        }
    }
}

/// Two files, or twice the same, whose `invalidate_lock` is held exclusive, too.
#[must_use]
pub struct InvalidatePair<'a, T: FileSystem>(&'a LockedPair<'a, T>);

impl<T: FileSystem> InvalidatePair<'_, T> {
    /// Returns the source's lock.
    pub fn from(&self) -> InvalidateGuard<'_, T> {
        // SAFETY: The guard holds the lock.
        unsafe { InvalidateGuard::assume(self.0.from()) }
    }

    /// Returns the destination's lock.
    pub fn to(&self) -> InvalidateGuard<'_, T> {
        // SAFETY: The guard holds the lock.
        unsafe { InvalidateGuard::assume(self.0.to()) }
    }
}

impl<T: FileSystem> Drop for InvalidatePair<'_, T> {
    fn drop(&mut self) {
        invalidate_unlocked();
        // SAFETY: `LockedPair::invalidate_lock` took them.
        unsafe {
            let (from, to) = (self.0.from(), self.0.to());
            bindings::filemap_invalidate_unlock_two(from.mapping(), to.mapping());
        }
    }
}

/// `REMAP_FILE_CAN_SHORTEN`.
pub const CAN_SHORTEN: u32 = bindings::REMAP_FILE_CAN_SHORTEN;

/// `REMAP_FILE_DEDUP`.
pub const DEDUP: u32 = bindings::REMAP_FILE_DEDUP;

/// There is no flag that a filesystem may ignore but this one.
const _: () = assert!(bindings::REMAP_FILE_ADVISORY == CAN_SHORTEN);
