// SPDX-License-Identifier: GPL-2.0

//! Copies between blocks and `iov_iter`s.
//!
//! Blocks that are virtually contiguous are copied at once. Nothing is copied from or to a
//! [poisoned](BlockRef::is_poisoned) block, nor beyond it: see [`error_at`].
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h).

use super::{
    page::BlockRef,
    BLOCK_SIZE, //
};
use crate::bindings;
use core::borrow::Borrow;
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};

/// Copies `len` bytes to `to`, from `offset` bytes into the first of `blocks` on; `None` is a block
/// of zeros. Returns how many bytes were copied.
///
/// May fault on user memory: the caller holds no lock that a fault takes.
pub fn copy_to_iter(
    blocks: &[Option<BlockRef>],
    offset: usize,
    len: usize,
    to: &mut IovIterDest<'_>,
) -> usize {
    let copy = |contig: &[Option<BlockRef>], offset: usize, n| match contig {
        [Some(first), ..] => first.raw().with_bytes(|bytes| {
            // SAFETY: `n` bytes from `offset` on lie within `contig`, to whose pages there are
            // references. `to` is valid.
            unsafe { bindings::_copy_to_iter(bytes.add(offset).cast(), n, to.as_raw()) }
        }),
        // SAFETY: `to` is a valid iterator.
        _ => unsafe { bindings::iov_iter_zero(n, to.as_raw()) },
    };
    for_each_contig(blocks, offset, len, copy)
}

/// Returns why only `done` bytes were copied from or to `blocks`, from `offset` into the first on:
/// `EIO` if the next byte lies in a [poisoned](BlockRef::is_poisoned) block, otherwise `EFAULT`.
pub fn error_at(blocks: &[Option<BlockRef>], offset: usize, done: usize) -> Error {
    match blocks.get((offset + done) / BLOCK_SIZE) {
        Some(Some(block)) if block.is_poisoned() => EIO,
        _ => EFAULT,
    }
}

/// Calls `copy`, in which [`copy_to_iter`] and [`copy_from_iter`] do not fault: they copy as far as
/// user memory is resident.
pub fn without_faults<R>(copy: impl FnOnce() -> R) -> R {
    // SAFETY: Enabled again below.
    unsafe { bindings::pagefault_disable() };
    let result = copy();
    // SAFETY: Disabled above.
    unsafe { bindings::pagefault_enable() };
    result
}

/// Has the next bytes of `from` in memory, at most `len`: `fault_in_iov_iter_readable`.
///
/// # Errors
///
/// `EFAULT` where there is no memory at the first.
pub fn fault_in(from: &mut IovIterSource<'_>, len: usize) -> Result {
    let len = len.min(from.len());
    // SAFETY: `from` is a valid iterator.
    let missing = unsafe { bindings::fault_in_iov_iter_readable(from.as_raw(), len) };
    if missing == len {
        return Err(EFAULT);
    }
    Ok(())
}

/// Copies `len` bytes of `from` to `blocks`, from `offset` bytes into the first on; skips those for
/// a `None`. Returns how many bytes were copied or skipped.
///
/// May fault on user memory: the caller holds no lock that a fault takes.
pub fn copy_from_iter<B: Borrow<BlockRef>>(
    blocks: &[Option<B>],
    offset: usize,
    len: usize,
    from: &mut IovIterSource<'_>,
) -> usize {
    let copy = |contig: &[Option<B>], offset: usize, n| match contig {
        [Some(first), ..] => {
            let copied = first.borrow().raw().with_bytes(|bytes| {
                // SAFETY: `n` bytes from `offset` on lie within `contig`, to whose pages there are
                // references. `from` is valid.
                unsafe { bindings::_copy_from_iter(bytes.add(offset).cast(), n, from.as_raw()) }
            });
            for block in contig.iter().flatten() {
                block.borrow().raw().flush_dcache();
            }
            copied
        }
        _ => {
            from.advance(n);
            n
        }
    };
    for_each_contig(blocks, offset, len, copy)
}

/// Splits the `len` bytes at `offset` of the first of `blocks` into parts that are virtually
/// contiguous, or a hole. Calls `copy` for each with its blocks, the offset into the first of them,
/// and the number of bytes, as long as `copy` returns that number, and up to a
/// [poisoned](BlockRef::is_poisoned) block. Returns the sum of what `copy` returned.
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
        let run = contig_len(&blocks[i..]);
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

/// Returns how many of `blocks`, from the first on, are virtually contiguous; at least one.
fn contig_len<B: Borrow<BlockRef>>(blocks: &[Option<B>]) -> usize {
    let follows = |pair: &[Option<B>]| match pair {
        [Some(a), Some(b)] => {
            let (a, b) = (a.borrow(), b.borrow());
            PAGES_VIRT_CONTIGUOUS && a.as_ptr().wrapping_add(1) == b.as_ptr() && !b.is_poisoned()
        }
        _ => false,
    };
    1 + blocks.windows(2).take_while(|pair| follows(pair)).count()
}

/// Whether the pages of adjacent `struct page`s are virtually contiguous: with a single array of
/// all `struct page`s, and all memory mapped.
pub(super) const PAGES_VIRT_CONTIGUOUS: bool =
    cfg!(any(CONFIG_SPARSEMEM_VMEMMAP, CONFIG_FLATMEM)) && !cfg!(CONFIG_HIGHMEM);
