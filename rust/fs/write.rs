// SPDX-License-Identifier: GPL-2.0

//! Writing.
//!
//! A block that is the file's own is written in place: with the tree's lock held, as far as nothing
//! faults. For any other a new block is filled first, without a lock, as filling may fault on a mapping
//! of this very file; then a batch of new blocks goes into the tree. Many in a row are
//! `write_run.rs`'s.

use super::{
    block_of, offset_in_block, truncate,
    write_run::{self, write_run},
    Changing, ChargedBlock, Locked, ReflinkFs,
};
use crate::{
    store::{
        block::{
            copy_from_iter, copy_from_iter_without_faults, BlockRef, ContigBlocks, BLOCK_SIZE,
        },
        Lookup, Prealloc,
    },
    vfs::{go_on, Invalidate},
};
use core::{array, ops::Range};
use kernel::{iov::IovIterSource, prelude::*};

/// How many new blocks go into the tree at a time, and how many are written under one hold of its lock.
const BATCH: usize = 16;

/// Where the bytes come from.
pub(crate) trait Source {
    /// How many bytes there are left.
    fn len(&self) -> usize;

    /// Copies the next bytes, at most `len`, to `blocks`, from `offset` of the first on; those for
    /// a `None` are skipped. Returns how many; fewer than `len` means that no more can be had.
    fn fill(&mut self, blocks: &[Option<&BlockRef>], offset: usize, len: usize) -> usize;

    /// Why no more bytes can be had.
    fn why_short(&self) -> Error;

    /// As [`Source::fill`], with the tree's lock held: only as far as neither a fault nor another tree's
    /// lock is needed.
    fn fill_at_once(&mut self, blocks: &[Option<BlockRef>], offset: usize, len: usize) -> usize;

    /// How many bytes there are left up to a hole.
    fn len_for_contig(&self) -> usize {
        self.len()
    }

    /// Copies the next bytes to all of `piece`: no more than [`Source::len_for_contig`]. Returns how
    /// many; fewer mean that no more can be had.
    fn fill_contig(&mut self, piece: &ContigBlocks<'_>) -> usize;

    /// Whether the `len` bytes that lie `ahead` are a hole, so that they can be one here too.
    fn is_hole(&self, _ahead: usize, _len: usize) -> bool {
        false
    }
}

impl Source for IovIterSource<'_> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn fill(&mut self, blocks: &[Option<&BlockRef>], offset: usize, len: usize) -> usize {
        copy_from_iter(blocks, offset, len, self)
    }

    fn why_short(&self) -> Error {
        EFAULT
    }

    fn fill_at_once(&mut self, blocks: &[Option<BlockRef>], offset: usize, len: usize) -> usize {
        copy_from_iter_without_faults(blocks, offset, len, self)
    }

    fn fill_contig(&mut self, piece: &ContigBlocks<'_>) -> usize {
        piece.copy_from_iter(self)
    }
}

