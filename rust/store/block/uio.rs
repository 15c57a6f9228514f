// SPDX-License-Identifier: GPL-2.0

//! Copying several blocks to somebody who reads them, or from somebody who writes them, or to others.
//!
//! What lies in one piece in memory is copied in one piece. Nothing is copied from or to a block that
//! [is poisoned](BlockRef::is_poisoned), nor any that comes after it: see [`error_at`].

use super::{page::BlockRef, BLOCK_SIZE};
use crate::bindings;
use core::borrow::Borrow;
use kernel::{
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

/// Copies `len` bytes to `to`, beginning `offset` bytes into the first of `blocks`; `None` is a block of
/// zeros. Returns how many were taken.
///
/// May fault in user memory: no lock that a fault takes may be held.
pub fn copy_to_iter(
    blocks: &[Option<BlockRef>],
    offset: usize,
    len: usize,
    to: &mut IovIterDest<'_>,
) -> usize {
    let copy = |piece: &[Option<BlockRef>], offset: usize, n| match piece {
        [Some(first), ..] => first.raw().with_bytes(|bytes| {
            // SAFETY: `n` bytes from `offset` on lie within the piece, to whose pages there are
            // references. `to` is valid.
            unsafe { bindings::_copy_to_iter(bytes.add(offset).cast(), n, to.as_raw()) }
        }),
        // SAFETY: `to` is a valid iterator.
        _ => unsafe { bindings::iov_iter_zero(n, to.as_raw()) },
    };
    for_each_contig(blocks, offset, len, copy)
}

/// As [`copy_to_iter`], as far as the memory is there: nothing faults, so that a lock may be held.
pub fn copy_to_iter_without_faults(
    blocks: &[Option<BlockRef>],
    offset: usize,
    len: usize,
    to: &mut IovIterDest<'_>,
) -> usize {
    without_faults(|| copy_to_iter(blocks, offset, len, to))
}

/// Why no more than `done` bytes were copied from or to `blocks`, from `offset` of the first on: `EIO`
/// where the next lies in a block that [is poisoned](BlockRef::is_poisoned), otherwise `EFAULT`.
pub fn error_at(blocks: &[Option<BlockRef>], offset: usize, done: usize) -> Error {
    match blocks.get((offset + done) / BLOCK_SIZE) {
        Some(Some(block)) if block.is_poisoned() => EIO,
        _ => EFAULT,
    }
}

fn without_faults<R>(copy: impl FnOnce() -> R) -> R {
    // SAFETY: Undone below.
    unsafe { bindings::pagefault_disable() };
    let result = copy();
    // SAFETY: Undoes the above.
    unsafe { bindings::pagefault_enable() };
    result
}

/// Copies `len` bytes of `from` to `blocks`, beginning `offset` bytes into the first; those for a
/// `None` are skipped. Returns how many there were.
///
/// May fault in user memory: no lock that a fault takes may be held.
pub fn copy_from_iter<B: Borrow<BlockRef>>(
    blocks: &[Option<B>],
    offset: usize,
    len: usize,
    from: &mut IovIterSource<'_>,
) -> usize {
    let copy = |piece: &[Option<B>], offset: usize, n| match piece {
        [Some(first), ..] => first.borrow().raw().with_bytes(|bytes| {
            // SAFETY: `n` bytes from `offset` on lie within the piece, to whose pages there are
            // references. `from` is valid.
            unsafe { bindings::_copy_from_iter(bytes.add(offset).cast(), n, from.as_raw()) }
        }),
        _ => {
            from.advance(n);
            n
        }
    };
    for_each_contig(blocks, offset, len, copy)
}

/// As [`copy_from_iter`], as far as the memory is there: nothing faults, so that a lock may be held.
pub fn copy_from_iter_without_faults(
    blocks: &[Option<BlockRef>],
    offset: usize,
    len: usize,
    from: &mut IovIterSource<'_>,
) -> usize {
    without_faults(|| copy_from_iter(blocks, offset, len, from))
}

/// Calls `copy` for one piece after the other of the `len` bytes at `offset` of the first of `blocks`:
/// with blocks that follow each other in the kernel's mapping of all memory, or a hole; an offset in the
/// first of them; and how many bytes from there on lie within them. Returns how many bytes it took, and
/// goes on for as long as it takes all, up to a block that [is poisoned](BlockRef::is_poisoned).
pub(super) fn for_each_contig<B: Borrow<BlockRef>>(
    blocks: &[Option<B>],
    offset: usize,
    len: usize,
    mut copy: impl FnMut(&[Option<B>], usize, usize) -> usize,
) -> usize {
    let mut done = 0;
    let mut i = 0;
    while done < len && i < blocks.len() {
        if matches!(&blocks[i], Some(block) if block.borrow().is_poisoned()) {
            break;
        }
        let run = adjacent(&blocks[i..]);
        let offset = if i == 0 { offset.min(BLOCK_SIZE) } else { 0 };
        let n = (run * BLOCK_SIZE - offset).min(len - done);
        let copied = copy(&blocks[i..i + run], offset, n);
        done += copied;
        if copied < n {
            break;
        }
        i += run;
    }
    done
}

/// How many of `blocks`, from the first on, follow each other in memory; at least one.
fn adjacent<B: Borrow<BlockRef>>(blocks: &[Option<B>]) -> usize {
    let follows = |pair: &[Option<B>]| match pair {
        [Some(a), Some(b)] => {
            let (a, b) = (a.borrow(), b.borrow());
            PAGES_VIRT_CONTIGUOUS && a.as_ptr().wrapping_add(1) == b.as_ptr() && !b.is_poisoned()
        }
        _ => false,
    };
    1 + blocks.windows(2).take_while(|pair| follows(pair)).count()
}

/// Whether pages whose `struct page` follow each other do so in memory, which is always mapped.
/// So it is where there is one array of all of them.
pub(super) const PAGES_VIRT_CONTIGUOUS: bool =
    cfg!(any(CONFIG_SPARSEMEM_VMEMMAP, CONFIG_FLATMEM)) && !cfg!(CONFIG_HIGHMEM);
