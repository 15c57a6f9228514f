// SPDX-License-Identifier: GPL-2.0

//! `fallocate(2)`: giving room to a range, taking it, clearing it. What moves is in `shift.rs`.

use super::{
    block_of, blocks_for, clear::Clearing, shift::shift, truncate::wipe_tail, Changing,
    ChargedBlock, Locked, ReflinkFs,
};
use crate::{
    store::{Lookup, Reserve},
    vfs::{go_on, Charge, Fallocate},
};
use core::ops::Range;
use kernel::prelude::*;

/// How many blocks get room under one hold of `invalidate_lock`.
const STEP: u64 = 256;

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
        let Missing { holes, shared } = missing(inode, &blocks)?;
        let room = if unshare { holes + shared } else { holes };
        inode.data().pool().has_room(room)?;
        charge = inode.charge(holes)?;
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

/// What a range has not, in blocks.
struct Missing {
    holes: u64,
    /// Blocks that others hold, too.
    shared: u64,
}

fn missing(inode: &Locked, blocks: &Range<u64>) -> Result<Missing> {
    let (mut there, mut shared) = (0, 0);
    let mut index = blocks.start;
    while let Some(extent) = inode.data().extent(index) {
        if extent.index >= blocks.end {
            break;
        }
        index = extent.index + extent.len;
        let n = index.min(blocks.end) - extent.index.max(blocks.start);
        there += n;
        if extent.shared {
            shared += n;
        }
        go_on()?;
    }
    Ok(Missing {
        holes: blocks.end - blocks.start - there,
        shared,
    })
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
    let mut reserve = Reserve::new();
    let mut start = blocks.start;
    while start < blocks.end {
        let end = blocks.end.min(start + STEP);
        let lock = inode.invalidate();
        for index in start..end {
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
            // The old block, or the zeros that stand for a hole, may be mapped.
            lock.unmap(index..index + 1);
            block.insert(&lock, index, &mut reserve)?;
        }
        drop(lock);
        start = end;
        go_on()?;
    }
    Ok(())
}
