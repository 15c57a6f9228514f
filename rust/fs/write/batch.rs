// SPDX-License-Identifier: GPL-2.0

//! Writing to blocks that are looked up one by one, and cannot be written in place: to new blocks in
//! their place.

use super::{
    super::{
        block_of,
        events,
        offset_in_block,
        truncate,
        BlocksGuard,
        Charge,
        ChargedBlock,
        LockedInode, //
    },
    insert::{
        insert_block,
        keep_around, //
    },
    source::Source,
    Write, //
};
use crate::{
    store::{
        block::{
            BlockRef,
            BLOCK_SIZE, //
        },
        Lookup,
        Prealloc, //
    },
    trace, //
};
use core::{
    array,
    ops::Range, //
};
use kernel::prelude::*;

/// How many new blocks are inserted at a time.
pub(super) const BATCH_BLOCKS: usize = 16;

/// Returns whether a part of a block cannot be written because the block is poisoned, so that the
/// rest cannot be copied. (A block that is replaced as a whole is not copied.)
fn is_poisoned(old: &Lookup, part: Range<usize>) -> bool {
    part.len() < BLOCK_SIZE && old.as_block().is_some_and(BlockRef::is_poisoned)
}

/// Writes up to the end of the `N`th block. Returns how many bytes, and why it stopped.
pub(super) fn write_blocks<const N: usize>(
    write: &mut Write<'_, impl Source>,
    pos: u64,
) -> (usize, Result) {
    let Write {
        inode,
        source,
        may_wait,
        prealloc,
    } = write;
    let offset = offset_in_block(pos);
    let n = N.min((offset + source.len()).div_ceil(BLOCK_SIZE));
    let mut olds = [const { Lookup::Hole }; N];
    for (index, old) in (block_of(pos)..).zip(&mut olds[..n]) {
        *old = inode.blocks().lookup(index);
    }
    // What can be written in place is.
    let n = olds[..n]
        .iter()
        .position(Lookup::needs_no_block)
        .unwrap_or(n);
    if n == 0 {
        return (0, Ok(()));
    }
    let len = source.len().min(n * BLOCK_SIZE - offset);
    let poisoned = |i: &usize| is_poisoned(&olds[*i], part_of_block(*i, offset, len));
    let (n, len) = match (0..n).find(poisoned) {
        Some(0) => return (0, Err(EIO)),
        Some(n) => (n, n * BLOCK_SIZE - offset),
        None => (n, len),
    };
    let mut news = [const { None }; N];
    let is_hole = |i| {
        let part = part_of_block(i, offset, len);
        source.is_hole(i * BLOCK_SIZE + part.start - offset, part.len())
    };
    let (n, made) = make_blocks(inode, &olds[..n], &mut news, is_hole, *may_wait);
    trace_cow(inode, block_of(pos), &olds, &news);
    let targets: [_; N] = array::from_fn(|i| news[i].as_ref().map(ChargedBlock::bytes));
    let len = len.min((n * BLOCK_SIZE).saturating_sub(offset));
    let (done, filled) = source.fill_or_err(&targets[..n], offset, len);
    if let Err(err) = complete(&mut news[..n], &olds, offset, done, len) {
        // It is poisoned by now.
        return (0, Err(err));
    }
    if let Err((end, err)) = insert_batch(inode, pos, done, &mut news[..n], prealloc) {
        return (end.saturating_sub(pos) as usize, Err(err));
    }
    (done, filled.and(made))
}

