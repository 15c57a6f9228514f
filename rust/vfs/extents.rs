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
    /// What tells it from other data of the filesystem, and is the same for all that share it; `None` where
    /// that is not known.
    pub physical: Option<u64>,
    /// How long it is.
    pub len: u64,
    /// Whether it is shared.
    pub shared: bool,
    /// Whether there is room for it, but nothing was written there.
    pub unwritten: bool,
}

/// How many extents are looked for under one hold of the inode's lock.
const BATCH: usize = 16;

/// The next extents that reach beyond `pos` and begin before `end`, and of each whether it is the file's
/// last.
///
/// A clone or a truncation is not seen half done among these; the lock is not held longer, nor while
/// the caller's memory is written to, as both last as long as he likes.
fn next_extents<T: FileOperations>(
    inode: &Inode<T>,
    pos: u64,
    end: u64,
) -> [Option<(Extent, bool)>; BATCH] {
    let mut found = [None; BATCH];
    let _guard = inode.lock_shared();
    let mut next = T::extent(inode, pos);
    for found in &mut found {
        let Some(extent) = next.filter(|extent| extent.logical < end) else {
            break;
        };
        next = T::extent(inode, extent.logical + extent.len);
        *found = Some((extent, next.is_none()));
    }
    found
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
    let end = start.saturating_add(len);
    let mut pos = start;
    let mut fill = || loop {
        go_on()?;
        let found = next_extents(inode, pos, end);
        for (extent, last) in found.iter().flatten() {
            pos = extent.logical + extent.len;
            let mut flags = 0;
            if extent.shared {
                flags |= bindings::FIEMAP_EXTENT_SHARED;
            }
            if extent.physical.is_none() {
                flags |= bindings::FIEMAP_EXTENT_UNKNOWN;
            }
            if extent.unwritten {
                flags |= bindings::FIEMAP_EXTENT_UNWRITTEN;
            }
            if *last {
                flags |= bindings::FIEMAP_EXTENT_LAST;
            }
            // SAFETY: `info` is valid, its user memory is written with care.
            let ret = unsafe {
                bindings::fiemap_fill_next_extent(
                    info,
                    extent.logical,
                    extent.physical.unwrap_or(0),
                    extent.len,
                    flags,
                )
            };
            // 1: no more are wanted.
            if ret == 1 {
                return Ok(());
            }
            to_result(ret)?;
        }
        if found.iter().any(Option::is_none) {
            return Ok(());
        }
    };
    to_errno(fill())
}
