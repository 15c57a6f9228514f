// SPDX-License-Identifier: GPL-2.0

//! Inodes, made of their records, and evicted.
//!
//! `struct inode` is a cache: it is made when a name or a handle is looked up ([`iget`]), and
//! leaves when the memory is wanted, or with its last user when it has no name any more
//! ([`evict_inode`]). Its attributes are in its record, too, whenever a change has ended.

use super::{
    fileattr,
    posix_acl,
    quota,
    record::Record,
    space::attribute_blocks,
    MemFs, //
};
use crate::{
    compat::ESTALE,
    vfs::{
        Inode,
        NewInode,
        SuperBlock, //
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Returns the inode of a number, of the cache or of its record; with `set_operations` for its file
/// type.
///
/// # Errors
///
/// `ESTALE` if there is none of this number, `ENOMEM`, and those of quotas.
pub(super) fn iget<T: MemFs>(
    sb: &SuperBlock<T>,
    ino: u64,
    set_operations: fn(&NewInode<T>) -> Result,
) -> Result<ARef<Inode<T>>> {
    if T::inodes(sb).get(ino).is_none() {
        // It may have no name.
        return sb.ilookup(ino).ok_or(ESTALE);
    }
    sb.iget(ino, |inode| {
        // From now on nothing else changes the record, which may be another one by now, or gone.
        let record = T::inodes(sb).get(ino).ok_or(ESTALE)?;
        read(inode, record)?;
        set_operations(inode)
    })
}

/// Makes a new inode what its record says.
fn read<T: MemFs>(inode: &NewInode<T>, record: Arc<Record<T::Data>>) -> Result {
    let cell = &T::info(inode).record;
    drop(cell.set(record, true));
    let attrs = cell.read().attrs;
    let charged = if quota::has_quota(inode.super_block()) {
        T::blocks(inode) + attribute_blocks(cell.read().charge.attribute_bytes())
    } else {
        0
    };
    inode.set_attrs(&attrs, charged * PAGE_SIZE as u64);
    fileattr::read(inode);
    posix_acl::read(inode);
    quota::initialize(inode)
}

/// Gives back what an inode has of this layer, for
/// [`SuperOperations::evict_inode`](crate::vfs::SuperOperations::evict_inode). If it has no name,
/// its owner is uncharged, and its record goes, unless a fork has it.
pub(crate) fn evict_inode<T: MemFs>(inode: &Inode<T>) {
    let info = T::info(inode);
    if !info.record.has_name() {
        let attributes = info.record.read().charge.attribute_bytes();
        quota::free_inode(inode, T::blocks(inode) + attribute_blocks(attributes));
    }
    quota::drop_references(inode);
    let unset = T::inodes(inode.super_block()).unset().clone();
    drop(info.record.set(unset, true));
}
