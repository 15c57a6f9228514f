// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). Reference:
//! <https://docs.kernel.org/filesystems/vfs.html#struct-inode-operations>

use super::{
    slice_mut,
    tables::callbacks,
    to_errno,
    to_ssize,
    AclType,
    Dentry,
    FiemapExtentInfo,
    FileKattr,
    FileSystem,
    Iattr,
    IdMap,
    Inode,
    InodeOps,
    Kstat,
    LockedInode,
    PosixAcl,
    TmpFile,
    UpdateTime, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*,
    sync::aref::ARef, //
};

impl<T: FileSystem> InodeOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: InodeOperations<T>>() -> &'static Self {
        &Table::<T, U>::TABLE
    }
}

/// The operations of an inode. What is not implemented is taken from [`InodeOperations::BASE`], or
/// not in the table.
///
/// The locks that the VFS holds are in the types: a [`LockedInode`] is locked exclusive.
#[vtable]
pub trait InodeOperations<T: FileSystem> {
    /// Looks up `dentry`, which is new, in `dir`, whose lock is held at least shared. The inode is
    /// given to the dentry, or to the one that is returned: see [`Dentry::splice_alias`].
    fn lookup(_dir: &Inode<T>, _dentry: &Dentry<T>) -> Result<Option<ARef<Dentry<T>>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a regular file.
    fn create(_idmap: IdMap<'_>, _dir: &LockedInode<T>, _dentry: &Dentry<T>, _mode: u16) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Gives `inode`, which is locked, another name.
    fn link(_inode: &LockedInode<T>, _dir: &LockedInode<T>, _dentry: &Dentry<T>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a name of what is not a directory.
    fn unlink(_dir: &LockedInode<T>, _dentry: &Dentry<T>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a symbolic link.
    fn symlink(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<T>,
        _dentry: &Dentry<T>,
        _target: &CStr,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a directory.
    fn mkdir(_idmap: IdMap<'_>, _dir: &LockedInode<T>, _dentry: &Dentry<T>, _mode: u16) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a directory, if it is empty.
    fn rmdir(_dir: &LockedInode<T>, _dentry: &Dentry<T>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a device node, FIFO, socket or regular file, as the file type in `mode` says.
    fn mknod(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<T>,
        _dentry: &Dentry<T>,
        _mode: u16,
        _device: bindings::dev_t,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves a name. `flags` are `RENAME_*`. The VFS moves the dentry.
    fn rename(
        _idmap: IdMap<'_>,
        _old_dir: &LockedInode<T>,
        _old: &Dentry<T>,
        _new_dir: &LockedInode<T>,
        _new: &Dentry<T>,
        _flags: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a file without a name in `dir`, and gives it to `file`.
    fn tmpfile(_idmap: IdMap<'_>, _dir: &Inode<T>, _file: TmpFile<'_, T>, _mode: u16) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Updates timestamps, as [`Inode::update_time`] does.
    fn update_time(_inode: &Inode<T>, _time: UpdateTime) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes of the inode of `dentry`, which is `inode`.
    fn setattr(
        _idmap: IdMap<'_>,
        _dentry: &Dentry<T>,
        _inode: &LockedInode<T>,
        _attr: Iattr<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Fills in what `statx(2)` reports. `request_mask` is `STATX_*`.
    fn getattr(
        _idmap: IdMap<'_>,
        _inode: &Inode<T>,
        _stat: Kstat<'_>,
        _request_mask: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Puts the names of the extended attributes into `list`, each with a NUL behind it, unless
    /// `list` is empty. Returns their length in bytes.
    fn listxattr(_inode: &Inode<T>, _list: &mut [u8]) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets an access control list, or removes it.
    fn set_acl(
        _idmap: IdMap<'_>,
        _inode: &LockedInode<T>,
        _acl: Option<&PosixAcl>,
        _kind: AclType,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Fills in the flags of `lsattr(1)`.
    fn fileattr_get(_inode: &Inode<T>, _fa: FileKattr<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the flags of `chattr(1)`. The VFS has checked whether the caller may.
    fn fileattr_set(_inode: &LockedInode<T>, _fa: FileKattr<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports extents of the bytes from `start` on, `len` of them.
    fn fiemap(_inode: &Inode<T>, _info: FiemapExtentInfo<'_>, _start: u64, _len: u64) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A table of operations that this one has, too, where it does not implement them.
    const BASE: &'static InodeOps<T> = &InodeOps::from_raw(pin_init::zeroed());

    /// Whether the inode is a symbolic link, whose target
    /// [`NewInode::set_link`](super::NewInode::set_link) has set.
    const IS_SYMLINK: bool = false;
}

/// Converts arguments, calls `U`, converts the result.
struct Table<T, U>(PhantomData<(T, U)>);

macro_rules! entry {
    ($has:ident, $method:ident) => {
        if U::$has {
            Some(Self::$method)
        } else {
            U::BASE.as_raw().$method
        }
    };
}

impl<T: FileSystem, U: InodeOperations<T>> Table<T, U> {
    const TABLE: InodeOps<T> = InodeOps::from_raw(bindings::inode_operations {
        lookup: entry!(HAS_LOOKUP, lookup),
        get_link: if U::IS_SYMLINK {
            Some(bindings::simple_get_link)
        } else {
            None
        },
        create: entry!(HAS_CREATE, create),
        link: entry!(HAS_LINK, link),
        unlink: entry!(HAS_UNLINK, unlink),
        symlink: entry!(HAS_SYMLINK, symlink),
        mkdir: entry!(HAS_MKDIR, mkdir),
        rmdir: entry!(HAS_RMDIR, rmdir),
        mknod: entry!(HAS_MKNOD, mknod),
        rename: entry!(HAS_RENAME, rename),
        tmpfile: entry!(HAS_TMPFILE, tmpfile),
        setattr: entry!(HAS_SETATTR, setattr),
        getattr: entry!(HAS_GETATTR, getattr),
        listxattr: entry!(HAS_LISTXATTR, listxattr),
        set_acl: entry!(HAS_SET_ACL, set_acl),
        fileattr_get: entry!(HAS_FILEATTR_GET, fileattr_get),
        fileattr_set: entry!(HAS_FILEATTR_SET, fileattr_set),
        fiemap: entry!(HAS_FIEMAP, fiemap),
        update_time: entry!(HAS_UPDATE_TIME, update_time),
        ..pin_init::zeroed()
    });

    callbacks! {
        to_errno -> c_int;

        /// `inode` is an inode of the filesystem.
        fn update_time(
            inode: *mut bindings::inode,
            kind: bindings::fs_update_time,
            flags: c_uint,
        ) => (Inode::from_raw(inode), UpdateTime::new(kind, flags));
    }

    callbacks! {
        to_dentry -> *mut bindings::dentry;

        /// `dir` is a directory of the filesystem whose lock is held at least shared, `dentry` a
        /// new dentry in it.
        fn lookup(
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
            _flags: c_uint,
        ) => (Inode::from_raw(dir), Dentry::from_raw(dentry));
    }

    callbacks! {
        to_err_ptr -> *mut bindings::dentry;

        /// As for [`Self::create`].
        fn mkdir(
            idmap: *mut bindings::mnt_idmap,
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
            mode: bindings::umode_t,
        ) => (IdMap::from_raw(idmap), LockedInode::from_raw(dir), Dentry::from_raw(dentry), mode);
    }

    callbacks! {
        to_errno -> c_int;

        /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a negative
        /// dentry in it, `idmap` is valid.
        fn create(
            idmap: *mut bindings::mnt_idmap,
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
            mode: bindings::umode_t,
            #[cfg(linux_7_2)] _excl: bool,
        ) => (IdMap::from_raw(idmap), LockedInode::from_raw(dir), Dentry::from_raw(dentry), mode);

        /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a negative
        /// dentry in it, `old` the dentry of an inode of the same superblock whose lock is held
        /// exclusive.
        fn link(
            old: *mut bindings::dentry,
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
        ) => (
            LockedInode::from_raw((*old).d_inode),
            LockedInode::from_raw(dir),
            Dentry::from_raw(dentry),
        );

        /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a positive
        /// dentry in it.
        fn unlink(
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
        ) => (LockedInode::from_raw(dir), Dentry::from_raw(dentry));

        /// As for [`Self::create`]; `target` is a C string.
        fn symlink(
            idmap: *mut bindings::mnt_idmap,
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
            target: *const c_char,
        ) => (
            IdMap::from_raw(idmap),
            LockedInode::from_raw(dir),
            Dentry::from_raw(dentry),
            CStr::from_char_ptr(target),
        );

        /// As for [`Self::unlink`].
        fn rmdir(
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
        ) => (LockedInode::from_raw(dir), Dentry::from_raw(dentry));

        /// As for [`Self::create`].
        fn mknod(
            idmap: *mut bindings::mnt_idmap,
            dir: *mut bindings::inode,
            dentry: *mut bindings::dentry,
            mode: bindings::umode_t,
            device: bindings::dev_t,
        ) => (
            IdMap::from_raw(idmap),
            LockedInode::from_raw(dir),
            Dentry::from_raw(dentry),
            mode,
            device,
        );

        /// Both directories are of one superblock of the filesystem and their locks held exclusive,
        /// each dentry is in its directory, `idmap` is valid.
        fn rename(
            idmap: *mut bindings::mnt_idmap,
            old_dir: *mut bindings::inode,
            old: *mut bindings::dentry,
            new_dir: *mut bindings::inode,
            new: *mut bindings::dentry,
            flags: c_uint,
        ) => (
            IdMap::from_raw(idmap),
            LockedInode::from_raw(old_dir),
            Dentry::from_raw(old),
            LockedInode::from_raw(new_dir),
            Dentry::from_raw(new),
            flags,
        );

        /// `dentry` is of an inode of the filesystem whose lock is held exclusive, `attr` and
        /// `idmap` are valid.
        fn setattr(
            idmap: *mut bindings::mnt_idmap,
            dentry: *mut bindings::dentry,
            attr: *mut bindings::iattr,
        ) => (
            IdMap::from_raw(idmap),
            Dentry::from_raw(dentry),
            LockedInode::from_raw((*dentry).d_inode),
            Iattr::from_raw(attr),
        );

        /// `path` is of an inode of the filesystem, to which there is a reference; `idmap` and
        /// `stat` are valid.
        fn getattr(
            idmap: *mut bindings::mnt_idmap,
            path: *const bindings::path,
            stat: *mut bindings::kstat,
            request_mask: u32,
            _flags: c_uint,
        ) => (
            IdMap::from_raw(idmap),
            Inode::from_raw((*(*path).dentry).d_inode),
            Kstat::from_raw(stat),
            request_mask,
        );

        /// `dentry` is of an inode of the filesystem whose lock is held exclusive; `acl` is null or
        /// valid for it; `idmap` is valid.
        fn set_acl(
            idmap: *mut bindings::mnt_idmap,
            dentry: *mut bindings::dentry,
            acl: *mut bindings::posix_acl,
            kind: c_int,
        ) => (
            IdMap::from_raw(idmap),
            LockedInode::from_raw((*dentry).d_inode),
            PosixAcl::from_raw(acl),
            AclType::from_raw(kind),
        );

        /// `dentry` is of an inode of the filesystem, `fa` valid for writes.
        fn fileattr_get(
            dentry: *mut bindings::dentry,
            fa: *mut kernel::bindings::file_kattr,
        ) => (Inode::from_raw((*dentry).d_inode), FileKattr::from_raw(fa));

        /// `dentry` is of an inode of the filesystem whose lock is held exclusive, `fa` is valid.
        fn fileattr_set(
            _idmap: *mut bindings::mnt_idmap,
            dentry: *mut bindings::dentry,
            fa: *mut kernel::bindings::file_kattr,
        ) => (LockedInode::from_raw((*dentry).d_inode), FileKattr::from_raw(fa));

        /// `inode` is an inode of the filesystem, to which there is a reference, `info` valid.
        fn fiemap(
            inode: *mut bindings::inode,
            info: *mut kernel::bindings::fiemap_extent_info,
            start: u64,
            len: u64,
        ) => (Inode::from_raw(inode), FiemapExtentInfo::from_raw(info), start, len);
    }

    callbacks! {
        to_ssize -> isize;

        /// `dentry` is of an inode of the filesystem; `list` has room for `size` bytes, or is null
        /// and `size` 0.
        fn listxattr(
            dentry: *mut bindings::dentry,
            list: *mut c_char,
            size: usize,
        ) => (Inode::from_raw((*dentry).d_inode), slice_mut(list.cast(), size));
    }

    /// # Safety
    ///
    /// `dir` is a directory of the filesystem, `file` is being opened in it, `idmap` is valid.
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: The caller passes a valid mapping, a directory of the filesystem, and a file that
        // it is opening, which has an inode once `U::tmpfile` has succeeded: only then does
        // `finish_open_simple` open it.
        unsafe {
            let error = to_errno(U::tmpfile(
                IdMap::from_raw(idmap),
                Inode::from_raw(dir),
                TmpFile::from_raw(file),
                mode,
            ));
            bindings::finish_open_simple(file, error)
        }
    }
}

/// Returns what a callback reports that returns a dentry, with its reference, or an error: null
/// where there is neither.
fn to_dentry<T: FileSystem>(result: Result<Option<ARef<Dentry<T>>>>) -> *mut bindings::dentry {
    result.map_or_else(
        |err| err.to_ptr(),
        |dentry| dentry.map_or(null_mut(), |dentry| ARef::into_raw(dentry).as_ptr().cast()),
    )
}

/// As [`to_dentry`], without a dentry.
fn to_err_ptr(result: Result) -> *mut bindings::dentry {
    result.map_or_else(|err| err.to_ptr(), |()| null_mut())
}
