// SPDX-License-Identifier: GPL-2.0

//! `copy_file_range(2)`. Without flags: shares what can be shared, copies the rest. With
//! `COPY_FR_COPY`: copies.

use super::{
    block_of,
    clone::{
        clone_span,
        Span, //
    },
    offset_in_block,
    remap::{
        RemapKind,
        RemapRequest, //
    },
    truncate,
    write,
    write::Source,
    Inode, //
};
use crate::{
    store::{
        block::{
            BlockRef,
            ContigBlocks,
            BLOCK_SIZE, //
        },
        FANOUT, //
    },
    vfs::{
        cond_resched_killable,
        signal_pending, //
    },
};
use kernel::prelude::*;

/// How many bytes are copied between two checks for signals, and under
/// one hold of the locks.
const STEP_BYTES: u64 = 1 << 20;

/// How many bytes one call copies at most, since freeze protection is held meanwhile; the kernel's
/// own limit for one call is `MAX_RW_COUNT`.
const LIMIT_BYTES: u64 = 1 << 28;

/// How many bytes a step of sharing counts for: those of a leaf, though a step may share any number
/// of leaves.
const SHARE_STEP_BYTES: u64 = (FANOUT * BLOCK_SIZE) as u64;

/// How many steps of sharing are made under one hold of the locks.
const SHARE_STEPS: u64 = 1024;

/// How many bytes are copied under one hold of the source's lock.
const BATCH_BYTES: usize = 16 * BLOCK_SIZE;

/// Copies a range: [`RemapKind::Copy`], [`RemapKind::CopyOrClone`]. Returns how many bytes.
///
/// Where the two positions are congruent modulo the block size, only the ragged first and last
/// blocks are copied. Files of different mounts share nothing.
pub(crate) fn copy(request: &RemapRequest<'_>) -> Result<u64> {
    let mut done = 0;
    let mut left = LIMIT_BYTES;
    while done < request.len && left > 0 {
        match copy_step(request, done, &mut left) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
        if cond_resched_killable().is_err() || (request.may_stop && signal_pending()) {
            break;
        }
    }
    Ok(done)
}

/// Copies or shares as much of the rest as is done under one hold of the locks, and takes what that
/// costs from `limit`.
fn copy_step(request: &RemapRequest<'_>, done: u64, limit: &mut u64) -> Result<u64> {
    let files = request.lock();
    let (from_pos, to_pos) = (request.from_pos + done, request.to_pos + done);
    let from = files.from();
    // The source may have become shorter since the range was cut at its end.
    let left = (request.len - done).min(from.size().saturating_sub(from_pos));
    if left == 0 {
        return Ok(0);
    }
    let to = files.change()?;
    let offset = offset_in_block(to_pos);
    let may_share = request.kind != RemapKind::Copy
        && to.super_block().info().shares_blocks(from.super_block())
        && offset_in_block(from_pos) == offset;
    let copied = if !may_share {
        left.min(STEP_BYTES)
    } else if offset != 0 {
        left.min((BLOCK_SIZE - offset) as u64)
    } else {
        // A partial block can be shared only as the last of both files.
        let last_of_both = from_pos + left == from.size() && to_pos + left >= to.size();
        let partial = if last_of_both {
            0
        } else {
            offset_in_block(left) as u64
        };
        let shareable = left - partial;
        if shareable > 0 {
            let mut steps = SHARE_STEPS.min(*limit / SHARE_STEP_BYTES + 1);
            let before = steps;
            let span = Span {
                from_pos,
                to_pos,
                len: shareable,
            };
            let result = clone_span(from, &to, span, false, &mut steps);
            *limit = limit.saturating_sub((before - steps) * SHARE_STEP_BYTES);
            return result;
        }
        left
    };
    let hole = hole_len(&to, to_pos, hole_len(from, from_pos, left.min(*limit)));
    if hole > 0 {
        // Both have a hole there: nothing but the end of the file changes.
        truncate::extend(&to, to_pos + hole)?;
        *limit -= hole;
        return Ok(hole);
    }
    let mut source = FileSource {
        inode: from,
        pos: from_pos,
        len: copied as usize,
    };
    *limit = limit.saturating_sub(copied);
    Ok(write::write(&to, to_pos, &mut source, true)? as u64)
}

