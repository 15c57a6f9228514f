// SPDX-License-Identifier: GPL-2.0

//! Mounting: parameters, and what becomes of them.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h). Reference:
//! <https://docs.kernel.org/filesystems/mount_api.html>

use super::{
    directory::DirectoryOperations,
    filesystem::{self, FileSystem, SuperBlock},
    to_errno,
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    str::{BStr, CString},
    types::ForeignOwnable,
};

/// What user or group an id is that does not exist in a user namespace: see `kuid_has_mapping`.
const NO_ID: u32 = u32::MAX;

/// A mount, or a change of one, in the making.
pub struct Context<'a>(*mut bindings::fs_context, PhantomData<&'a ()>);

impl Context<'_> {
    /// Tells the user what is wrong: in the log of the context (`fsconfig`), and in the kernel's.
    pub fn error(&self, message: core::fmt::Arguments<'_>) {
        if let Ok(message) = CString::try_from_fmt(message) {
            // SAFETY: The context is valid, the message a C string that is copied.
            unsafe { bindings::reflinkfs_context_error(self.0, message.as_char_ptr()) };
        }
    }

    /// Tells the user that the value of a parameter makes no sense. Returns `EINVAL`.
    pub fn bad_value(&self, parameter: &Parameter<'_>) -> Error {
        let key = BStr::from_bytes(parameter.key);
        self.error(fmt!("Bad value for '{key}'"));
        EINVAL
    }

    /// The user id `uid` of the calling process, where it exists in the mount's user namespace.
    pub fn uid(&self, uid: u32) -> Option<bindings::kuid_t> {
        // SAFETY: The context is valid and holds its user namespace; the current task holds its own.
        let (kuid, there) = unsafe {
            let kuid = bindings::make_kuid(bindings::current_user_ns(), uid);
            (kuid, bindings::from_kuid((*self.0).user_ns, kuid))
        };
        (there != NO_ID).then_some(kuid)
    }

    /// As [`Context::uid`], for a group id.
    pub fn gid(&self, gid: u32) -> Option<bindings::kgid_t> {
        // SAFETY: The context is valid and holds its user namespace; the current task holds its own.
        let (kgid, there) = unsafe {
            let kgid = bindings::make_kgid(bindings::current_user_ns(), gid);
            (kgid, bindings::from_kgid((*self.0).user_ns, kgid))
        };
        (there != NO_ID).then_some(kgid)
    }

    /// Whether the mount is one of the initial user namespace.
    pub fn is_initial(&self) -> bool {
        // SAFETY: The context is valid; of the namespace only the address is taken.
        unsafe { core::ptr::eq((*self.0).user_ns, &raw const bindings::init_user_ns) }
    }

    /// User and group of the calling process, as for files that it makes.
    pub fn caller(&self) -> (bindings::kuid_t, bindings::kgid_t) {
        // SAFETY: The task is the current one, whose credentials no other changes.
        unsafe {
            let cred = (*bindings::get_current()).cred;
            ((*cred).fsuid, (*cred).fsgid)
        }
    }
}

/// A mount parameter: `KEY`, or `KEY=VALUE`.
pub struct Parameter<'a> {
    /// The name.
    pub key: &'a [u8],
    /// The value, where one is given.
    pub value: Option<&'a [u8]>,
}

/// The options that are collected in `fc`.
///
/// # Safety
///
/// `fc` is a context that [`init`] prepared for `T`, and has not been freed.
pub(super) unsafe fn options<'a, T: FileSystem>(fc: *mut bindings::fs_context) -> &'a T::Options {
    // SAFETY: By the safety requirements.
    unsafe { KBox::<T::Options>::borrow((*fc).fs_private) }
}

/// # Safety
///
/// `fc` is a new context for a mount of `T`, or for the change of one.
pub(super) unsafe extern "C" fn init<T: DirectoryOperations>(
    fc: *mut kernel::bindings::fs_context,
) -> c_int {
    let fc: *mut bindings::fs_context = fc.cast();
    let context = Context(fc, PhantomData);
    let init = || {
        let options = KBox::new(T::options(&context), GFP_KERNEL)?;
        // SAFETY: The context is new and this the one place that sets the fields.
        unsafe {
            (*fc).fs_private = options.into_foreign();
            (*fc).ops = &ContextTable::<T>::TABLE;
        }
        Ok(())
    };
    to_errno(init())
}

/// The callbacks in `struct fs_context_operations`.
struct ContextTable<T: DirectoryOperations>(PhantomData<T>);

impl<T: DirectoryOperations> ContextTable<T> {
    const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        dup: None,
        parse_param: Some(Self::parse_param),
        parse_monolithic: None,
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
    };

    /// # Safety
    ///
    /// `fc` is a context of `T`.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: By the safety requirements.
        let options = unsafe { core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut()) };
        if !options.is_null() {
            // SAFETY: `init` set it, and nobody borrows it any more.
            drop(unsafe { KBox::<T::Options>::from_foreign(options) });
        }
    }

    /// # Safety
    ///
    /// `fc` is a context of `T`, `param` valid.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        // SAFETY: By the safety requirements: `init` set the options, and `uapi_mutex` is held.
        let options = unsafe { KBox::<T::Options>::borrow_mut((*fc).fs_private) };
        // SAFETY: A parameter has a key, and a value that its type says.
        let (key, value) = unsafe {
            let value = match (*param).type_() {
                bindings::fs_value_type_fs_value_is_flag => Some(None),
                bindings::fs_value_type_fs_value_is_string => {
                    let value = CStr::from_char_ptr((*param).__bindgen_anon_1.string);
                    Some(Some(value.to_bytes()))
                }
                _ => None,
            };
            (CStr::from_char_ptr((*param).key).to_bytes(), value)
        };
        // The VFS knows this one.
        if key == b"source" {
            return -(bindings::ENOPARAM as c_int);
        }
        let context = Context(fc, PhantomData);
        let parameter = Parameter {
            key,
            value: value.flatten(),
        };
        if value.is_none() {
            // Binary, a path or a descriptor: no parameter here is any of these.
            return context.bad_value(&parameter).to_errno();
        }
        match T::parameter(options, &context, &parameter) {
            Ok(true) => 0,
            Ok(false) => {
                let key = BStr::from_bytes(key);
                context.error(fmt!("Unknown parameter '{key}'"));
                EINVAL.to_errno()
            }
            Err(err) => err.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `fc` is a context of `T` for a new mount.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { bindings::get_tree_nodev(fc, Some(filesystem::fill_super::<T>)) }
    }

    /// # Safety
    ///
    /// `fc` is a context of `T` for the change of a mount.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: By the safety requirements.
        let (sb, options) = unsafe {
            // mount(2) would take it away, as it is among the flags that a remount sets or clears.
            (*fc).sb_flags |= bindings::SB_I_VERSION as c_uint;
            (
                SuperBlock::<T>::from_raw((*(*fc).root).d_sb),
                options::<T>(fc),
            )
        };
        to_errno(T::reconfigure(sb, &Context(fc, PhantomData), options))
    }
}
