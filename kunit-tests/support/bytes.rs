// SPDX-License-Identifier: GPL-2.0

//! Reading and writing the bytes of a block.

use crate::{
    bindings,
    store::block::{
        copy_from_iter,
        copy_to_iter,
        BlockRef, //
    },
};
use core::mem::MaybeUninit;
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};

/// Calls `f` with an iterator over `bytes`, as the VFS makes it for a read or a write.
fn with_iter<R>(
    bytes: &mut [u8],
    direction: u32,
    f: impl FnOnce(*mut bindings::iov_iter) -> R,
) -> R {
    let vec = bindings::kvec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut iter = MaybeUninit::uninit();
    // SAFETY: `iter` is valid for writes, and `vec` is one segment of that many bytes; both
    // outlive `f`.
    unsafe { bindings::iov_iter_kvec(iter.as_mut_ptr(), direction, &vec, 1, bytes.len()) };
    f(iter.as_mut_ptr())
}

/// Writes `bytes` at `offset`. Returns how many fit.
pub(crate) fn write(block: &BlockRef, offset: usize, bytes: &mut [u8]) -> usize {
    let len = bytes.len();
    with_iter(bytes, bindings::ITER_SOURCE, |iter| {
        // SAFETY: `iter` was made to be a source.
        let iter = unsafe { IovIterSource::from_raw(iter) };
        copy_from_iter(&[Some(block)], offset, len, iter)
    })
}

/// Reads from `offset` on. Returns how many bytes there were.
pub(crate) fn read(block: &BlockRef, offset: usize, bytes: &mut [u8]) -> usize {
    read_blocks(&[Some(block.clone())], offset, bytes)
}

/// Reads from `offset` bytes into the first of `blocks` on. Returns how many bytes there were.
pub(crate) fn read_blocks(blocks: &[Option<BlockRef>], offset: usize, bytes: &mut [u8]) -> usize {
    let len = bytes.len();
    with_iter(bytes, bindings::ITER_DEST, |iter| {
        // SAFETY: `iter` was made to be a destination.
        let iter = unsafe { IovIterDest::from_raw(iter) };
        copy_to_iter(blocks, offset, len, iter)
    })
}

/// Checks that the block has `bytes` at `offset`.
pub(crate) fn check_bytes<const N: usize>(
    block: &BlockRef,
    offset: usize,
    bytes: [u8; N],
) -> Result {
    let mut found = [0xee; N];
    check_eq!(read(block, offset, &mut found), N);
    check_eq!(found, bytes, "offset {offset}");
    Ok(())
}
