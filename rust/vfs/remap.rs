// SPDX-License-Identifier: GPL-2.0

//! `copy_file_range` and `remap_file_range`, and the locks of two files.
//!
//! Compare `fs/remap_range.c`, and `xfs_reflink_remap_prep` for the order of the locks.

use super::{
    change::Changing,
    file::{File, FileOperations},
    filesystem::FileSystem,
    inode::Locked,
    mapping::Invalidate,
};
use crate::{
    bindings,
    copy_flags::{COPY_FR_COPY, COPY_FR_DEDUP, COPY_FR_REFLINK},
};
use kernel::{error::to_result, prelude::*};

/// What a [`Remap`] is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RemapKind {
    /// Copy: share nothing.
    Copy,
    /// Share, or copy what cannot be shared.
    CopyOrClone,
    /// Share.
    Clone,
    /// Share if the bytes are equal.
    Dedupe,
}

/// A range of one file that is to go to another. Positions and lengths are in bytes.
pub struct Remap<'a, T: FileSystem> {
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
    /// What is to be done.
    pub kind: RemapKind,
    /// Whether less than the whole range may be done.
    pub may_shorten: bool,
    /// Whether it ends with what was done until then where a signal of any kind comes, or where
    /// so much was done that others should not wait longer.
    pub may_stop: bool,
    /// Whether all that it says to have shared must be: it ends before a block that cannot be, with
    /// `EBUSY` where that is the first.
    pub only_shared: bool,
}

impl<'a, T: FileSystem> Remap<'a, T> {
    /// Locks both files, so that neither is changed meanwhile.
    pub fn lock(&self) -> LockedPair<'a, T> {
        let (from, to) = (self.from.inode(), self.to.inode());
        // SAFETY: Both inodes are live. The guard unlocks them.
        unsafe { bindings::lock_two_nondirectories(from.as_raw(), to.as_raw()) };
        LockedPair {
            from: self.from,
            to: self.to,
        }
    }

    /// The checks that the kernel has for a clone of this range, see
    /// `generic_remap_file_range_prep`. Returns the length to be done, and the destination; `None`
    /// where there is nothing to be done.
    ///
    /// # Errors
    ///
    /// See the manual page of `ioctl_ficlonerange`.
    pub fn prepare_clone<'l>(
        &self,
        files: &'l LockedPair<'_, T>,
    ) -> Result<Option<(Changing<'l, T>, u64)>> {
        let flags = if self.may_shorten {
            bindings::REMAP_FILE_CAN_SHORTEN
        } else {
            0
        };
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
    /// The source.
    pub fn from(&self) -> &Locked<T> {
        // SAFETY: The guard holds the lock.
        unsafe { Locked::assume(self.from.inode()) }
    }

    /// The destination.
    pub fn to(&self) -> &Locked<T> {
        // SAFETY: The guard holds the lock.
        unsafe { Locked::assume(self.to.inode()) }
    }

    /// The destination, about to change.
    ///
    /// # Errors
    ///
    /// `EPERM` where it is immutable, `ETXTBSY` where either file is swapped to, and those of
    /// `file_modified`.
    pub fn change(&self) -> Result<Changing<'_, T>> {
        if self.from().is_swapfile() {
            return Err(ETXTBSY);
        }
        Changing::begin(self.to(), self.to)
    }

    /// Takes `invalidate_lock` of both exclusive.
    pub fn invalidate(&self) -> InvalidatePair<'_, T> {
        // SAFETY: Both inodes are live. The guard unlocks them.
        unsafe {
            bindings::filemap_invalidate_lock_two(self.from().mapping(), self.to().mapping());
        }
        InvalidatePair(self)
    }
}

