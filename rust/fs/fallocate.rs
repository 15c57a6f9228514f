// SPDX-License-Identifier: GPL-2.0

//! `fallocate(2)`: giving room to a range, taking it, clearing it. What moves is in `shift.rs`.

use super::{
    block_of, blocks_for, clear::Clearing, shift::shift, truncate::wipe_tail, Changing,
    ChargedBlock, Locked, ReflinkFs,
};
use crate::{
    store::{Lookup, Prealloc},
    vfs::{go_on, Charge, Fallocate},
};
use core::ops::Range;
use kernel::prelude::*;

/// How many blocks get room under one hold of `invalidate_lock`.
const STEP: usize = 16;

/// See [`FileOperations::fallocate`](crate::vfs::FileOperations::fallocate).
pub(crate) fn fallocate(
    inode: &Changing<'_>,
    what: Fallocate,
    bytes: Range<u64>,
    size: u64,
) -> Result {
    let blocks = block_of(bytes.start)..blocks_for(bytes.end);
    match what {
        Fallocate::Collapse => return shift(inode, blocks.end, blocks.start, size),
        Fallocate::Insert => return shift(inode, blocks.start, blocks.end, size),
        _ => (),
    }
    let fills = what != Fallocate::Punch;
    // Blocks that others hold are let go of by clearing, so that they cost as much as holes.
    let unshare = matches!(what, Fallocate::Unshare | Fallocate::Zero);
    let mut charge = inode.no_charge();
    if fills {
        charge = inode.charge(holes(inode, &blocks, unshare)?)?;
    }
    if matches!(what, Fallocate::Punch | Fallocate::Zero) {
        let lock = inode.invalidate();
        // What goes here comes again below, so that its charge is not given back first.
        charge.join(Clearing::prepare(&lock, bytes)?.commit(false));
    }
    if fills {
        fill(inode, blocks, unshare, &mut charge)?;
    }
    if size > inode.size() {
        wipe_tail(inode, size);
        inode.set_size(size);
    }
    Ok(())
}

/// How many holes there are in a range, for which there is room, and with `unshare` room for as many blocks as
/// others hold, too.
///
/// # Errors
///
/// `ENOSPC` where there is not. Takes no more steps than there are free blocks, and blocks of the file's own.
fn holes(inode: &Locked, blocks: &Range<u64>, unshare: bool) -> Result<u64> {
    let data = inode.data();
    let holes = blocks.end - blocks.start - data.blocks_in(blocks.clone());
    data.pool().check_room(holes)?;
    if !unshare {
        return Ok(holes);
    }
    let mut room = holes;
    let mut index = blocks.start;
    while let Some(extent) = data.extent(index) {
        if extent.index >= blocks.end {
            break;
        }
        index = extent.index + extent.len;
        if extent.shared {
            room += index.min(blocks.end) - extent.index.max(blocks.start);
            data.pool().check_room(room)?;
        }
        go_on()?;
    }
    Ok(holes)
}

/// Puts unwritten blocks into holes, and with `unshare` copies in the place of shared blocks. Takes
/// what they cost from `charge`.
fn fill<'a>(
    inode: &'a Locked,
    blocks: Range<u64>,
    unshare: bool,
    charge: &mut Charge<'a, ReflinkFs>,
) -> Result {
    let data = inode.data();
    let mut prealloc = Prealloc::new();
    let mut start = blocks.start;
    while start < blocks.end {
        if !unshare {
            // What is there may be very long.
            start = data.next_hole(start);
        }
        let end = blocks.end.min(start.saturating_add(STEP as u64));
        if start < end {
            fill_step(inode, start..end, unshare, charge, &mut prealloc)?;
        }
        start = end.max(start);
        go_on()?;
    }
    Ok(())
}

/// As [`fill`], of up to [`STEP`] blocks: makes all of them first, as no fault must wait meanwhile.
fn fill_step<'a>(
    inode: &'a Locked,
    blocks: Range<u64>,
    unshare: bool,
    charge: &mut Charge<'a, ReflinkFs>,
    prealloc: &mut Prealloc,
) -> Result {
    let data = inode.data();
    let mut news = [const { None }; STEP];
    for (index, new) in blocks.clone().zip(&mut news) {
        let old = data.lookup(index);
        let advance = match old {
            Lookup::Hole => charge.take(1),
            Lookup::Shared(_) if unshare => inode.no_charge(),
            _ => continue,
        };
        let mut block = ChargedBlock::new(inode, &old, advance)?;
        match old.block() {
            Some(old) if !data.is_unwritten(index) => {
                block.bytes().copy_from(0, &old, 0, usize::MAX)?
            }
            _ => block.fill_unwritten(),
        }
        *new = Some(block);
    }
    if news.iter().all(Option::is_none) {
        return Ok(());
    }
    data.prealloc(blocks.start, blocks.end - 1, prealloc);
    let lock = inode.invalidate();
    for (index, new) in blocks.zip(news) {
        // A fault may have given the file a block of its own meanwhile, and nothing else can have.
        let is_own = || {
            matches!(
                data.lookup(index),
                Lookup::Exclusive(_) | Lookup::Unwritten(_)
            )
        };
        let Some(block) = new.filter(|_| !is_own()) else {
            continue;
        };
        // The old block, or the zeros that stand for a hole, may be mapped.
        lock.unmap(index..index + 1);
        block.insert(&lock, index, prealloc)?;
    }
    Ok(())
}
