// SPDX-License-Identifier: GPL-2.0

//! `FS_IOC_FIEMAP`: where the extents go.
//!
//! C header: [`include/linux/fiemap.h`](srctree/include/linux/fiemap.h). Reference:
//! <https://docs.kernel.org/filesystems/fiemap.html>

use super::{
    FileSystem,
    Inode, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// An extent that is to be reported. All in bytes.
#[derive(Clone, Copy)]
pub struct FiemapExtent {
    /// Where in the file it begins.
    pub logical: u64,
    /// Where it is stored.
    pub physical: u64,
    /// The length.
    pub len: u64,
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
}

/// What the caller asked for, and where the extents go: `struct fiemap_extent_info`.
pub struct FiemapExtentInfo<'a>(*mut bindings::fiemap_extent_info, PhantomData<&'a mut ()>);

impl FiemapExtentInfo<'_> {
    /// # Safety
    ///
    /// `info` is valid during the lifetime of the result.
    pub(super) unsafe fn from_raw(info: *mut kernel::bindings::fiemap_extent_info) -> Self {
        // `kernel::bindings` only has the type's name.
        Self(info.cast(), PhantomData)
    }

    /// Checks the request, `fiemap_prep`, for a filesystem that knows no flags but
    /// `FIEMAP_FLAG_SYNC`. Returns the length, cut at the largest size of a file.
    ///
    /// # Errors
    ///
    /// `EBADR` for flags, `EFBIG`, `EINVAL`.
    pub fn prep<T: FileSystem>(&mut self, inode: &Inode<T>, start: u64, len: u64) -> Result<u64> {
        let mut len = len;
        // SAFETY: Both are valid.
        to_result(unsafe { bindings::fiemap_prep(inode.as_raw(), self.0, start, &mut len, 0) })?;
        Ok(len)
    }

    /// Reports an extent, `fiemap_fill_next_extent`. Returns whether more are wanted. May sleep,
    /// for as long as the caller's memory makes it wait.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub fn fill_next_extent(&mut self, extent: &FiemapExtent) -> Result<bool> {
        // SAFETY: `from_raw` was promised that the information is valid. The function checks the
        // caller's memory.
        let ret = unsafe {
            bindings::fiemap_fill_next_extent(
                self.0,
                extent.logical,
                extent.physical,
                extent.len,
                extent.flags,
            )
        };
        to_result(ret)?;
        Ok(ret == 0)
    }
}

/// `FIEMAP_EXTENT_LAST`.
pub const EXTENT_LAST: u32 = bindings::FIEMAP_EXTENT_LAST;

/// `FIEMAP_EXTENT_UNKNOWN`.
pub const EXTENT_UNKNOWN: u32 = bindings::FIEMAP_EXTENT_UNKNOWN;

/// `FIEMAP_EXTENT_UNWRITTEN`.
pub const EXTENT_UNWRITTEN: u32 = bindings::FIEMAP_EXTENT_UNWRITTEN;

/// `FIEMAP_EXTENT_SHARED`.
pub const EXTENT_SHARED: u32 = bindings::FIEMAP_EXTENT_SHARED;