/// Traces which blocks new ones are to replace, from `index` on.
fn trace_cow(inode: &LockedInode, index: u64, olds: &[Lookup], news: &[Option<ChargedBlock<'_>>]) {
    if trace::cow_enabled() {
        let replaced = (index..).zip(olds.iter().zip(news));
        for (index, _) in replaced.filter(|(_, (old, new))| new.is_some() && !old.is_hole()) {
            events::cow(inode, index, 1);
        }
    }
}

/// Puts the rest into new blocks, where of the `len` bytes at `offset` only the first `done` were
/// written: the bytes of those that they replace, or zeros. Drops those of which none was written.
///
/// # Errors
///
/// `EIO` where one that is replaced is poisoned.
fn complete(
    news: &mut [Option<ChargedBlock<'_>>],
    olds: &[Lookup],
    offset: usize,
    done: usize,
    len: usize,
) -> Result {
    for (i, (new, old)) in news.iter_mut().zip(olds).enumerate() {
        let came = part_of_block(i, offset, done);
        match (&new, old.as_block()) {
            (Some(_), _) if came.is_empty() => *new = None,
            (Some(_), _) if came.len() == BLOCK_SIZE => (),
            (Some(new), Some(old)) => keep_around(new.bytes(), old, came)?,
            (Some(new), None) => {
                let wanted = part_of_block(i, offset, len);
                // The source may have had less than was wanted.
                new.bytes().zero(came.end, wanted.end - came.end);
                new.zero_around(wanted.start, wanted.len());
            }
            (None, _) => (),
        }
    }
    Ok(())
}

/// Returns the bytes of block `i` that are among the `len` at `offset` of block 0.
fn part_of_block(i: usize, offset: usize, len: usize) -> Range<usize> {
    let begin = i * BLOCK_SIZE;
    let within = |at: usize| at.clamp(begin, begin + BLOCK_SIZE) - begin;
    within(offset)..within(offset + len)
}

/// Allocates new blocks to replace those of `olds` that cannot be written in place, except holes
/// that stay holes. Returns for how many of `olds`, and why it stopped.
fn make_blocks<'a>(
    inode: &'a LockedInode,
    olds: &[Lookup],
    news: &mut [Option<ChargedBlock<'a>>],
    stays_hole: impl Fn(usize) -> bool,
    may_wait: bool,
) -> (usize, Result) {
    let takes_room = |old: &&Lookup| !matches!(old, Lookup::WasShared(_));
    let needed = if may_wait {
        olds.iter().filter(takes_room).count()
    } else {
        0
    };
    let mut run = inode.blocks().pool().alloc_batch(needed as u64);
    for (i, (old, new)) in olds.iter().zip(news).enumerate() {
        match old {
            _ if !may_wait => return (i, Err(EAGAIN)),
            Lookup::Hole if stays_hole(i) => continue,
            _ => (),
        }
        match ChargedBlock::from_batch(&mut run, inode, old, Charge::empty(inode)) {
            Ok(block) => *new = Some(block),
            Err(err) => return (i, Err(err)),
        }
    }
    (olds.len(), Ok(()))
}

/// Inserts `news`, to which the `len` bytes at `pos` were written. If it fails, returns at which
/// byte, and why.
fn insert_batch(
    inode: &LockedInode,
    pos: u64,
    len: usize,
    news: &mut [Option<ChargedBlock<'_>>],
    prealloc: &mut Prealloc,
) -> Result<(), (u64, Error)> {
    if len == 0 {
        return Ok(());
    }
    let end = pos + len as u64;
    let (Some(begin), Some(last)) = (
        news.iter().position(Option::is_some),
        news.iter().rposition(Option::is_some),
    ) else {
        return truncate::extend(inode, end).map_err(|err| (pos, err));
    };
    let first = block_of(pos);
    let (begin, last) = (first + begin as u64, first + last as u64);
    inode.blocks().prealloc(begin, last, prealloc);
    let mut lock = BlocksGuard::lock(inode).map_err(|err| (pos, err))?;
    lock.unmap(begin..last + 1);
    for (i, new) in news.iter_mut().enumerate() {
        let Some(block) = new.take() else { continue };
        let index = first + i as u64;
        let part = part_of_block(i, offset_in_block(pos), len);
        let start = part.start as u64;
        let place = (index, last + 1);
        lock = insert_block(lock, inode, place, block, part, prealloc)
            .map_err(|err| (index * BLOCK_SIZE as u64 + start, err))?;
    }
    drop(lock);
    truncate::extend(inode, end).map_err(|err| (last * BLOCK_SIZE as u64, err))
}
