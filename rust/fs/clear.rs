// SPDX-License-Identifier: GPL-2.0

//! Clearing a range of bytes: whole blocks go, the parts of blocks at its ends become zeros.

use super::{block_of, blocks_for, offset_in_block, Data, Locked, ReflinkFs};
use crate::{
    store::{
        block::{BlockRef, BLOCK_SIZE},
        Lookup, Reserve, Tree,
    },
    vfs::Invalidate,
};
use core::ops::Range;
use kernel::prelude::*;

/// A part of a block.
struct Part {
    index: u64,
    bytes: Range<usize>,
    block: Lookup,
}

/// A range about to be cleared: what can fail has been done, and nothing is to be seen of it.
pub(crate) struct Clearing {
    tree: Tree,
    /// The whole blocks.
    blocks: Range<u64>,
    /// Blocks to be wiped in place.
    in_place: [Option<(BlockRef, Range<usize>)>; 2],
    /// The indexes of blocks in whose place there are copies.
    copied: [Option<u64>; 2],
}

/// The parts of blocks at the ends of a range.
fn parts(data: &Data, bytes: &Range<u64>) -> [Option<Part>; 2] {
    let (first, last) = (block_of(bytes.start), block_of(bytes.end));
    let part = |index, bytes| Part {
        index,
        bytes,
        block: data.lookup(index),
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

impl Clearing {
    /// Prepares to clear `bytes`; `u64::MAX` as the end is the end of all blocks. The caller holds
    /// `invalidate_lock` exclusive until the [`Clearing::commit`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC` where a part of a shared block has to be copied, or a node, and there is no
    /// room. Not with `over`, which is for truncation: to give blocks back must work in a full
    /// mount, and it goes over the limit by a block of a file.
    pub(crate) fn prepare(data: &Data, bytes: Range<u64>, over: bool) -> Result<Self> {
        // Before the edit, with which everything counts as shared.
        let parts = parts(data, &bytes);
        let end = match bytes.end {
            u64::MAX => u64::MAX,
            end => block_of(end),
        };
        let mut this = Self {
            tree: data.edit(),
            blocks: blocks_for(bytes.start)..end,
            in_place: [None, None],
            copied: [None, None],
        };
        let mut reserve = if over {
            Reserve::on_demand_over()
        } else {
            Reserve::on_demand()
        };
        this.tree.remove(this.blocks.start, end, &mut reserve)?;
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
                Lookup::Hole => (),
                Lookup::Private(block) => this.in_place[i] = Some((block, bytes)),
                Lookup::Shared(ref block) | Lookup::Unshared(ref block) => {
                    if !block.is_zero(bytes.start, bytes.len()) {
                        let takes_room = matches!(lookup, Lookup::Shared(_));
                        let own = if takes_room && !over {
                            data.pool().alloc()?
                        } else {
                            data.pool().alloc_over()?
                        };
                        own.bytes().copy_from(0, block, 0, usize::MAX);
                        own.bytes().zero(bytes.start, bytes.len());
                        this.tree.insert(index, own, &mut reserve)?;
                        this.copied[i] = Some(index);
                    }
                }
            }
        }
        Ok(this)
    }

    /// Clears the range. With `copies` those go too that private mappings made of whole blocks.
    pub(crate) fn commit(self, inode: &Locked, lock: &Invalidate<'_, ReflinkFs>, copies: bool) {
        if copies {
            lock.unmap_with_copies(self.blocks);
        } else {
            lock.unmap(self.blocks);
        }
        for index in self.copied.into_iter().flatten() {
            lock.unmap(index..index + 1);
        }
        for (block, bytes) in self.in_place.into_iter().flatten() {
            block.zero(bytes.start, bytes.len());
        }
        inode.data().replace(self.tree);
    }
}
