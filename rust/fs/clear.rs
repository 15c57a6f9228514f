// SPDX-License-Identifier: GPL-2.0

//! Clearing a range of bytes: whole blocks go, the parts of blocks at its ends become zeros.

use super::{
    block_of,
    blocks_for,
    file_blocks::{
        BlocksLock,
        OwnBlocks,
        Replaced, //
    },
    offset_in_block,
    room::Room,
    ChargedTree, //
};
use crate::store::{
    block::{
        BlockRef,
        Pool,
        BLOCK_SIZE, //
    },
    Lookup,
    MAX_HEIGHT, //
};
use core::ops::Range;
use kernel::prelude::*;

/// A part of a block.
struct Part {
    index: u64,
    bytes: Range<usize>,
    block: Lookup,
}

/// A range about to be cleared: everything that can fail was done, and the file is unchanged.
pub(crate) struct Clearing<'lock, 'a> {
    lock: BlocksLock<'lock, 'a>,
    tree: ChargedTree<'lock, 'a>,
    /// The whole blocks.
    blocks: Range<u64>,
    /// Blocks to be wiped in place.
    in_place: [Option<(BlockRef, Range<usize>)>; 2],
    /// The indexes of blocks that were copied on write.
    cow: [Option<u64>; 2],
}

/// Returns the parts of blocks at the ends of a range.
fn parts(file_blocks: OwnBlocks<'_>, bytes: &Range<u64>) -> [Option<Part>; 2] {
    let (first, last) = (block_of(bytes.start), block_of(bytes.end));
    let part = |index, bytes| Part {
        index,
        bytes,
        block: file_blocks.lookup(index),
    };
    let (from, to) = (offset_in_block(bytes.start), offset_in_block(bytes.end));
    let tail = (to != 0 && bytes.end != u64::MAX).then_some(to);
    match tail {
        Some(to) if from != 0 && first == last => [Some(part(first, from..to)), None],
        _ => [
            (from != 0).then(|| part(first, from..BLOCK_SIZE)),
            tail.map(|to| part(last, 0..to)),
        ],
    }
}

/// How many blocks are looked at to see whether only this file has them.
const LOOK_BLOCKS: usize = 1024;

/// Returns whether clearing may exceed the pool's limit: if there is no room for what it allocates,
/// and it frees at least as much. (A node that only this file has is copied on write, and then
/// freed.)
fn may_overcommit(
    file_blocks: OwnBlocks<'_>,
    blocks: &Range<u64>,
    parts: &[Option<Part>; 2],
) -> bool {
    let nodes = |index| match file_blocks.owns_path(index) {
        true => 0,
        false => blocks_for(u64::from(MAX_HEIGHT) * Pool::NODE_BYTES) as usize,
    };
    let takes_room = |part: &&Part| matches!(part.block, Lookup::Shared(_));
    let copies = parts.iter().flatten().filter(takes_room).count();
    // To remove all of a file takes no nodes.
    let taken = match blocks {
        Range {
            start: 0,
            end: u64::MAX,
        } => copies,
        _ => copies + nodes(blocks.start) + nodes(blocks.end),
    };
    if taken == 0 {
        return true;
    }
    let all = file_blocks.all();
    if all.pool().check_room(taken as u64).is_ok() {
        return false;
    }
    let next = |from| all.next_block(from).filter(|index| *index < blocks.end);
    core::iter::successors(next(blocks.start), |index| next(index + 1))
        .take(LOOK_BLOCKS)
        .filter(|index| !matches!(file_blocks.lookup(*index), Lookup::Shared(_)))
        .nth(taken - 1)
        .is_some()
}

impl<'lock, 'a> Clearing<'lock, 'a> {
    /// Prepares to clear `bytes`; `u64::MAX` as the end is the end of all blocks. What it takes is
    /// had from `room`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also where there is not enough in `room`; `ENOSPC` where a part of a shared block
    /// has to be copied on write, or a node, and there is no room. Not where at least as much is
    /// given back: that must work in a full mount.
    pub(crate) fn prepare(
        lock: BlocksLock<'lock, 'a>,
        bytes: Range<u64>,
        room: &mut Room<'_>,
    ) -> Result<Self> {
        let file_blocks = lock.blocks();
        // Before the edit, with which everything counts as shared.
        let parts = parts(file_blocks, &bytes);
        let end = match bytes.end {
            u64::MAX => u64::MAX,
            end => block_of(end),
        };
        let blocks = blocks_for(bytes.start)..end;
        let overcommit = may_overcommit(file_blocks, &blocks, &parts);
        let mut tree = file_blocks.edit(room.nodes(overcommit))?;
        let (mut in_place, mut cow) = ([None, None], [None, None]);
        tree.remove(blocks.start, end, room.nodes(overcommit))?;
        for (i, part) in parts.into_iter().enumerate() {
            let Some(Part {
                index,
                bytes,
                block: lookup,
            }) = part
            else {
                continue;
            };
            match lookup {
                // Zeros already.
                Lookup::Hole | Lookup::Unwritten(_) => (),
                Lookup::Owned(block) => in_place[i] = Some((block, bytes)),
                Lookup::Shared(ref block) | Lookup::WasShared(ref block) => {
                    // A poisoned block can be neither copied nor read: it stays.
                    if matches!(block.is_zero(bytes.start, bytes.len()), Ok(false)) {
                        let takes_room = matches!(lookup, Lookup::Shared(_));
                        let own = room.block(overcommit || !takes_room)?;
                        own.bytes().copy_block(block)?;
                        own.bytes().zero(bytes.start, bytes.len());
                        tree.insert(index, own, room.nodes(overcommit))?;
                        cow[i] = Some(index);
                    }
                }
            }
        }
        Ok(Self {
            // There are no more blocks than before.
            tree: ChargedTree::new(lock, tree)?,
            lock,
            blocks,
            in_place,
            cow,
        })
    }

    /// Clears the range. With `even_cows` also removes the copies that private mappings made of
    /// whole blocks. Returns what was removed.
    pub(crate) fn commit(self, even_cows: bool) -> Replaced<'a> {
        if even_cows {
            self.lock.unmap_even_cows(self.blocks);
        } else {
            self.lock.unmap(self.blocks);
        }
        for index in self.cow.into_iter().flatten() {
            self.lock.unmap(index..index + 1);
        }
        for (block, bytes) in self.in_place.into_iter().flatten() {
            block.zero(bytes.start, bytes.len());
        }
        self.tree.commit()
    }
}
