// SPDX-License-Identifier: GPL-2.0

//! New inodes.

use super::{
    AddressSpaceOps,
    Dentry,
    FileOps,
    FileSystem,
    IdMap,
    Inode,
    InodeAttrs,
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

/// An inode that nothing else refers to yet, or waits for until it is unlocked. Dropping it evicts
/// it.
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
///     let mut inode = NewInode::new(dir.super_block(), ino)?;
///     inode.init_owner(IdMap::nop(), Some(dir), 0o120777);
///     inode.init_timestamps();
///     inode.set_iops(InodeOps::new::<U>());
///     // Where this fails, the inode is evicted.
///     inode.set_link(c"nowhere")?;
///     inode.init_security(dir, Some(name), |_name, _value| Ok(()))?;
///     inode.insert_locked()?;
///     inode.instantiate(name);
///     dir.set_mtime_ctime_current();
///     Ok(())
/// }
/// ```
///
/// # Invariants
///
/// This is the only reference to the inode that is used: if it is in the kernel's hash and locked
/// (`I_NEW`), what finds it there waits.
pub struct NewInode<T: FileSystem> {
    inode: ARef<Inode<T>>,
    is_locked: bool,
}

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
        let inode = unsafe { ARef::from_raw(inode.cast()) };
        Ok(Self {
            inode,
            is_locked: false,
        })
    }

    /// Returns one that is in the kernel's hash, locked and new.
    pub(super) fn from_locked(inode: ARef<Inode<T>>) -> Self {
        // INVARIANT: As it is locked.
        Self {
            inode,
            is_locked: true,
        }
    }

    /// Lets what waits for the inode, which is locked, have it: `unlock_new_inode`.
    pub fn unlock(self) -> ARef<Inode<T>> {
        if self.is_locked {
            // SAFETY: The inode is locked and new.
            unsafe { bindings::unlock_new_inode(self.as_raw()) };
        }
        self.into_aref()
    }

    /// Puts the inode into the kernel's hash of inodes, so that it stays in the cache without
    /// users: `insert_inode_locked`. Until it is given to a dentry or a file nothing finds it.
    ///
    /// # Errors
    ///
    /// `EBUSY` where another inode of the superblock has its number.
    pub fn insert_locked(&mut self) -> Result {
        // SAFETY: The inode is live, and not hashed: a locked one is not given out to be changed.
        to_result(unsafe { bindings::insert_inode_locked(self.as_raw()) })?;
        // INVARIANT: As it is locked.
        self.is_locked = true;
        Ok(())
    }

    /// Sets the attributes, to those that another inode of this number had before, and how many
    /// `bytes` its owner is charged.
    pub fn set_attrs(&self, attrs: &InodeAttrs, bytes: u64) {
        let raw = self.as_raw();
        // SAFETY: Nothing else uses the inode.
        unsafe {
            (*raw).i_mode = attrs.mode;
            (*raw).i_uid = attrs.uid;
            (*raw).i_gid = attrs.gid;
            (*raw).i_rdev = attrs.rdev;
            (*raw).i_generation = attrs.generation;
            bindings::set_nlink(raw, attrs.nlink);
            bindings::i_size_write(raw, attrs.size as i64);
            bindings::inode_set_bytes(raw, bytes as i64);
            bindings::inode_set_atime_to_ts(raw, attrs.atime.get());
            bindings::inode_set_mtime_to_ts(raw, attrs.mtime.get());
            bindings::inode_set_ctime_to_ts(raw, attrs.ctime.get());
            bindings::inode_set_iversion_queried(raw, attrs.version);
        }
    }

    /// Sets the mode, and the owner as for a file made in `dir`: `inode_init_owner`.
    pub fn init_owner(&self, idmap: IdMap<'_>, dir: Option<&Inode<T>>, mode: u16) {
        let dir = dir.map_or(null_mut(), Inode::as_raw);
        // SAFETY: The inode is live, `dir` is null or live, `idmap` is valid.
        unsafe { bindings::inode_init_owner(idmap.as_raw(), self.as_raw(), dir, mode) };
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
    /// `security_inode_init_security`. Calls `set_label` with the name, without `security.`, and
    /// the value of each label, which is to be kept with the inode.
    ///
    /// # Errors
    ///
    /// Those of the security modules and of `set_label`.
    pub fn init_security<F: FnMut(&CStr, &[u8]) -> Result>(
        &self,
        dir: &Inode<T>,
        name: Option<&Dentry<T>>,
        mut set_label: F,
    ) -> Result {
        /// # Safety
        ///
        /// `xattrs` is an array that ends with one without a name, `set_label` is an `F`.
        unsafe extern "C" fn initxattrs<F: FnMut(&CStr, &[u8]) -> Result>(
            _inode: *mut bindings::inode,
            mut xattrs: *const bindings::xattr,
            set_label: *mut c_void,
        ) -> c_int {
            // SAFETY: `security_inode_init_security` passes such an array, and the `set_label` that
            // it was given. Each name is a C string, each value valid for its length.
            unsafe {
                while !(*xattrs).name.is_null() {
                    let name = CStr::from_char_ptr((*xattrs).name);
                    let value =
                        core::slice::from_raw_parts((*xattrs).value.cast(), (*xattrs).value_len);
                    if let Err(err) = (*set_label.cast::<F>())(name, value) {
                        return err.to_errno();
                    }
                    xattrs = xattrs.add(1);
                }
            }
            0
        }
        let name = name.map_or(null_mut(), |name| name.qstr().cast_mut());
        // SAFETY: The inode is new, the directory live, the name valid or null; `set_label` is
        // valid during the call.
        to_result(unsafe {
            bindings::security_inode_init_security(
                self.as_raw(),
                dir.as_raw(),
                name,
                Some(initxattrs::<F>),
                (&raw mut set_label).cast(),
            )
        })
    }

    /// Gives the inode, which is locked, to a dentry, which is negative: `d_instantiate_new`.
    pub fn instantiate(self, name: &Dentry<T>) {
        debug_assert!(self.is_locked);
        // SAFETY: The dentry is live, its directory locked; the inode is locked and new, and its
        // reference goes to the dentry.
        unsafe { bindings::d_instantiate_new(name.as_raw(), self.into_raw()) };
    }

    /// Returns the reference.
    pub fn into_aref(self) -> ARef<Inode<T>> {
        // SAFETY: `self` is forgotten, so that the reference is not dropped twice.
        unsafe { core::ptr::read(&raw const core::mem::ManuallyDrop::new(self).inode) }
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
        unsafe { LockedInode::assume(&self.inode) }
    }
}

impl<T: FileSystem> Drop for NewInode<T> {
    fn drop(&mut self) {
        // Without a link the inode is evicted when the last reference goes.
        // SAFETY: Nothing else uses the inode. `discard_new_inode` drops a reference, which is
        // taken for it.
        unsafe {
            bindings::set_nlink(self.as_raw(), 0);
            if self.is_locked {
                bindings::ihold(self.as_raw());
                bindings::discard_new_inode(self.as_raw());
            }
        }
    }
}
