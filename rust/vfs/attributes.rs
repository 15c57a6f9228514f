// SPDX-License-Identifier: GPL-2.0

//! `getattr` and `setattr`, and the tables of inodes that have nothing else.

use super::{
    acl,
    change::Changing,
    file::FileOperations,
    filesystem::FileSystem,
    flags,
    inode::{Inode, Locked},
    quota, to_errno,
    xattr::AttributeHandlers,
};
use crate::bindings;
use core::{marker::PhantomData, ptr::null_mut};
use kernel::{error::to_result, prelude::*};

/// The callbacks of inodes other than directories and regular files.
pub(super) struct AttributeTables<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> AttributeTables<T> {
    pub(super) const SYMLINK: bindings::inode_operations = bindings::inode_operations {
        get_link: Some(bindings::simple_get_link),
        listxattr: Some(AttributeHandlers::<T>::list),
        setattr: Some(setattr::<T>),
        getattr: Some(getattr::<T>),
        fileattr_get: Some(flags::fileattr_get::<T>),
        fileattr_set: Some(flags::fileattr_set::<T>),
        ..pin_init::zeroed()
    };

    pub(super) const SPECIAL: bindings::inode_operations = bindings::inode_operations {
        listxattr: Some(AttributeHandlers::<T>::list),
        set_acl: Some(acl::set_acl::<T>),
        setattr: Some(setattr::<T>),
        getattr: Some(getattr::<T>),
        fileattr_get: Some(flags::fileattr_get::<T>),
        fileattr_set: Some(flags::fileattr_set::<T>),
        ..pin_init::zeroed()
    };
}

/// # Safety
///
/// `path` is of an inode of `T`, `idmap` and `stat` are valid.
pub(super) unsafe extern "C" fn getattr<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _flags: c_uint,
) -> c_int {
    // SAFETY: By the safety requirements.
    unsafe {
        let inode = (*(*path).dentry).d_inode;
        bindings::generic_fillattr(idmap, request_mask, inode, stat);
        let inode = Inode::<T>::from_raw(inode);
        let stat = &mut *stat;
        // `st_blocks` counts sectors of 512 bytes.
        stat.blocks =
            T::inode_blocks(inode) << (kernel::page::PAGE_SHIFT - bindings::SECTOR_SHIFT as usize);
        let (attributes, mask) = inode.statx_attributes();
        stat.attributes |= attributes;
        stat.attributes_mask |= mask;
        if request_mask & bindings::STATX_BTIME != 0 {
            stat.result_mask |= bindings::STATX_BTIME;
            stat.btime = inode.btime();
        }
        if request_mask & bindings::STATX_DIOALIGN != 0 && inode.file_type() == bindings::S_IFREG {
            // No alignment is needed, see `FileTables::open`. But who asks may take the answer for the
            // size of a disk's sectors, as the loop driver does.
            stat.result_mask |= bindings::STATX_DIOALIGN;
            stat.dio_mem_align = 1;
            stat.dio_offset_align = 1 << bindings::SECTOR_SHIFT;
        }
    }
    0
}

/// # Safety
///
/// `dentry` is of an inode of `T` whose lock is held exclusive, `attr` is valid.
pub(super) unsafe extern "C" fn setattr<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    attr: *mut bindings::iattr,
) -> c_int {
    // SAFETY: By the safety requirements. Only regular files are asked to change their size.
    to_errno(unsafe { set(idmap, dentry, attr, |_: &Changing<'_, T>, _| Err(EINVAL)) })
}

/// As [`setattr`], for a regular file.
///
/// # Safety
///
/// As for [`setattr`].
pub(super) unsafe extern "C" fn setattr_file<T: FileOperations>(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    attr: *mut bindings::iattr,
) -> c_int {
    // SAFETY: By the safety requirements.
    to_errno(unsafe { set(idmap, dentry, attr, T::truncate) })
}

/// Takes set-id bits and capabilities away, as `file_remove_privs`. `do_truncate` looks for them before
/// it has the lock: an owner who waited for it first may have given them since.
///
/// # Safety
///
/// As for [`setattr`].
unsafe fn remove_privileges(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
) -> Result {
    // SAFETY: By the safety requirements: the inode is locked, as `notify_change` asks, and what is not
    // named in `ia_valid` is not looked at.
    unsafe {
        let inode = (*dentry).d_inode;
        if (*inode).i_flags & bindings::S_NOSEC != 0 {
            return Ok(());
        }
        let mut attr = bindings::iattr {
            ia_valid: bindings::setattr_should_drop_suidgid(idmap, inode) as c_uint
                | bindings::ATTR_KILL_PRIV
                | bindings::ATTR_FORCE,
            ..pin_init::zeroed()
        };
        to_result(bindings::notify_change(
            idmap,
            dentry,
            &mut attr,
            null_mut(),
        ))
    }
}

/// # Safety
///
/// As for [`setattr`].
unsafe fn set<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    attr: *mut bindings::iattr,
    truncate: impl FnOnce(&Changing<'_, T>, u64) -> Result,
) -> Result {
    // SAFETY: By the safety requirements.
    let (inode, valid, size) = unsafe {
        let inode = Locked::assume(Inode::<T>::from_raw((*dentry).d_inode));
        (inode, (*attr).ia_valid, (*attr).ia_size as u64)
    };
    // For a change of size the VFS asks before it takes the lock, or, by an open descriptor, not at
    // all. Compare `ext4_setattr`.
    if inode.is_immutable() || inode.is_append_only() && valid & bindings::ATTR_SIZE != 0 {
        return Err(EPERM);
    }
    // SAFETY: By the safety requirements.
    to_result(unsafe { bindings::setattr_prepare(idmap, dentry, attr) })?;
    let resized = valid & bindings::ATTR_SIZE != 0 && size != inode.size();
    if valid & bindings::ATTR_SIZE != 0 {
        // SAFETY: By the safety requirements.
        unsafe { remove_privileges(idmap, dentry)? };
        // Also to the size that there is: there may be room behind the end.
        // SAFETY: The flags were looked at above, set-id bits and capabilities are gone, and the times
        // are set below, all with the lock held.
        truncate(&unsafe { Changing::assume(inode) }, size)?;
    }
    if valid & (bindings::ATTR_UID | bindings::ATTR_GID) != 0 {
        // SAFETY: By the safety requirements.
        unsafe { quota::transfer(inode, idmap, attr)? };
    }
    // SAFETY: By the safety requirements.
    unsafe { bindings::setattr_copy(idmap, inode.as_raw(), attr) };
    inode.count_change();
    if resized {
        inode.touch();
    }
    if valid & bindings::ATTR_MODE != 0 {
        // SAFETY: By the safety requirements.
        let mode = unsafe { (*inode.as_raw()).i_mode };
        // SAFETY: As above.
        to_result(unsafe { bindings::posix_acl_chmod(idmap, dentry, mode) })?;
    }
    Ok(())
}
