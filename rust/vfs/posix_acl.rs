// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists, which the VFS checks and caches with the inode.
//!
//! C header: [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h).

use super::{
    FileSystem,
    IdMap,
    Inode,
    LockedInode,
    NewInode, //
};
use crate::bindings;
use core::ptr::{
    null_mut,
    NonNull, //
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

/// The two lists that an inode may have, `ACL_TYPE_*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AclType {
    /// Checked at each access of the inode.
    Access,
    /// What is created in the directory begins with it.
    Default,
}

impl AclType {
    fn as_raw(self) -> c_int {
        match self {
            Self::Access => bindings::ACL_TYPE_ACCESS as c_int,
            Self::Default => bindings::ACL_TYPE_DEFAULT as c_int,
        }
    }

    pub(super) fn from_raw(kind: c_int) -> Self {
        if kind == bindings::ACL_TYPE_DEFAULT as c_int {
            Self::Default
        } else {
            Self::Access
        }
    }
}

/// A list, `struct posix_acl`.
#[repr(transparent)]
pub struct PosixAcl(Opaque<bindings::posix_acl>);

// SAFETY: A list that others refer to does not change.
unsafe impl Send for PosixAcl {}

// SAFETY: A list that others refer to does not change.
unsafe impl Sync for PosixAcl {}

// SAFETY: `a_refcount` keeps the list alive; every list has it.
unsafe impl AlwaysRefCounted for PosixAcl {
    fn inc_ref(&self) {
        // SAFETY: The caller has a reference.
        unsafe { bindings::posix_acl_dup(self.0.get()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { bindings::posix_acl_release(obj.cast().as_ptr()) };
    }
}

impl PosixAcl {
    /// # Safety
    ///
    /// `acl` is null or a list to which there is a reference during `'a`.
    pub(super) unsafe fn from_raw<'a>(acl: *mut bindings::posix_acl) -> Option<&'a Self> {
        // SAFETY: The caller guarantees that the list is null or referenced; the types have the
        // same layout.
        unsafe { acl.cast::<Self>().as_ref() }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        // SAFETY: The list is valid.
        unsafe { bindings::reflinkfs_posix_acl_size(self.0.get()) }
    }
}

fn as_ptr(acl: Option<&PosixAcl>) -> *mut bindings::posix_acl {
    acl.map_or(null_mut(), |acl| acl.0.get())
}

impl<T: FileSystem> Inode<T> {
    /// Puts a list into the inode's cache, `set_cached_acl`, or notes that there is none.
    pub fn set_cached_acl(&self, kind: AclType, acl: Option<&PosixAcl>) {
        // SAFETY: The inode is live; takes a reference of its own to the list.
        unsafe { bindings::set_cached_acl(self.as_raw(), kind.as_raw(), as_ptr(acl)) };
    }
}

impl<T: FileSystem> NewInode<T> {
    /// Returns the default list and the access list that the inode inherits from `dir`, and changes
    /// its mode by them, or by the process's umask: `posix_acl_create`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[allow(clippy::type_complexity)]
    pub fn posix_acl_create(
        &self,
        dir: &Inode<T>,
    ) -> Result<(Option<ARef<PosixAcl>>, Option<ARef<PosixAcl>>)> {
        let (mut default, mut access) = (null_mut(), null_mut());
        // SAFETY: The directory is live, and nothing else refers to the inode.
        to_result(unsafe {
            bindings::posix_acl_create(
                dir.as_raw(),
                &raw mut (*self.as_raw()).i_mode,
                &mut default,
                &mut access,
            )
        })?;
        let owned = |acl: *mut bindings::posix_acl| {
            // SAFETY: A list with a reference, which goes to the result.
            NonNull::new(acl).map(|acl| unsafe { ARef::from_raw(acl.cast()) })
        };
        Ok((owned(default), owned(access)))
    }
}

impl<T: FileSystem> LockedInode<T> {
    /// Returns the mode that an access list stands for, and the list unless it says no more than
    /// the mode: `posix_acl_update_mode`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an invalid list.
    pub fn posix_acl_update_mode<'a>(
        &self,
        idmap: IdMap<'_>,
        acl: Option<&'a PosixAcl>,
    ) -> Result<(u16, Option<&'a PosixAcl>)> {
        let (mut mode, mut raw) = (self.mode(), as_ptr(acl));
        // SAFETY: All are valid. Sets `raw` to null or leaves it.
        to_result(unsafe {
            bindings::posix_acl_update_mode(idmap.as_raw(), self.as_raw(), &mut mode, &mut raw)
        })?;
        Ok((mode, acl.filter(|_| !raw.is_null())))
    }

    /// Returns the access list that goes with another mode, of as many entries as the inode's is:
    /// the first half of `posix_acl_chmod`. `None` where the inode has none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn posix_acl_chmod(&self, mode: u16) -> Result<Option<ARef<PosixAcl>>> {
        // SAFETY: The inode is live. Returns a list with a reference, null, or an error.
        let acl = unsafe { bindings::get_inode_acl(self.as_raw(), AclType::Access.as_raw()) };
        let mut acl = from_err_ptr(acl)?;
        if acl.is_null() {
            return Ok(None);
        }
        // SAFETY: There is a reference to the list, which the function gives up. The reference to
        // the copy that it leaves in the place goes to the result; there is none where it fails.
        unsafe {
            to_result(bindings::__posix_acl_chmod(
                &mut acl,
                bindings::GFP_KERNEL,
                mode,
            ))?;
            Ok(NonNull::new(acl.cast()).map(|acl| ARef::from_raw(acl)))
        }
    }
}
