// SPDX-License-Identifier: GPL-2.0

//! Counts accesses to nodes and blocks, for the tests of what an operation costs. Compiled to
//! nothing in reflinkfs.ko.

#[cfg(reflinkfs_count)]
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

#[cfg(reflinkfs_count)]
static NODES: Atomic<u64> = Atomic::new(0);
#[cfg(reflinkfs_count)]
static BLOCKS: Atomic<u64> = Atomic::new(0);

/// Counts an access to a node or to its reference count.
#[inline(always)]
pub(super) fn count_node() {
    #[cfg(reflinkfs_count)]
    NODES.fetch_add(1, Relaxed);
}

/// Counts an access to a block's page.
#[inline(always)]
pub(super) fn count_block() {
    #[cfg(reflinkfs_count)]
    BLOCKS.fetch_add(1, Relaxed);
}

/// Returns how many accesses there were so far, to nodes and to blocks.
#[cfg(reflinkfs_count)]
pub fn accesses() -> (u64, u64) {
    (NODES.load(Relaxed), BLOCKS.load(Relaxed))
}
