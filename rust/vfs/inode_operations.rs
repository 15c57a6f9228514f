// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). Reference:
//! <https://docs.kernel.org/filesystems/vfs.html#struct-inode-operations>

use super::{
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
    TmpFile, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    error::{from_result, VTABLE_DEFAULT_ERROR},
    prelude::*, //
};

impl<T: FileSystem> InodeOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: InodeOperations<FileSystem = T>>() -> &'static Self {
        &Table::<U>::TABLE
    }
}

/// The operations of an inode. What is not implemented is not in the table.
///
/// The locks that the VFS holds are in the types: a [`LockedInode`] is locked exclusive.
#[vtable]
pub trait InodeOperations {
    /// The filesystem whose inodes these are.
    type FileSystem: FileSystem;

    /// Looks up `dentry`, which is new, in `dir`, whose lock is held at least shared. The inode is
    /// given to the dentry.
    fn lookup(_dir: &Inode<Self::FileSystem>, _dentry: &Dentry<Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a regular file.
    fn create(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<Self::FileSystem>,
        _dentry: &Dentry<Self::FileSystem>,
        _mode: u16,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Gives `inode`, which is locked, another name.
    fn link(
        _inode: &LockedInode<Self::FileSystem>,
        _dir: &LockedInode<Self::FileSystem>,
        _dentry: &Dentry<Self::FileSystem>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a name of what is not a directory.
    fn unlink(_dir: &LockedInode<Self::FileSystem>, _dentry: &Dentry<Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a symbolic link.
    fn symlink(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<Self::FileSystem>,
        _dentry: &Dentry<Self::FileSystem>,
        _target: &CStr,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a directory.
    fn mkdir(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<Self::FileSystem>,
        _dentry: &Dentry<Self::FileSystem>,
        _mode: u16,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a directory, if it is empty.
    fn rmdir(_dir: &LockedInode<Self::FileSystem>, _dentry: &Dentry<Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a device node, FIFO, socket or regular file, as the file type in `mode` says.
    fn mknod(
        _idmap: IdMap<'_>,
        _dir: &LockedInode<Self::FileSystem>,
        _dentry: &Dentry<Self::FileSystem>,
        _mode: u16,
        _device: bindings::dev_t,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves a name. `flags` are `RENAME_*`. The VFS moves the dentry.
    fn rename(
        _idmap: IdMap<'_>,
        _old_dir: &LockedInode<Self::FileSystem>,
        _old: &Dentry<Self::FileSystem>,
        _new_dir: &LockedInode<Self::FileSystem>,
        _new: &Dentry<Self::FileSystem>,
        _flags: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Creates a file without a name in `dir`, and gives it to `file`.
    fn tmpfile(
        _idmap: IdMap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _file: TmpFile<'_, Self::FileSystem>,
        _mode: u16,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes of the inode of `dentry`, which is `inode`.
    fn setattr(
        _idmap: IdMap<'_>,
        _dentry: &Dentry<Self::FileSystem>,
        _inode: &LockedInode<Self::FileSystem>,
        _attr: Iattr<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Fills in what `statx(2)` reports. `request_mask` is `STATX_*`.
    fn getattr(
        _idmap: IdMap<'_>,
        _inode: &Inode<Self::FileSystem>,
        _stat: Kstat<'_>,
        _request_mask: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Puts the names of the extended attributes into `list`, each with a NUL behind it, unless
    /// `list` is empty. Returns their length in bytes.
    fn listxattr(_inode: &Inode<Self::FileSystem>, _list: &mut [u8]) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets an access control list, or removes it.
    fn set_acl(
        _idmap: IdMap<'_>,
        _inode: &LockedInode<Self::FileSystem>,
        _acl: Option<&PosixAcl>,
        _kind: AclType,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Fills in the flags of `lsattr(1)`.
    fn fileattr_get(_inode: &Inode<Self::FileSystem>, _fa: FileKattr<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the flags of `chattr(1)`. The VFS has checked whether the caller may.
    fn fileattr_set(_inode: &LockedInode<Self::FileSystem>, _fa: FileKattr<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports extents of the bytes from `start` on, `len` of them.
    fn fiemap(
        _inode: &Inode<Self::FileSystem>,
        _info: FiemapExtentInfo<'_>,
        _start: u64,
        _len: u64,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Whether the inode is a symbolic link, whose target
    /// [`NewInode::set_link`](super::NewInode::set_link) has set.
    const IS_SYMLINK: bool = false;
}

/// Converts arguments, calls `U`, converts the result.
struct Table<U: InodeOperations>(PhantomData<U>);

type Fs<U> = <U as InodeOperations>::FileSystem;

macro_rules! entry {
    ($has:ident, $method:ident) => {
        if U::$has {
            Some(Self::$method)
        } else {
            None
        }
    };
}

impl<U: InodeOperations> Table<U> {
    const TABLE: InodeOps<Fs<U>> = InodeOps::from_raw(bindings::inode_operations {
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
        ..pin_init::zeroed()
    });

    /// # Safety
    ///
    /// `dir` is a directory of the filesystem whose lock is held, `dentry` a new dentry in it.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements: the VFS calls it so.
        match unsafe { U::lookup(Inode::from_raw(dir), Dentry::from_raw(dentry)) } {
            Ok(()) => null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a negative
    /// dentry in it, `idmap` is valid.
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::create(
                    IdMap::from_raw(idmap),
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                    mode,
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a negative
    /// dentry in it, `old` the dentry of an inode of the same superblock whose lock is held
    /// exclusive.
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::link(
                    LockedInode::assume(Inode::from_raw((*old).d_inode)),
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dir` is a directory of the filesystem whose lock is held exclusive, `dentry` a positive
    /// dentry in it.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::unlink(
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::create`]; `target` is a C string.
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const c_char,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::symlink(
                    IdMap::from_raw(idmap),
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                    CStr::from_char_ptr(target),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::create`].
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        let result = unsafe {
            U::mkdir(
                IdMap::from_raw(idmap),
                LockedInode::assume(Inode::from_raw(dir)),
                Dentry::from_raw(dentry),
                mode,
            )
        };
        match result {
            Ok(()) => null_mut(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::unlink`].
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::rmdir(
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::create`].
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        device: bindings::dev_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::mknod(
                    IdMap::from_raw(idmap),
                    LockedInode::assume(Inode::from_raw(dir)),
                    Dentry::from_raw(dentry),
                    mode,
                    device,
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Both directories are of one superblock of the filesystem and their locks held exclusive,
    /// each dentry is in its directory, `idmap` is valid.
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        old_dir: *mut bindings::inode,
        old: *mut bindings::dentry,
        new_dir: *mut bindings::inode,
        new: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::rename(
                    IdMap::from_raw(idmap),
                    LockedInode::assume(Inode::from_raw(old_dir)),
                    Dentry::from_raw(old),
                    LockedInode::assume(Inode::from_raw(new_dir)),
                    Dentry::from_raw(new),
                    flags,
                )?
            };
            Ok(0)
        })
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
        let error = from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::tmpfile(
                    IdMap::from_raw(idmap),
                    Inode::from_raw(dir),
                    TmpFile::from_raw(file),
                    mode,
                )?
            };
            Ok(0)
        });
        // SAFETY: By the safety requirements; where nothing failed the file has a dentry.
        unsafe { bindings::finish_open_simple(file, error) }
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of the filesystem whose lock is held exclusive, `attr` and `idmap`
    /// are valid.
    unsafe extern "C" fn setattr(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attr: *mut bindings::iattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::setattr(
                    IdMap::from_raw(idmap),
                    Dentry::from_raw(dentry),
                    LockedInode::assume(Inode::from_raw((*dentry).d_inode)),
                    Iattr::from_raw(attr),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `path` is of an inode of the filesystem, `idmap` and `stat` are valid.
    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request_mask: u32,
        _flags: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::getattr(
                    IdMap::from_raw(idmap),
                    Inode::from_raw((*(*path).dentry).d_inode),
                    Kstat::from_raw(stat),
                    request_mask,
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of the filesystem; `list` has room for `size` bytes, or is null and
    /// `size` 0.
    unsafe extern "C" fn listxattr(
        dentry: *mut bindings::dentry,
        list: *mut c_char,
        size: usize,
    ) -> isize {
        // SAFETY: By the safety requirements.
        let (inode, list) = unsafe {
            (
                Inode::from_raw((*dentry).d_inode),
                super::slice_mut(list.cast(), size),
            )
        };
        match U::listxattr(inode, list) {
            Ok(len) => len as isize,
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of the filesystem whose lock is held exclusive; `acl` is null or
    /// valid for it; `idmap` is valid.
    unsafe extern "C" fn set_acl(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        acl: *mut bindings::posix_acl,
        kind: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::set_acl(
                    IdMap::from_raw(idmap),
                    LockedInode::assume(Inode::from_raw((*dentry).d_inode)),
                    PosixAcl::from_raw(acl),
                    AclType::from_raw(kind),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of the filesystem, `fa` valid for writes.
    unsafe extern "C" fn fileattr_get(
        dentry: *mut bindings::dentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::fileattr_get(Inode::from_raw((*dentry).d_inode), FileKattr::from_raw(fa))?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dentry` is of an inode of the filesystem whose lock is held exclusive, `fa` is valid.
    unsafe extern "C" fn fileattr_set(
        _idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        fa: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::fileattr_set(
                    LockedInode::assume(Inode::from_raw((*dentry).d_inode)),
                    FileKattr::from_raw(fa),
                )?
            };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `inode` is an inode of the filesystem, `info` valid.
    unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        info: *mut kernel::bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            unsafe {
                U::fiemap(
                    Inode::from_raw(inode),
                    FiemapExtentInfo::from_raw(info),
                    start,
                    len,
                )?
            };
            Ok(0)
        })
    }
}
