// SPDX-License-Identifier: GPL-2.0

//! Copying several blocks to somebody who reads them.

use super::{page::BlockRef, BLOCK_SIZE};
use crate::bindings;
use kernel::iov::IovIterDest;

/// Copies `len` bytes to `to`, beginning `offset` bytes into the first of `blocks`; `None` is a block of
/// zeros. Returns how many were taken.
///
/// What lies in one piece in memory is copied in one piece. May fault in user memory: no lock that a
/// fault takes may be held.
pub fn copy_to_iter(
    blocks: &[Option<BlockRef>],
    offset: usize,
    len: usize,
    to: &mut IovIterDest<'_>,
) -> usize {
    let mut done = 0;
    let mut i = 0;
    while done < len && i < blocks.len() {
        let run = adjacent(&blocks[i..]);
        let offset = if i == 0 { offset.min(BLOCK_SIZE) } else { 0 };
        let n = (run * BLOCK_SIZE - offset).min(len - done);
        let copied = match &blocks[i] {
            Some(first) => first.raw().with_bytes(|bytes| {
                // SAFETY: `n` bytes from `offset` on lie within `run` pages, which follow each other in
                // the kernel's mapping of all memory, and to which there are references. `to` is valid.
                unsafe { bindings::_copy_to_iter(bytes.add(offset).cast(), n, to.as_raw()) }
            }),
            // SAFETY: `to` is a valid iterator.
            None => unsafe { bindings::iov_iter_zero(n, to.as_raw()) },
        };
        done += copied;
        if copied < n {
            break;
        }
        i += run;
    }
    done
}

/// How many of `blocks`, from the first on, follow each other in memory; at least one.
fn adjacent(blocks: &[Option<BlockRef>]) -> usize {
    let follows = |pair: &[Option<BlockRef>]| match pair {
        [Some(a), Some(b)] => IN_ONE_PIECE && a.as_ptr().wrapping_add(1) == b.as_ptr(),
        _ => false,
    };
    1 + blocks.windows(2).take_while(|pair| follows(pair)).count()
}

/// Whether pages whose `struct page` follow each other do so in memory, which is always mapped.
const IN_ONE_PIECE: bool = cfg!(CONFIG_SPARSEMEM_VMEMMAP) && !cfg!(CONFIG_HIGHMEM);
