// SPDX-License-Identifier: GPL-2.0

//! `FS_IOC_FIEMAP`.
//!
//! C header: [`include/linux/fiemap.h`](srctree/include/linux/fiemap.h). Reference:
//! <https://docs.kernel.org/filesystems/fiemap.html>

use super::{file::FileOperations, go_on, inode::Inode, to_errno};
use crate::bindings;
use kernel::{error::to_result, prelude::*};

/// A run of a file's data. All in bytes.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Where in the file it begins.
    pub logical: u64,
    /// What tells it from other data of the filesystem, and is the same for all that share it.
    pub physical: u64,
    /// How long it is.
    pub len: u64,
    /// Whether it is shared.
    pub shared: bool,
    /// Whether there is room for it, but nothing was written there.
    pub unwritten: bool,
}

/// # Safety
///
/// `inode` is a regular file of `T`, `info` valid.
pub(super) unsafe extern "C" fn fiemap<T: FileOperations>(
    inode: *mut bindings::inode,
    info: *mut kernel::bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> c_int {
    let info: *mut bindings::fiemap_extent_info = info.cast();
    let mut len = len;
    // SAFETY: By the safety requirements.
    let inode = unsafe {
        let ret = bindings::fiemap_prep(inode, info, start, &mut len, 0);
        if ret != 0 {
            return ret;
        }
        Inode::<T>::from_raw(inode)
    };
    // Clones and truncations would show half done.
    let _guard = inode.lock_shared();
    let end = start.saturating_add(len);
    let fill = || {
        let mut next = T::extent(inode, start);
        while let Some(extent) = next.filter(|extent| extent.logical < end) {
            go_on()?;
            next = T::extent(inode, extent.logical + extent.len);
            let mut flags = 0;
            if extent.shared {
                flags |= bindings::FIEMAP_EXTENT_SHARED;
            }
            if extent.unwritten {
                flags |= bindings::FIEMAP_EXTENT_UNWRITTEN;
            }
            if next.is_none() {
                flags |= bindings::FIEMAP_EXTENT_LAST;
            }
            // SAFETY: `info` is valid, its user memory is written with care.
            let ret = unsafe {
                bindings::fiemap_fill_next_extent(
                    info,
                    extent.logical,
                    extent.physical,
                    extent.len,
                    flags,
                )
            };
            // 1: no more are wanted.
            if ret == 1 {
                break;
            }
            to_result(ret)?;
        }
        Ok(())
    };
    to_errno(fill())
}
