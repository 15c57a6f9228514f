// SPDX-License-Identifier: GPL-2.0

//! How often nodes and blocks are looked at: for the tests that count what something costs, and
//! compiled into nothing else.

#[cfg(reflinkfs_count)]
use kernel::sync::atomic::{Atomic, Relaxed};

#[cfg(reflinkfs_count)]
static NODES: Atomic<u64> = Atomic::new(0);
#[cfg(reflinkfs_count)]
static BLOCKS: Atomic<u64> = Atomic::new(0);

/// A node's count or its value was looked at.
#[inline(always)]
pub(super) fn count_node() {
    #[cfg(reflinkfs_count)]
    NODES.fetch_add(1, Relaxed);
}

/// A block's page was looked at.
#[inline(always)]
pub(super) fn count_block() {
    #[cfg(reflinkfs_count)]
    BLOCKS.fetch_add(1, Relaxed);
}

/// How often each has been so far, nodes and blocks.
#[cfg(reflinkfs_count)]
pub fn accesses() -> (u64, u64) {
    (NODES.load(Relaxed), BLOCKS.load(Relaxed))
}
