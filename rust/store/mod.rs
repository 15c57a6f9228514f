// SPDX-License-Identifier: GPL-2.0

//! Blocks, and the persistent tree that says which file holds which: see [`Tree`].
//!
//! Knows no inode and no VFS. All `unsafe` is in [`block`].

pub mod block;
mod node;
mod prealloc;
mod tree;

pub use self::node::node_cache;
pub use self::prealloc::Prealloc;
pub use self::tree::{Extent, Lookup, StableRef, Tree};
