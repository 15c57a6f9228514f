// SPDX-License-Identifier: GPL-2.0

//! Open files of any filesystem, and ranges of them.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

mod compare;
mod range;

pub(crate) use self::range::Range;

use crate::{
    bindings,
    copy_flags::FOP_COPY_FLAGS, //
};
use core::ops::Deref;
use kernel::{
    error::to_result,
    fs::LocalFile,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

/// An open file of any filesystem.
#[repr(transparent)]
pub(crate) struct AnyFile(Opaque<bindings::file>);

impl AnyFile {
    /// # Safety
    ///
    /// `file` is an open file during `'a`.
    pub(crate) unsafe fn from_raw<'a>(file: *mut bindings::file) -> &'a Self {
        // SAFETY: The caller guarantees that the file is open; the types have the same layout.
        unsafe { &*file.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::file {
        self.0.get()
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: An open file has an inode, which does not change.
        unsafe { (*self.as_raw()).f_inode }
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: An open file has a mapping, which does not change.
        unsafe { (*self.as_raw()).f_mapping }
    }

    fn operations(&self) -> &bindings::file_operations {
        // SAFETY: An open file has operations, which do not change and live as long as the file.
        unsafe { &*(*self.as_raw()).f_op }
    }

    fn has_mode(&self, mode: u32) -> bool {
        // SAFETY: The file is open; these bits do not change.
        unsafe { (*self.as_raw()).f_mode & mode != 0 }
    }

    /// Returns whether the file was opened for reading.
    pub(crate) fn is_readable(&self) -> bool {
        self.has_mode(bindings::FMODE_READ)
    }

    /// Returns whether the file was opened for writing.
    pub(crate) fn is_writable(&self) -> bool {
        self.has_mode(bindings::FMODE_WRITE)
    }

    /// Returns whether everything is written to its end, `O_APPEND`.
    pub(crate) fn is_append(&self) -> bool {
        self.has_flag(bindings::O_APPEND)
    }

    /// Returns whether it is read and written without the page cache, `O_DIRECT`.
    pub(crate) fn is_direct(&self) -> bool {
        self.has_flag(bindings::O_DIRECT)
    }

    fn has_flag(&self, flag: u32) -> bool {
        // SAFETY: The file is open. fcntl may change the flags at any time, as in C.
        unsafe { (&raw const (*self.as_raw()).f_flags).read_volatile() & flag != 0 }
    }

    /// Returns the type, `S_IFREG` and so on.
    pub(crate) fn file_type(&self) -> u32 {
        // SAFETY: The inode is live; the type does not change.
        u32::from(unsafe { (*self.inode()).i_mode }) & bindings::S_IFMT
    }

    fn has_inode_flag(&self, flag: u32) -> bool {
        // SAFETY: The open file holds the inode. Its flags may change at any time, as in C.
        unsafe { (&raw const (*self.inode()).i_flags).read_volatile() & flag != 0 }
    }

    /// Returns whether it must not be changed.
    pub(crate) fn is_immutable(&self) -> bool {
        self.has_inode_flag(bindings::S_IMMUTABLE)
    }

    /// Returns whether it is a swap file.
    pub(crate) fn is_swapfile(&self) -> bool {
        self.has_inode_flag(bindings::S_SWAPFILE)
    }

    /// Returns whether its data goes through the page cache.
    pub(crate) fn has_page_cache(&self) -> bool {
        // SAFETY: The mapping has operations, which live as long as it, and it as long as the open
        // file.
        let reads_folios = unsafe { (*(*self.mapping()).a_ops).read_folio.is_some() };
        reads_folios && !self.has_inode_flag(bindings::S_DAX)
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The open file holds the inode; the size may change meanwhile, as the function
        // allows.
        unsafe { bindings::i_size_read(self.inode()) as u64 }
    }

    /// Returns the size in bytes of a block of its superblock, the unit of `generic_remap_checks`.
    pub(crate) fn super_block_size(&self) -> u64 {
        // SAFETY: The inode is live, and so is its superblock.
        unsafe { (*(*self.inode()).i_sb).s_blocksize as u64 }
    }

    /// Returns the file position. Another task may move it at any time, as in `copy_file_range(2)`.
    pub(crate) fn position(&self) -> i64 {
        // SAFETY: The file is open.
        unsafe { (&raw const (*self.as_raw()).f_pos).read_volatile() }
    }

    /// Moves the file position.
    pub(crate) fn set_position(&self, position: i64) {
        // SAFETY: The file is open.
        unsafe { (&raw mut (*self.as_raw()).f_pos).write_volatile(position) }
    }

    /// Returns whether both are open files of one inode.
    pub(crate) fn same_inode(&self, other: &Self) -> bool {
        self.inode() == other.inode()
    }

    /// Returns whether both are on one mount of a filesystem.
    pub(crate) fn same_super_block(&self, other: &Self) -> bool {
        // SAFETY: The inodes are live; their superblocks do not change.
        unsafe { (*self.inode()).i_sb == (*other.inode()).i_sb }
    }

    /// Returns whether both have the same `->copy_file_range`, which then takes care of both.
    pub(crate) fn same_copy_file_range(&self, other: &Self) -> bool {
        let method = |file: &Self| file.operations().copy_file_range.map(|f| f as usize);
        method(self).is_some() && method(self) == method(other)
    }

    /// Returns whether `->copy_file_range` takes flags, see [`FOP_COPY_FLAGS`].
    pub(crate) fn takes_copy_flags(&self) -> bool {
        self.operations().fop_flags & FOP_COPY_FLAGS != 0
    }

    /// Returns whether the filesystem that has the file's data takes flags, which lies below this
    /// one where that is overlayfs.
    ///
    /// The file is open for writing: so it is overlayfs's upper file, and stays so.
    pub(crate) fn data_takes_copy_flags(&self) -> bool {
        // SAFETY: An open file has a dentry, which does not change and holds its inode; below it
        // overlayfs holds the inode that has the data. Each has operations, which live as long.
        unsafe {
            let inode = bindings::d_real_inode((*self.as_raw()).__bindgen_anon_1.f_path.dentry);
            (*(*inode).__bindgen_anon_3.i_fop).fop_flags & FOP_COPY_FLAGS != 0
        }
    }

    /// Returns whether the filesystem can share ranges at all.
    pub(crate) fn can_remap(&self) -> bool {
        self.operations().remap_file_range.is_some()
    }

    /// Returns how much of a write of `len` bytes at `pos` the file size limits allow.
    ///
    /// # Errors
    ///
    /// `EFBIG` if nothing, with a `SIGXFSZ` where the limit is the process's.
    pub(crate) fn write_check_limits(&self, pos: u64, len: u64) -> Result<u64> {
        let mut count = len as i64;
        // SAFETY: The file is open, `count` valid for the call.
        to_result(unsafe {
            bindings::generic_write_check_limits(self.as_raw(), pos as i64, &mut count)
        })?;
        Ok(count as u64)
    }
}

/// A reference to the file of a descriptor of the current process.
pub(crate) struct Descriptor(ARef<LocalFile>);

impl Descriptor {
    /// # Errors
    ///
    /// `EBADF` where it is not open.
    pub(crate) fn get(fd: u32) -> Result<Self> {
        Ok(Self(LocalFile::fget(fd)?))
    }
}

impl Deref for Descriptor {
    type Target = AnyFile;

    fn deref(&self) -> &AnyFile {
        // SAFETY: The reference keeps the file open.
        unsafe { AnyFile::from_raw(self.0.as_ptr()) }
    }
}

/// Returns whether a signal is pending, of any kind.
pub(crate) fn signal_pending() -> bool {
    current!().signal_pending()
}
