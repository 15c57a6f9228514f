// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Whether blocks are shared, by `FS_IOC_FIEMAP`.

use crate::{
    sys::{self, FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_SHARED, FIEMAP_FLAG_SYNC},
    Cloned,
};
use std::{ops::Range, os::fd::BorrowedFd};

/// Whether a call without flags, which says nothing of it, shared blocks.
///
/// Where somebody shared the range's old blocks, the filesystem may show those until what was
/// copied is written out.
pub(crate) fn shared(file: BorrowedFd<'_>, range: Range<u64>) -> Cloned {
    match fiemap(file, range.clone(), 0) {
        Cloned::Yes => fiemap(file, range, FIEMAP_FLAG_SYNC),
        answer => answer,
    }
}

fn fiemap(file: BorrowedFd<'_>, mut range: Range<u64>, flags: u32) -> Cloned {
    let mut answer = Cloned::Unknown;
    while range.start < range.end {
        let Ok(extents) = sys::fiemap(file, range.clone(), flags) else {
            return Cloned::Unknown;
        };
        if extents.is_empty() {
            break;
        }
        for extent in extents {
            if extent.flags & FIEMAP_EXTENT_SHARED != 0 {
                return Cloned::Yes;
            }
            if extent.flags & FIEMAP_EXTENT_LAST != 0 {
                return Cloned::No;
            }
            range.start = extent.logical + extent.length;
        }
        answer = Cloned::No;
    }
    answer
}
