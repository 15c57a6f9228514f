// SPDX-License-Identifier: GPL-2.0

//! Writing.
//!
//! An owned block ([`Lookup`](crate::store::Lookup)) is written in place, in a transaction and so without a fault: what is
//! to be written is faulted in before, as `generic_perform_write` does. For any other a new block is
//! filled first, without a lock, as filling may fault on a mapping of this very file; then new
//! blocks are inserted in a transaction, with `invalidate_lock` held. The end of the file moves in
//! the transaction in which what lies before it is written.
//!
//! ```text
//! write                        the loop
//! ├─ write_in_place            owned blocks: OwnBlocks::with_owned_blocks
//! ├─ write_after_fault         the same, if nothing could be: Source::fault_in
//! └─ write_some
//!    ├─ run::write_run         whole new blocks: allocates as many as are contiguous
//!    │  └─ write_contig        fills them, the last one perhaps in part
//!    │     ├─ insert_contig    whole ones: BlocksLock::insert_uncharged, Tree::insert_run,
//!    │     │  │                Leaf::insert_run
//!    │     │  └─ insert_block  one by one where the owner is charged, or after a fault
//!    │     └─ insert_block     one that is filled in part
//!    └─ batch::write_blocks    each as it is found: allocates and fills up to 16
//!       └─ insert_batch
//!          └─ insert_block     ChargedBlock::insert, Tree::insert, Leaf::insert
//! ```
//!
//! The trees' functions end in `cow::update_leaf`, which copies the nodes on the path that are
//! shared.

mod batch;
mod insert;
mod run;
mod source;

pub(super) use self::source::Source;

use super::{
    block_of,
    file_blocks::OwnBlocks,
    offset_in_block,
    truncate,
    Changing,
    LockedInode,
    Transaction, //
};
use crate::{
    dax::Owned as _,
    store::{
        block::{
            BlockRef,
            BLOCK_SIZE, //
        },
        Prealloc, //
    },
    vfs::cond_resched_killable, //
};
use kernel::prelude::*;

/// How many blocks are written in place under one hold of the tree's lock.
const IN_PLACE_BLOCKS: usize = 16;

/// A write under way.
struct Write<'a, S: Source> {
    inode: &'a LockedInode,
    source: &'a mut S,
    /// Whether it may wait, for memory or a lock.
    may_wait: bool,
    /// Nodes for the next insertion.
    prealloc: Prealloc,
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
    // Where `pos` lies beyond the end there are zeros up to it. It moves with the first bytes.
    if pos > inode.size() {
        let transaction = begin(inode, may_wait)?;
        let [exclusive] = transaction.each();
        truncate::wipe_tail(inode, OwnBlocks::of(exclusive), pos);
    }
    let mut write = Write {
        inode,
        source,
        may_wait,
        prealloc: Prealloc::new(),
    };
    let mut done = 0;
    while write.source.len() > 0 {
        let at = pos + done as u64;
        let (n, result) = match write_in_place(&mut write, at) {
            Ok(None) => write_some(&mut write, at),
            Ok(Some(0)) => write_after_fault(&mut write, at),
            Ok(Some(n)) => (n, Ok(())),
            Err(err) => (0, Err(err)),
        };
        done += n;
        if write.source.len() == 0 && result.is_ok() {
            break;
        }
        match result.and_then(|()| cond_resched_killable()) {
            Ok(()) => (),
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Begins a transaction.
///
/// # Errors
///
/// Those of [`Transaction::begin`]; `EAGAIN` if that may not wait, and would have to.
fn begin(inode: &LockedInode, may_wait: bool) -> Result<Transaction<'_>> {
    let transaction = match may_wait {
        true => Transaction::begin([&**inode]),
        false => Transaction::try_begin([&**inode]).ok_or(EAGAIN),
    };
    transaction.map(Transaction::of_data)
}

/// Moves the end of the file up to `end`, if it lies before that, in the transaction in which what
/// is there was written.
fn move_end(inode: &LockedInode, _own: OwnBlocks<'_>, end: u64) {
    if end > inode.size() {
        inode.set_size(end);
    }
}

/// Writes to up to [`IN_PLACE_BLOCKS`] blocks in place, as far as they are owned and nothing
/// faults. Returns how many bytes; `None` if there is no owned block.
fn write_in_place(write: &mut Write<'_, impl Source>, pos: u64) -> Result<Option<usize>> {
    let source = &mut *write.source;
    let offset = offset_in_block(pos);
    let wanted = IN_PLACE_BLOCKS.min((offset + source.len()).div_ceil(BLOCK_SIZE));
    let transaction = begin(write.inode, write.may_wait)?;
    let [exclusive] = transaction.each();
    let own = OwnBlocks::of(exclusive);
    let done = own.with_owned_blocks(block_of(pos), wanted, |blocks| {
        let room = (blocks.len() * BLOCK_SIZE).saturating_sub(offset);
        match source.len().min(room) {
            0 => None,
            len => Some(source.fill_at_once(blocks, offset, len)),
        }
    });
    if let Some(done @ 1..) = done {
        move_end(write.inode, own, pos + done as u64);
    }
    Ok(done)
}

/// Has what is to be written in memory, after not a byte could be written to an owned block. Returns
/// how many bytes were written then, and why it stopped.
fn write_after_fault(write: &mut Write<'_, impl Source>, pos: u64) -> (usize, Result) {
    let old = write.inode.blocks().lookup(block_of(pos));
    if old.as_block().is_some_and(BlockRef::is_poisoned) {
        return (0, Err(EIO));
    }
    drop(old);
    match write.source.fault_in() {
        Some(result) => (0, result),
        None => write_owned(write, pos),
    }
}

/// Writes to some blocks that are not owned. Returns how many bytes, and why it stopped; none, if one
/// has become the file's own meanwhile.
fn write_some(write: &mut Write<'_, impl Source>, pos: u64) -> (usize, Result) {
    let blocks = run::length(write, pos);
    if blocks > 0 {
        run::write_run(write, pos, blocks)
    } else if offset_in_block(pos) != 0 || write.source.len() <= BLOCK_SIZE {
        // What comes after the end of the block may be a run.
        batch::write_blocks::<1>(write, pos)
    } else {
        batch::write_blocks::<{ batch::BATCH_BLOCKS }>(write, pos)
    }
}

/// Writes to owned blocks from a source that does not fault, without the tree's lock: it may take
/// that itself. Returns as [`write_some`].
fn write_owned(write: &mut Write<'_, impl Source>, pos: u64) -> (usize, Result) {
    let transaction = match begin(write.inode, write.may_wait) {
        Ok(transaction) => transaction,
        Err(err) => return (0, Err(err)),
    };
    let [exclusive] = transaction.each();
    let own = OwnBlocks::of(exclusive);
    let wanted = |block: &BlockRef| !block.is_poisoned();
    let blocks = own.owned::<IN_PLACE_BLOCKS>(block_of(pos), IN_PLACE_BLOCKS, wanted);
    let blocks = blocks.unlock();
    let n = blocks.iter().take_while(|block| block.is_some()).count();
    let blocks = blocks.each_ref().map(Option::as_ref);
    let offset = offset_in_block(pos);
    let room = (n * BLOCK_SIZE).saturating_sub(offset);
    let len = write.source.len().min(room);
    let (done, filled) = write.source.fill_or_err(&blocks[..n], offset, len);
    if done > 0 {
        move_end(write.inode, own, pos + done as u64);
    }
    (done, filled)
}
