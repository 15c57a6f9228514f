// SPDX-License-Identifier: GPL-2.0

//! The store: the blocks of files, shared between files by persistent trees.
//!
//! It knows no inode and no VFS. `unsafe` is in [`block`] and `node_ref`; the tree has none.

mod accesses;
pub mod block;
mod node;
mod node_ref;
mod prealloc;
mod tree;

#[cfg(reflinkfs_count)]
pub use self::accesses::accesses;
pub use self::node_ref::NodeCache;
pub use self::prealloc::Prealloc;
pub use self::tree::{BlockExtent, Lookup, StableRef, Tree};
