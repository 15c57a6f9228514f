// SPDX-License-Identifier: GPL-2.0

//! KUnit suites for the store, in a module of their own: reflinkfs.ko carries no test.
//!
//! They are run when the module is loaded, and once more for each write to
//! `/sys/kernel/debug/kunit/SUITE/run`.
//!
//! | suite | file | what it holds the store to |
//! |---|---|---|
//! | `reflinkfs_tree` | `tree.rs` | blocks and holes are where they were put, at any height |
//! | `reflinkfs_share` | `share.rs` | snapshots and shared ranges; what may be written in place |
//! | `reflinkfs_ends` | `ends.rs` | ranges up to the ends of leaves, nodes and the largest file |
//! | `reflinkfs_owned` | `owned.rs` | what a clone may have given away is not written |
//! | `reflinkfs_stable` | `stable.rs` | what was given out for later reads is not written |
//! | `reflinkfs_compare` | `compare.rs` | comparing by pointer |
//! | `reflinkfs_extent` | `extent.rs` | runs of blocks |
//! | `reflinkfs_pool` | `pool.rs` | the limit, the count, the numbers |
//! | `reflinkfs_alloc` | `alloc.rs` | new blocks, several at once |
//! | `reflinkfs_block` | `block.rs` | bytes, and how long a block lives |
//! | `reflinkfs_prealloc` | `prealloc.rs` | what a change says it needs is what it takes |
//! | `reflinkfs_failing` | `failing.rs` | every allocation fails in turn, and no harm is done |
//! | `reflinkfs_cost` | `cost.rs` | cloning is free, and the first write after it nearly so |
//! | `reflinkfs_mapped` | `mapped.rs` | the blocks that carry an inode's mapping |
//! | `reflinkfs_full` | `full.rs` | full blocks are duplicated |
//! | `reflinkfs_names` | `names.rs` | names in a directory, also where many have the same hash |
//! | `reflinkfs_history` | `history.rs` | random histories of several files against a model |
//! | `reflinkfs_map` | `map.rs` | clones of a map by sparse keys against a model |
//! | `reflinkfs_map_failing` | `map_failing.rs` | every allocation of a map or table fails in turn |
//! | `reflinkfs_table` | `table.rs` | clones of a table by dense numbers against a model |
//! | `reflinkfs_parallel` | `parallel.rs` | the same with threads |
//! | `reflinkfs_doctests` | `doctests.py` | the examples in the docs of `store` and `vfs` |
//!
//! # How tests are written
//!
//! Tests with random numbers repeat themselves [`rounds`] times. The module's parameter `divisor`
//! makes these fewer, for a slow kernel.
//!
//! A failed KUnit assertion ends the thread without running a destructor, and what the test owned
//! stays. So tests return [`Result`] and use [`check!`] and [`check_eq!`], which also say what was
//! found, and work in functions that tests call.

#[path = "../rust/bindings.rs"]
mod bindings;
#[path = "../rust/compat.rs"]
mod compat;
// Needs no filesystem.
#[path = "../rust/memfs/names.rs"]
mod names;
#[path = "../rust/store/mod.rs"]
pub mod store;
// What only a filesystem uses is not used here.
#[allow(dead_code)]
#[path = "../rust/vfs/mod.rs"]
pub mod vfs;

#[macro_use]
mod support;
mod suites;

include!(env!("REFLINKFS_DOCTESTS"));

use kernel::prelude::*;
use store::NodeCache;

module! {
    type: Module,
    name: "reflinkfs_kunit",
    authors: ["The reflinkfs developers"],
    description: "KUnit suites of reflinkfs",
    license: "GPL",
    params: {
        divisor: u32 {
            default: 1,
            description: "Divide repetitions by this",
        },
    },
}

/// Returns how many of `full` repetitions to make.
pub(crate) fn rounds(full: usize) -> usize {
    (full / (module_parameters::divisor.value() as usize).max(1)).max(1)
}

struct Module {
    _nodes: NodeCache,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _nodes: NodeCache::new(c"reflinkfs_kunit_node")?,
        })
    }
}
