// SPDX-License-Identifier: GPL-2.0

//! What is kept with an inode.

use super::{
    data::Data,
    file,
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
        MemFs,
        SbInfo, //
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

/// What is kept with an inode, of whatever file type.
#[pin_data]
pub(crate) struct InodeInfo {
    #[pin]
    memfs: memfs::InodeInfo,
    #[pin]
    pub(super) dax: DaxInfo,
    #[pin]
    pub(super) tree: Data,
}

impl InodeInfo {
    /// Returns an initialiser for a new inode, whose blocks are of `pool`.
    pub(super) fn new(pool: Arc<Pool>) -> impl PinInit<Self> {
        pin_init!(Self {
            memfs <- memfs::InodeInfo::new(),
            dax <- DaxInfo::new(),
            tree <- Data::new(pool),
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
    inode.data().tree.clear();
    dax::evict_inode(inode);
}

impl MemFs for ReflinkFs {
    fn info(inode: &Inode) -> &memfs::InodeInfo {
        &inode.data().memfs
    }

    fn sb_info(sb: &vfs::SuperBlock<Self>) -> &SbInfo {
        &sb.data().info
    }

    fn init_regular(inode: &NewInode<Self>) {
        file::init(inode);
    }

    fn blocks(inode: &Inode) -> u64 {
        inode.data().tree.blocks()
    }

    fn quota_limits(sb: &vfs::SuperBlock<Self>, kind: quota::Kind) -> Option<quota::Limits> {
        sb.data().quota.of(kind)
    }

    fn unmap(inode: &LockedInode) {
        inode.invalidate_lock().unmap(0..u64::MAX);
    }
}

impl Dax for ReflinkFs {
    fn dax_info(inode: &Inode) -> &DaxInfo {
        &inode.data().dax
    }
}
