// SPDX-License-Identifier: GPL-2.0

//! The numbers that blocks get when they come into a slot.

use kernel::sync::atomic::{Atomic, Relaxed};

/// The numbers of one pool: no two blocks get the same.
///
/// Most are given out by the group: an aligned one for each number of slots that a leaf has. The block
/// in slot `i` gets the `i`-th, so that blocks of one leaf that are next to each other have numbers
/// that are, too, in whatever order they came. That spends more numbers than there are blocks: at worst
/// a group for a block. So when half of all numbers are spent, those that are left are given out one by
/// one; and when none is left, blocks get none.
///
/// How long that takes: groups last for 512 PiB that are written in order (18 years at 1 GB/s), and those
/// that are given out singly as long again. A program that truncates a file and writes one block, over and
/// over, and nothing else, spends the groups in some fifty days of a processor's time, the others in
/// nine years of it.
pub(super) struct Numbers {
    next_group: Atomic<u64>,
    next: Atomic<u64>,
}

/// How many numbers are in a group.
pub(super) const GROUP_LEN: u64 = 64;

/// Where the groups end, and the numbers begin that are given out singly.
const GROUPS_END: u64 = 1 << 47;

/// Where the numbers end: a block has 48 bits for its own.
const NUMBERS_END: u64 = 1 << 48;

impl Numbers {
    /// All of them.
    pub(super) const fn new() -> Self {
        Self {
            // The first would have the number 0 in it, which is none.
            next_group: Atomic::new(GROUP_LEN),
            next: Atomic::new(GROUPS_END),
        }
    }

    /// The first number of a group; none where they are to be given out singly.
    pub(super) fn alloc_group(&self) -> Option<u64> {
        if self.next_group.load(Relaxed) >= GROUPS_END {
            return None;
        }
        let group = self.next_group.fetch_add(GROUP_LEN, Relaxed);
        (group < GROUPS_END).then_some(group)
    }

    /// The first of `n` numbers; 0 where there are no more.
    pub(super) fn alloc(&self, n: u64) -> u64 {
        if self.next.load(Relaxed) >= NUMBERS_END {
            return 0;
        }
        let first = self.next.fetch_add(n, Relaxed);
        if first + n <= NUMBERS_END {
            first
        } else {
            0
        }
    }

    /// Has so many groups and single numbers left, as if all others were spent.
    #[cfg(reflinkfs_count)]
    pub(super) fn spend(&self, groups_left: u64, left: u64) {
        self.next_group
            .store(GROUPS_END - groups_left * GROUP_LEN, Relaxed);
        self.next.store(NUMBERS_END - left, Relaxed);
    }
}
