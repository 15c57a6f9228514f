// SPDX-License-Identifier: GPL-2.0

//! Writing.
//!
//! A block that is the file's own is written in place. For any other a new block is filled first,
//! without a lock, as filling may fault on a mapping of this very file; then a batch of new
//! blocks goes into the tree.

use super::{block_of, offset_in_block, truncate, ChargedBlock, Locked};
use crate::{
    store::{
        block::{BlockRef, BLOCK_SIZE},
        Lookup, Reserve,
    },
    vfs::go_on,
};
use core::ops::Range;
use kernel::{iov::IovIterSource, prelude::*};

/// How many new blocks go into the tree at a time.
const BATCH: usize = 16;

/// Where the bytes come from.
pub(crate) trait Source {
    /// How many bytes there are left.
    fn len(&self) -> usize;

    /// Copies the next bytes, at most `len`, to `offset` of `block`. Returns how many; fewer than
    /// `len` means that no more can be had.
    fn fill(&mut self, block: &BlockRef, offset: usize, len: usize) -> usize;

    /// Skips the next `len` bytes if they are a hole, so that they can be one here too.
    fn skip_hole(&mut self, _len: usize) -> bool {
        false
    }
}

impl Source for IovIterSource<'_> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn fill(&mut self, block: &BlockRef, offset: usize, len: usize) -> usize {
        block.copy_from_iter(offset, len, self)
    }
}

/// A new block with some bytes written to it, for the tree.
struct Filled<'a> {
    index: u64,
    block: ChargedBlock<'a>,
    /// The part that was written; around it are the bytes that were there before.
    offset: usize,
    len: usize,
}

/// Writes `source` to `pos`, and moves the end of the file up where that lies beyond it. Returns
/// how many bytes. Without `may_wait` only as far as the blocks are there, to be written in place.
///
/// # Errors
///
/// `EFAULT`, `ENOSPC`, `EDQUOT`, `ENOMEM` if not one byte could be written; `EAGAIN` if it may not
/// wait.
pub(crate) fn write(
    inode: &Locked,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
) -> Result<usize> {
    truncate::wipe_tail(inode, pos);
    let mut reserve = Reserve::new();
    let mut done = 0;
    while source.len() > 0 {
        let at = pos + done as u64;
        let (n, result) = if offset_in_block(at) + source.len() <= BLOCK_SIZE {
            write_batch::<1>(inode, at, source, may_wait, &mut reserve)
        } else {
            write_batch::<BATCH>(inode, at, source, may_wait, &mut reserve)
        };
        done += n;
        let end = pos + done as u64;
        if n > 0 && end > inode.size() {
            inode.set_size(end);
        }
        let result = result.and_then(|()| go_on());
        match result {
            Ok(()) => (),
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Writes up to `N` blocks. Returns how many bytes, and what kept it from going on.
fn write_batch<const N: usize>(
    inode: &Locked,
    pos: u64,
    source: &mut impl Source,
    may_wait: bool,
    reserve: &mut Reserve,
) -> (usize, Result) {
    let data = inode.data();
    let n = N.min((offset_in_block(pos) + source.len()).div_ceil(BLOCK_SIZE));
    let mut olds = [const { Lookup::Hole }; N];
    data.lookup_run(block_of(pos), &mut olds[..n]);
    let takes_room = |old: &&Lookup| may_wait && matches!(old, Lookup::Hole | Lookup::Shared(_));
    let needed = olds[..n].iter().filter(takes_room).count();
    let mut run = data.pool().alloc_run(needed as u64);
    let mut batch = [const { None }; N];
    let mut done = 0;
    let mut result = Ok(());
    for (filled, old) in batch.iter_mut().zip(olds).take(n) {
        let (index, offset) = (
            block_of(pos + done as u64),
            offset_in_block(pos + done as u64),
        );
        let len = source.len().min(BLOCK_SIZE - offset);
        match &old {
            Lookup::Private(block) => {
                let n = source.fill(block, offset, len);
                done += n;
                if n < len {
                    result = Err(EFAULT);
                    break;
                }
                continue;
            }
            _ if !may_wait => {
                result = Err(EAGAIN);
                break;
            }
            Lookup::Hole if source.skip_hole(len) => {
                done += len;
                continue;
            }
            _ => (),
        }
        let block = match ChargedBlock::from_run(&mut run, inode, &old, inode.no_charge()) {
            Ok(block) => block,
            Err(err) => {
                result = Err(err);
                break;
            }
        };
        let n = source.fill(block.bytes(), offset, len);
        match old.block() {
            Some(old) => keep_around(block.bytes(), &old, offset, n),
            None => {
                // Of the rest a part may have come.
                block.bytes().zero(offset + n, len - n);
                block.clear_around(offset, len);
            }
        }
        if n > 0 {
            *filled = Some(Filled {
                index,
                block,
                offset,
                len: n,
            });
        }
        done += n;
        if n < len {
            result = Err(EFAULT);
            break;
        }
    }
    if let Some((end, err)) = insert_batch(inode, &mut batch, reserve) {
        wipe_own(inode, end.max(inode.size())..pos + done as u64);
        return (end.saturating_sub(pos) as usize, Err(err));
    }
    (done, result)
}

/// Takes back what was written in place to `bytes`, which lie beyond the end of the file.
fn wipe_own(inode: &Locked, bytes: Range<u64>) {
    let mut at = bytes.start;
    while at < bytes.end {
        let offset = offset_in_block(at);
        if let Lookup::Private(block) = inode.data().lookup(block_of(at)) {
            block.zero(offset, BLOCK_SIZE - offset);
        }
        at += (BLOCK_SIZE - offset) as u64;
    }
}

/// Gives `block` the bytes of `old`, but for the `len` at `offset`.
fn keep_around(block: &BlockRef, old: &BlockRef, offset: usize, len: usize) {
    block.copy_from(0, old, 0, offset);
    let end = offset + len;
    block.copy_from(end, old, end, BLOCK_SIZE - end);
}

/// Puts a batch into the tree. Where it fails, says at which byte, and why.
fn insert_batch(
    inode: &Locked,
    batch: &mut [Option<Filled<'_>>],
    reserve: &mut Reserve,
) -> Option<(u64, Error)> {
    let first = batch.iter().flatten().next()?.index;
    let last = batch.iter().flatten().last()?.index;
    let data = inode.data();
    let lock = inode.invalidate();
    lock.unmap(first..last + 1);
    for filled in batch.iter_mut() {
        let Some(Filled {
            index,
            block,
            offset,
            len,
        }) = filled.take()
        else {
            continue;
        };
        // A fault may have put a block there since it was looked up. It is the file's own, and
        // what was stored to it since is not for us to take back.
        let put = inode.was_mapped().then(|| data.lookup(index));
        if let Some(Lookup::Private(own)) = put {
            own.copy_from(offset, block.bytes(), offset, len);
        } else if let Err(err) = block.insert(&lock, index, reserve) {
            return Some((index * BLOCK_SIZE as u64 + offset as u64, err));
        }
    }
    None
}
