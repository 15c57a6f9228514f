// SPDX-License-Identifier: GPL-2.0

//! Writing to blocks that are looked up one by one: in place, or to new blocks in their place.

use super::{
    super::{
        block_of,
        events,
        offset_in_block,
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

/// Returns whether a part of a block cannot be written because the block is poisoned: in place, or
/// to a copy of the rest. (A block that is replaced as a whole is not copied.)
fn is_poisoned(old: &Lookup, part: Range<usize>) -> bool {
    let stays = matches!(old, Lookup::Owned(_)) || part.len() < BLOCK_SIZE;
    stays && old.as_block().is_some_and(BlockRef::is_poisoned)
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
    let file_blocks = inode.info().blocks();
    file_blocks.lookup_to_write(block_of(pos), &mut olds[..n]);
    let len = source.len().min(n * BLOCK_SIZE - offset);
    let poisoned = |i: &usize| is_poisoned(&olds[*i], part_of_block(*i, offset, len));
    let (n, len) = match (0..n).find(poisoned) {
        Some(0) => return (0, Err(EIO)),
        Some(n) => (n, n * BLOCK_SIZE - offset),
        None => (n, len),
    };
    let in_place: [_; N] = array::from_fn(|i| match &olds[i] {
        Lookup::Owned(block) => Some(block),
        _ => None,
    });
    if in_place[..n].iter().all(Option::is_some) {
        return source.fill_or_err(&in_place[..n], offset, len);
    }
    let mut news = [const { None }; N];
    let is_hole = |i| {
        let part = part_of_block(i, offset, len);
        source.is_hole(i * BLOCK_SIZE + part.start - offset, part.len())
    };
    let (n, made) = make_blocks(inode, &olds[..n], &mut news, is_hole, *may_wait);
    trace_cow(inode, block_of(pos), &olds, &news);
    let targets: [_; N] =
        array::from_fn(|i| news[i].as_ref().map(ChargedBlock::bytes).or(in_place[i]));
    let len = len.min((n * BLOCK_SIZE).saturating_sub(offset));
    let (done, filled) = source.fill_or_err(&targets[..n], offset, len);
    if let Err(err) = complete(&mut news[..n], &olds, offset, done, len) {
        // It is poisoned by now.
        wipe_in_place(inode, inode.size().max(pos)..pos + done as u64);
        return (0, Err(err));
    }
    if let Err((end, err)) = insert_batch(inode, pos, done, &mut news[..n], prealloc) {
        wipe_in_place(inode, end.max(inode.size())..pos + done as u64);
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
    let takes_room = |old: &&Lookup| !matches!(old, Lookup::Owned(_) | Lookup::WasShared(_));
    let needed = if may_wait {
        olds.iter().filter(takes_room).count()
    } else {
        0
    };
    let mut run = inode.info().blocks().pool().alloc_batch(needed as u64);
    for (i, (old, new)) in olds.iter().zip(news).enumerate() {
        match old {
            Lookup::Owned(_) => continue,
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

/// Zeroes what was written in place to `bytes`, which lie beyond the end of the file.
fn wipe_in_place(inode: &LockedInode, bytes: Range<u64>) {
    let mut at = bytes.start;
    while at < bytes.end {
        let offset = offset_in_block(at);
        if let Lookup::Owned(block) = inode.info().blocks().lookup(block_of(at)) {
            block.zero(offset, BLOCK_SIZE - offset);
        }
        at += (BLOCK_SIZE - offset) as u64;
    }
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
    let (Some(begin), Some(last)) = (
        news.iter().position(Option::is_some),
        news.iter().rposition(Option::is_some),
    ) else {
        return Ok(());
    };
    let first = block_of(pos);
    let (begin, last) = (first + begin as u64, first + last as u64);
    inode.info().blocks().prealloc(begin, last, prealloc);
    let mut lock = inode.invalidate_lock();
    lock.unmap(begin..last + 1);
    for (i, new) in news.iter_mut().enumerate() {
        let Some(block) = new.take() else { continue };
        let index = first + i as u64;
        let part = part_of_block(i, offset_in_block(pos), len);
        let start = part.start as u64;
        insert_block(&mut lock, (index, last + 1), block, part, prealloc)
            .map_err(|err| (index * BLOCK_SIZE as u64 + start, err))?;
    }
    Ok(())
}
