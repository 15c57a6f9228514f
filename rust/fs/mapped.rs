// SPDX-License-Identifier: GPL-2.0

//! The inodes that stay in the cache because they were mapped writable.
//!
//! Their blocks may be referenced by what stores to them, such as a device, long after the mapping
//! and the file were closed, and only the inode knows which blocks these are
//! ([`MappedBlocks`](crate::store::block::MappedBlocks)); and that bytes may have been stored
//! beyond the end of the file.

use super::Inode;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        Mutex, //
    },
};

/// The inodes of a superblock that have a name and were mapped writable.
#[pin_data]
pub(super) struct MappedInodes {
    #[pin]
    by_ino: Mutex<RBTree<u64, ARef<Inode>>>,
}

impl MappedInodes {
    /// Returns an initialiser without inodes.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            by_ino <- new_mutex!(RBTree::new()),
        })
    }

    /// Adds an inode, which is about to be mapped writable. Not one without a name: that leaves
    /// with its last user anyway.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&self, inode: &Inode) -> Result {
        if self.by_ino.lock().get(&inode.ino()).is_some() {
            return Ok(());
        }
        let node = RBTreeNode::new(inode.ino(), inode.into(), GFP_KERNEL_ACCOUNT)?;
        let mut by_ino = self.by_ino.lock();
        // Whatever removes the last name looks for the inode here after it has.
        let unneeded = match inode.nlink() {
            0 => Some(node),
            _ => by_ino.insert(node),
        };
        drop(by_ino);
        drop(unneeded);
        Ok(())
    }

    /// Removes an inode, which has lost its last name.
    pub(super) fn remove(&self, inode: &Inode) {
        let node = self.by_ino.lock().remove_node(&inode.ino());
        drop(node);
    }

    /// Calls `f` with each, until it fails.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub(super) fn for_each(&self, mut f: impl FnMut(&Inode) -> Result) -> Result {
        let by_ino = self.by_ino.lock();
        let mut inodes = by_ino.values();
        inodes.try_for_each(|inode| f(inode))
    }

    /// Removes all inodes, before a superblock goes.
    pub(super) fn clear(&self) {
        let all = core::mem::replace(&mut *self.by_ino.lock(), RBTree::new());
        drop(all);
    }
}
