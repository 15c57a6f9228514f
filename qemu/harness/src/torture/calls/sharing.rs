// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Copying, cloning, deduplication.

use super::{Caller, Piece};
use crate::failure::{Errno, Sys};
use crate::pattern::BLOCK64;
use crate::sys::{
    clone_file, clone_range, copy_file_range, dedupe, dedupe_many, Deduped, FileDedupeRangeInfo,
};

pub use super::NEEDS;

/// Calls copy_file_range from the other file, `later` bytes further on there.
pub(super) fn copy(caller: &Caller<'_>, piece: Piece, later: u64, flags: u32) -> Sys<usize> {
    let (mut from, mut to) = ((piece.offset + later) as i64, piece.offset as i64);
    let len = piece.len as usize;
    let (other, file) = (&caller.bomb.other, &caller.bomb.file);
    copy_file_range(other, Some(&mut from), file, Some(&mut to), len, flags)
}

/// Copies a range that can be shared.
pub fn copy_aligned(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, piece, 0, 0)
}

/// Copies a range that can be shared, but with other nodes.
pub fn copy_a_block_later(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, piece, BLOCK64, 0)
}

/// Copies a range that cannot be shared.
pub fn copy_a_byte_later(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, piece, 1, 0)
}

/// Cuts a range to the end of the source, as calls refuse ranges beyond it.
pub(super) fn within(piece: Piece) -> Piece {
    let len = piece.len.min(super::SIZE - piece.offset);
    Piece {
        offset: piece.offset,
        len: len.saturating_sub(BLOCK64),
    }
}

pub fn ficlone(caller: &Caller<'_>, _: Piece) -> Sys<usize> {
    clone_file(&caller.bomb.other, &caller.bomb.file).map(|()| 0)
}

/// Clones from the other file, `later` bytes further on there.
fn clone(caller: &Caller<'_>, piece: Piece, later: u64) -> Sys<usize> {
    let Piece { offset, len } = within(piece);
    let (other, file) = (&caller.bomb.other, &caller.bomb.file);
    clone_range(other, offset + later, len, file, offset).map(|()| 0)
}

pub fn ficlonerange(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    clone(caller, piece, 0)
}

pub fn ficlonerange_a_block_later(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    clone(caller, piece, BLOCK64)
}

/// Clones the first half of the file, or a part of it, onto the second.
pub fn ficlonerange_onto_itself(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let half = super::SIZE / 2;
    let file = &caller.bomb.file;
    let from = piece.offset % half / BLOCK64 * BLOCK64;
    let len = piece.len.min(half - from) / BLOCK64 * BLOCK64;
    clone_range(file, from, len, file, half + from).map(|()| 0)
}

/// Deduplicates equal ranges.
pub fn fideduperange(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let Piece { offset, len } = within(piece);
    let (other, file) = (&caller.bomb.other, &caller.bomb.file);
    match dedupe(other, offset + caller.bomb.shift(), len, file, offset)? {
        Deduped::Failed(error) => Err(error),
        Deduped::Differs => Err(Errno(libc::EBADE)),
        Deduped::Same(count) => Ok(count as usize),
    }
}

/// Deduplicates as many ranges as fit into one call.
pub fn fideduperange_of_many(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let Piece { offset, len } = within(piece);
    let target = FileDedupeRangeInfo::new(&caller.bomb.file, offset);
    let mut targets = [target; 100];
    let from = offset + caller.bomb.shift();
    dedupe_many(&caller.bomb.other, from, len, &mut targets).map(|()| 0)
}
