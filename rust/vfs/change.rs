// SPDX-License-Identifier: GPL-2.0

//! Changes of a file's data, and what each of them owes.
//!
//! Compare `file_modified` of `fs/inode.c`, and what `ext4_write_checks` and
//! `generic_remap_file_range_prep` look at before.

use super::{
    file::File,
    filesystem::FileSystem,
    inode::{Inode, Locked},
};
use crate::bindings;
use core::ops::Deref;
use kernel::{error::to_result, prelude::*};

/// A file that is about to change: its `i_rwsem` is held exclusive, and since that was taken set-id bits
/// and capabilities were taken away, the times and the change attribute set, and the flags that forbid a
/// change were looked at.
///
/// What writes to a file or shares blocks with it asks for one of these. It ends with the hold of the
/// lock: while the lock is not held, an owner may make the file set-user-ID or immutable, so that who
/// goes on afterwards owes all of it again.
pub struct Changing<'a, T: FileSystem>(&'a Locked<T>);

impl<'a, T: FileSystem> Changing<'a, T> {
    /// Begins a change of `inode` through `file`, which is open for writing.
    ///
    /// # Errors
    ///
    /// `EPERM` where the file is immutable, `ETXTBSY` where it is swapped to, and those of
    /// `file_modified`.
    pub(super) fn begin(inode: &'a Locked<T>, file: &File<T>) -> Result<Self> {
        debug_assert!(core::ptr::eq::<Inode<T>>(&**inode, file.inode()));
        // SAFETY: The file is open, and its inode locked.
        Self::begin_with(inode, || unsafe { bindings::file_modified(file.as_raw()) })
    }

    /// As [`Changing::begin`], where `modified` does what `file_modified` does, and returns what it does.
    pub(super) fn begin_with(
        inode: &'a Locked<T>,
        modified: impl FnOnce() -> c_int,
    ) -> Result<Self> {
        if inode.is_immutable() {
            return Err(EPERM);
        }
        if inode.is_swapfile() {
            return Err(ETXTBSY);
        }
        to_result(modified())?;
        Ok(Self(inode))
    }

    /// # Safety
    ///
    /// All that a change owes was done since `i_rwsem` of `inode` was taken.
    pub(super) unsafe fn assume(inode: &'a Locked<T>) -> Self {
        Self(inode)
    }
}

impl<T: FileSystem> Deref for Changing<'_, T> {
    type Target = Locked<T>;

    fn deref(&self) -> &Locked<T> {
        self.0
    }
}
