// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists. The VFS checks them, and keeps them with the inode; here they are
//! set, inherited, and counted as extended attributes are.
//!
//! C header: [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h). Compare
//! `simple_set_acl` and `simple_acl_create` of `fs/posix_acl.c`, which modules cannot call.

use super::{
    filesystem::FileSystem,
    inode::{Inode, Locked},
    to_errno,
};
use crate::bindings;
use core::ptr::{null_mut, NonNull};
use kernel::{error::to_result, prelude::*};

/// The two lists that an inode may have.
#[derive(Clone, Copy)]
pub(super) enum AclKind {
    /// What decides who may use the inode.
    Access,
    /// What is made in the directory begins with this.
    Default,
}

impl AclKind {
    fn as_raw(self) -> c_int {
        match self {
            Self::Access => bindings::ACL_TYPE_ACCESS as c_int,
            Self::Default => bindings::ACL_TYPE_DEFAULT as c_int,
        }
    }

    fn from_raw(kind: c_int) -> Self {
        if kind == bindings::ACL_TYPE_DEFAULT as c_int {
            Self::Default
        } else {
            Self::Access
        }
    }
}

/// A reference to a list.
struct Acl(NonNull<bindings::posix_acl>);

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: We own a reference.
        unsafe { bindings::posix_acl_release(self.0.as_ptr()) };
    }
}

/// Makes `acl`, which may be null, the inode's list, after it was counted.
///
/// # Safety
///
/// `acl` is null or a valid list, to which this takes a reference of its own.
unsafe fn keep<T: FileSystem>(
    inode: &Inode<T>,
    kind: AclKind,
    acl: *mut bindings::posix_acl,
) -> Result {
    let bytes = match NonNull::new(acl) {
        // SAFETY: The caller says that the list is valid.
        Some(acl) => unsafe { bindings::reflinkfs_posix_acl_size(acl.as_ptr()) },
        None => 0,
    };
    inode
        .attributes()
        .count_acl(kind, bytes, |before, after| inode.recount(before, after))?;
    // SAFETY: The inode is live. Nothing ever drops a list that is cached, and so the cache is
    // where it is kept, as on tmpfs.
    unsafe { bindings::set_cached_acl(inode.as_raw(), kind.as_raw(), acl) };
    Ok(())
}

impl<T: FileSystem> Inode<T> {
    /// Notes that the inode, which is new, has no lists: where this is not known, the kernel asks,
    /// and may then put its answer in the place of one that was set meanwhile.
    pub(super) fn begin_without_acls(&self) {
        for kind in [AclKind::Default, AclKind::Access] {
            // SAFETY: The inode is live; null is no list.
            unsafe { bindings::set_cached_acl(self.as_raw(), kind.as_raw(), null_mut()) };
        }
    }

    /// Gives the inode, which is new in `dir`, the lists and the mode that it inherits; without any
    /// the process's umask counts.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(super) fn inherit_acls(&self, dir: &Inode<T>) -> Result {
        let (mut default, mut access) = (null_mut(), null_mut());
        // SAFETY: The directory is live, and nobody else has the inode yet.
        let (default, access) = unsafe {
            to_result(bindings::posix_acl_create(
                dir.as_raw(),
                &raw mut (*self.as_raw()).i_mode,
                &mut default,
                &mut access,
            ))?;
            (
                NonNull::new(default).map(Acl),
                NonNull::new(access).map(Acl),
            )
        };
        for (kind, acl) in [(AclKind::Default, default), (AclKind::Access, access)] {
            let acl = acl.as_ref().map_or(null_mut(), |acl| acl.0.as_ptr());
            // SAFETY: Valid or null.
            unsafe { keep(self, kind, acl)? };
        }
        Ok(())
    }
}

/// # Safety
///
/// `dentry` is of an inode of `T` whose lock is held exclusive; `acl` is null or valid for it;
/// `idmap` is valid.
pub(super) unsafe extern "C" fn set_acl<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    acl: *mut bindings::posix_acl,
    kind: c_int,
) -> c_int {
    // SAFETY: By the safety requirements.
    let inode = unsafe { Locked::assume(Inode::<T>::from_raw((*dentry).d_inode)) };
    let kind = AclKind::from_raw(kind);
    let set = || {
        let mut acl = acl;
        // SAFETY: The inode is locked, so that nobody else changes its mode.
        let mut mode = unsafe { (*inode.as_raw()).i_mode };
        if matches!(kind, AclKind::Access) {
            // SAFETY: By the safety requirements. May set `acl` to null, which is the caller's.
            to_result(unsafe {
                bindings::posix_acl_update_mode(idmap, inode.as_raw(), &mut mode, &mut acl)
            })?;
        }
        // SAFETY: Valid or null by the safety requirements.
        unsafe { keep(inode, kind, acl)? };
        // SAFETY: As above.
        unsafe { (*inode.as_raw()).i_mode = mode };
        inode.touch_status();
        Ok(())
    };
    to_errno(set())
}
