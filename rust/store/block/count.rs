// SPDX-License-Identifier: GPL-2.0

//! How many blocks lie somewhere, and how many of them were written.

use core::ops::{AddAssign, Sub};

/// A number of blocks, each counted as often as it occurs; or by how much such a number grew, which
/// wraps where there are fewer than before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct BlockCount {
    /// All of them.
    pub blocks: u64,
    /// Those that are not unwritten, see [`Leaf`](super::Leaf).
    pub written: u64,
}

impl BlockCount {
    /// So many blocks that were written.
    pub fn written(n: usize) -> Self {
        Self {
            blocks: n as u64,
            written: n as u64,
        }
    }

    /// What a block in a slot counts as.
    pub(super) fn of(there: bool, unwritten: bool) -> Self {
        Self {
            blocks: there.into(),
            written: (there && !unwritten).into(),
        }
    }
}

impl AddAssign for BlockCount {
    fn add_assign(&mut self, by: Self) {
        self.blocks = self.blocks.wrapping_add(by.blocks);
        self.written = self.written.wrapping_add(by.written);
    }
}

impl Sub for BlockCount {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            blocks: self.blocks.wrapping_sub(before.blocks),
            written: self.written.wrapping_sub(before.written),
        }
    }
}
