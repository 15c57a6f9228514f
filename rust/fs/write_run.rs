// SPDX-License-Identifier: GPL-2.0

//! Writing whole blocks in a row that are all to be new: a file that grows, or the first write
//! after a clone. As many as lie in one piece in memory are filled and put into the tree at once.

use super::{
    block_of, offset_in_block,
    write::{keep_around, put, Source},
    ChargedBlock, Data, Locked, ReflinkFs,
};
use crate::{
    store::{
        block::{Piece, BLOCK_SIZE},
        Reserve,
    },
    vfs::Invalidate,
};
use kernel::prelude::*;

/// How many of the blocks at `pos`, all of one leaf, can be written by [`write_run`].
pub(super) fn length(inode: &Locked, pos: u64, source: &impl Source, may_wait: bool) -> usize {
    if !may_wait || source.len() < BLOCK_SIZE || offset_in_block(pos) != 0 {
        return 0;
    }
    inode
        .data()
        .run_of_others(block_of(pos), source.len_for_pieces() / BLOCK_SIZE)
}

/// Writes as many blocks as [`length`] gave. Returns how many bytes, and what kept it from going on.
pub(super) fn write_run(
    inode: &Locked,
    pos: u64,
    blocks: usize,
    source: &mut impl Source,
    reserve: &mut Reserve,
) -> (usize, Result) {
    let mut run = inode.data().pool().alloc_run(blocks as u64);
    let mut done = 0;
    while done < blocks * BLOCK_SIZE {
        let (n, result) = match run.take_piece() {
            Ok(piece) => write_piece(inode, pos + done as u64, piece, source, reserve),
            Err(err) => (0, Err(err)),
        };
        done += n;
        if result.is_err() {
            return (done, result);
        }
    }
    (done, Ok(()))
}

fn write_piece(
    inode: &Locked,
    pos: u64,
    mut piece: Piece<'_>,
    source: &mut impl Source,
    reserve: &mut Reserve,
) -> (usize, Result) {
    let wanted = piece.len() * BLOCK_SIZE;
    let done = source.fill_piece(&piece);
    let result = if done < wanted { Err(EFAULT) } else { Ok(()) };
    piece.truncate(done.div_ceil(BLOCK_SIZE));
    // What is only a part of a block is not put in with the others.
    let part = done % BLOCK_SIZE;
    let last = if part == 0 { None } else { piece.take_last() };
    if let Some(last) = &last {
        let index = block_of(pos + done as u64);
        match inode.data().lookup(index).block() {
            Some(old) => keep_around(last.bytes(), &old, 0..part),
            None => last.bytes().zero(part, BLOCK_SIZE - part),
        }
    }

    let first = block_of(pos);
    let lock = inode.invalidate();
    lock.unmap(first..first + done.div_ceil(BLOCK_SIZE) as u64);
    let (whole, put_all) = put_piece(&lock, first, piece, reserve);
    if let Err(err) = put_all {
        return (whole * BLOCK_SIZE, Err(err));
    }
    if let Some(last) = last {
        let block = ChargedBlock::uncharged(inode, last);
        if let Err(err) = put(&lock, first + whole as u64, block, 0..part, reserve) {
            return (done - part, Err(err));
        }
    }
    (done, result)
}

/// Puts whole new blocks in from `index` on, all of one leaf. Returns how many, and what kept it from
/// going on.
fn put_piece(
    lock: &Invalidate<'_, ReflinkFs>,
    index: u64,
    mut piece: Piece<'_>,
    reserve: &mut Reserve,
) -> (usize, Result) {
    let (inode, all) = (lock.inode(), piece.len());
    // A fault may have put blocks there meanwhile, which are looked at one by one.
    let all_others = !inode.was_mapped() || inode.data().run_of_others(index, all) == all;
    while !piece.is_empty() {
        let done = all - piece.len();
        let at = index + done as u64;
        // One by one, too, where somebody is to be charged.
        let result = if all_others && piece.len() > 1 && !inode.super_block().has_quota() {
            Data::insert_piece(lock, at, &mut piece, reserve)
        } else {
            piece.take().map_or(Ok(()), |block| {
                let block = ChargedBlock::uncharged(inode, block);
                put(lock, at, block, 0..BLOCK_SIZE, reserve)
            })
        };
        if result.is_err() {
            return (done, result);
        }
    }
    (all, Ok(()))
}
