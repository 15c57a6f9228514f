// SPDX-License-Identifier: GPL-2.0

//! Reading, and splicing blocks into pipes.

use super::{
    block_of,
    file_blocks,
    offset_in_block,
    truncate,
    Inode, //
};
use crate::{
    store::{
        block::{
            copy_to_iter,
            error_at,
            without_faults,
            BlockRef,
            BLOCK_SIZE, //
        },
        StableRef, //
    },
    vfs::{
        cond_resched_killable,
        Pipe, //
    },
};
use kernel::{
    iov::IovIterDest,
    prelude::*, //
};

/// How many blocks are copied under one hold of the tree's lock.
const BATCH_BLOCKS: usize = 16;

/// Copies what lies at `pos` to `to`, up to the end of the file. Returns how many bytes.
///
/// Copies with the tree's lock held, which any number of readers may do at a time. So no references
/// to pages are counted, and readers of clones write to nothing that they share.
pub(crate) fn read(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
    let mut done = 0;
    while !to.is_empty() && pos + (done as u64) < inode.size() {
        let (copied, len) = copy(inode, pos + done as u64, to);
        done += copied;
        if copied < len {
            let (copied, result) = copy_with_faults(inode, pos + done as u64, to);
            done += copied;
            if let Err(err) = result {
                return if done == 0 { Err(err) } else { Ok(done) };
            }
        }
        if !to.is_empty() && cond_resched_killable().is_err() {
            return if done == 0 { Err(EINTR) } else { Ok(done) };
        }
    }
    Ok(done)
}

/// Copies some blocks, as far as the memory for them is resident. Returns how many bytes, and how
/// many it tried to copy.
fn copy(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> (usize, usize) {
    inode.blocks().with_blocks(block_of(pos), |blocks| {
        let blocks = &blocks[..blocks.len().min(wanted(pos, to))];
        let len = length(inode, pos, blocks.len(), to);
        let copied = without_faults(|| copy_to_iter(blocks, offset_in_block(pos), len, to));
        (copied, len)
    })
}

/// As [`copy`], without a lock, as a fault may be one in a mapping of this very file, which takes
/// it. Returns how many bytes, and why it stopped.
fn copy_with_faults(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> (usize, Result) {
    let mut blocks = [const { None }; BATCH_BLOCKS];
    let (found, len) = inode.blocks().with_blocks(block_of(pos), |found| {
        let n = found.len().min(wanted(pos, to));
        blocks[..n].clone_from_slice(&found[..n]);
        (n, length(inode, pos, n, to))
    });
    let (blocks, offset) = (&blocks[..found], offset_in_block(pos));
    let copied = copy_to_iter(blocks, offset, len, to);
    if copied < len {
        (copied, Err(error_at(blocks, offset, copied)))
    } else {
        (copied, Ok(()))
    }
}

/// Returns how many blocks from `pos` on `to` has room for, of a batch.
fn wanted(pos: u64, to: &IovIterDest<'_>) -> usize {
    BATCH_BLOCKS.min((offset_in_block(pos) + to.len()).div_ceil(BLOCK_SIZE))
}

/// Returns how many bytes from `pos` on `to` has room for, within as many blocks and within the
/// file.
///
/// With the tree's lock held: where the file becomes shorter, its end does first, and where it
/// becomes longer, last. So there was a moment at which this was what the file held.
fn length(inode: &Inode, pos: u64, blocks: usize, to: &IovIterDest<'_>) -> usize {
    let left = inode.size().saturating_sub(pos).min(to.len() as u64) as usize;
    left.min(blocks * BLOCK_SIZE - offset_in_block(pos))
}

/// Passes up to `len` bytes from `pos` on to a pipe, as references to blocks. Returns how many.
///
/// # Errors
///
/// `ENOMEM`, `EIO`, and those of the pipe, if not one byte was passed on.
pub(crate) fn splice(inode: &Inode, pos: u64, pipe: &mut Pipe<'_>, len: usize) -> Result<usize> {
    let mut done = 0;
    while done < len {
        let at = pos + done as u64;
        match splice_block(inode, at, pipe, len - done) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// As [`splice`], up to the end of a block.
fn splice_block(inode: &Inode, pos: u64, pipe: &mut Pipe<'_>, len: usize) -> Result<usize> {
    if pos >= inode.size() {
        return Ok(0);
    }
    let (block, size) = get_stable(inode, block_of(pos))?;
    let offset = offset_in_block(pos);
    let left = size.saturating_sub(pos).min(len as u64) as usize;
    let n = left.min(BLOCK_SIZE - offset);
    if n > 0 {
        pipe.add_page(block, offset, n)?;
    }
    Ok(n)
}

/// Returns the block at `index`, or one of zeros, to be read later: the file does not write it in
/// place any more. And the size that the file had then.
///
/// A block that is mapped writable is copied, since stores reach it; so is any block while a write
/// is under way, which may have found just now that it can be written in place; and so is a block
/// that may have a tail to be wiped, see [`truncate::has_tail`].
pub(crate) fn get_stable(inode: &Inode, index: u64) -> Result<(BlockRef, u64)> {
    let mount = inode.super_block().info();
    let (found, size) = match inode.try_lock_shared() {
        // The end does not move meanwhile.
        Some(_guard) if !truncate::has_tail(inode, index) => {
            (file_blocks::get_stable(inode, index), inode.size())
        }
        _ => inode.blocks().with_blocks(index, |blocks| match blocks {
            [Some(block), ..] => (StableRef::NeedsCopy(block.clone()), inode.size()),
            _ => (StableRef::Hole, inode.size()),
        }),
    };
    let to_copy = match found {
        StableRef::Block(block) | StableRef::NeedsCopy(block) if block.is_poisoned() => {
            return Err(EIO)
        }
        StableRef::Block(block) if !block.refcount_high() => return Ok((block, size)),
        StableRef::Block(block) | StableRef::NeedsCopy(block) => block,
        StableRef::Hole => loop {
            if let Some(zeros) = mount.zero_block() {
                return Ok((zeros, size));
            }
            mount.replace_zero_block()?;
        },
    };
    let copy = mount.anon_pool().alloc()?;
    copy.bytes().copy_block(&to_copy)?;
    Ok((copy.bytes().clone(), size))
}
