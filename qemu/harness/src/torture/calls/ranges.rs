// SPDX-License-Identifier: GPL-2.0 OR MIT
//! fallocate(2) in all its modes, and truncation.

use super::{Caller, Piece};
use crate::failure::{Errno, Sys};
use crate::tests::fallocate::fallocate;

pub use super::NEEDS;

const WRITE_ZEROES: i32 = 0x80;

fn change(caller: &Caller<'_>, mode: i32, piece: Piece) -> Sys<usize> {
    let (offset, len) = (piece.offset, piece.len);
    fallocate(&caller.bomb.file, mode, offset, len).map(|()| 0)
}

pub fn allocate(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, 0, piece)
}

pub fn allocate_keeping_the_size(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, libc::FALLOC_FL_KEEP_SIZE, piece)
}

pub fn punch(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    change(caller, mode, piece)
}

pub fn zero(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, libc::FALLOC_FL_ZERO_RANGE, piece)
}

pub fn zero_keeping_the_size(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    change(caller, mode, piece)
}

pub fn unshare(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, libc::FALLOC_FL_UNSHARE_RANGE, piece)
}

pub fn collapse(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, libc::FALLOC_FL_COLLAPSE_RANGE, piece)
}

/// Removes one block, so that no block keeps its place in a leaf.
pub fn collapse_a_block(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    collapse(caller, one_block(piece))
}

pub fn insert(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, libc::FALLOC_FL_INSERT_RANGE, piece)
}

pub fn insert_a_block(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    insert(caller, one_block(piece))
}

fn one_block(piece: Piece) -> Piece {
    Piece {
        offset: piece.offset / 4096 * 4096,
        len: 4096,
    }
}

/// Calls FALLOC_FL_WRITE_ZEROES, which reflinkfs refuses.
pub fn write_zeroes(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    change(caller, WRITE_ZEROES, piece)
}

pub fn truncate(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    match caller.bomb.file.try_truncate(piece.offset) {
        // The last block is shared, and there may be no room for its copy.
        Ok(()) | Err(Errno(libc::ENOSPC)) => {
            let longer = caller.bomb.file.try_truncate(i64::MAX as u64);
            longer.map(|()| 0)
        }
        Err(error) => Err(error),
    }
}
