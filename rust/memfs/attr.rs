// SPDX-License-Identifier: GPL-2.0

//! `getattr` and `setattr`.

use super::{
    fileattr,
    posix_acl,
    quota,
    MemFs,
    Transaction, //
};
use crate::{
    bindings,
    vfs::{
        Changing,
        Dentry,
        Iattr,
        IdMap,
        Inode,
        Kstat,
        LockedInode,
        UpdateTime, //
    },
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
        stat.set_btime(T::info(inode).record.read().btime.get());
    }
    if request_mask & bindings::STATX_DIOALIGN != 0 && inode.is_reg() {
        // No alignment is needed. But a caller may take the answer for the size of a disk's
        // sectors, as the loop driver does.
        stat.set_dio_align(1, 1 << bindings::SECTOR_SHIFT);
    }
}

/// Changes attributes. `truncate` changes the size, also to the size that the file has, as there
/// may be blocks beyond the end. Compare `ext4_setattr`, which changes the mode before it knows
/// whether there is memory for the access control list that goes with it.
///
/// # Errors
///
/// `EPERM`, `EDQUOT`, `ENOMEM`, and those of `truncate`; `EINVAL` where both size and owner are to
/// change. Nothing has changed then, but that a file whose size was to change has lost set-id bits
/// and capabilities, as by a write that fails.
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
    let changes_owner = attr.valid() & (bindings::ATTR_UID | bindings::ATTR_GID) != 0;
    // Each of the two may fail, and neither can be undone. Nothing in the kernel asks for both:
    // `do_truncate` does not, and nfsd makes two calls of it.
    if changes_owner && attr.size().is_some() {
        return Err(EINVAL);
    }
    let chmod = posix_acl::Chmod::prepare(inode, attr.mode())?;
    let resized = attr.size().is_some_and(|size| size != inode.size());
    if let Some(size) = attr.size() {
        truncate(&Changing::begin_setattr(inode, idmap, dentry)?, size)?;
    }
    let transaction = Transaction::begin([&**inode])?;
    let [exclusive] = transaction.each();
    if changes_owner {
        quota::transfer(inode, idmap, &attr)?;
    }
    // Nothing fails from here on.
    attr.copy(idmap, inode);
    if resized {
        inode.set_mtime_ctime_current();
    }
    chmod.commit(exclusive);
    Ok(())
}

/// Updates the access time, or the others. A read changes nothing for whose sake a record would
/// have to be copied: its time is kept with the inode only, where a fork has the record, too.
///
/// # Errors
///
/// `EAGAIN` where that may not wait; `ENOMEM`, `ENOSPC`.
pub(crate) fn update_time<T: MemFs>(inode: &Inode<T>, time: UpdateTime) -> Result {
    let transaction = match time.may_wait() {
        true => Some(Transaction::begin([inode])?),
        false => Transaction::try_begin([inode]),
    };
    if transaction.is_none() && !time.is_atime() {
        return Err(EAGAIN);
    }
    inode.update_time(time)
}
