// SPDX-License-Identifier: GPL-2.0

//! Writing whole blocks in a row that are all to be new: a file that grows, or the first write
//! after a clone. As many as are contiguous in memory are filled and inserted at once.

use super::{
    super::{
        block_of,
        events,
        offset_in_block,
        BlocksGuard,
        ChargedBlock,
        LockedInode, //
    },
    insert::{
        insert_block,
        keep_around, //
    },
    move_end,
    source::Source,
    Write, //
};
use crate::{
    memfs::quota::has_quota,
    store::{
        block::{
            ContigBlocks,
            BLOCK_SIZE,
            MAX_CONTIG_BLOCKS, //
        },
        Prealloc, //
    },
    trace, //
};
use kernel::prelude::*;

/// Returns how many of the blocks at `pos` can be written by [`write_run`], at a time.
pub(super) fn length(write: &Write<'_, impl Source>, pos: u64) -> usize {
    let source = &*write.source;
    if !write.may_wait || source.len() < BLOCK_SIZE || offset_in_block(pos) != 0 {
        return 0;
    }
    let blocks = MAX_CONTIG_BLOCKS.min(source.len_for_contig() / BLOCK_SIZE);
    let file_blocks = write.inode.blocks();
    file_blocks.len_to_alloc(block_of(pos), blocks)
}

/// Writes as many blocks as [`length`] gave. Returns how many bytes, and why it stopped.
pub(super) fn write_run(
    write: &mut Write<'_, impl Source>,
    pos: u64,
    blocks: usize,
) -> (usize, Result) {
    let inode = write.inode;
    let mut run = inode.blocks().pool().alloc_batch(blocks as u64);
    let mut done = 0;
    while done < blocks * BLOCK_SIZE {
        let (n, result) = match run.take_contig() {
            Ok(contig) => write_contig(write, pos + done as u64, contig),
            Err(err) => (0, Err(events::alloc_failed(inode, err))),
        };
        done += n;
        if result.is_err() {
            return (done, result);
        }
    }
    (done, Ok(()))
}

/// Writes blocks that are contiguous in memory. Returns as [`write_run`].
fn write_contig(
    write: &mut Write<'_, impl Source>,
    pos: u64,
    mut contig: ContigBlocks<'_>,
) -> (usize, Result) {
    let Write {
        inode,
        source,
        prealloc,
        ..
    } = write;
    let mut done = source.fill_contig(&contig);
    let mut result = source.check_full(done, contig.len() * BLOCK_SIZE);
    contig.truncate(done.div_ceil(BLOCK_SIZE));
    let first = block_of(pos);
    // A block that is written in part is inserted on its own.
    let part = done % BLOCK_SIZE;
    let mut last = if part == 0 { None } else { contig.take_last() };
    if let Some(block) = &last {
        let index = block_of(pos + done as u64);
        let kept = match inode.blocks().lookup(index).block() {
            Some(old) => keep_around(block.bytes(), &old, 0..part),
            None => {
                block.bytes().zero(part, BLOCK_SIZE - part);
                Ok(())
            }
        };
        if kept.is_err() {
            (last, done, result) = (None, done - part, kept);
        }
    }
    if trace::cow_enabled() && !inode.blocks().lookup(first).is_hole() {
        events::cow(inode, first, contig.len() as u64);
    }
    let end = first + done.div_ceil(BLOCK_SIZE) as u64;
    if end > first {
        inode.blocks().prealloc(first, end - 1, prealloc);
    }
    let lock = match BlocksGuard::lock(inode) {
        Ok(lock) => lock,
        Err(err) => return (0, Err(err)),
    };
    lock.unmap(first..end);
    let whole = contig.len();
    let lock = match insert_contig(lock, inode, first, contig, prealloc) {
        Ok(lock) => lock,
        Err((inserted, err)) => return (inserted * BLOCK_SIZE, Err(err)),
    };
    let Some(last) = last else {
        return (done, result);
    };
    let block = ChargedBlock::uncharged(inode, last);
    let place = (first + whole as u64, end);
    match insert_block(lock, inode, place, block, 0..part, prealloc) {
        Ok(_) => (done, result),
        Err(err) => (done - part, Err(err)),
    }
}

/// Inserts whole new blocks from `index` on: all at once, or one by one where a fault may have put
/// blocks there meanwhile, or the owner is charged; and moves the end of the file. The lock is
/// dropped where memory is to be waited for, and taken again. If it fails, returns how many were
/// inserted, and why.
fn insert_contig<'a>(
    mut lock: BlocksGuard<'a>,
    inode: &'a LockedInode,
    index: u64,
    mut contig: ContigBlocks<'_>,
    prealloc: &mut Prealloc,
) -> Result<BlocksGuard<'a>, (usize, Error)> {
    let all = contig.len();
    let end = index + all as u64;
    let all_others =
        !inode.info().dax.was_mapped() || lock.get().blocks().all().len_to_alloc(index, all) == all;
    if all_others && all > 1 && !has_quota(inode.super_block()) {
        let result = lock.get().insert_uncharged(index, &mut contig, prealloc);
        let done = all - contig.len();
        let written = (index + done as u64) * BLOCK_SIZE as u64;
        if done > 0 {
            move_end(inode, lock.get().blocks(), written);
        }
        result.map_err(|err| (done, err))?;
        if !contig.is_empty() {
            drop(lock);
            let filled = prealloc.fill(inode.blocks().pool());
            lock = filled
                .and_then(|()| BlocksGuard::lock(inode))
                .map_err(|err| (done, err))?;
            // A fault may have come in between: the rest goes the other way.
            lock.unmap(index + done as u64..end);
        }
    }
    while let Some(block) = contig.take() {
        let done = all - contig.len() - 1;
        let block = ChargedBlock::uncharged(inode, block);
        let place = (index + done as u64, end);
        lock = insert_block(lock, inode, place, block, 0..BLOCK_SIZE, prealloc)
            .map_err(|err| (done, err))?;
    }
    Ok(lock)
}
