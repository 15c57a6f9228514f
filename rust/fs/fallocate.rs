// SPDX-License-Identifier: GPL-2.0

//! `fallocate(2)`: giving room to a range, taking it, clearing it.

use super::{block_of, blocks_for, clear::Clearing, truncate::wipe_tail, Locked};
use crate::{
    store::{Lookup, Reserve},
    vfs::{go_on, Fallocate},
};
use core::ops::Range;
use kernel::prelude::*;

/// How many blocks get room under one hold of `invalidate_lock`.
const STEP: u64 = 256;

/// See [`FileOperations::fallocate`](crate::vfs::FileOperations::fallocate).
pub(crate) fn fallocate(
    inode: &Locked,
    what: Fallocate,
    bytes: Range<u64>,
    size: Option<u64>,
) -> Result {
    let blocks = block_of(bytes.start)..blocks_for(bytes.end);
    let fills = what != Fallocate::Punch;
    // Blocks that others hold are let go of by clearing, so that they cost as much as holes.
    let unshare = matches!(what, Fallocate::Unshare | Fallocate::Zero);
    if fills {
        inode
            .data()
            .pool()
            .has_room(missing(inode, &blocks, unshare)?)?;
    }
    if matches!(what, Fallocate::Punch | Fallocate::Zero) {
        let lock = inode.invalidate();
        Clearing::prepare(inode.data(), bytes, false)?.commit(inode, &lock, false);
    }
    if fills {
        fill(inode, blocks, unshare)?;
    }
    if let Some(size) = size {
        wipe_tail(inode, size);
        inode.set_size(size);
    }
    Ok(())
}

/// How many blocks it takes so that there are no holes, and with `unshare` no shared blocks.
fn missing(inode: &Locked, blocks: &Range<u64>, unshare: bool) -> Result<u64> {
    let mut there = 0;
    let mut index = blocks.start;
    while let Some(extent) = inode.data().extent(index) {
        if extent.index >= blocks.end {
            break;
        }
        index = extent.index + extent.len;
        if !unshare || !extent.shared {
            there += index.min(blocks.end) - extent.index.max(blocks.start);
        }
        go_on()?;
    }
    Ok(blocks.end - blocks.start - there)
}

/// Puts blocks of zeros into holes, and with `unshare` copies in the place of shared blocks.
fn fill(inode: &Locked, blocks: Range<u64>, unshare: bool) -> Result {
    let data = inode.data();
    let mut reserve = Reserve::new();
    let mut start = blocks.start;
    while start < blocks.end {
        let end = blocks.end.min(start + STEP);
        let lock = inode.invalidate();
        for index in start..end {
            let (block, old) = match data.lookup(index) {
                Lookup::Hole => (data.pool().alloc()?, None),
                Lookup::Shared(old) if unshare => (data.pool().alloc()?, Some(old)),
                _ => continue,
            };
            match old {
                Some(old) => block.bytes().copy_from(0, &old, 0, usize::MAX),
                None => block.bytes().zero(0, usize::MAX),
            }
            // The old block, or the zeros that stand for a hole, may be mapped.
            lock.unmap(index..index + 1);
            data.insert(index, block, &mut reserve)?;
        }
        drop(lock);
        start = end;
        go_on()?;
    }
    Ok(())
}