/// Returns how many bytes from `pos` on, at most `max`, are a hole.
fn hole_len(inode: &Inode, pos: u64, max: u64) -> u64 {
    match inode.blocks().next_block(block_of(pos)) {
        Some(next) => (next * BLOCK_SIZE as u64).saturating_sub(pos).min(max),
        None => max,
    }
}

/// A range of a file, to be copied.
struct FileSource<'a> {
    inode: &'a Inode,
    pos: u64,
    len: usize,
}

impl FileSource<'_> {
    /// Takes the next `len` bytes: calls `part` for one part of them after the other, with how many
    /// bytes came before it, the blocks that it lies in, `None` for a hole, the offset in the first
    /// of them, and how many bytes; and ends where `part` returns that it took fewer. Returns how
    /// many were taken in all. `part` must not sleep.
    fn take(
        &mut self,
        len: usize,
        mut part: impl FnMut(usize, &[Option<BlockRef>], usize, usize) -> usize,
    ) -> usize {
        let mut done = 0;
        while done < len {
            let (file_blocks, offset) = (self.inode.blocks(), offset_in_block(self.pos));
            let (taken, n) = file_blocks.with_blocks(block_of(self.pos), |blocks| {
                let there = blocks.len() * BLOCK_SIZE - offset;
                let n = (len - done).min(BATCH_BYTES).min(there);
                let blocks = &blocks[..(offset + n).div_ceil(BLOCK_SIZE)];
                (part(done, blocks, offset, n), n)
            });
            self.pos += taken as u64;
            self.len -= taken;
            done += taken;
            if taken < n {
                break;
            }
        }
        done
    }
}

impl Source for FileSource<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&mut self, blocks: &[Option<&BlockRef>], offset: usize, len: usize) -> usize {
        self.take(len, |before, sources, from_offset, n| {
            let mut done = 0;
            while done < n {
                let (from, to) = (from_offset + done, offset + before + done);
                let source = sources.get(from / BLOCK_SIZE).and_then(Option::as_ref);
                let block = blocks.get(to / BLOCK_SIZE).copied().flatten();
                let (from, to) = (from % BLOCK_SIZE, to % BLOCK_SIZE);
                let n = (n - done).min(BLOCK_SIZE - from).min(BLOCK_SIZE - to);
                match (block, source) {
                    (Some(block), Some(source)) => {
                        if block.copy_from(to, source, from, n).is_err() {
                            break;
                        }
                    }
                    (Some(block), None) => block.zero(to, n),
                    (None, _) => {}
                }
                done += n;
            }
            done
        })
    }

    /// A block of the source is poisoned.
    fn why_short(&self) -> Error {
        EIO
    }

    /// The source's tree may be the one that is locked.
    fn fill_at_once(&mut self, _: &[Option<BlockRef>], _: usize, _: usize) -> usize {
        0
    }

    fn fault_in(&mut self) -> Option<Result> {
        None
    }

    fn len_for_contig(&self) -> usize {
        let end = self.inode.blocks().next_hole(block_of(self.pos)) * BLOCK_SIZE as u64;
        end.saturating_sub(self.pos).min(self.len as u64) as usize
    }

    fn fill_contig(&mut self, contig: &ContigBlocks<'_>) -> usize {
        self.take(contig.len() * BLOCK_SIZE, |at, sources, from, n| {
            contig.copy_from(at, sources, from, n)
        })
    }

    fn is_hole(&self, ahead: usize, len: usize) -> bool {
        let pos = self.pos + ahead as u64;
        let last = block_of(pos + len as u64 - 1);
        let next = self.inode.blocks().next_block(block_of(pos));
        next.is_none_or(|next| next > last)
    }
}
