// SPDX-License-Identifier: GPL-2.0

//! The flags that `chattr(1)` changes: `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`. Compare
//! `shmem_fileattr_set`.

use super::{
    transaction::Exclusive,
    MemFs,
    Transaction, //
};
use crate::{
    bindings,
    compat::EOPNOTSUPP,
    vfs::{
        FileKattr,
        Inode,
        LockedInode,
        NewInode, //
    },
};
use kernel::prelude::*;

/// What can be changed: `+i`, `+a`, `+d`, `+A`, as on tmpfs, and `+S`, `+D`, which change nothing
/// where nothing is written back.
const MODIFIABLE: u32 = bindings::FS_IMMUTABLE_FL
    | bindings::FS_APPEND_FL
    | bindings::FS_NODUMP_FL
    | bindings::FS_NOATIME_FL
    | bindings::FS_SYNC_FL
    | bindings::FS_DIRSYNC_FL;

/// What is created in a directory inherits these of the directory's flags.
const INHERITED: u32 = bindings::FS_NODUMP_FL | bindings::FS_NOATIME_FL | bindings::FS_SYNC_FL;

/// And directories inherit these, too.
const INHERITED_BY_DIRECTORIES: u32 = bindings::FS_DIRSYNC_FL;

/// Flags that the VFS enforces, and its own for each.
const VFS_FLAGS: [(u32, u32); 5] = [
    (bindings::FS_SYNC_FL, bindings::S_SYNC),
    (bindings::FS_DIRSYNC_FL, bindings::S_DIRSYNC),
    (bindings::FS_IMMUTABLE_FL, bindings::S_IMMUTABLE),
    (bindings::FS_APPEND_FL, bindings::S_APPEND),
    (bindings::FS_NOATIME_FL, bindings::S_NOATIME),
];

/// Flags that `statx(2)` reports, and its own for each.
const STATX_ATTRIBUTES: [(u32, u32); 3] = [
    (bindings::FS_IMMUTABLE_FL, bindings::STATX_ATTR_IMMUTABLE),
    (bindings::FS_APPEND_FL, bindings::STATX_ATTR_APPEND),
    (bindings::FS_NODUMP_FL, bindings::STATX_ATTR_NODUMP),
];

/// Translates `flags` by a table. Returns the result, and all that could be in it.
fn translate(table: &[(u32, u32)], flags: u32) -> (u32, u32) {
    let (mut to, mut mask) = (0, 0);
    for (flag, own) in table {
        mask |= own;
        if flags & flag != 0 {
            to |= own;
        }
    }
    (to, mask)
}

/// Sets the flags that the VFS enforces.
fn set_vfs_flags<T: MemFs>(inode: &LockedInode<T>, flags: u32) {
    let (vfs_flags, mask) = translate(&VFS_FLAGS, flags);
    inode.set_flags(vfs_flags, mask);
}

/// Sets the flags in the record.
fn set_flags<T: MemFs>(inode: Exclusive<'_, T>, flags: u32) {
    inode.write().fsflags = flags;
}

fn flags<T: MemFs>(inode: &Inode<T>) -> u32 {
    T::info(inode).record.read().fsflags
}

/// Sets the flags of a new inode as its record says.
pub(super) fn read<T: MemFs>(inode: &NewInode<T>) {
    set_vfs_flags(inode, flags(inode));
}

/// Gives a new inode the flags that it inherits from `dir`.
///
/// # Errors
///
/// None, as a new inode's record is its own.
pub(super) fn inherit<T: MemFs>(inode: &NewInode<T>, dir: &Inode<T>) -> Result {
    let mut inherited = INHERITED;
    if inode.is_dir() {
        inherited |= INHERITED_BY_DIRECTORIES;
    }
    let flags = flags(dir) & inherited;
    if flags != 0 {
        let transaction = Transaction::begin([&***inode])?;
        let [exclusive] = transaction.each();
        set_vfs_flags(inode, flags);
        set_flags(exclusive, flags);
    }
    Ok(())
}

/// Returns the flags as `STATX_ATTR_*`, and all that there may be.
pub(super) fn statx_attributes<T: MemFs>(inode: &Inode<T>) -> (u64, u64) {
    let flags = flags(inode);
    let (attributes, mask) = translate(&STATX_ATTRIBUTES, flags);
    (attributes.into(), mask.into())
}

/// Reports the flags.
pub(crate) fn get<T: MemFs>(inode: &Inode<T>, mut fa: FileKattr<'_>) {
    fa.fill_flags(flags(inode));
}

/// Sets the flags.
///
/// # Errors
///
/// `EOPNOTSUPP` for flags that are not [`MODIFIABLE`], and for anything but flags; `ENOMEM`,
/// `ENOSPC`.
pub(crate) fn set<T: MemFs>(inode: &LockedInode<T>, fa: FileKattr<'_>) -> Result {
    let flags = fa.flags();
    if fa.has_fsx() || flags & !MODIFIABLE != 0 {
        return Err(EOPNOTSUPP);
    }
    let transaction = Transaction::begin([&**inode])?;
    let [exclusive] = transaction.each();
    set_vfs_flags(inode, flags);
    set_flags(exclusive, flags);
    inode.set_ctime_current();
    drop(transaction);
    if flags & bindings::FS_IMMUTABLE_FL != 0 {
        T::unmap(inode);
    }
    Ok(())
}
