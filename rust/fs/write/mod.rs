// SPDX-License-Identifier: GPL-2.0

//! Writing.
//!
//! An owned block ([`Lookup`](crate::store::Lookup)) is written in place: with the tree's lock held,
//! as far as nothing faults. For any other a new block is filled first, without a lock, as filling
//! may fault on a mapping of this very file; then new blocks are inserted with `invalidate_lock`
//! held.
//!
//! ```text
//! write                        the loop
//! ├─ write_in_place            owned blocks: FileBlocks::with_owned_blocks
//! └─ write_some
//!    ├─ run::write_run         whole new blocks: allocates as many as are contiguous
//!    │  └─ write_contig        fills them, the last one perhaps in part
//!    │     ├─ insert_contig    whole ones: FileBlocks::insert_uncharged, Tree::insert_run,
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
    offset_in_block,
    truncate,
    Changing,
    LockedInode, //
};
use crate::{
    store::{
        block::BLOCK_SIZE,
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
    truncate::wipe_tail(inode, pos);
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
            0 => write_some(&mut write, at),
            n => (n, Ok(())),
        };
        done += n;
        let end = pos + done as u64;
        if n > 0 && end > inode.size() {
            inode.set_size(end);
        }
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

/// Writes to up to [`IN_PLACE_BLOCKS`] blocks in place, as far as they are owned and nothing
/// faults. Returns how many bytes.
fn write_in_place(write: &mut Write<'_, impl Source>, pos: u64) -> usize {
    let source = &mut *write.source;
    let offset = offset_in_block(pos);
    let wanted = IN_PLACE_BLOCKS.min((offset + source.len()).div_ceil(BLOCK_SIZE));
    let file_blocks = write.inode.info().blocks();
    file_blocks.with_owned_blocks(block_of(pos), wanted, |blocks| {
        let room = (blocks.len() * BLOCK_SIZE).saturating_sub(offset);
        match source.len().min(room) {
            0 => 0,
            len => source.fill_at_once(blocks, offset, len),
        }
    })
}

/// Writes to some blocks of any kind. Returns how many bytes, and why it stopped.
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
