// SPDX-License-Identifier: GPL-2.0

//! What `setattr`, `getattr`, `fileattr_get` and `fileattr_set` are given: `struct iattr`,
//! `struct kstat`, `struct file_kattr`.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/stat.h`](srctree/include/linux/stat.h),
//! [`include/linux/fileattr.h`](srctree/include/linux/fileattr.h).

use super::{
    Dentry,
    FileSystem,
    IdMap,
    Inode,
    LockedInode, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Attributes about to be changed, `struct iattr`.
pub struct Iattr<'a>(*mut bindings::iattr, PhantomData<&'a mut ()>);

impl Iattr<'_> {
    /// # Safety
    ///
    /// `attr` is valid during the lifetime of the result.
    pub(super) unsafe fn from_raw(attr: *mut bindings::iattr) -> Self {
        Self(attr, PhantomData)
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::iattr {
        self.0
    }

    /// Returns which attributes are to be changed, `ATTR_*`.
    pub fn valid(&self) -> u32 {
        // SAFETY: `from_raw` was promised that the attributes are valid.
        unsafe { (*self.0).ia_valid }
    }

    /// Returns the size in bytes, where `ATTR_SIZE` is among those.
    pub fn size(&self) -> Option<u64> {
        // SAFETY: `from_raw` was promised that the attributes are valid.
        (self.valid() & bindings::ATTR_SIZE != 0).then(|| unsafe { (*self.0).ia_size } as u64)
    }

    /// Returns the mode, where `ATTR_MODE` is among those.
    pub fn mode(&self) -> Option<u16> {
        // SAFETY: By the promise of `from_raw`.
        (self.valid() & bindings::ATTR_MODE != 0).then(|| unsafe { (*self.0).ia_mode })
    }

    /// Checks whether the caller may make these changes, `setattr_prepare`.
    ///
    /// # Errors
    ///
    /// `EPERM`, `EFBIG`, and others of `setattr_prepare`.
    pub fn prepare<T: FileSystem>(&mut self, idmap: IdMap<'_>, dentry: &Dentry<T>) -> Result {
        // SAFETY: All are valid; the inode is locked, as `->setattr` is called so.
        to_result(unsafe { bindings::setattr_prepare(idmap.as_raw(), dentry.as_raw(), self.0) })
    }

    /// Makes the changes that are in the inode itself, `setattr_copy`, and increments `i_version`.
    pub fn copy<T: FileSystem>(&self, idmap: IdMap<'_>, inode: &LockedInode<T>) {
        // SAFETY: All are valid; the inode is locked.
        unsafe { bindings::setattr_copy(idmap.as_raw(), inode.as_raw(), self.0) };
        inode.inc_iversion();
    }
}

/// What `stat(2)` is to report, `struct kstat`.
pub struct Kstat<'a>(&'a mut bindings::kstat);

impl<'a> Kstat<'a> {
    /// # Safety
    ///
    /// `stat` is valid during the lifetime of the result.
    pub(super) unsafe fn from_raw(stat: *mut bindings::kstat) -> Self {
        // SAFETY: The caller guarantees that `stat` is valid, and not accessed otherwise.
        Self(unsafe { &mut *stat })
    }

    /// Fills in what the inode itself has, `generic_fillattr`. `request_mask` is `STATX_*`.
    pub fn fillattr<T: FileSystem>(
        &mut self,
        idmap: IdMap<'_>,
        request_mask: u32,
        inode: &Inode<T>,
    ) {
        // SAFETY: All are valid.
        unsafe {
            bindings::generic_fillattr(idmap.as_raw(), request_mask, inode.as_raw(), &mut *self.0)
        };
    }

    /// Sets `st_blocks`, from a number of pages.
    pub fn set_blocks(&mut self, pages: u64) {
        self.0.blocks = pages << (PAGE_SHIFT - bindings::SECTOR_SHIFT as usize);
    }

    /// Sets the attributes (`STATX_ATTR_*`) that are on, and adds those that the filesystem knows.
    pub fn set_attributes(&mut self, attributes: u64, mask: u64) {
        self.0.attributes |= attributes;
        self.0.attributes_mask |= mask;
    }

    /// Sets the time of birth.
    pub fn set_btime(&mut self, btime: bindings::timespec64) {
        self.0.result_mask |= bindings::STATX_BTIME;
        self.0.btime = btime;
    }

    /// Sets what `O_DIRECT` needs: the alignment of memory and of offsets, in bytes.
    pub fn set_dio_align(&mut self, memory: u32, offset: u32) {
        self.0.result_mask |= bindings::STATX_DIOALIGN;
        self.0.dio_mem_align = memory;
        self.0.dio_offset_align = offset;
    }
}

/// The flags of `FS_IOC_GETFLAGS` and `FS_IOC_FSGETXATTR`, `struct file_kattr`.
pub struct FileKattr<'a>(*mut bindings::file_kattr, PhantomData<&'a mut ()>);

impl FileKattr<'_> {
    /// # Safety
    ///
    /// `fa` is valid during the lifetime of the result.
    pub(super) unsafe fn from_raw(fa: *mut kernel::bindings::file_kattr) -> Self {
        // `kernel::bindings` only has the type's name.
        Self(fa.cast(), PhantomData)
    }

    /// Fills in `FS_*_FL`, `fileattr_fill_flags`.
    pub fn fill_flags(&mut self, flags: u32) {
        // SAFETY: `from_raw` was promised that the flags are valid.
        unsafe { bindings::fileattr_fill_flags(self.0, flags) };
    }

    /// Returns `FS_*_FL`.
    pub fn flags(&self) -> u32 {
        // SAFETY: `from_raw` was promised that the flags are valid.
        unsafe { (*self.0).flags }
    }

    /// Returns whether there is more to be set than flags, `fileattr_has_fsx`.
    pub fn has_fsx(&self) -> bool {
        // SAFETY: `from_raw` was promised that the flags are valid.
        unsafe { bindings::fileattr_has_fsx(self.0) }
    }
}

/// Which timestamps are to be updated, and whether that may wait: `enum fs_update_time`, and
/// `IOCB_NOWAIT`.
#[derive(Clone, Copy)]
pub struct UpdateTime {
    kind: bindings::fs_update_time,
    flags: c_uint,
}

impl UpdateTime {
    pub(super) fn new(kind: bindings::fs_update_time, flags: c_uint) -> Self {
        Self { kind, flags }
    }

    /// Returns whether it is the access time.
    pub fn is_atime(self) -> bool {
        self.kind == bindings::fs_update_time_FS_UPD_ATIME
    }

    /// Returns whether it may wait. A read does not wait for the access time.
    pub fn may_wait(self) -> bool {
        !self.is_atime() && self.flags & bindings::IOCB_NOWAIT as c_uint == 0
    }
}

impl<T: FileSystem> Inode<T> {
    /// Updates timestamps, without marking the inode as dirty: `inode_update_time`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`.
    pub fn update_time(&self, time: UpdateTime) -> Result {
        // SAFETY: The caller has a reference to the inode. A positive result says what would be
        // dirty.
        let result = unsafe { bindings::inode_update_time(self.as_raw(), time.kind, time.flags) };
        to_result(result.min(0))
    }
}
