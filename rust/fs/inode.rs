// SPDX-License-Identifier: GPL-2.0

//! What is kept with an inode.

use super::{
    file,
    superblock::Super,
    zero_block::FileZeroBlock,
    Inode,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    dax::{
        self,
        Dax,
        DaxInfo, //
    },
    memfs::{
        self,
        quota,
        record::ReadRecord,
        Inodes,
        MemFs, //
    },
    store::Tree,
    vfs::{
        self,
        NewInode, //
    },
};
use kernel::prelude::*;

/// What is kept with an inode in the cache, of any file type.
#[pin_data]
pub(crate) struct InodeInfo {
    #[pin]
    memfs: memfs::InodeInfo<Tree>,
    #[pin]
    pub(super) dax: DaxInfo,
    #[pin]
    pub(super) zero_block: FileZeroBlock,
}

impl InodeInfo {
    /// Returns an initialiser for a new inode of a superblock.
    pub(super) fn new(sb: &Super) -> impl PinInit<Self> + '_ {
        pin_init!(Self {
            memfs <- memfs::InodeInfo::new(&sb.inodes),
            dax <- DaxInfo::new(),
            zero_block <- FileZeroBlock::new(),
        })
    }

    /// Locks the record to look at it. Nothing sleeps meanwhile.
    pub(super) fn record(&self) -> ReadRecord<'_, Tree> {
        self.memfs.record()
    }

    /// Returns the references to dquots.
    pub(super) fn dquots(&self) -> &vfs::Dquots {
        self.memfs.dquots()
    }
}

/// Gives back everything that an inode has, when it leaves the cache; its record and its blocks
/// stay if it has a name.
pub(super) fn evict(inode: &Inode) {
    memfs::iget::evict_inode(inode);
    inode.info().zero_block.clear();
    dax::evict_inode(inode);
}

impl MemFs for ReflinkFs {
    type Data = Tree;

    fn new_data(sb: &vfs::SuperBlock<Self>) -> Tree {
        Tree::new(sb.info().pool.clone())
    }

    fn info(inode: &Inode) -> &memfs::InodeInfo<Tree> {
        &inode.info().memfs
    }

    fn inodes(sb: &vfs::SuperBlock<Self>) -> &Inodes<Tree> {
        &sb.info().inodes
    }

    fn init_regular(inode: &NewInode<Self>) {
        file::init(inode);
    }

    fn linked(inode: &Inode) -> Result {
        if inode.info().dax.was_mapped() {
            inode.super_block().info().mapped.add(inode)?;
        }
        Ok(())
    }

    fn unlinked(inode: &Inode) {
        inode.super_block().info().mapped.remove(inode);
    }

    fn blocks(inode: &Inode) -> u64 {
        inode.blocks().count()
    }

    fn quota_limits(sb: &vfs::SuperBlock<Self>, kind: quota::Kind) -> Option<quota::Limits> {
        sb.info().quota.of(kind)
    }

    fn unmap(inode: &LockedInode) {
        inode.invalidate_lock().unmap(0..u64::MAX);
    }
}

impl Dax for ReflinkFs {
    fn dax_info(inode: &Inode) -> &DaxInfo {
        &inode.info().dax
    }
}
