// SPDX-License-Identifier: GPL-2.0

//! The store: the blocks of files, shared between files by persistent trees.
//!
//! It knows no inode and no VFS. `unsafe` is in [`block`] and `node_ref`; the tree has none.
//!
//! # Theory of operation
//!
//! ## Blocks, nodes, trees
//!
//! A **block** is a page of order 0 that is in no page cache. A **leaf** has 64 slots, each of
//! which is empty, a hole, or holds a block; slots of several leaves may hold the same block. A
//! **node** is a leaf (height 1), or has 64 children of the next lower height. A [`Tree`] is what
//! one file holds: a root node and its height. A tree that only has block 0 has no node, but a leaf
//! of one slot.
//!
//! The tree is persistent. [`Tree::snapshot`] takes a reference to the root, of any size. A
//! node with several references is never changed: a change walks down from the root, copies each
//! shared node on its path, which gives each of its children one more reference, and changes the
//! copies. A node with a single reference, below none but such nodes, is changed in place. So the
//! first write after a clone copies one path, and later ones below it copy nothing.
//!
//! Each node counts the blocks below it, and those of them that are written, so that seeking blocks
//! or holes visits the children of two nodes on each level at most. That a block is **unwritten**
//! (zeros of `fallocate(2)`, which count as a hole) is a property of its slot.
//!
//! ## May a block be written in place?
//!
//! [`Tree::lookup`] answers one of these, and a write acts accordingly:
//!
//! * [`Lookup::Hole`]: there is no block. A write inserts a new one.
//! * [`Lookup::Owned`]: no node on the path is shared, one slot holds the block, and its
//!   owned bit is set in the tree's generation. A write stores to the block.
//! * [`Lookup::Unwritten`]: the same, and the block is unwritten. A write calls
//!   [`Tree::set_written`] first.
//! * [`Lookup::Shared`]: a node on the path is shared, or another slot holds the block. A write
//!   inserts a copy.
//! * [`Lookup::WasShared`]: neither, but the bit is not set. A write inserts a copy, which takes no
//!   more room, as the old block is released.
//!
//! A node on the path with several references makes all below it shared, independent of the counts
//! there: the other tree may be about to copy that node and raise them. On a path without one,
//! counts can only be raised by way of this tree, whose lock the walker holds, so `Owned` stays
//! true as long as it holds the lock. A count may fall to one at any time, when another tree is
//! dropped; a walk that did not see it yet copies needlessly.
//!
//! **That one slot holds the block is not enough.** Let file B be a clone of A, and let a program
//! splice a block of B into a pipe, or read it without a lock, as `read(2)` does when it faults.
//! Then B is removed. The block has one slot again, A's, and nothing on A's path is shared, but
//! what A writes to the page now shows up in the pipe. The page's reference count cannot tell, as
//! it counts readers of A, too. So each slot has an **owned** bit, which says that no other
//! tree ever held the block. A new block gets it, and nothing else does.
//!
//! ## Three kinds of copies
//!
//! * **Copied on write** (cow) is a node or block that is shared, or was, and is to be changed: the
//!   copy takes its place in the tree that changes.
//! * **Duplicated** is a block that is to be shared and cannot be, as it is full or referenced (see
//!   below): the other tree gets the duplicate.
//! * **Copied**, without more, are bytes, as by `read(2)`, `write(2)` or `copy_file_range(2)`.
//!
//! ## Generations
//!
//! A clone must clear all bits of both files, in O(1). So a bit only counts if the leaf's
//! **generation** is the tree's. A pool gives each generation to one tree. The first bit that is
//! set in a leaf in a new generation clears the others.
//!
//! * [`Tree::snapshot`] gives both trees a new generation. [`Tree::snapshot_range`] clears the bits
//!   of a few blocks and shares only nodes all of whose blocks are among these; the others stay
//!   owned, also while the snapshot exists. So no node that is shared has a bit that counts,
//!   and none comes back when the other tree is dropped.
//! * [`Tree::edit`] keeps the generation, as the edited tree takes the place of this one. Until
//!   then everything is shared, as the root is: so it lives under one hold of `invalidate_lock`.
//!   [`Tree::edit_range`] does so with a part, and may live longer.
//! * [`Tree::get_stable`] clears one bit, for a reader that uses the page later.
//! * [`Tree::restore_owned`] sets the bit of a block that was not given away after all: a block
//!   that is referenced stays with its file, see below.
//!
//! ## Mappings
//!
//! Stores of user space do not ask the tree. So no page table may map a block writable that is not
//! owned, and none may map a block that is not the file's. `invalidate_lock` of the inode sees
//! to that: a fault holds it shared from the lookup until the entry is in the page table, and what
//! makes a block shared or takes it out of its file holds it exclusive, and before that has
//!
//! 1. removed the entries of the blocks in question: before sharing, of those that may be mapped
//!    writable, which are on the inode's list ([`block::MappedBlocks`]); before replacing or
//!    removing, of all in the range;
//! 2. looked for blocks that are still **referenced**, by more than the store
//!    ([`block::MappedBlocks::for_each_referenced`]): a pin may be a device's that stores without
//!    an entry. Of these the clone gets duplicates, and they stay owned.
//!
//! A fault that is to map a block writable enters it in the list under the tree's lock, so that
//! `get_stable` does not give it out. The next store after a clone faults, finds the block not to
//! be owned, and copies it. What else in the kernel may find such a page: `docs/design.md`.
//!
//! ## Locks
//!
//! `docs/design.md` has all of them, and their order. A tree changes with `invalidate_lock` held
//! exclusive, but for bits and counts of unwritten blocks. Nothing sleeps under the tree's lock:
//! nodes, and blocks for duplicates, are allocated before ([`Prealloc`]). A tree from
//! [`Tree::edit`] is changed without a lock.
//!
//! ## References and charges
//!
//! | count | counts |
//! |---|---|
//! | a node's references | children of nodes, roots |
//! | a block's slots (`page->private`) | slots of leaves |
//! | a page's `_refcount` | the store, page tables, [`block::BlockRef`]s, pipes; a pin is 1024 |
//! | [`block::Pool::used`] | blocks, from allocation until freed |
//! | [`block::Pool::nodes`] | nodes; charged in blocks beyond what is free |
//!
//! With its last reference a node is freed, and what it holds is released. With its last slot the
//! store drops its reference to a block's page.
//!
//! A referenced block that no slot holds is an **orphan**: it stays charged, and the store keeps
//! its reference until that is the only one (`block/reap.rs`). At 2^15 slots a block is **full**:
//! it is duplicated instead of shared, so that the count does not overflow (`block/page.rs`). A
//! block's **number**, which FIEMAP reports, comes with its first slot and depends on its place in
//! the leaf (`block/numbers.rs`).

// The KUnit module has the store as a public module.
#![allow(unreachable_pub)]

mod accesses;
pub mod block;
mod cow;
mod map;
mod node;
mod node_ref;
mod prealloc;
mod spare_nodes;
mod table;
mod tree;

#[cfg(reflinkfs_count)]
pub use self::accesses::accesses;
pub use self::map::{
    Map,
    MapNodes,
    NewItem,
    Prefix, //
};
pub use self::node::{
    NodeCache,
    FANOUT,
    MAX_HEIGHT, //
};
pub use self::prealloc::Prealloc;
pub use self::table::{
    Table,
    TableNodes, //
};
pub use self::tree::{
    BlockExtent,
    Lookup,
    StableRef,
    Tree, //
};
