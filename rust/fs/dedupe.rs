// SPDX-License-Identifier: GPL-2.0

//! `FIDEDUPERANGE`: sharing what is equal.

use super::{
    block_of, blocks_for,
    clone::{settle, stop_stores},
    offset_in_block, ChargedTree, Data, Locked, ReflinkFs,
};
use crate::{
    bindings,
    store::{
        block::{BlockRef, BLOCK_SIZE},
        Reserve, Tree,
    },
    vfs::{any::signal_pending, go_on, Remap},
};
use kernel::{prelude::*, rbtree::RBTree};

/// How many blocks are compared between two looks at whether somebody wants to stop it.
const STEP: usize = 256;

/// How many are looked up at a time.
const BATCH: usize = 16;

/// Shares the range if it holds the same bytes in both files. Returns how many bytes.
///
/// # Errors
///
/// `EBADE` where the bytes differ, `EINTR`, `EDQUOT`, `ENOMEM`, and those of [`prepare`].
pub(crate) fn dedupe(request: &Remap<'_, ReflinkFs>) -> Result<u64> {
    let files = request.lock();
    let locks = files.invalidate();
    let (from, to) = (files.from(), files.to());
    let len = prepare(request, from, to)?;
    if len == 0 {
        return Ok(0);
    }
    let (first, to_first) = (block_of(request.from_pos), block_of(request.to_pos));
    let n = blocks_for(len);
    let reach = Data::reach(first, n);
    stop_stores(from, &locks.from(), reach.clone());
    stop_stores(to, &locks.to(), to_first..to_first + n);

    // What somebody may still write to, in either file, is not shared. (Once this is settled nobody
    // else can come to write to a block.)
    let range = first..first + n;
    let mut busy = RBTree::new();
    let mut keep = |index| {
        busy.try_create_and_insert(index, (), GFP_KERNEL)
            .map(|_| ())
    };
    let from_keep = settle(from, reach.clone(), |index| {
        if range.contains(&index) {
            keep(index - first)?;
        }
        Ok(())
    })?;
    let to_keep = settle(to, to_first..to_first + n, |index| keep(index - to_first))?;
    keep(n)?;

    let source = from.data().snapshot(&reach)?;
    let to_lock = locks.to();
    let tree = shared_tree(request, &source, to, len, busy.keys());
    let result = tree.and_then(|(tree, len)| {
        let tree = ChargedTree::new(&to_lock, tree)?;
        to_lock.unmap(to_first..to_first + n);
        drop(tree.put());
        Ok(len)
    });
    drop(source);
    to.data().keep_private(to_keep.iter().flatten());
    from.data().keep_private(from_keep.iter().flatten());
    result
}

/// Compares, and makes what the destination's tree is to be: the blocks shared with those of the
/// source, but for those that are busy. These are in order, relative to the range, and end with
/// the first block after it. Also returns how many bytes that covers.
fn shared_tree<'a>(
    request: &Remap<'_, ReflinkFs>,
    source: &Tree,
    to: &Locked,
    len: u64,
    busy: impl Iterator<Item = &'a u64>,
) -> Result<(Tree, u64)> {
    let (first, to_first) = (block_of(request.from_pos), block_of(request.to_pos));
    let n = blocks_for(len);
    let mut tree = to.data().edit()?;
    if source.same(first, &tree, to_first, n) == n {
        return Ok((tree, len));
    }
    let equal = compare(request, source, &tree, len)?;
    let len = if equal < len {
        equal
    } else {
        shorten(request, to, len)?
    };
    let n = blocks_for(len);
    let mut reserve = Reserve::on_demand();
    let mut start = 0;
    for end in busy.map(|&index| index.min(n)) {
        if end > start {
            let at = (to_first + start, first + start);
            tree.share(at.0, source, at.1, end - start, &mut reserve, go_on)?;
        }
        start = end + 1;
    }
    Ok((tree, len))
}

