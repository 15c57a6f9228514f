// SPDX-License-Identifier: GPL-2.0

//! The flags that `chattr(1)` changes: `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`.
//!
//! C header: [`include/linux/fileattr.h`](srctree/include/linux/fileattr.h). Who may change which,
//! the VFS has looked at.

use super::{
    filesystem::FileSystem,
    inode::{Inode, Locked},
};
use crate::bindings;
use kernel::{prelude::*, sync::atomic::Relaxed};

/// What can be changed: `+i`, `+a`, `+d`, `+A`, as on tmpfs, and `+S`, `+D`, which cost nothing where
/// nothing is ever written late.
const MODIFIABLE: u32 = bindings::FS_IMMUTABLE_FL
    | bindings::FS_APPEND_FL
    | bindings::FS_NODUMP_FL
    | bindings::FS_NOATIME_FL
    | bindings::FS_SYNC_FL
    | bindings::FS_DIRSYNC_FL;

/// What is made in a directory begins with these of the directory's flags.
const INHERITED: u32 = bindings::FS_NODUMP_FL | bindings::FS_NOATIME_FL | bindings::FS_SYNC_FL;

/// And directories with these, too.
const INHERITED_BY_DIRECTORIES: u32 = bindings::FS_DIRSYNC_FL;

/// What the VFS is told of, and by which of its own flags.
const KNOWN_TO_VFS: [(u32, u32); 5] = [
    (bindings::FS_SYNC_FL, bindings::S_SYNC),
    (bindings::FS_DIRSYNC_FL, bindings::S_DIRSYNC),
    (bindings::FS_IMMUTABLE_FL, bindings::S_IMMUTABLE),
    (bindings::FS_APPEND_FL, bindings::S_APPEND),
    (bindings::FS_NOATIME_FL, bindings::S_NOATIME),
];

/// What statx says of, and how.
const SHOWN: [(u32, u32); 3] = [
    (bindings::FS_IMMUTABLE_FL, bindings::STATX_ATTR_IMMUTABLE),
    (bindings::FS_APPEND_FL, bindings::STATX_ATTR_APPEND),
    (bindings::FS_NODUMP_FL, bindings::STATX_ATTR_NODUMP),
];

impl<T: FileSystem> Inode<T> {
    /// Sets the flags, of a locked inode or one that nobody else has yet.
    fn set_flags(&self, flags: u32) {
        let mut known = 0;
        let mut mask = 0;
        for (flag, vfs_flag) in KNOWN_TO_VFS {
            mask |= vfs_flag;
            if flags & flag != 0 {
                known |= vfs_flag;
            }
        }
        // SAFETY: The inode is live.
        unsafe { bindings::inode_set_flags(self.as_raw(), known, mask) };
        self.flags().store(flags, Relaxed);
    }

    /// Gives the inode, which is new in `dir`, the flags that it inherits.
    pub(super) fn inherit_flags(&self, dir: &Inode<T>) {
        let inherited = match self.file_type() {
            bindings::S_IFDIR => INHERITED | INHERITED_BY_DIRECTORIES,
            _ => INHERITED,
        };
        match dir.flags().load(Relaxed) & inherited {
            0 => (),
            flags => self.set_flags(flags),
        }
    }

    /// The flags in statx's terms, and which there may be.
    pub(super) fn statx_attributes(&self) -> (u64, u64) {
        let flags = self.flags().load(Relaxed);
        let (mut attributes, mut mask) = (0, 0);
        for (flag, attribute) in SHOWN {
            mask |= u64::from(attribute);
            if flags & flag != 0 {
                attributes |= u64::from(attribute);
            }
        }
        (attributes, mask)
    }
}

/// # Safety
///
/// `dentry` is of an inode of `T`, `attributes` valid for writes.
pub(super) unsafe extern "C" fn fileattr_get<T: FileSystem>(
    dentry: *mut bindings::dentry,
    attributes: *mut kernel::bindings::file_kattr,
) -> c_int {
    // SAFETY: By the safety requirements.
    unsafe {
        let flags = Inode::<T>::from_raw((*dentry).d_inode)
            .flags()
            .load(Relaxed);
        bindings::fileattr_fill_flags(attributes.cast(), flags);
    }
    0
}

/// # Safety
///
/// `dentry` is of an inode of `T` whose lock is held exclusive, `attributes` valid.
pub(super) unsafe extern "C" fn fileattr_set<T: FileSystem>(
    _idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    attributes: *mut kernel::bindings::file_kattr,
) -> c_int {
    let attributes: *mut bindings::file_kattr = attributes.cast();
    // SAFETY: The VFS holds the lock of the dentry's inode, and the attributes are its own.
    let (inode, has_more, flags) = unsafe {
        (
            Locked::assume(Inode::<T>::from_raw((*dentry).d_inode)),
            bindings::fileattr_has_fsx(attributes),
            (*attributes).flags,
        )
    };
    if has_more || flags & !MODIFIABLE != 0 {
        return EOPNOTSUPP.to_errno();
    }
    inode.set_flags(flags);
    if flags & bindings::FS_IMMUTABLE_FL != 0 {
        // The next store through a mapping asks, and is refused.
        inode.invalidate().unmap(0..u64::MAX);
    }
    inode.touch_status();
    0
}
