// SPDX-License-Identifier: GPL-2.0

//! What is kept with an inode.

use super::{
    file,
    file_blocks::FileBlocks,
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
        InodeSpace, //
        MemFs,
    },
    store::block::Pool,
    vfs::{
        self,
        NewInode, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What is kept with an inode, of any file type.
#[pin_data]
pub(crate) struct InodeInfo {
    #[pin]
    memfs: memfs::InodeInfo,
    #[pin]
    pub(super) dax: DaxInfo,
    #[pin]
    pub(super) blocks: FileBlocks,
}

impl InodeInfo {
    /// Returns an initialiser for a new inode, whose blocks are of `pool`.
    pub(super) fn new(pool: Arc<Pool>) -> impl PinInit<Self> {
        pin_init!(Self {
            memfs <- memfs::InodeInfo::new(),
            dax <- DaxInfo::new(),
            blocks <- FileBlocks::new(pool),
        })
    }

    /// Returns the references to dquots.
    pub(super) fn dquots(&self) -> &vfs::Dquots {
        self.memfs.dquots()
    }
}

/// Gives back everything that an inode has, when it goes.
pub(super) fn evict(inode: &Inode) {
    memfs::evict_inode(inode);
    inode.info().blocks.clear();
    dax::evict_inode(inode);
}

impl MemFs for ReflinkFs {
    fn info(inode: &Inode) -> &memfs::InodeInfo {
        &inode.info().memfs
    }

    fn inode_space(sb: &vfs::SuperBlock<Self>) -> &InodeSpace {
        &sb.info().inodes
    }

    fn init_regular(inode: &NewInode<Self>) {
        file::init(inode);
    }

    fn blocks(inode: &Inode) -> u64 {
        inode.info().blocks.count()
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
