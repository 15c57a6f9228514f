// SPDX-License-Identifier: GPL-2.0

//! Dentries.
//!
//! C headers: [`include/linux/dcache.h`](srctree/include/linux/dcache.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h) for what `fs/libfs.c` does with them.

use super::{
    FileSystem,
    IdMap,
    Inode,
    LockedInode, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{
        null_mut,
        NonNull, //
    },
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

/// A name in a directory of a superblock of `T`, with or without an inode: `struct dentry`.
#[repr(transparent)]
pub struct Dentry<T: FileSystem>(Opaque<bindings::dentry>, PhantomData<T>);

// SAFETY: The reference count keeps the dentry alive; every dentry has it.
unsafe impl<T: FileSystem> AlwaysRefCounted for Dentry<T> {
    fn inc_ref(&self) {
        // SAFETY: The caller has a reference.
        unsafe { bindings::dget(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { bindings::dput(obj.as_ref().as_raw()) };
    }
}

impl<T: FileSystem> Dentry<T> {
    /// # Safety
    ///
    /// `dentry` is a dentry of a superblock of `T` and stays so during `'a`. The lock of its
    /// directory or of its inode is held, or something else keeps its inode and name what they are.
    pub(crate) unsafe fn from_raw<'a>(dentry: *mut bindings::dentry) -> &'a Self {
        // SAFETY: The caller guarantees that the dentry is live; the types have the same layout.
        unsafe { &*dentry.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dentry {
        self.0.get()
    }

    /// Returns the inode; `None` for a negative dentry.
    pub fn inode(&self) -> Option<&Inode<T>> {
        // SAFETY: The dentry is live, and its inode does not change, by the promise of `from_raw`.
        let inode = unsafe { (*self.as_raw()).d_inode };
        // SAFETY: An inode of the dentry's superblock, which the dentry has a reference to.
        (!inode.is_null()).then(|| unsafe { Inode::from_raw(inode) })
    }

    /// Returns whether this is the name of a directory.
    pub fn is_dir(&self) -> bool {
        self.inode().is_some_and(Inode::is_dir)
    }

    /// Returns the name.
    pub fn name(&self) -> &[u8] {
        // SAFETY: The name is valid, and does not change, by the promise of `from_raw`.
        unsafe {
            let name = &(*self.as_raw()).__bindgen_anon_1.d_name;
            let len = name.__bindgen_anon_1.__bindgen_anon_1.len as usize;
            core::slice::from_raw_parts(name.name, len)
        }
    }

    pub(super) fn qstr(&self) -> *const bindings::qstr {
        // SAFETY: The dentry is live; only the field's address is taken.
        unsafe { &raw const (*self.as_raw()).__bindgen_anon_1.d_name }
    }

    /// Returns `d_fsdata`, which is the filesystem's.
    pub fn fsdata(&self) -> usize {
        // SAFETY: The dentry is live, and its directory locked.
        unsafe { (*self.as_raw()).d_fsdata as usize }
    }

    /// Sets `d_fsdata`. The directory is locked.
    pub fn set_fsdata(&self, data: usize) {
        // SAFETY: The dentry is live; only the filesystem accesses `d_fsdata`.
        unsafe { (*self.as_raw()).d_fsdata = data as *mut c_void };
    }

    /// Allocates a dentry with the name and parent of this one, `d_alloc`. It is not hashed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn alloc_same_name(&self) -> Result<ARef<Self>> {
        // SAFETY: The dentry is live, its directory locked.
        let dentry = unsafe { bindings::d_alloc((*self.as_raw()).d_parent, self.qstr()) };
        let dentry = NonNull::new(dentry).ok_or(ENOMEM)?;
        // SAFETY: The reference is that of `d_alloc`; the dentry is of this superblock.
        Ok(unsafe { ARef::from_raw(dentry.cast()) })
    }

    /// Gives the dentry, which is negative, an inode that has other names, and pins it in memory:
    /// `d_make_persistent`.
    pub fn make_persistent(&self, inode: &Inode<T>) {
        let inode: ARef<Inode<T>> = inode.into();
        // SAFETY: The dentry is live, its directory locked; the reference goes to it.
        unsafe {
            bindings::d_make_persistent(self.as_raw(), ARef::into_raw(inode).as_ptr().cast())
        };
    }

    /// Ends what `make_persistent` did: the dentry goes with its last user, `d_make_discardable`.
    pub fn make_discardable(&self) {
        // SAFETY: The dentry is live and persistent, its directory locked.
        unsafe { bindings::d_make_discardable(self.as_raw()) };
    }

    /// Returns whether the directory of this name has no entries, `simple_empty`; true of what is
    /// not a directory.
    pub fn is_empty(&self) -> bool {
        // SAFETY: The dentry is live.
        unsafe { bindings::simple_empty(self.as_raw()) != 0 }
    }

    /// Looks a name up that is not in the dcache, and so not there: `simple_lookup`.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG`.
    pub fn simple_lookup(&self, dir: &Inode<T>) -> Result {
        // SAFETY: The VFS gives `->lookup` a new dentry of a locked directory. Returns null or an
        // error.
        let result = unsafe { bindings::simple_lookup(dir.as_raw(), self.as_raw(), 0) };
        kernel::error::from_err_ptr(result).map(drop)
    }

    /// Prepares two names to take each other's place, `simple_rename_exchange`: timestamps and link
    /// counts.
    pub fn simple_rename_exchange(
        &self,
        dir: &LockedInode<T>,
        other: &Self,
        other_dir: &LockedInode<T>,
    ) {
        // SAFETY: Both directories are locked, and each name is in its directory. Does not fail.
        unsafe {
            bindings::simple_rename_exchange(
                dir.as_raw(),
                self.as_raw(),
                other_dir.as_raw(),
                other.as_raw(),
            )
        };
    }

    /// Takes set-id bits and capabilities away from the inode of this name, which is locked, as
    /// `file_remove_privs` does for an open file.
    ///
    /// # Errors
    ///
    /// Those of `notify_change`.
    pub fn remove_privs(&self, idmap: IdMap<'_>) -> Result {
        let Some(inode) = self.inode().filter(|inode| !inode.is_nosec()) else {
            return Ok(());
        };
        // SAFETY: All are valid, the inode is locked, as `notify_change` asks, and what is not
        // named in `ia_valid` is not looked at.
        to_result(unsafe {
            let mut attr = bindings::iattr {
                ia_valid: bindings::setattr_should_drop_suidgid(idmap.as_raw(), inode.as_raw())
                    as c_uint
                    | bindings::ATTR_KILL_PRIV
                    | bindings::ATTR_FORCE,
                ..pin_init::zeroed()
            };
            bindings::notify_change(idmap.as_raw(), self.as_raw(), &mut attr, null_mut())
        })
    }
}

impl<T: FileSystem> Inode<T> {
    /// Returns a dentry of the inode, one with a name where there is one: `d_find_alias`,
    /// `d_find_any_alias`.
    pub fn find_alias(&self) -> Option<ARef<Dentry<T>>> {
        // SAFETY: The inode is live.
        let mut dentry = unsafe { bindings::d_find_alias(self.as_raw()) };
        if dentry.is_null() {
            // SAFETY: The inode is live.
            dentry = unsafe { bindings::d_find_any_alias(self.as_raw()) };
        }
        // SAFETY: The reference is that of the function; the dentry is of the inode's superblock.
        NonNull::new(dentry).map(|dentry| unsafe { ARef::from_raw(dentry.cast()) })
    }
}
