// SPDX-License-Identifier: GPL-2.0

//! Blocks: the pages that hold file data.
//!
//! A block is a page that is in no page cache, counted by the slots of leaves that hold it. What
//! this module offers to the tree is safe:
//!
//! | type | what it is |
//! |---|---|
//! | [`Pool`] | the blocks of a mount: the limit, the charge, the numbers |
//! | [`NodeCharge`] | the charge of a node |
//! | [`NewBlock`] | a block that no slot holds yet |
//! | [`BlockBatch`], [`ContigBlocks`] | several new blocks; those that are virtually contiguous |
//! | [`BlockCount`] | how many blocks, and how many of them are written |
//! | [`Leaf`], [`Slots`] | slots that may hold a block; only a leaf owns the blocks |
//! | [`Spare`], [`SpareSource`] | blocks for duplicates of full blocks |
//! | [`BlockRef`] | a reference to a block's page, for access to its bytes |
//! | [`MappedBlocks`] | the blocks that carry an inode's `address_space` |
//!
//! # The fields of `struct page`
//!
//! * `_refcount`: one for the store as long as a slot holds the block or it is an orphan; one for
//!   each page table entry, [`BlockRef`] and pipe buffer; 1024 for each pin.
//! * `private`: the slot count, and the block's number, see [`page`].
//! * `mapping`, `index`: see [`MappedBlocks`].
//! * `lru`: the link in a list of [`MappedBlocks`], or in the pool's list of orphans, see [`reap`].

mod alloc;
mod count;
mod leaf;
mod mapped;
mod numbers;
mod orphans;
mod page;
mod pool;
mod reap;
mod spare;
mod uio;
mod zero;

pub(super) use self::alloc::GFP_NO_RECLAIM;
pub use self::alloc::{
    BlockBatch,
    ContigBlocks,
    MAX_CONTIG_BLOCKS, //
};
pub use self::count::BlockCount;
pub use self::leaf::{
    Leaf,
    Slots, //
};
pub use self::mapped::MappedBlocks;
pub use self::page::{
    BlockRef,
    NewBlock, //
};
pub use self::pool::{
    InPool,
    NodeCharge,
    Pool,
    MAX_OVERCOMMIT_BLOCKS, //
};
pub use self::spare::{
    Spare,
    SpareSource, //
};
pub use self::uio::{
    copy_from_iter,
    copy_to_iter,
    error_at,
    fault_in,
    without_faults, //
};
pub use self::zero::ZeroBlock;

/// The size of a block in bytes: the page size.
pub const BLOCK_SIZE: usize = kernel::page::PAGE_SIZE;

/// The logarithm of [`BLOCK_SIZE`] to base two.
pub const BLOCK_SHIFT: u32 = kernel::page::PAGE_SHIFT as u32;
