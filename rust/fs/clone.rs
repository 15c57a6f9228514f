// SPDX-License-Identifier: GPL-2.0

//! Sharing blocks between files: `FICLONE`, `FICLONERANGE`.

use super::{block_of, blocks_for, truncate, Changing, ChargedTree, Data, Locked, ReflinkFs};
use crate::{
    store::{Reserve, Tree},
    vfs::{self, go_on, Remap},
};
use core::ops::Range;
use kernel::prelude::*;

/// See [`FileOperations::remap`](crate::vfs::FileOperations::remap).
pub(crate) fn clone(request: &Remap<'_, ReflinkFs>) -> Result<u64> {
    let files = request.lock();
    let locks = files.invalidate();
    let Some((to, len)) = request.prepare_clone(&locks)? else {
        return Ok(0);
    };
    share(
        files.from(),
        &to,
        &locks,
        request.from_pos,
        request.to_pos,
        len,
    )?;
    Ok(len)
}

/// Makes `len` bytes at `to_pos` of the destination those at `from_pos` of the source by sharing
/// their blocks, and moves the destination's end up where that lies beyond it.
///
/// Both positions are multiples of the block size; `len` is, or ends at the end of the source and
/// at or beyond that of the destination.
///
/// # Errors
///
/// `ENOMEM`; `EDQUOT`; `ENOSPC` where a block has to be copied since somebody may still write to it;
/// `EINTR` where the process is to end. Both files are as they were.
pub(crate) fn share(
    from: &Locked,
    to: &Changing<'_>,
    locks: &vfs::remap::InvalidatePair<'_, ReflinkFs>,
    from_pos: u64,
    to_pos: u64,
    len: u64,
) -> Result {
    let (first, to_first, n) = (block_of(from_pos), block_of(to_pos), blocks_for(len));
    let reach = Data::reach(first, n);
    stop_stores(from, &locks.from(), reach.clone());
    if to_pos > to.size() {
        let tail = block_of(to.size());
        stop_stores(to, &locks.to(), tail..tail + 1);
    }
    let mut busy = None;
    let keep = settle(from, reach.clone(), |index| {
        let busy = busy.get_or_insert_with(KVVec::new);
        Ok(busy.push(index, GFP_KERNEL)?)
    })?;

    let whole = from_pos == 0 && to_pos == 0 && len >= from.size() && len >= to.size();
    let source = from.data().snapshot(&reach)?;
    let to_lock = locks.to();
    let tree = shared_tree(
        source,
        to,
        (first, to_first, n),
        whole,
        busy.iter().flatten(),
    );
    let result = tree.and_then(|tree| {
        let tree = ChargedTree::new(&to_lock, tree)?;
        to_lock.unmap(to_first..to_first + n);
        drop(tree.put());
        if to_pos + len > to.size() {
            to.set_size(to_pos + len);
        }
        Ok(())
    });
    from.data().keep_private(keep.iter().flatten());
    result
}

/// What the destination's tree is to be: `n` blocks at `to_first` shared with those at `first` of
/// the source, but for those that are busy, which are copied.
fn shared_tree<'a>(
    source: Tree,
    to: &Locked,
    (first, to_first, n): (u64, u64, u64),
    whole: bool,
    busy: impl Iterator<Item = &'a u64>,
) -> Result<Tree> {
    let mut reserve = Reserve::on_demand();
    let mut tree = if whole {
        let mut tree = source;
        // What fallocate put beyond the end stays the source's.
        if tree.next_block(n).is_some() {
            tree.remove(n, u64::MAX, &mut reserve)?;
        }
        tree
    } else {
        let mut tree = to.data().edit()?;
        tree.share(to_first, &source, first, n, &mut reserve, go_on)?;
        tree
    };
    for &index in busy.filter(|&&index| (first..first + n).contains(&index)) {
        let to_index = index - first + to_first;
        let Some(pinned) = tree.lookup(to_index).block() else {
            continue;
        };
        let copy = to.data().pool().alloc()?;
        copy.bytes().copy_from(0, &pinned, 0, usize::MAX)?;
        tree.insert(to_index, copy, &mut reserve)?;
    }
    Ok(tree)
}

/// Before the blocks in `range` become shared, or are compared: lets no store through a mapping
/// reach them any more, and wipes what was stored beyond the end of the file.
pub(crate) fn stop_stores(file: &Locked, lock: &vfs::Invalidate<'_, ReflinkFs>, range: Range<u64>) {
    lock.unmap(range);
    truncate::wipe_tail(file, u64::MAX);
}

/// Calls `busy` as [`Mapped::settle`](crate::store::block::Mapped::settle) does. Returns those blocks
/// among them that can be written in place, if any: for [`Data::keep_private`], after a snapshot.
pub(crate) fn settle(
    file: &Locked,
    range: Range<u64>,
    mut busy: impl FnMut(u64) -> Result,
) -> Result<Option<KVVec<u64>>> {
    let mut keep = None;
    file.mapped().settle(range, |index| {
        if file.data().is_private(index) {
            let keep = keep.get_or_insert_with(KVVec::new);
            keep.push(index, GFP_KERNEL)?;
        }
        busy(index)
    })?;
    Ok(keep)
}
