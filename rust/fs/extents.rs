// SPDX-License-Identifier: GPL-2.0

//! Where the data of a file lies: `SEEK_DATA`, `SEEK_HOLE`, FIEMAP.

use super::{
    block_of,
    Inode, //
};
use crate::{
    store::{
        block::{
            BLOCK_SHIFT,
            BLOCK_SIZE, //
        },
        BlockExtent, //
    },
    vfs::{
        cond_resched_killable,
        fiemap,
        FiemapExtent,
        FiemapExtentInfo, //
    },
};
use kernel::prelude::*;

/// How many extents are looked for under one hold of the inode's lock.
const BATCH_EXTENTS: usize = 16;

/// Returns the first offset at or after `pos` with data, or with `hole` in a hole; the end of the
/// file counts as a hole. `pos` lies before the end. What `fallocate(2)` has allocated and nothing
/// was written to counts as a hole, as on XFS and tmpfs.
pub(crate) fn seek(inode: &Inode, pos: u64, hole: bool) -> Option<u64> {
    let size = inode.size();
    let index = block_of(pos);
    let found = if hole {
        inode.blocks().next_not_written(index)
    } else {
        inode.blocks().next_written(index)?
    };
    let found = (found << BLOCK_SHIFT).max(pos);
    if hole {
        Some(found.min(size))
    } else {
        Some(found).filter(|&found| found < size)
    }
}

/// Reports the extents of the bytes from `start` on, `len` of them.
///
/// # Errors
///
/// Those of `fiemap_prep` and `fiemap_fill_next_extent`, `EINTR`.
pub(crate) fn fiemap(
    inode: &Inode,
    mut info: FiemapExtentInfo<'_>,
    start: u64,
    len: u64,
) -> Result {
    let end = start.saturating_add(info.prep(inode, start, len)?);
    let mut pos = start;
    loop {
        cond_resched_killable()?;
        let found = next_extents(inode, pos, end);
        for (extent, last) in found.iter().flatten() {
            let extent = to_fiemap(extent, *last);
            pos = extent.logical + extent.len;
            if !info.fill_next_extent(&extent)? {
                return Ok(());
            }
        }
        if found.iter().any(Option::is_none) {
            return Ok(());
        }
    }
}

/// Returns the next extents that reach beyond `pos` and begin before `end`, and of each whether it
/// is the file's last.
///
/// A clone or a truncation is not seen half done among these. The lock is not held longer, nor
/// while the caller's memory is written to, as both last as long as the caller likes.
fn next_extents(inode: &Inode, pos: u64, end: u64) -> [Option<(BlockExtent, bool)>; BATCH_EXTENTS] {
    let mut found = [const { None }; BATCH_EXTENTS];
    let _guard = inode.lock_shared();
    let file_blocks = inode.blocks();
    let mut next = file_blocks.extent(block_of(pos));
    for found in &mut found {
        let Some(extent) = next.filter(|extent| extent.index << BLOCK_SHIFT < end) else {
            break;
        };
        next = file_blocks.extent(extent.index + extent.len);
        *found = Some((extent, next.is_none()));
    }
    found
}

/// Converts an extent: a block's number stands for its place.
fn to_fiemap(extent: &BlockExtent, last: bool) -> FiemapExtent {
    let flags = [
        (extent.shared, fiemap::EXTENT_SHARED),
        (extent.number == 0, fiemap::EXTENT_UNKNOWN),
        (extent.unwritten, fiemap::EXTENT_UNWRITTEN),
        (last, fiemap::EXTENT_LAST),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
    FiemapExtent {
        logical: extent.index << BLOCK_SHIFT,
        physical: extent.number << BLOCK_SHIFT,
        len: extent.len * BLOCK_SIZE as u64,
        flags: flags.fold(0, |all, (_, flag)| all | flag),
    }
}
