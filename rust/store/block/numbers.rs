// SPDX-License-Identifier: GPL-2.0

//! Block numbers, which FIEMAP reports.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// The numbers of a pool's blocks. No two blocks get the same.
///
/// Most are allocated in aligned groups, one for each leaf: the block in slot `i` gets the `i`-th
/// number, so that adjacent blocks of a leaf have adjacent numbers, independent of the order in
/// which they were written. That spends more numbers than there are blocks, at worst a group for
/// each block. When half of all numbers are spent, the others are allocated one by one; when none
/// is left, blocks get 0.
///
/// Groups suffice for 512 PiB that are written in order, 18 years at 1 GB/s, single numbers for as
/// much again. A program that does nothing but truncate a file and write one block spends the
/// groups in fifty days of processor time, and the others in nine years.
pub(super) struct Numbers {
    next_group: Atomic<u64>,
    next: Atomic<u64>,
}

/// How many numbers a group has.
const GROUP_LEN: u64 = 64;

/// The end of the groups, where single numbers begin.
const GROUPS_END: u64 = 1 << 47;

/// The end of all numbers: a block has 48 bits for its own, see [`page`](super::page).
const NUMBERS_END: u64 = 1 << 48;

impl Numbers {
    pub(super) const fn new() -> Self {
        Self {
            // The first group is skipped, as 0 is no number.
            next_group: Atomic::new(GROUP_LEN),
            next: Atomic::new(GROUPS_END),
        }
    }

    /// Allocates a group. Returns its first number, or `None` if no group is left.
    pub(super) fn alloc_group(&self) -> Option<u64> {
        if self.next_group.load(Relaxed) >= GROUPS_END {
            return None;
        }
        let group = self.next_group.fetch_add(GROUP_LEN, Relaxed);
        (group < GROUPS_END).then_some(group)
    }

    /// Allocates `n` numbers. Returns the first, or 0 if there are not as many.
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

    /// Spends all but some groups and single numbers.
    #[cfg(reflinkfs_count)]
    pub(super) fn spend(&self, groups_left: u64, left: u64) {
        self.next_group
            .store(GROUPS_END - groups_left * GROUP_LEN, Relaxed);
        self.next.store(NUMBERS_END - left, Relaxed);
    }
}
