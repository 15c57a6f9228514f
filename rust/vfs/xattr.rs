// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: `struct xattr_handler`.
//!
//! C header: [`include/linux/xattr.h`](srctree/include/linux/xattr.h).

use super::{
    tables::callbacks,
    to_errno,
    FileSystem,
    Inode,
    LockedInode, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// What handles the extended attributes of a filesystem. The VFS has checked names, values and
/// permissions.
pub trait XattrHandler<T: FileSystem> {
    /// Copies the value of `name`, with its prefix, to `value`, unless that is empty. Returns its
    /// length in bytes.
    ///
    /// # Errors
    ///
    /// `ENODATA` where there is none, `ERANGE` where it does not fit.
    fn get(inode: &Inode<T>, name: &[u8], value: &mut [u8]) -> Result<usize>;

    /// Sets `name`, with its prefix, or removes it where there is no value. `flags` are `XATTR_*`.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENODATA` as `flags` ask; `ENOMEM`, `ENOSPC`, `EDQUOT`.
    fn set(inode: &LockedInode<T>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result;
}

/// A table of handlers for `user.`, `trusted.` and `security.`, for `s_xattr`.
#[repr(transparent)]
pub struct XattrHandlers<T: FileSystem>([*const bindings::xattr_handler; 4], PhantomData<T>);

// SAFETY: The pointers are to constants.
unsafe impl<T: FileSystem> Sync for XattrHandlers<T> {}

impl<T: FileSystem> XattrHandlers<T> {
    /// Returns the table of the handlers of `U`.
    pub const fn new<U: XattrHandler<T>>() -> &'static Self {
        Table::<T, U>::TABLE
    }

    pub(super) const fn as_raw(&self) -> *const *const bindings::xattr_handler {
        self.0.as_ptr()
    }
}

struct Table<T, U>(PhantomData<(T, U)>);

impl<T: FileSystem, U: XattrHandler<T>> Table<T, U> {
    const TABLE: &'static XattrHandlers<T> = &XattrHandlers(
        [
            &Self::handler(c"user."),
            &Self::handler(c"trusted."),
            &Self::handler(c"security."),
            null(),
        ],
        PhantomData,
    );

    const fn handler(prefix: &'static CStr) -> bindings::xattr_handler {
        bindings::xattr_handler {
            name: null(),
            prefix: kernel::str::as_char_ptr_in_const_context(prefix),
            flags: 0,
            list: None,
            get: Some(Self::get),
            set: Some(Self::set),
        }
    }

    /// Returns the name with its prefix.
    ///
    /// # Safety
    ///
    /// The VFS gave `name` to `handler`, and it stays during `'a`.
    unsafe fn full_name<'a>(
        handler: *const bindings::xattr_handler,
        name: *const c_char,
    ) -> &'a [u8] {
        // SAFETY: `name` is the rest of a C string that begins with the handler's prefix, as the
        // VFS passes it; the caller guarantees that it stays.
        unsafe { CStr::from_char_ptr(bindings::xattr_full_name(handler, name)) }.to_bytes()
    }

    /// # Safety
    ///
    /// `inode` is an inode of the filesystem; `buffer` has room for `size` bytes, or is null and
    /// `size` 0.
    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        // SAFETY: The caller passes an inode of the filesystem to which it has a reference, a name
        // that it found `handler` for, and a buffer of its own of `size` bytes, or null.
        let (inode, name, value) = unsafe {
            (
                Inode::from_raw(inode),
                Self::full_name(handler, name),
                super::slice_mut(buffer, size),
            )
        };
        from_result(|| Ok(U::get(inode, name, value)? as c_int))
    }

    callbacks! {
        to_errno -> c_int;

        /// `inode` is an inode of the filesystem whose lock is held exclusive; the VFS found
        /// `handler` for `name`; `value` is null, or valid for `size` bytes.
        fn set(
            handler: *const bindings::xattr_handler,
            _idmap: *mut bindings::mnt_idmap,
            _dentry: *mut bindings::dentry,
            inode: *mut bindings::inode,
            name: *const c_char,
            value: *const c_void,
            size: usize,
            flags: c_int,
        ) => (
            LockedInode::from_raw(inode),
            Self::full_name(handler, name),
            (!value.is_null()).then(|| core::slice::from_raw_parts(value.cast::<u8>(), size)),
            flags as u32,
        );
    }
}
