// SPDX-License-Identifier: GPL-2.0

//! Dentries.
//!
//! C headers: [`include/linux/dcache.h`](srctree/include/linux/dcache.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h) for what `fs/libfs.c` does with them.

use super::{
    FileSystem,
    IdMap,
    Inode, //
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
    error::{
        from_err_ptr,
        to_result, //
    },
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

    /// Gives the dentry, which is negative, an inode that has other names: `d_instantiate`.
    pub fn instantiate(&self, inode: &Inode<T>) {
        let inode: ARef<Inode<T>> = inode.into();
        // SAFETY: The dentry is live, its directory locked; the reference goes to it.
        unsafe { bindings::d_instantiate(self.as_raw(), ARef::into_raw(inode).as_ptr().cast()) };
    }

    /// Ends a lookup of this name, which is new: `d_splice_alias`. Returns the dentry that takes
    /// its place, where the inode is a directory that has one.
    ///
    /// # Errors
    ///
    /// `ELOOP`, `ESTALE`, where another name of the directory cannot be moved here.
    pub fn splice_alias(&self, inode: Option<ARef<Inode<T>>>) -> Result<Option<ARef<Self>>> {
        let inode = inode.map_or(null_mut(), |inode| ARef::into_raw(inode).as_ptr().cast());
        // SAFETY: The VFS gives `->lookup` a new dentry of a locked directory. The reference goes
        // to the function.
        let alias = unsafe { bindings::d_splice_alias(inode, self.as_raw()) };
        let alias = NonNull::new(from_err_ptr(alias)?);
        // SAFETY: The reference is that of the function; the dentry is of this superblock.
        Ok(alias.map(|alias| unsafe { ARef::from_raw(alias.cast()) }))
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

impl<T: FileSystem> Dentry<T> {
    /// Returns a dentry of the inode, which may be disconnected from its directory:
    /// `d_obtain_alias`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn obtain_alias(inode: ARef<Inode<T>>) -> Result<ARef<Self>> {
        // SAFETY: The inode is live, and the reference goes to the function.
        let dentry = unsafe { bindings::d_obtain_alias(ARef::into_raw(inode).as_ptr().cast()) };
        let dentry = NonNull::new(from_err_ptr(dentry)?).ok_or(ENOMEM)?;
        // SAFETY: The reference is that of the function; the dentry is of the inode's superblock.
        Ok(unsafe { ARef::from_raw(dentry.cast()) })
    }
}
