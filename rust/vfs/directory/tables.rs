// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a directory.

use super::{
    super::{acl, attributes, flags, to_errno, xattr::AttributeHandlers},
    Dentry, DirectoryOperations, IdMap, Inode, Locked, New, NewInode, NewKind,
};
use crate::bindings;
use core::{marker::PhantomData, ptr::null_mut};
use kernel::prelude::*;

/// The callbacks of a directory.
pub(in super::super) struct DirectoryTables<T: DirectoryOperations>(PhantomData<T>);

impl<T: DirectoryOperations> DirectoryTables<T> {
    pub(in super::super) const INODE: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(bindings::simple_lookup),
        create: Some(Self::create),
        link: Some(Self::link),
        unlink: Some(Self::unlink),
        symlink: Some(Self::symlink),
        mkdir: Some(Self::mkdir),
        rmdir: Some(Self::rmdir),
        mknod: Some(Self::mknod),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        listxattr: Some(AttributeHandlers::<T>::list),
        set_acl: Some(acl::set_acl::<T>),
        fileattr_get: Some(flags::fileattr_get::<T>),
        fileattr_set: Some(flags::fileattr_set::<T>),
        setattr: Some(attributes::setattr::<T>),
        getattr: Some(attributes::getattr::<T>),
        ..pin_init::zeroed()
    };

    pub(in super::super) const FILE: bindings::file_operations = bindings::file_operations {
        llseek: Some(Self::llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a negative dentry in it,
    /// `idmap` valid.
    unsafe fn make(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        kind: NewKind<'_>,
        mode: bindings::umode_t,
    ) -> Result {
        let mode = mode & !(bindings::S_IFMT as u16);
        // SAFETY: By the safety requirements.
        unsafe {
            T::make(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
                New {
                    kind,
                    mode,
                    idmap: IdMap::from_raw(idmap),
                },
            )
        }
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe { Self::make(idmap, dir, dentry, NewKind::Regular, mode) })
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        match unsafe { Self::make(idmap, dir, dentry, NewKind::Directory, mode) } {
            Ok(()) => null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::make`]; `target` is a C string.
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            Self::make(
                idmap,
                dir,
                dentry,
                NewKind::Symlink(CStr::from_char_ptr(target)),
                0o777,
            )
        })
    }

    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        device: bindings::dev_t,
    ) -> c_int {
        let kind = match u32::from(mode) & bindings::S_IFMT {
            0 | bindings::S_IFREG => NewKind::Regular,
            kind => NewKind::Special(kind as u16, device),
        };
        // SAFETY: By the safety requirements.
        to_errno(unsafe { Self::make(idmap, dir, dentry, kind, mode) })
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a negative dentry in it,
    /// `old` the dentry of an inode of the same superblock.
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::link(
                Inode::from_raw((*old).d_inode),
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T` whose lock is held exclusive, `dentry` a positive dentry in it.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::unlink(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// As for [`Self::unlink`].
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        to_errno(unsafe {
            T::rmdir(
                Locked::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
            )
        })
    }

    /// # Safety
    ///
    /// Both directories are of one superblock of `T` and their locks held exclusive, each dentry
    /// is in its directory.
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        from_dir: *mut bindings::inode,
        from: *mut bindings::dentry,
        to_dir: *mut bindings::inode,
        to: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // The VFS has looked at NOREPLACE already, and lets nothing stand beside EXCHANGE.
        let known =
            bindings::RENAME_NOREPLACE | bindings::RENAME_EXCHANGE | bindings::RENAME_WHITEOUT;
        if flags & !known != 0 {
            return EINVAL.to_errno();
        }
        // SAFETY: By the safety requirements.
        let (from_dir, from, to_dir, to, idmap) = unsafe {
            (
                Locked::<T>::assume(Inode::from_raw(from_dir)),
                Dentry::from_raw(from),
                Locked::<T>::assume(Inode::from_raw(to_dir)),
                Dentry::from_raw(to),
                IdMap::from_raw(idmap),
            )
        };
        if flags & bindings::RENAME_EXCHANGE != 0 {
            from_dir.exchange(from, to_dir, to);
            return 0;
        }
        let whiteout = (flags & bindings::RENAME_WHITEOUT != 0).then_some(idmap);
        to_errno(T::rename(from_dir, from, to_dir, to, whiteout))
    }

    /// # Safety
    ///
    /// `dir` is a directory of `T`, `file` is being opened in it, `idmap` is valid.
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (dir, idmap) = unsafe { (Inode::<T>::from_raw(dir), IdMap::from_raw(idmap)) };
        let made = NewInode::new(dir.super_block(), idmap, dir, mode)
            .map(NewInode::regular)
            .and_then(|inode| {
                inode.init_security(dir, null_mut())?;
                // SAFETY: The file is not open yet; the inode's reference goes to it.
                unsafe { bindings::d_tmpfile(file, inode.into_raw()) };
                Ok(())
            });
        // SAFETY: The VFS is opening the file, to which `d_tmpfile` gave a dentry where nothing failed.
        unsafe { bindings::finish_open_simple(file, to_errno(made)) }
    }
}