/// Writes `source` to `pos`, and moves the end of the file up where that lies beyond it. Returns
/// how many bytes. Without `may_wait` only as far as the blocks are there, to be written in place.
///
/// # Errors
///
/// `EFAULT`, `ENOSPC`, `EDQUOT`, `ENOMEM` if not one byte could be written; `EAGAIN` if it may not
/// wait.
pub(crate) fn write(
    inode: &Changing<'_>,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
) -> Result<usize> {
    truncate::wipe_tail(inode, pos);
    let mut prealloc = Prealloc::new();
    let mut done = 0;
    while source.len() > 0 {
        let at = pos + done as u64;
        let (n, result) = match write_own(inode, at, source) {
            0 => write_any(inode, at, source, may_wait, &mut prealloc),
            n => (n, Ok(())),
        };
        done += n;
        let end = pos + done as u64;
        if n > 0 && end > inode.size() {
            inode.set_size(end);
        }
        if source.len() == 0 && result.is_ok() {
            break;
        }
        match result.and_then(|()| go_on()) {
            Ok(()) => (),
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Writes to up to [`BATCH`] blocks in place, as far as they are the file's own and nothing faults.
/// Returns how many bytes.
fn write_own(inode: &Locked, pos: u64, source: &mut impl Source) -> usize {
    let offset = offset_in_block(pos);
    let wanted = BATCH.min((offset + source.len()).div_ceil(BLOCK_SIZE));
    inode
        .data()
        .with_exclusive_blocks(block_of(pos), wanted, |blocks| {
            let room = (blocks.len() * BLOCK_SIZE).saturating_sub(offset);
            match source.len().min(room) {
                0 => 0,
                len => source.fill_at_once(blocks, offset, len),
            }
        })
}

/// Writes to some blocks, whatever they are. Returns how many bytes, and what kept it from going on.
fn write_any(
    inode: &Locked,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
    prealloc: &mut Prealloc,
) -> (usize, Result) {
    let run = write_run::length(inode, pos, source, may_wait);
    if run > 0 {
        write_run(inode, pos, run, source, prealloc)
    } else if offset_in_block(pos) != 0 || source.len() <= BLOCK_SIZE {
        // What comes after the end of the block may be a run.
        write_one(inode, pos, source, may_wait, prealloc)
    } else {
        write_batch(inode, pos, source, may_wait, prealloc)
    }
}

/// Writes up to the end of a block. Returns as [`write_any`].
fn write_one(
    inode: &Locked,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
    prealloc: &mut Prealloc,
) -> (usize, Result) {
    let mut olds = [Lookup::Hole];
    inode.data().lookup_to_write(block_of(pos), &mut olds);
    replace(inode, pos, olds, 1, source, may_wait, prealloc)
}

/// Writes up to [`BATCH`] blocks, from the beginning of one on. Returns as [`write_any`].
fn write_batch(
    inode: &Locked,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
    prealloc: &mut Prealloc,
) -> (usize, Result) {
    let n = BATCH.min(source.len().div_ceil(BLOCK_SIZE));
    let mut olds = [const { Lookup::Hole }; BATCH];
    inode.data().lookup_to_write(block_of(pos), &mut olds[..n]);
    replace(inode, pos, olds, n, source, may_wait, prealloc)
}

/// Whether nothing can be written to a part of a block, in place or beside what it holds, as that is
/// poisoned. (A new block can come in the place of all of a shared one.)
fn is_lost(old: &Lookup, part: Range<usize>) -> bool {
    let stays = matches!(old, Lookup::Exclusive(_)) || part.len() < BLOCK_SIZE;
    stays && old.as_block().is_some_and(BlockRef::is_poisoned)
}

/// Writes up to `n` blocks, to or in the place of `olds`. Returns as [`write_any`].
fn replace<const N: usize>(
    inode: &Locked,
    pos: u64,
    olds: [Lookup; N],
    n: usize,
    source: &mut impl Source,
    may_wait: bool,
    prealloc: &mut Prealloc,
) -> (usize, Result) {
    let offset = offset_in_block(pos);
    let len = source.len().min(n * BLOCK_SIZE - offset);
    let lost = |i: &usize| is_lost(&olds[*i], part_of_block(*i, offset, len));
    let (n, len) = match (0..n).find(lost) {
        Some(0) => return (0, Err(EIO)),
        Some(n) => (n, n * BLOCK_SIZE - offset),
        None => (n, len),
    };
    let own: [_; N] = array::from_fn(|i| match &olds[i] {
        Lookup::Exclusive(block) => Some(block),
        _ => None,
    });
    if own[..n].iter().all(Option::is_some) {
        let done = source.fill(&own[..n], offset, len);
        let result = if done < len {
            Err(source.why_short())
        } else {
            Ok(())
        };
        return (done, result);
    }
    let mut news = [const { None }; N];
    let is_hole = |i| {
        let part = part_of_block(i, offset, len);
        source.is_hole(i * BLOCK_SIZE + part.start - offset, part.len())
    };
    let (n, mut result) = make_blocks(inode, &olds[..n], &mut news, is_hole, may_wait);

    let targets: [_; N] = array::from_fn(|i| news[i].as_ref().map(ChargedBlock::bytes).or(own[i]));
    let len = len.min((n * BLOCK_SIZE).saturating_sub(offset));
    let done = source.fill(&targets[..n], offset, len);
    if done < len {
        result = Err(source.why_short());
    }
    for (i, (new, old)) in news.iter_mut().zip(&olds).enumerate().take(n) {
        let came = part_of_block(i, offset, done);
        match (&new, old.as_block()) {
            (Some(_), _) if came.is_empty() => *new = None,
            (Some(_), _) if came.len() == BLOCK_SIZE => (),
            (Some(new_block), Some(old)) => {
                if let Err(err) = keep_around(new_block.bytes(), old, came) {
                    // It is poisoned by now.
                    wipe_own(inode, inode.size().max(pos)..pos + done as u64);
                    return (0, Err(err));
                }
            }
            (Some(new), None) => {
                let wanted = part_of_block(i, offset, len);
                // Of the rest a part may have come.
                new.bytes().zero(came.end, wanted.end - came.end);
                new.zero_around(wanted.start, wanted.len());
            }
            (None, _) => (),
        }
    }
    if let Err((end, err)) = insert_batch(inode, pos, done, &mut news[..n], prealloc) {
        wipe_own(inode, end.max(inode.size())..pos + done as u64);
        return (end.saturating_sub(pos) as usize, Err(err));
    }
    (done, result)
}

/// The bytes of block `i` that are among the `len` at `offset` of block 0.
fn part_of_block(i: usize, offset: usize, len: usize) -> Range<usize> {
    let begin = i * BLOCK_SIZE;
    let within = |at: usize| at.clamp(begin, begin + BLOCK_SIZE) - begin;
    within(offset)..within(offset + len)
}

/// Makes the new blocks that are to come in the place of `olds`: of those that cannot be written in
/// place, and are no hole that stays one. Returns for how many of `olds`, and what kept it from
/// going on.
fn make_blocks<'a>(
    inode: &'a Locked,
    olds: &[Lookup],
    news: &mut [Option<ChargedBlock<'a>>],
    stays_hole: impl Fn(usize) -> bool,
    may_wait: bool,
) -> (usize, Result) {
    let takes_room = |old: &&Lookup| !matches!(old, Lookup::Exclusive(_) | Lookup::WasShared(_));
    let needed = if may_wait {
        olds.iter().filter(takes_room).count()
    } else {
        0
    };
    let mut run = inode.data().pool().alloc_batch(needed as u64);
    for (i, (old, new)) in olds.iter().zip(news).enumerate() {
        match old {
            Lookup::Exclusive(_) => continue,
            _ if !may_wait => return (i, Err(EAGAIN)),
            Lookup::Hole if stays_hole(i) => continue,
            _ => (),
        }
        match ChargedBlock::from_batch(&mut run, inode, old, inode.no_charge()) {
            Ok(block) => *new = Some(block),
            Err(err) => return (i, Err(err)),
        }
    }
    (olds.len(), Ok(()))
}

/// Takes back what was written in place to `bytes`, which lie beyond the end of the file.
fn wipe_own(inode: &Locked, bytes: Range<u64>) {
    let mut at = bytes.start;
    while at < bytes.end {
        let offset = offset_in_block(at);
        if let Lookup::Exclusive(block) = inode.data().lookup(block_of(at)) {
            block.zero(offset, BLOCK_SIZE - offset);
        }
        at += (BLOCK_SIZE - offset) as u64;
    }
}

/// Gives `block` the bytes of `old`, but for those in `written`.
///
/// # Errors
///
/// `EIO` where `old` is poisoned.
pub(super) fn keep_around(block: &BlockRef, old: &BlockRef, written: Range<usize>) -> Result {
    block.copy_from(0, old, 0, written.start)?;
    block.copy_from(written.end, old, written.end, BLOCK_SIZE - written.end)
}

/// Puts `news` into the tree, to which the `len` bytes at `pos` were written. Where it fails, says
/// at which byte, and why.
fn insert_batch(
    inode: &Locked,
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
    inode.data().prealloc(begin, last, prealloc);
    let lock = inode.invalidate();
    lock.unmap(begin..last + 1);
    for (i, new) in news.iter_mut().enumerate() {
        let Some(block) = new.take() else { continue };
        let index = first + i as u64;
        let part = part_of_block(i, offset_in_block(pos), len);
        let start = part.start as u64;
        insert_block(&lock, index, block, part, prealloc)
            .map_err(|err| (index * BLOCK_SIZE as u64 + start, err))?;
    }
    Ok(())
}

/// Puts a new block in at `index`, of which `part` was written.
///
/// # Errors
///
/// Those of [`ChargedBlock::insert`].
pub(super) fn insert_block(
    lock: &Invalidate<'_, ReflinkFs>,
    index: u64,
    block: ChargedBlock<'_>,
    part: Range<usize>,
    prealloc: &mut Prealloc,
) -> Result {
    // A fault may have put a block there since it was looked up. It is the file's own, and what was
    // stored to it since is not for us to take back.
    if lock.inode().was_mapped() {
        if let Lookup::Exclusive(own) = lock.inode().data().lookup(index) {
            return own.copy_from(part.start, block.bytes(), part.start, part.len());
        }
    }
    block.insert(lock, index, prealloc)
}
