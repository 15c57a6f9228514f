// SPDX-License-Identifier: GPL-2.0

//! New inodes.

use super::{
    AddressSpaceOps,
    Dentry,
    FileOps,
    FileSystem,
    IdMap,
    Inode,
    InodeOps,
    LockedInode,
    SuperBlock, //
};
use crate::bindings;
use core::{
    ops::Deref,
    ptr::{
        null_mut,
        NonNull, //
    },
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::ARef, //
};

/// An inode that nothing else refers to yet. Dropping it evicts it.
///
/// # Examples
///
/// ```no_run
/// use crate::vfs::{Dentry, FileSystem, IdMap, InodeOperations, InodeOps, LockedInode, NewInode};
/// use kernel::prelude::*;
///
/// /// Creates a symbolic link to nowhere, with a number of its own, under a name in `dir`.
/// fn create<T: FileSystem, U: InodeOperations<T>>(
///     dir: &LockedInode<T>,
///     name: &Dentry<T>,
///     ino: u64,
/// ) -> Result {
///     let inode = NewInode::new(dir.super_block(), ino)?;
///     inode.init_owner(IdMap::nop(), Some(dir), 0o120777);
///     inode.init_timestamps();
///     inode.set_iops(InodeOps::new::<U>());
///     // Where this fails, the inode is evicted.
///     inode.set_link(c"nowhere")?;
///     inode.init_security(dir, Some(name))?;
///     inode.make_persistent(name);
///     dir.set_mtime_ctime_current();
///     Ok(())
/// }
/// ```
///
/// # Invariants
///
/// This is the only reference to the inode.
pub struct NewInode<T: FileSystem>(ARef<Inode<T>>);

