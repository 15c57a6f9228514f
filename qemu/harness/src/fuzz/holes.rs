// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Which blocks of a file are holes for certain: those that nothing was ever put in. Of all others
//! it may be either: whether room that was only given is a hole is for the filesystem to say.

use crate::pattern::BLOCK;

use super::operation::Span;
use super::world::Model;

impl Model {
    pub fn is_hole(&self, block: usize) -> bool {
        !self.filled.get(block).is_some_and(|&filled| filled)
    }

    /// Something comes into the blocks of these bytes.
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

    /// The blocks that lie wholly within these bytes, and begin within the file, become holes. (Of
    /// what is behind the end nothing is promised.)
    pub fn punch(&mut self, pos: usize, len: usize) {
        let end = ((pos + len) / BLOCK).min(self.size().div_ceil(BLOCK));
        let first = pos.div_ceil(BLOCK);
        self.set_filled(first, &vec![false; end.saturating_sub(first)]);
    }

    /// Blocks were taken out, or holes put in. What was behind the end may have moved, or not, or
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

/// What is filled of a destination once a range of `len` bytes was copied: `from` and `to` are as
/// they were before. A whole block that lies at the same place in its block in both files is
/// shared; where bytes are copied, a hole onto a hole stays one.
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
