// SPDX-License-Identifier: GPL-2.0

//! What must precede a change of a file's data: `file_modified`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). Compare `ext4_write_checks`,
//! `generic_remap_file_range_prep`.

use super::{
    Dentry,
    File,
    FileSystem,
    IdMap,
    Kiocb,
    LockedInode, //
};
use core::ops::Deref;
use kernel::prelude::*;

/// A file about to change: its `i_rwsem` is held exclusive, and under this hold of the lock the
/// flags that forbid a change were checked, set-id bits and capabilities removed, the times and
/// `i_version` updated.
///
/// It ends when the lock is dropped: until the lock is taken again, an owner may make the file
/// set-user-ID or immutable, so a call that goes on begins the change anew.
pub struct Changing<'a, T: FileSystem>(&'a LockedInode<T>);

impl<'a, T: FileSystem> Changing<'a, T> {
    /// Begins a change of `inode` through `file`, which is open for writing.
    ///
    /// # Errors
    ///
    /// `EPERM` where the file is immutable, `ETXTBSY` for a swap file, and those of
    /// `file_modified`.
    pub fn begin(inode: &'a LockedInode<T>, file: &File<T>) -> Result<Self> {
        Self::check_flags(inode)?;
        file.modified(inode)?;
        Ok(Self(inode))
    }

    /// As [`Changing::begin`], for a write: without waiting where `kiocb` must not wait.
    ///
    /// # Errors
    ///
    /// As [`Changing::begin`], and `EAGAIN`.
    pub fn begin_write(inode: &'a LockedInode<T>, kiocb: &mut Kiocb<'_, T>) -> Result<Self> {
        Self::check_flags(inode)?;
        kiocb.modified(inode)?;
        Ok(Self(inode))
    }

    /// Begins a change of size by `->setattr`. `do_truncate` looks for set-id bits before it has
    /// the lock: an owner that waited for the lock first may have set them since.
    ///
    /// [`Iattr::copy`](super::Iattr::copy) sets the times.
    ///
    /// # Errors
    ///
    /// `EPERM` where the file is immutable or append-only, and those of `notify_change`.
    pub fn begin_setattr(
        inode: &'a LockedInode<T>,
        idmap: IdMap<'_>,
        dentry: &Dentry<T>,
    ) -> Result<Self> {
        if inode.is_immutable() || inode.is_append_only() {
            return Err(EPERM);
        }
        dentry.remove_privs(idmap)?;
        Ok(Self(inode))
    }

    fn check_flags(inode: &LockedInode<T>) -> Result {
        if inode.is_immutable() {
            return Err(EPERM);
        }
        if inode.is_swapfile() {
            return Err(ETXTBSY);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Everything that [`Changing::begin`] does was done since `i_rwsem` of `inode` was taken.
    pub(super) unsafe fn assume(inode: &'a LockedInode<T>) -> Self {
        Self(inode)
    }
}

impl<T: FileSystem> Deref for Changing<'_, T> {
    type Target = LockedInode<T>;

    fn deref(&self) -> &LockedInode<T> {
        self.0
    }
}
