// SPDX-License-Identifier: GPL-2.0

//! Writing whole blocks in a row that are all to be new: a file that grows, or the first write
//! after a clone. As many as lie in one piece in memory are filled and put into the tree at once.

use super::{
    block_of, offset_in_block,
    write::{keep_around, put, Source},
    ChargedBlock, Data, Locked,
};
use crate::store::{
    block::{Piece, BLOCK_SIZE},
    Reserve,
};
use kernel::prelude::*;

/// How many of the blocks at `pos`, all of one leaf, can be written by [`write_run`].
pub(super) fn length(inode: &Locked, pos: u64, source: &impl Source, may_wait: bool) -> usize {
    if !may_wait || source.len() < 2 * BLOCK_SIZE || offset_in_block(pos) != 0 {
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

    let mut index = block_of(pos);
    let lock = inode.invalidate();
    lock.unmap(index..index + done.div_ceil(BLOCK_SIZE) as u64);
    // A fault may have put blocks there meanwhile, which are looked at one by one.
    let all_others =
        !inode.was_mapped() || inode.data().run_of_others(index, piece.len()) == piece.len();
    while !piece.is_empty() {
        if all_others {
            let before = piece.len();
            Data::insert_piece(&lock, index, &mut piece);
            index += (before - piece.len()) as u64;
        }
        // A node is missing, somebody is to be charged, or there is more to look at.
        if let Some(block) = piece.take() {
            let block = ChargedBlock::uncharged(inode, block);
            if let Err(err) = put(&lock, index, block, 0..BLOCK_SIZE, reserve) {
                return ((index * BLOCK_SIZE as u64 - pos) as usize, Err(err));
            }
            index += 1;
        }
    }
    if let Some(last) = last {
        let block = ChargedBlock::uncharged(inode, last);
        if let Err(err) = put(&lock, index, block, 0..part, reserve) {
            return (done - part, Err(err));
        }
    }
    (done, result)
}
