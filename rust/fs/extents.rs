// SPDX-License-Identifier: GPL-2.0

//! Where the data of a file lies: `SEEK_DATA`, `SEEK_HOLE`, FIEMAP.

use super::{block_of, Inode};
use crate::{
    store::block::{BLOCK_SHIFT, BLOCK_SIZE},
    vfs::Extent,
};

/// See [`FileOperations::seek`](crate::vfs::FileOperations::seek). What `fallocate(2)` has allocated
/// and nobody wrote to counts as a hole, as on XFS and tmpfs.
pub(crate) fn seek(inode: &Inode, pos: u64, hole: bool) -> Option<u64> {
    let size = inode.size();
    let index = block_of(pos);
    let found = if hole {
        inode.data().next_not_written(index)
    } else {
        inode.data().next_written(index)?
    };
    let found = (found << BLOCK_SHIFT).max(pos);
    if hole {
        Some(found.min(size))
    } else {
        Some(found).filter(|&found| found < size)
    }
}

/// See [`FileOperations::extent`](crate::vfs::FileOperations::extent).
///
/// A block's number stands for its place.
pub(crate) fn extent(inode: &Inode, pos: u64) -> Option<Extent> {
    let extent = inode.data().extent(block_of(pos))?;
    Some(Extent {
        logical: extent.index << BLOCK_SHIFT,
        physical: Some(extent.number << BLOCK_SHIFT).filter(|&physical| physical != 0),
        len: extent.len * BLOCK_SIZE as u64,
        shared: extent.shared,
        unwritten: extent.unwritten,
    })
}
