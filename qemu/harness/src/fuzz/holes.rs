// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The blocks of a file that are certainly holes, as they were never filled. Other blocks may be
//! holes or not: the filesystem decides whether an allocated, unwritten block is a hole.

use crate::pattern::BLOCK;

use super::operation::Span;
use super::world::Model;

impl Model {
    pub fn is_hole(&self, block: usize) -> bool {
        !self.filled.get(block).is_some_and(|&filled| filled)
    }

    /// Fills the blocks of these bytes.
    pub fn fill(&mut self, pos: usize, len: usize) {
        let blocks = pos / BLOCK..(pos + len).div_ceil(BLOCK);
        self.set_filled(blocks.start, &vec![true; blocks.len()]);
    }

    pub fn filled(&self, first: usize, count: usize) -> Vec<bool> {
        (first..first + count).map(|i| !self.is_hole(i)).collect()
    }

    pub fn set_filled(&mut self, first: usize, filled: &[bool]) {
        let end = first + filled.len();
        self.filled.resize(self.filled.len().max(end), false);
        self.filled[first..end].copy_from_slice(filled);
    }

    /// Makes holes of the blocks that are wholly within these bytes and begin within the file.
    /// (Blocks behind the end may stay.)
    pub fn punch(&mut self, pos: usize, len: usize) {
        let end = ((pos + len) / BLOCK).min(self.size().div_ceil(BLOCK));
        let first = pos.div_ceil(BLOCK);
        self.set_filled(first, &vec![false; end.saturating_sub(first)]);
    }

    /// Removes blocks, or inserts holes. Blocks that were behind the end may have moved, or not, or
    /// be gone.
    pub fn move_filled(&mut self, change: impl FnOnce(&mut Vec<bool>), needed: usize) {
        self.filled.resize(self.filled.len().max(needed), false);
        let before = self.filled.clone();
        change(&mut self.filled);
        self.filled
            .resize(self.filled.len().max(before.len()), false);
        for (i, before) in before.iter().enumerate().skip(self.size().div_ceil(BLOCK)) {
            self.filled[i] |= before;
        }
    }
}

/// Returns the filled blocks of a destination after a copy of `len` bytes; `from` and `to` are the
/// files before it. A whole block at the same offset in its block in both files is shared; a copy
/// of a hole onto a hole stays a hole.
pub fn filled_by_copy(from: &Model, to: &Model, span: Span, len: usize) -> Vec<bool> {
    let congruent = span.from_pos % BLOCK == span.to_pos % BLOCK;
    let (start, end) = (span.to_pos, span.to_pos + len);
    let blocks = if len == 0 {
        0..0
    } else {
        start / BLOCK..end.div_ceil(BLOCK)
    };
    blocks
        .map(|block| {
            let (first, last) = (start.max(block * BLOCK), end.min((block + 1) * BLOCK));
            let source = |pos: usize| span.from_pos + (pos - start);
            let mut sources = source(first) / BLOCK..=source(last - 1) / BLOCK;
            let filled = sources.any(|i| !from.is_hole(i));
            let shared = congruent && last - first == BLOCK;
            filled || !shared && !to.is_hole(block)
        })
        .collect()
}
