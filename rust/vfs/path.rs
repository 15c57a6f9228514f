// SPDX-License-Identifier: GPL-2.0

//! Paths: `struct path`.
//!
//! C header: [`include/linux/path.h`](srctree/include/linux/path.h).

use super::{
    FileSystem,
    FsContext,
    FsParameter,
    SuperBlock, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A path to something on a filesystem of type `T`, and a reference to it: its mount stays as long
/// as this does.
///
/// # Invariants
///
/// There is a reference to the path, which leads to a superblock of `T`.
pub struct Path<T: FileSystem>(bindings::path, PhantomData<T>);

// SAFETY: Mounts and dentries may be used and released on any thread.
unsafe impl<T: FileSystem> Send for Path<T> {}
// SAFETY: Nothing is changed through it.
unsafe impl<T: FileSystem> Sync for Path<T> {}

impl<T: FileSystem> Path<T> {
    /// Looks up the path that a parameter of a mount of `T` gives: as a string, as one of
    /// `FSCONFIG_SET_PATH` or `FSCONFIG_SET_PATH_EMPTY`, or as a descriptor. `fs_lookup_param`.
    ///
    /// # Errors
    ///
    /// Those of a path walk; `EINVAL` where it leads to a filesystem of another type. The context
    /// was told.
    pub fn lookup(context: &FsContext<'_>, parameter: &FsParameter<'_>) -> Result<Self> {
        let fc = context.0;
        if parameter.is_empty_string() {
            // Which `fs_lookup_param` takes for the current directory.
            return Err(context.bad_value(parameter));
        }
        let raw = (&raw const *parameter.parameter).cast_mut();
        let mut path = bindings::path::default();
        // SAFETY: The context is one of `T`, and valid as the parameter is, which the caller does
        // not look at meanwhile; where it is a file, there is one.
        let path = unsafe {
            if (*raw).type_() == bindings::fs_value_type_fs_value_is_file {
                path = (*(*raw).__bindgen_anon_1.file).__bindgen_anon_1.f_path;
                bindings::path_get(&path);
            } else {
                to_result(bindings::fs_lookup_param(
                    fc,
                    raw,
                    false,
                    bindings::LOOKUP_FOLLOW,
                    &mut path,
                ))?;
            }
            // INVARIANT: There is a reference. Where the type is another one it is dropped below,
            // and nothing looks at the superblock.
            let path = Self(path, PhantomData);
            ((*(*path.0.dentry).d_sb).s_type == (*fc).fs_type).then_some(path)
        };
        path.ok_or_else(|| {
            let key = kernel::str::BStr::from_bytes(parameter.key());
            context.error(fmt!(
                "{key}: not on a mounted {}",
                kernel::str::BStr::from_bytes(T::NAME.to_bytes())
            ));
            EINVAL
        })
    }

    /// Returns the superblock.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariant. The mount keeps the superblock.
        unsafe { SuperBlock::from_raw((*self.0.dentry).d_sb) }
    }

    /// Returns whether it is the root directory of the superblock.
    pub fn is_root(&self) -> bool {
        // SAFETY: The superblock is live.
        unsafe { core::ptr::eq(self.0.dentry, (*(*self.0.dentry).d_sb).s_root) }
    }

    /// Returns those flags of `s_iflags` that forbid what the mount forbids: `SB_I_NOEXEC`,
    /// `SB_I_NODEV`.
    pub fn sb_iflags(&self) -> u32 {
        // SAFETY: There is a reference to the mount; its flags may change at any time.
        let flags = unsafe { (&raw const (*self.0.mnt).mnt_flags).read_volatile() as u32 };
        // SAFETY: The superblock is live.
        let mut iflags = unsafe { (*(*self.0.dentry).d_sb).s_iflags as u32 }
            & (bindings::SB_I_NOEXEC | bindings::SB_I_NODEV);
        if flags & bindings::mount_flags_MNT_NOEXEC != 0 {
            iflags |= bindings::SB_I_NOEXEC;
        }
        if flags & bindings::mount_flags_MNT_NODEV != 0 {
            iflags |= bindings::SB_I_NODEV;
        }
        iflags
    }

    /// Returns whether the mount maps user and group ids.
    pub fn is_idmapped(&self) -> bool {
        // SAFETY: There is a reference to the mount.
        let idmap = unsafe { (&raw const (*self.0.mnt).mnt_idmap).read_volatile() };
        !core::ptr::eq(idmap, &raw const bindings::nop_mnt_idmap)
    }
}

impl<T: FileSystem> Drop for Path<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a reference.
        unsafe { bindings::path_put(&self.0) };
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Returns whether the caller has `CAP_SYS_ADMIN` in the user namespace that the superblock
    /// belongs to.
    pub fn is_admin(&self) -> bool {
        // SAFETY: The superblock is live, and has a reference to its namespace.
        unsafe {
            let ns = (*self.as_raw()).s_user_ns;
            bindings::ns_capable(ns, bindings::CAP_SYS_ADMIN as c_int)
        }
    }
}

impl FsContext<'_> {
    /// Returns whether it is for the change of a mount.
    pub fn is_reconfigure(&self) -> bool {
        // SAFETY: The context is valid.
        unsafe { (*self.0).purpose() == bindings::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE }
    }

    /// Has the new superblock belong to the user namespace that `sb` belongs to, and have these
    /// flags of `s_iflags`, too.
    pub fn set_owner_of<T: FileSystem>(&self, sb: &SuperBlock<T>, iflags: u32) {
        // SAFETY: The context is valid and `uapi_mutex` is held, or nothing else uses it. The
        // superblock has a reference to its namespace, of which another one is taken.
        unsafe {
            let ns = bindings::get_user_ns((*sb.as_raw()).s_user_ns);
            bindings::put_user_ns(core::mem::replace(&mut (*self.0).user_ns, ns));
            (*self.0).s_iflags |= iflags;
        }
    }
}