/// What `generic_remap_file_range_prep` and `generic_remap_checks` do for a deduplication, which
/// we cannot call, as they compare through the page cache. Returns the length to compare.
///
/// # Errors
///
/// `EPERM`, `ETXTBSY`, `EISDIR`, `EINVAL` for files and ranges that cannot be shared, `EFBIG`.
fn prepare(request: &Remap<'_, ReflinkFs>, from: &Locked, to: &Locked) -> Result<u64> {
    if to.is_immutable() {
        return Err(EPERM);
    }
    if from.is_swapfile() || to.is_swapfile() {
        return Err(ETXTBSY);
    }
    for inode in [from, to] {
        match inode.file_type() {
            bindings::S_IFREG => (),
            bindings::S_IFDIR => return Err(EISDIR),
            _ => return Err(EINVAL),
        }
    }
    let Remap {
        from_pos,
        to_pos,
        len,
        ..
    } = *request;
    if len == 0 {
        return Ok(0);
    }
    if offset_in_block(from_pos) != 0 || offset_in_block(to_pos) != 0 {
        return Err(EINVAL);
    }
    let from_end = from_pos.checked_add(len).ok_or(EINVAL)?;
    let to_end = to_pos.checked_add(len).ok_or(EINVAL)?;
    if from_end > from.size() || to_end > to.size() {
        return Err(EINVAL);
    }
    let mut count = request.to.limit_write(to_pos, len)?;
    let mut span = count;
    if from_pos + count == from.size() && to_pos + count == to.size() {
        span = blocks_for(count) * BLOCK_SIZE as u64;
    } else {
        count -= offset_in_block(count) as u64;
        span = span.min(count);
    }
    let same_file = core::ptr::eq(from, to);
    if same_file && to_pos + span > from_pos && to_pos < from_pos + span {
        return Err(EINVAL);
    }
    if count != len && !request.may_shorten {
        return Err(EINVAL);
    }
    Ok(count)
}

/// The rule for a partial last block, `generic_remap_check_len`: it may be shared only where it
/// is the destination's last, too.
fn shorten(request: &Remap<'_, ReflinkFs>, to: &Locked, len: u64) -> Result<u64> {
    let partial = offset_in_block(len) as u64;
    if partial == 0 || request.to_pos + len >= to.size() {
        Ok(len)
    } else if request.may_shorten {
        Ok(len - partial)
    } else {
        Err(EBADE)
    }
}

/// Compares `len` bytes: by pointer, and by their bytes where the blocks differ. Returns how many
/// bytes are equal: all of them, or those compared when a signal came, if the request may stop.
///
/// # Errors
///
/// `EBADE` where they differ, `EINTR` when the process is to end.
fn compare(request: &Remap<'_, ReflinkFs>, from: &Tree, to: &Tree, len: u64) -> Result<u64> {
    let (first, to_first) = (block_of(request.from_pos), block_of(request.to_pos));
    let n = blocks_for(len);
    let (mut a, mut b) = ([const { None }; BATCH], [const { None }; BATCH]);
    let mut done = 0;
    let mut compared = 0;
    while done < n {
        done += from.same(first + done, to, to_first + done, n - done);
        let batch = BATCH.min((n - done) as usize);
        if batch == 0 {
            break;
        }
        let found = from
            .read(first + done, &mut a[..batch])
            .min(to.read(to_first + done, &mut b[..batch]));
        for (a, b) in a.iter().zip(&b).take(found) {
            let bytes = (len - done * BLOCK_SIZE as u64).min(BLOCK_SIZE as u64) as usize;
            if !equal(a, b, bytes)? {
                return Err(EBADE);
            }
            done += 1;
        }
        compared += found;
        if compared >= STEP {
            compared = 0;
            if request.may_stop && signal_pending() {
                return Ok(len.min(done * BLOCK_SIZE as u64));
            }
            go_on()?;
        }
    }
    Ok(len)
}

fn equal(a: &Option<BlockRef>, b: &Option<BlockRef>, len: usize) -> Result<bool> {
    match (a, b) {
        (Some(a), Some(b)) => a.bytes_equal(b, len),
        (Some(block), None) | (None, Some(block)) => block.is_zero(0, len),
        (None, None) => Ok(true),
    }
}
