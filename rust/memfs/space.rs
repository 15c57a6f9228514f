// SPDX-License-Identifier: GPL-2.0

//! How many inodes there may be in a family of superblocks, and how many bytes of attributes.
//!
//! Both count against `nr_inodes=`. As on tmpfs each further name of a file counts as an inode,
//! since it keeps a dentry in memory, and attributes count in bytes, [`INODE_SPACE`] of them as
//! much as an inode.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// How many bytes of the space of `nr_inodes=` an inode takes, or a further name of one: tmpfs's
/// `BOGO_INODE_SIZE`.
pub(crate) const INODE_SPACE: u64 = 1024;

/// The space of `nr_inodes=`: counts the inodes of a superblock, and what counts as such.
pub(crate) struct InodeSpace {
    /// The most inodes; `u64::MAX` for no limit.
    max_inodes: Atomic<u64>,
    /// The space that is taken, in bytes: [`INODE_SPACE`] for each inode and each further name, and
    /// `attribute_bytes`.
    used_ispace: Atomic<u64>,
    /// Attributes, access control lists and long targets of symbolic links, in bytes.
    attribute_bytes: Atomic<u64>,
    /// Nodes, in bytes. Those beyond [`FREE_NODE_BYTES`] for each name count, too.
    node_bytes: Atomic<u64>,
    next_ino: Atomic<u64>,
}

impl InodeSpace {
    /// Returns one without inodes.
    pub(crate) fn new(max_inodes: Option<u64>) -> Self {
        Self {
            max_inodes: Atomic::new(max_inodes.unwrap_or(u64::MAX)),
            used_ispace: Atomic::new(0),
            attribute_bytes: Atomic::new(0),
            node_bytes: Atomic::new(0),
            // 0 is no inode.
            next_ino: Atomic::new(1),
        }
    }

    /// Returns the most inodes, `None` for no limit.
    pub(crate) fn max_inodes(&self) -> Option<u64> {
        Some(self.max_inodes.load(Relaxed)).filter(|&max| max != u64::MAX)
    }

    /// Changes the most inodes.
    pub(crate) fn set_max_inodes(&self, max_inodes: Option<u64>) {
        self.max_inodes
            .store(max_inodes.unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns how many inodes exist, or would take the space that is taken.
    pub(crate) fn used(&self) -> u64 {
        let used = self.used_ispace.load(Relaxed);
        used.saturating_add(self.nodes_beyond_free())
            .div_ceil(INODE_SPACE)
    }

    /// Returns how many inodes and further names exist.
    pub(crate) fn names(&self) -> u64 {
        let used = self.used_ispace.load(Relaxed);
        used.saturating_sub(self.attribute_bytes()) / INODE_SPACE
    }

    /// Returns how many bytes of nodes count.
    fn nodes_beyond_free(&self) -> u64 {
        let names = self.names().saturating_mul(FREE_NODE_BYTES);
        let free = names.saturating_add(MIN_FREE_NODE_BYTES);
        self.node_bytes.load(Relaxed).saturating_sub(free)
    }

    /// Returns how many bytes of attributes, access control lists and long targets exist.
    pub(crate) fn attribute_bytes(&self) -> u64 {
        self.attribute_bytes.load(Relaxed)
    }

    /// Returns the number of a new inode, which no other inode of the family had.
    pub(super) fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Relaxed)
    }

    fn reserve_ispace(&self, bytes: u64) -> Result {
        self.reserve_below(bytes, 0)
    }

    /// As [`InodeSpace::reserve_ispace`], for a copy of what a fork has, too. There is some room
    /// for these above the limit, so that names can be removed where it is reached.
    fn reserve_for_copy(&self, bytes: u64) -> Result {
        self.reserve_below(bytes, COPIES_BYTES)
    }

    fn reserve_below(&self, bytes: u64, above_limit: u64) -> Result {
        let before = self.used_ispace.fetch_add(bytes, Relaxed);
        if self.has_room(before.saturating_add(bytes), above_limit) {
            return Ok(());
        }
        self.used_ispace.fetch_sub(bytes, Relaxed);
        Err(ENOSPC)
    }

    /// Returns whether so many bytes, and the nodes that are not free, are within the limit.
    fn has_room(&self, used: u64, above_limit: u64) -> bool {
        let most = self.max_inodes.load(Relaxed).saturating_mul(INODE_SPACE);
        used.saturating_add(self.nodes_beyond_free()) <= most.saturating_add(above_limit)
    }
}

