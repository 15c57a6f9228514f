// SPDX-License-Identifier: GPL-2.0

//! Blocks: the pages that hold file data, each counted by the tree slots that hold it.
//!
//! A block is one page that is in no page cache. This module is the only place that touches
//! `struct page`, and with [`crate::vfs`] the only one that is `unsafe`. What it offers to the
//! tree above it is safe:
//!
//! | type | what it is |
//! |---|---|
//! | [`Pool`] | the blocks of one mount: the limit, the count of those that exist, their numbers |
//! | [`NodeCharge`] | counts a tree node, which takes room, too |
//! | [`NewBlock`] | a block in no slot yet, so nobody else can see it |
//! | [`BlockBatch`], [`ContigBlocks`] | several of them, allocated together; in one piece |
//! | [`BlockCount`] | how many blocks, and how many of them were written |
//! | [`Leaf`] | `N` places in a tree that may hold a block; only these own blocks |
//! | [`Spare`], [`SpareSource`] | copies of blocks that no more slots may hold |
//! | [`BlockRef`] | keeps a block's page alive and gives access to its bytes, owns no slot |
//! | [`MappedBlocks`] | the blocks that carry an inode's `address_space`, see there |
//! | [`NodeRef`], [`UninitNode`], [`NodeCache`] | a pointer to a tree node, counted by the slots that hold it; its memory |
//!
//! # The fields of `struct page`
//!
//! | field | use |
//! |---|---|
//! | `_refcount` | one for the store as long as any slot holds the block, one for every page table entry, [`BlockRef`], pipe or pin |
//! | `private` | the number of slots that hold the block, and its number, see [`page`] |
//! | `mapping`, `index` | see [`MappedBlocks`] |
//! | `lru` | the link in a list of [`MappedBlocks`], or in that of the blocks that wait ([`orphans_link`]) |

mod accesses;
mod alloc;
mod count;
mod leaf;
mod mapped;
mod node_ref;
mod numbers;
mod orphans;
mod page;
mod pool;
mod spare;
mod uio;

#[cfg(reflinkfs_count)]
pub use self::accesses::accesses;
pub use self::alloc::{BlockBatch, ContigBlocks, MAX_CONTIG_BLOCKS};
pub use self::count::BlockCount;
pub use self::leaf::{InPool, Leaf};
pub use self::mapped::MappedBlocks;
pub use self::node_ref::{NodeCache, NodeRef, UninitNode};
pub use self::page::{BlockRef, NewBlock};
pub use self::pool::{NodeCharge, Pool};
pub use self::spare::{Spare, SpareSource};
pub use self::uio::{
    copy_from_iter, copy_from_iter_without_faults, copy_to_iter, copy_to_iter_without_faults,
    error_at,
};

/// The size of a block in bytes: the page size.
pub const BLOCK_SIZE: usize = kernel::page::PAGE_SIZE;

/// The logarithm of [`BLOCK_SIZE`] to base two.
pub const BLOCK_SHIFT: u32 = kernel::page::PAGE_SHIFT as u32;
