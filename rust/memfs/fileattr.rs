// SPDX-License-Identifier: GPL-2.0

//! The flags that `chattr(1)` changes: `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`. Compare
//! `shmem_fileattr_set`.

use super::MemFs;
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
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

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

fn set_flags<T: MemFs>(inode: &LockedInode<T>, flags: u32) {
    let (vfs_flags, mask) = translate(&VFS_FLAGS, flags);
    inode.set_flags(vfs_flags, mask);
    T::info(inode).record().fsflags.store(flags, Relaxed);
}

/// Sets the flags of a new inode as its record says.
pub(super) fn read<T: MemFs>(inode: &NewInode<T>) {
    set_flags(inode, T::info(inode).record().fsflags.load(Relaxed));
}

/// Gives a new inode the flags that it inherits from `dir`.
pub(super) fn inherit<T: MemFs>(inode: &NewInode<T>, dir: &Inode<T>) {
    let mut inherited = INHERITED;
    if inode.is_dir() {
        inherited |= INHERITED_BY_DIRECTORIES;
    }
    match T::info(dir).record().fsflags.load(Relaxed) & inherited {
        0 => (),
        flags => set_flags(inode, flags),
    }
}

/// Returns the flags as `STATX_ATTR_*`, and all that there may be.
pub(super) fn statx_attributes<T: MemFs>(inode: &Inode<T>) -> (u64, u64) {
    let flags = T::info(inode).record().fsflags.load(Relaxed);
    let (attributes, mask) = translate(&STATX_ATTRIBUTES, flags);
    (attributes.into(), mask.into())
}

/// Reports the flags.
pub(crate) fn get<T: MemFs>(inode: &Inode<T>, mut fa: FileKattr<'_>) {
    fa.fill_flags(T::info(inode).record().fsflags.load(Relaxed));
}

/// Sets the flags.
///
/// # Errors
///
/// `EOPNOTSUPP` for flags that are not [`MODIFIABLE`], and for anything but flags.
pub(crate) fn set<T: MemFs>(inode: &LockedInode<T>, fa: FileKattr<'_>) -> Result {
    let flags = fa.flags();
    if fa.has_fsx() || flags & !MODIFIABLE != 0 {
        return Err(EOPNOTSUPP);
    }
    set_flags(inode, flags);
    if flags & bindings::FS_IMMUTABLE_FL != 0 {
        T::unmap(inode);
    }
    inode.set_ctime_current();
    Ok(())
}
