// SPDX-License-Identifier: GPL-2.0

//! Reading, and lending blocks to those who read later.

use super::{block_of, offset_in_block, Inode};
use crate::store::{
    block::{copy_to_iter, BlockRef, BLOCK_SIZE},
    Loan,
};
use kernel::{iov::IovIterDest, prelude::*};

/// How many blocks are looked up under one hold of the tree's lock.
const BATCH: usize = 32;

/// See [`FileOperations::read`](crate::vfs::FileOperations::read).
///
/// Takes references to the blocks and copies without a lock, since copying may fault on a mapping
/// of this very file.
pub(crate) fn read(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
    if offset_in_block(pos) + to.len() <= BLOCK_SIZE {
        read_by::<1>(inode, pos, to)
    } else {
        read_by::<BATCH>(inode, pos, to)
    }
}

/// Reads `N` blocks at a time.
fn read_by<const N: usize>(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
    let mut blocks = [const { None }; N];
    let mut done = 0;
    loop {
        let pos = pos + done as u64;
        if to.is_empty() || pos >= inode.size() {
            return Ok(done);
        }
        let wanted = N.min((offset_in_block(pos) + to.len()).div_ceil(BLOCK_SIZE));
        let found = inode.data().read(block_of(pos), &mut blocks[..wanted]);
        // After the lookup: where the file became shorter meanwhile, its end did first, so that
        // blocks that went with it do not read as zeros.
        let left = inode.size().saturating_sub(pos).min(to.len() as u64) as usize;
        let offset = offset_in_block(pos);
        let len = left.min(found * BLOCK_SIZE - offset);
        let copied = copy_to_iter(&blocks[..found], offset, len, to);
        blocks[..found].fill_with(|| None);
        done += copied;
        if copied < len {
            return if done == 0 { Err(EFAULT) } else { Ok(done) };
        }
    }
}

/// See [`FileOperations::lend`](crate::vfs::FileOperations::lend).
///
/// A block that is mapped writable is copied, since stores reach it; and any, while somebody writes,
/// who may have found just now that it can be written in place.
pub(crate) fn lend(inode: &Inode, index: u64) -> Result<BlockRef> {
    let mount = inode.super_block().data();
    let loan = match inode.try_lock_shared() {
        Some(_guard) => inode.data().lend(index),
        None => match inode.data().lookup(index).block() {
            Some(block) => Loan::Unsteady(block),
            None => Loan::Hole,
        },
    };
    let unsteady = match loan {
        Loan::Block(block) if !block.is_crowded() => return Ok(block),
        Loan::Block(block) | Loan::Unsteady(block) => Some(block),
        Loan::Hole => match mount.zeros() {
            Some(zeros) => return Ok(zeros),
            None => None,
        },
    };
    let copy = mount.aside().alloc()?;
    match unsteady {
        Some(block) => copy.bytes().copy_from(0, &block, 0, usize::MAX),
        None => copy.clear_around(0, 0),
    }
    Ok(copy.bytes().clone())
}
