// SPDX-License-Identifier: GPL-2.0

//! What any filesystem that keeps everything in memory needs, and `fs/libfs.c` and `mm/shmem.c`
//! keep to themselves: names, attributes, access control lists, flags, file handles, quotas.
//!
//! Knows nothing of files' data. A filesystem implements [`MemFs`], keeps an [`InodeInfo`] with
//! each inode and [`Inodes`] with each superblock, and gives its inodes the tables from
//! here, or its own that call what is here.
//!
//! | module | concern | compare |
//! |---|---|---|
//! | [`record`], `xattrs`, [`inodes`] | what files are, whether their inodes are in the cache or not | |
//! | [`iget`] | inodes made of records, and evicted | `ext4_iget` |
//! | [`family`], [`transaction`], [`fork`] | what is shared with forks, and how it is changed | `xfs_trans_*` |
//! | [`space`] | how many inodes and bytes of attributes there may be | `shmem_reserve_inode` |
//! | [`names`] | the names in a directory | `simple_offset_*` |
//! | `edit`, [`namei`] | looking up, creating, linking, renaming | `shmem_mknod`, `shmem_rename2` |
//! | [`readdir`] | listing directories | `simple_offset_*` |
//! | [`attr`] | `stat`, `chmod`, `chown`, `utimes` | `shmem_getattr`, `shmem_setattr` |
//! | [`fileattr`] | `chattr` | `shmem_fileattr_set` |
//! | [`posix_acl`] | access control lists | `simple_set_acl` |
//! | [`xattr`] | extended attributes | `simple_xattr_*` |
//! | [`exportfs`] | file handles | `shmem_export_ops` |
//! | [`quota`] | charges, and limits in memory | `mm/shmem_quota.c` |

pub(crate) mod attr;
mod edit;
pub(crate) mod exportfs;
pub(crate) mod family;
pub(crate) mod fileattr;
pub(crate) mod fork;
pub(crate) mod iget;
pub(crate) mod inodes;
pub(crate) mod namei;
mod names;
pub(crate) mod posix_acl;
pub(crate) mod quota;
pub(crate) mod readdir;
pub(crate) mod record;
pub(crate) mod space;
pub(crate) mod transaction;
pub(crate) mod xattr;
mod xattrs;

pub(crate) use self::{
    inodes::Inodes,
    record::Data,
    space::InodeSpace,
    transaction::Transaction, //
};

use self::{
    record::{
        ReadRecord,
        RecordCell, //
    },
    space::NodeCharge, //
};
use crate::{
    store::MapNodes,
    vfs::{
        Dquots,
        FileSystem,
        Inode,
        LockedInode,
        NewInode,
        SuperBlock, //
    },
};
use kernel::prelude::*;

/// A filesystem that keeps everything in memory.
pub(crate) trait MemFs: FileSystem {
    /// The data of a regular file.
    type Data: Data;

    /// Returns the data of an empty file.
    fn new_data(sb: &SuperBlock<Self>) -> Self::Data;

    /// Returns what is kept with an inode for this layer.
    fn info(inode: &Inode<Self>) -> &InodeInfo<Self::Data>;

    /// Returns the inodes of a superblock.
    fn inodes(sb: &SuperBlock<Self>) -> &Inodes<Self::Data>;

    /// Makes a new inode a regular file.
    fn init_regular(inode: &NewInode<Self>);

    /// Called when an inode that had no name has got one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It loses the name again.
    fn linked(inode: &Inode<Self>) -> Result;

    /// Called when an inode has lost its last name.
    fn unlinked(inode: &Inode<Self>);

    /// Returns how many blocks the inode refers to, shared or not: what `stat(2)` reports and
    /// quotas charge.
    fn blocks(inode: &Inode<Self>) -> u64;

    /// Returns the default limits for a kind of quota; `None` if it is not enabled on this
    /// superblock.
    fn quota_limits(sb: &SuperBlock<Self>, kind: quota::Kind) -> Option<quota::Limits>;

    /// Has every store through a mapping fault, after the file has become immutable.
    fn unmap(inode: &LockedInode<Self>);
}

/// What is kept with an inode in the cache.
#[pin_data]
pub(crate) struct InodeInfo<D> {
    #[pin]
    record: RecordCell<D>,
    dquots: Dquots,
}

impl<D: Data> InodeInfo<D> {
    /// Returns an initialiser for an inode without a record, of a superblock with these inodes.
    pub(crate) fn new(inodes: &Inodes<D>) -> impl PinInit<Self> + '_ {
        pin_init!(Self {
            record <- RecordCell::new(inodes.unset()),
            dquots: Dquots::new(),
        })
    }

    /// Locks the record to look at it. Nothing sleeps meanwhile.
    pub(crate) fn record(&self) -> ReadRecord<'_, D> {
        self.record.read()
    }

    /// Returns the references to dquots, for [`dquots`](crate::vfs::SuperOperations::dquots).
    pub(crate) fn dquots(&self) -> &Dquots {
        &self.dquots
    }
}

/// Allocates what is missing in `nodes`, for names or attributes.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`.
fn fill_nodes<T: MemFs, V>(inode: &Inode<T>, nodes: &mut MapNodes<V, NodeCharge>) -> Result {
    let space = &T::inodes(inode.super_block()).family.space;
    nodes.fill(GFP_KERNEL_ACCOUNT, || NodeCharge::new(space))
}
