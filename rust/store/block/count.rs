// SPDX-License-Identifier: GPL-2.0

//! Counts of blocks.

use core::ops::{
    AddAssign,
    Sub, //
};

/// A number of blocks, each counted as often as it occurs; or the change of such a number, which
/// wraps if negative.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct BlockCount {
    /// All of them.
    pub blocks: u64,
    /// Those that are not unwritten, see [`Slots`](super::Slots).
    pub written: u64,
}

impl BlockCount {
    /// Counts `n` written blocks.
    pub fn written(n: usize) -> Self {
        Self {
            blocks: n as u64,
            written: n as u64,
        }
    }

    /// Counts the block in a slot, if there is one.
    pub(super) fn of(is_some: bool, unwritten: bool) -> Self {
        Self {
            blocks: is_some.into(),
            written: (is_some && !unwritten).into(),
        }
    }
}

impl AddAssign for BlockCount {
    fn add_assign(&mut self, delta: Self) {
        self.blocks = self.blocks.wrapping_add(delta.blocks);
        self.written = self.written.wrapping_add(delta.written);
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