/// What a record counts as, until it is dropped.
pub(super) struct InodeCharge {
    space: Arc<InodeSpace>,
    /// How many names the file has: at least one, which comes with the inode.
    names: u32,
    /// Attributes, access control lists and a long target, in bytes.
    attribute_bytes: u32,
}

impl InodeCharge {
    /// Counts a new inode.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(super) fn new(space: &Arc<InodeSpace>) -> Result<Self> {
        let mut charge = Self::none(space);
        charge.add_name()?;
        Ok(charge)
    }

    /// Returns one that counts nothing.
    pub(super) fn none(space: &Arc<InodeSpace>) -> Self {
        Self {
            space: space.clone(),
            names: 0,
            attribute_bytes: 0,
        }
    }

    /// Counts as much again, for a copy.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(super) fn try_clone(&self) -> Result<Self> {
        let mut clone = Self::none(&self.space);
        self.space.reserve_for_copy(self.bytes())?;
        self.space
            .attribute_bytes
            .add(self.attribute_bytes(), Relaxed);
        (clone.names, clone.attribute_bytes) = (self.names, self.attribute_bytes);
        Ok(clone)
    }

    /// Counts a further name.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(super) fn add_name(&mut self) -> Result {
        self.space.reserve_ispace(INODE_SPACE)?;
        self.names += 1;
        Ok(())
    }

    /// Counts a name less.
    pub(super) fn remove_name(&mut self) {
        self.names -= 1;
        self.space.used_ispace.fetch_sub(INODE_SPACE, Relaxed);
    }

    /// Returns how many bytes of attributes are counted.
    pub(super) fn attribute_bytes(&self) -> u64 {
        self.attribute_bytes.into()
    }

    /// Returns how many bytes are counted in all.
    fn bytes(&self) -> u64 {
        u64::from(self.names) * INODE_SPACE + self.attribute_bytes()
    }

    /// Sets how many bytes of attributes are counted.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is no space for more, or there are 4 GiB; nothing has changed.
    pub(super) fn set_bytes(&mut self, bytes: u64) -> Result {
        let attribute_bytes = u32::try_from(bytes).map_err(|_| ENOSPC)?;
        let before = self.attribute_bytes();
        let (more, less) = (bytes.saturating_sub(before), before.saturating_sub(bytes));
        if more > 0 {
            self.space.reserve_ispace(more)?;
            self.space.attribute_bytes.add(more, Relaxed);
        }
        self.space.attribute_bytes.fetch_sub(less, Relaxed);
        self.space.used_ispace.fetch_sub(less, Relaxed);
        self.attribute_bytes = attribute_bytes;
        Ok(())
    }
}

impl Drop for InodeCharge {
    fn drop(&mut self) {
        self.space
            .attribute_bytes
            .fetch_sub(self.attribute_bytes(), Relaxed);
        self.space.used_ispace.fetch_sub(self.bytes(), Relaxed);
    }
}

/// How many bytes copies of what a fork has, too, may take above the limit.
const COPIES_BYTES: u64 = 1 << 20;

/// How many bytes a node of a directory, of attributes or of the table of inodes counts as.
const NODE_BYTES: u64 = 192;

/// How many bytes of nodes are free for each name: more than there are, but where forks have copies
/// of them.
const FREE_NODE_BYTES: u64 = 512;

/// How many more are free: the table is as high as the highest number that it had needs.
const MIN_FREE_NODE_BYTES: u64 = 32 << 10;

/// A node, which counts until it is freed.
pub(crate) struct NodeCharge(Arc<InodeSpace>);

impl NodeCharge {
    /// Counts one.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit, where there are more nodes than are free.
    pub(super) fn new(space: &Arc<InodeSpace>) -> Result<Self> {
        space.node_bytes.add(NODE_BYTES, Relaxed);
        let charge = Self(space.clone());
        let beyond = space.nodes_beyond_free() > 0;
        if beyond && !space.has_room(space.used_ispace.load(Relaxed), COPIES_BYTES) {
            return Err(ENOSPC);
        }
        Ok(charge)
    }
}

impl Drop for NodeCharge {
    fn drop(&mut self) {
        self.0.node_bytes.fetch_sub(NODE_BYTES, Relaxed);
    }
}

/// Returns how many blocks an owner is charged for so many bytes of attributes.
pub(super) fn attribute_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE as u64)
}