impl<T: FileSystem> NewInode<T> {
    /// Allocates an inode, `new_inode`. `ino` is its number.
    ///
    /// Its mode, owner and tables are to be set; until then it is an inode without operations.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(sb: &SuperBlock<T>, ino: u64) -> Result<Self> {
        // SAFETY: The superblock is live.
        let inode = NonNull::new(unsafe { bindings::new_inode(sb.as_raw()) }).ok_or(ENOMEM)?;
        // SAFETY: Nothing else refers to the inode.
        unsafe {
            (*inode.as_ptr()).i_ino = ino;
            (*inode.as_ptr()).i_generation = bindings::get_random_u32();
        }
        // INVARIANT: The reference is that of `new_inode`.
        // SAFETY: It is given to the result; the inode is one of `T` as `sb` is.
        Ok(Self(unsafe { ARef::from_raw(inode.cast()) }))
    }

    /// Sets the mode, and the owner as for a file made in `dir`: `inode_init_owner`.
    pub fn init_owner(&self, idmap: IdMap<'_>, dir: Option<&Inode<T>>, mode: u16) {
        let dir = dir.map_or(null_mut(), Inode::as_raw);
        // SAFETY: The inode is live, `dir` is null or live, `idmap` is valid.
        unsafe { bindings::inode_init_owner(idmap.as_raw(), self.as_raw(), dir, mode) };
    }

    /// Sets the owner.
    pub fn set_owner(&self, uid: bindings::kuid_t, gid: bindings::kgid_t) {
        // SAFETY: Nothing else refers to the inode.
        unsafe {
            (*self.as_raw()).i_uid = uid;
            (*self.as_raw()).i_gid = gid;
        }
    }

    /// Sets all timestamps to now, which is returned: `simple_inode_init_ts`.
    pub fn init_timestamps(&self) -> bindings::timespec64 {
        // SAFETY: The inode is live.
        unsafe { bindings::simple_inode_init_ts(self.as_raw()) }
    }

    /// Sets `i_op`.
    pub fn set_iops(&self, ops: &'static InodeOps<T>) -> &Self {
        // SAFETY: Nothing else refers to the inode. The table is static, and of `T`.
        unsafe { (*self.as_raw()).i_op = ops.as_raw() };
        self
    }

    /// Sets `i_fop`.
    pub fn set_fops(&self, ops: &'static FileOps<T>) -> &Self {
        // SAFETY: Nothing else refers to the inode. The table is static, and of `T`.
        unsafe { (*self.as_raw()).__bindgen_anon_3.i_fop = ops.as_raw() };
        self
    }

    /// Sets `a_ops`.
    pub fn set_aops(&self, ops: &'static AddressSpaceOps<T>) -> &Self {
        // SAFETY: Nothing else refers to the inode. The table is static, and of `T`.
        unsafe { (*self.as_raw()).i_data.a_ops = ops.as_raw() };
        self
    }

    /// Sets `i_private`, which the VFS does not look at.
    pub fn set_private<P>(&self, private: *const P) -> &Self {
        // SAFETY: Nothing else refers to the inode.
        unsafe { (*self.as_raw()).i_private = private.cast_mut().cast() };
        self
    }

    /// Says that the file's pages are never reclaimed, `mapping_set_unevictable`.
    pub fn set_unevictable(&self) -> &Self {
        // SAFETY: Nothing else refers to the inode.
        unsafe { bindings::mapping_set_unevictable(self.mapping()) };
        self
    }

    /// Says that there are no capabilities to be looked for when the file is written to,
    /// `inode_has_no_xattr`.
    pub fn set_no_xattr(&self) -> &Self {
        // SAFETY: Nothing else refers to the inode.
        unsafe { bindings::inode_has_no_xattr(self.as_raw()) };
        self
    }

    /// Sets `i_nlink` to 2, for a directory's name and ".", and the lock class of a directory.
    pub fn init_dir(&self) -> &Self {
        // SAFETY: Nothing else refers to the inode.
        unsafe {
            bindings::set_nlink(self.as_raw(), 2);
            bindings::lockdep_annotate_inode_mutex_key(self.as_raw());
        }
        self
    }

    /// Makes it a device node, FIFO or socket, as the mode says: `init_special_inode`.
    pub fn init_special(&self, device: bindings::dev_t) -> &Self {
        // SAFETY: Nothing else refers to the inode.
        unsafe { bindings::init_special_inode(self.as_raw(), self.mode(), device) };
        self
    }

    /// Makes it a symbolic link to `target`: a path walk does not call the filesystem for it,
    /// `inode_set_cached_link`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn set_link(&self, target: &CStr) -> Result {
        let mut bytes = KVec::new();
        bytes.extend_from_slice(target.to_bytes_with_nul(), GFP_KERNEL_ACCOUNT)?;
        let len = target.to_bytes().len();
        let (link, ..) = bytes.into_raw_parts();
        // SAFETY: Nothing else refers to the inode. `free_inode` frees the target, a grace period
        // after the last path walk could find the inode.
        unsafe {
            (*self.as_raw()).i_size = len as i64;
            bindings::inode_set_cached_link(self.as_raw(), link.cast(), len as i32);
        }
        Ok(())
    }

    /// Tells the security modules that the inode is new in `dir`, under `name` unless it has none:
    /// `security_inode_init_security`.
    ///
    /// # Errors
    ///
    /// Those of the security modules.
    pub fn init_security(&self, dir: &Inode<T>, name: Option<&Dentry<T>>) -> Result {
        let name = name.map_or(null_mut(), |name| name.qstr().cast_mut());
        // SAFETY: The inode is new, the directory live, the name valid or null.
        to_result(unsafe {
            bindings::security_inode_init_security(
                self.as_raw(),
                dir.as_raw(),
                name,
                None,
                null_mut(),
            )
        })
    }

    /// Gives the inode to a dentry, which is negative, and pins that in memory:
    /// `d_make_persistent`.
    pub fn make_persistent(self, name: &Dentry<T>) {
        // SAFETY: The dentry is live, its directory locked; the inode's reference goes to it.
        unsafe { bindings::d_make_persistent(name.as_raw(), self.into_raw()) };
    }

    /// Returns the reference.
    pub fn into_aref(self) -> ARef<Inode<T>> {
        // SAFETY: `self` is forgotten, so that the reference is not dropped twice.
        unsafe { core::ptr::read(&raw const core::mem::ManuallyDrop::new(self).0) }
    }

    /// Returns the inode, with its reference.
    pub(super) fn into_raw(self) -> *mut bindings::inode {
        ARef::into_raw(self.into_aref()).as_ptr().cast()
    }
}

impl<T: FileSystem> Deref for NewInode<T> {
    type Target = LockedInode<T>;

    fn deref(&self) -> &LockedInode<T> {
        // SAFETY: Nothing else refers to the inode.
        unsafe { LockedInode::assume(&self.0) }
    }
}

impl<T: FileSystem> Drop for NewInode<T> {
    fn drop(&mut self) {
        // Without a link the inode is evicted when the reference goes.
        // SAFETY: Nothing else refers to the inode.
        unsafe { bindings::set_nlink(self.as_raw(), 0) };
    }
}
