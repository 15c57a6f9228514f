// SPDX-License-Identifier: GPL-2.0

//! What any filesystem that keeps everything in memory needs, and `fs/libfs.c` and `mm/shmem.c`
//! keep to themselves: names, attributes, access control lists, flags, file handles, quotas.
//!
//! Knows nothing of files' data. A filesystem implements [`MemFs`], keeps an [`InodeInfo`] with
//! each inode and an [`InodeSpace`] with each superblock, and gives its inodes the tables from
//! here, or its own that call what is here.
//!
//! | module | concern | compare |
//! |---|---|---|
//! | [`space`] | how many inodes and bytes of attributes there may be | `shmem_reserve_inode` |
//! | [`namei`] | creating, linking, renaming | `shmem_mknod`, `shmem_rename2` |
//! | [`dir_offsets`], [`readdir`] | positions in directories, listing them | `simple_offset_*` |
//! | [`attr`] | `stat`, `chmod`, `chown`, `utimes` | `shmem_getattr`, `shmem_setattr` |
//! | [`fileattr`] | `chattr` | `shmem_fileattr_set` |
//! | [`posix_acl`] | access control lists | `simple_set_acl` |
//! | [`xattr`] | extended attributes | `simple_xattr_*` |
//! | [`exportfs`] | file handles | `shmem_export_ops` |
//! | [`quota`] | charges, and limits in memory | `mm/shmem_quota.c` |

pub(crate) mod attr;
pub(crate) mod dir_offsets;
pub(crate) mod exportfs;
pub(crate) mod fileattr;
pub(crate) mod namei;
pub(crate) mod posix_acl;
pub(crate) mod quota;
pub(crate) mod readdir;
pub(crate) mod space;
pub(crate) mod xattr;

pub(crate) use self::space::InodeSpace;

use self::{
    dir_offsets::DirOffsets,
    xattr::Xattrs, //
};
use crate::{
    bindings,
    vfs::{
        Dquots,
        FileSystem,
        Inode,
        LockedInode,
        NewInode,
        SuperBlock, //
    },
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::Atomic,
        SetOnce,
        SpinLock, //
    },
};

/// A filesystem that keeps everything in memory.
pub(crate) trait MemFs: FileSystem {
    /// Returns what is kept with an inode for this layer.
    fn info(inode: &Inode<Self>) -> &InodeInfo;

    /// Returns the space for the inodes of a superblock.
    fn inode_space(sb: &SuperBlock<Self>) -> &InodeSpace;

    /// Makes a new inode a regular file.
    fn init_regular(inode: &NewInode<Self>);

    /// Returns how many blocks the inode refers to, shared or not: what `stat(2)` reports and
    /// quotas charge.
    fn blocks(inode: &Inode<Self>) -> u64;

    /// Returns the default limits for a kind of quota; `None` if it is not enabled on this
    /// superblock.
    fn quota_limits(sb: &SuperBlock<Self>, kind: quota::Kind) -> Option<quota::Limits>;

    /// Has every store through a mapping fault, after the file has become immutable.
    fn unmap(inode: &LockedInode<Self>);
}

/// What is kept with an inode, as `struct shmem_inode_info` has it.
#[pin_data]
pub(crate) struct InodeInfo {
    #[pin]
    dir_offsets: DirOffsets,
    #[pin]
    xattrs: Xattrs,
    /// `FS_*_FL`. Changed with `i_rwsem` held exclusive.
    fsflags: Atomic<u32>,
    /// When the inode was created.
    btime: SetOnce<bindings::timespec64>,
    /// Held to put the inode into the kernel's hash of inodes.
    #[pin]
    hash_lock: SpinLock<()>,
    dquots: Dquots,
}

impl InodeInfo {
    /// Returns an initialiser for a new inode.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            dir_offsets <- DirOffsets::new(),
            xattrs <- Xattrs::new(),
            fsflags: Atomic::new(0),
            btime: SetOnce::new(),
            hash_lock <- new_spinlock!(()),
            dquots: Dquots::new(),
        })
    }

    /// Returns the references to dquots, for [`dquots`](crate::vfs::SuperOperations::dquots).
    pub(crate) fn dquots(&self) -> &Dquots {
        &self.dquots
    }
}

/// Gives back what an inode has of this layer, and uncharges it and its blocks, before the blocks
/// go: for [`SuperOperations::evict_inode`](crate::vfs::SuperOperations::evict_inode).
pub(crate) fn evict_inode<T: MemFs>(inode: &Inode<T>) {
    let info = T::info(inode);
    info.dir_offsets.clear();
    let bytes = info.xattrs.clear();
    // Cannot fail: it counts less.
    let _ = space::adjust_bytes(inode, bytes, 0);
    quota::free_inode(inode, T::blocks(inode));
    T::inode_space(inode.super_block()).free_inode();
}
