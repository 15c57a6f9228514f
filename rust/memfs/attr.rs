// SPDX-License-Identifier: GPL-2.0

//! `getattr` and `setattr`.

use super::{fileattr, quota, MemFs};
use crate::{
    bindings,
    vfs::{Changing, Dentry, Iattr, IdMap, Inode, Kstat, LockedInode},
};
use kernel::prelude::*;

/// Fills in what `statx(2)` reports.
pub(crate) fn getattr<T: MemFs>(
    idmap: IdMap<'_>,
    inode: &Inode<T>,
    mut stat: Kstat<'_>,
    request_mask: u32,
) {
    stat.fillattr(idmap, request_mask, inode);
    stat.set_blocks(T::blocks(inode));
    let (attributes, mask) = fileattr::statx_attributes(inode);
    stat.set_attributes(attributes, mask);
    if request_mask & bindings::STATX_BTIME != 0 {
        if let Some(btime) = T::info(inode).btime.as_ref() {
            stat.set_btime(*btime);
        }
    }
    if request_mask & bindings::STATX_DIOALIGN != 0 && inode.file_type() == bindings::S_IFREG {
        // No alignment is needed. But a caller may take the answer for the size of a disk's
        // sectors, as the loop driver does.
        stat.set_dio_align(1, 1 << bindings::SECTOR_SHIFT);
    }
}

/// Changes attributes. `truncate` changes the size, also to the size that the file has, as there
/// may be blocks beyond the end. Compare `ext4_setattr`.
///
/// # Errors
///
/// `EPERM`, `EDQUOT`, `ENOMEM`, and those of `truncate`.
pub(crate) fn setattr<T: MemFs>(
    idmap: IdMap<'_>,
    dentry: &Dentry<T>,
    inode: &LockedInode<T>,
    mut attr: Iattr<'_>,
    truncate: impl FnOnce(&Changing<'_, T>, u64) -> Result,
) -> Result {
    // The VFS checks this before it takes the lock, and for an open descriptor not at all.
    if inode.is_immutable() || inode.is_append_only() && attr.size().is_some() {
        return Err(EPERM);
    }
    attr.prepare(idmap, dentry)?;
    let resized = attr.size().is_some_and(|size| size != inode.size());
    if let Some(size) = attr.size() {
        truncate(&Changing::begin_setattr(inode, idmap, dentry, &attr)?, size)?;
    }
    if attr.valid() & (bindings::ATTR_UID | bindings::ATTR_GID) != 0 {
        quota::transfer(inode, idmap, &attr)?;
    }
    attr.copy(idmap, inode);
    if resized {
        inode.set_mtime_ctime_current();
    }
    if attr.valid() & bindings::ATTR_MODE != 0 {
        dentry.posix_acl_chmod(idmap, inode.mode())?;
    }
    Ok(())
}