impl<T: FileSystem> Drop for LockedPair<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Remap::lock` took them.
        unsafe {
            bindings::unlock_two_nondirectories(self.from().as_raw(), self.to().as_raw());
        }
    }
}

/// Two files, or twice the same, whose `invalidate_lock` is held exclusive, too.
#[must_use]
pub struct InvalidatePair<'a, T: FileSystem>(&'a LockedPair<'a, T>);

impl<T: FileSystem> InvalidatePair<'_, T> {
    /// The source.
    pub fn from(&self) -> Invalidate<'_, T> {
        // SAFETY: The guard holds the lock.
        unsafe { Invalidate::assume(self.0.from()) }
    }

    /// The destination.
    pub fn to(&self) -> Invalidate<'_, T> {
        // SAFETY: The guard holds the lock.
        unsafe { Invalidate::assume(self.0.to()) }
    }
}

impl<T: FileSystem> Drop for InvalidatePair<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `LockedPair::invalidate` took them.
        unsafe {
            let (from, to) = (self.0.from(), self.0.to());
            bindings::filemap_invalidate_unlock_two(from.mapping(), to.mapping());
        }
    }
}

/// # Safety
///
/// Both files are open, regular and of `T`, though maybe of different superblocks; the VFS has
/// checked the range.
pub(super) unsafe extern "C" fn copy_file_range<T: FileOperations>(
    from: *mut bindings::file,
    from_pos: bindings::loff_t,
    to: *mut bindings::file,
    to_pos: bindings::loff_t,
    len: usize,
    flags: c_uint,
) -> isize {
    let kind = match flags {
        0 => RemapKind::CopyOrClone,
        COPY_FR_COPY => RemapKind::Copy,
        COPY_FR_REFLINK => RemapKind::Clone,
        COPY_FR_DEDUP => RemapKind::Dedupe,
        _ => return EINVAL.to_errno() as isize,
    };
    // SAFETY: By the safety requirements.
    let (from, to) = unsafe { (File::from_raw(from), File::from_raw(to)) };
    let request = Remap {
        from,
        from_pos: from_pos as u64,
        to,
        to_pos: to_pos as u64,
        len: len as u64,
        kind,
        may_shorten: matches!(kind, RemapKind::Copy | RemapKind::CopyOrClone),
        may_stop: true,
        only_shared: matches!(kind, RemapKind::Clone | RemapKind::Dedupe),
    };
    let one_mount = core::ptr::eq(from.inode().super_block(), to.inode().super_block());
    let done = match kind {
        RemapKind::Copy | RemapKind::CopyOrClone => T::copy(&request),
        RemapKind::Clone | RemapKind::Dedupe if one_mount => T::remap(&request),
        RemapKind::Clone | RemapKind::Dedupe => Err(EXDEV),
    };
    match done {
        Ok(n) => n as isize,
        Err(err) => err.to_errno() as isize,
    }
}

/// # Safety
///
/// Both files are open, and their inodes of one superblock of `T`; whether they are regular is for
/// the callee to see.
pub(super) unsafe extern "C" fn remap_file_range<T: FileOperations>(
    from: *mut bindings::file,
    from_pos: bindings::loff_t,
    to: *mut bindings::file,
    to_pos: bindings::loff_t,
    len: bindings::loff_t,
    flags: c_uint,
) -> bindings::loff_t {
    let known = bindings::REMAP_FILE_DEDUP | bindings::REMAP_FILE_ADVISORY;
    if flags & !known != 0 {
        return EINVAL.to_errno().into();
    }
    let kind = if flags & bindings::REMAP_FILE_DEDUP == 0 {
        RemapKind::Clone
    } else {
        RemapKind::Dedupe
    };
    // SAFETY: By the safety requirements.
    let (from, to) = unsafe { (File::from_raw(from), File::from_raw(to)) };
    let done = T::remap(&Remap {
        from,
        from_pos: from_pos as u64,
        to,
        to_pos: to_pos as u64,
        len: len as u64,
        kind,
        may_shorten: flags & bindings::REMAP_FILE_CAN_SHORTEN != 0,
        may_stop: false,
        only_shared: false,
    });
    match done {
        Ok(n) => n as i64,
        Err(err) => err.to_errno().into(),
    }
}
