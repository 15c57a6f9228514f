// SPDX-License-Identifier: GPL-2.0

//! Open regular files.

use super::{
    acl,
    any::AnyFile,
    attributes,
    change::Changing,
    extents,
    fallocate::{self, Fallocate},
    filesystem::FileSystem,
    flags,
    inode::Inode,
    mapping::{self, MappingOperations},
    remap::{self, Remap},
    splice,
    xattr::AttributeHandlers,
    Extent, MAX_FILE_SIZE,
};
use crate::{bindings, copy_flags::FOP_COPY_FLAGS, store::block::BlockRef};
use core::{
    marker::PhantomData,
    ops::{Deref, Range},
};
use kernel::{
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    types::Opaque,
};

/// What can be done with a regular file. Positions and lengths are in bytes.
pub trait FileOperations: FileSystem {
    /// Copies what lies at `pos` to `to`, up to the end of the file. Returns how many bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT` if not one byte could be copied.
    fn read(inode: &Inode<Self>, pos: u64, to: &mut IovIterDest<'_>) -> Result<usize>;

    /// The block at `index`, or one of zeros, for somebody who is to read it later: the file does not
    /// write it in place any more, so that it stays as it is. And the size that the file had then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn get_stable(inode: &Inode<Self>, index: u64) -> Result<(BlockRef, u64)>;

    /// Writes `from` to `pos`. Limits were looked at. Returns how many bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `ENOSPC`, `ENOMEM` if not one byte could be written; `EAGAIN` where that would mean
    /// to wait, for memory or a lock, and `may_wait` is false.
    fn write(
        inode: &Changing<'_, Self>,
        pos: u64,
        from: &mut IovIterSource<'_>,
        may_wait: bool,
    ) -> Result<usize>;

    /// Changes the size. Shrinking gives blocks back, growing makes a hole.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the file is as it was.
    fn truncate(inode: &Changing<'_, Self>, size: u64) -> Result;

    /// The first offset at or after `pos` with data (`hole` false) or in a hole, counting the end
    /// of the file as a hole. `pos` lies before the end.
    fn seek(inode: &Inode<Self>, pos: u64, hole: bool) -> Option<u64>;

    /// The first extent that reaches beyond `pos`.
    fn extent(inode: &Inode<Self>, pos: u64) -> Option<Extent>;

    /// `fallocate(2)` of `bytes`. `size` is what the size is to be afterwards. What may be collapsed
    /// or inserted was looked at.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is not the room that is asked for; `EINTR`, `ENOMEM`.
    fn fallocate(
        inode: &Changing<'_, Self>,
        what: Fallocate,
        bytes: Range<u64>,
        size: u64,
    ) -> Result;

    /// `copy_file_range(2)`: without flags, copies as the filesystem likes best; or just copies.
    /// The range was cut at the end of the source, and does not overlap.
    ///
    /// # Errors
    ///
    /// As [`FileOperations::write`], if not one byte was copied.
    fn copy(request: &Remap<'_, Self>) -> Result<u64>;

    /// Shares the range with the destination, or shares it if both hold the same bytes:
    /// `FICLONE`, `FICLONERANGE`, `FIDEDUPERANGE`. Returns how many bytes.
    ///
    /// # Errors
    ///
    /// See the manual page of `ioctl_ficlonerange`; `EBADE` where the bytes differ.
    fn remap(request: &Remap<'_, Self>) -> Result<u64>;
}

/// An open file.
#[repr(transparent)]
pub struct File<T: FileSystem>(Opaque<bindings::file>, PhantomData<T>);

impl<T: FileSystem> File<T> {
    /// # Safety
    ///
    /// `file` is an open file whose inode is one of `T`, during `'a`.
    pub(super) unsafe fn from_raw<'a>(file: *mut bindings::file) -> &'a Self {
        // SAFETY: The types have the same layout.
        unsafe { &*file.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// The inode.
    pub fn inode(&self) -> &Inode<T> {
        // SAFETY: By the promise of `from_raw`.
        unsafe { Inode::from_raw((*self.as_raw()).f_inode) }
    }
}

impl<T: FileSystem> Deref for File<T> {
    type Target = AnyFile;

    fn deref(&self) -> &AnyFile {
        // SAFETY: By the promise of `from_raw`.
        unsafe { AnyFile::from_raw(self.as_raw()) }
    }
}

/// The callbacks of a regular file.
pub(super) struct FileTables<T: FileOperations + MappingOperations>(PhantomData<T>);

impl<T: FileOperations + MappingOperations> FileTables<T> {
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        setattr: Some(attributes::setattr_file::<T>),
        getattr: Some(attributes::getattr::<T>),
        fiemap: Some(extents::fiemap::<T>),
        set_acl: Some(acl::set_acl::<T>),
        fileattr_get: Some(flags::fileattr_get::<T>),
        fileattr_set: Some(flags::fileattr_set::<T>),
        listxattr: Some(AttributeHandlers::<T>::list),
        ..pin_init::zeroed()
    };

    pub(super) const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        mmap: Some(mapping::mmap::<T>),
        fsync: Some(mapping::fsync::<T>),
        splice_read: Some(splice::splice_read::<T>),
        splice_write: Some(bindings::iter_file_splice_write),
        copy_file_range: Some(remap::copy_file_range::<T>),
        remap_file_range: Some(remap::remap_file_range::<T>),
        fallocate: Some(fallocate::fallocate::<T>),
        setlease: Some(bindings::generic_setlease),
        fop_flags: FOP_COPY_FLAGS | bindings::FOP_DONTCACHE | bindings::FOP_BUFFER_WASYNC,
        ..pin_init::zeroed()
    };

    /// `O_DIRECT` is taken, and means nothing: no data is ever cached. So it needs no alignment,
    /// and `RWF_DONTCACHE` is what happens anyway.
    ///
    /// # Safety
    ///
    /// `inode` is a regular file of `T`, `file` is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The VFS is opening the file, of this inode, and no one else has it.
        unsafe {
            (*file).f_mode |= bindings::FMODE_CAN_ODIRECT | bindings::FMODE_NOWAIT;
            bindings::generic_file_open(inode, file)
        }
    }

    /// # Safety
    ///
    /// `kiocb` is of an open regular file of `T`, `iter` a valid destination.
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: By the safety requirements.
        let (kiocb, to) = unsafe { (&mut *kiocb, IovIterDest::from_raw(iter)) };
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::from_raw((*kiocb.ki_filp).f_inode) };
        match T::read(inode, kiocb.ki_pos as u64, to) {
            Ok(n) => {
                kiocb.ki_pos += n as i64;
                // SAFETY: The VFS keeps the file of a `kiocb` open until it is completed.
                unsafe { bindings::file_accessed(kiocb.ki_filp) };
                n as isize
            }
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// `kiocb` is of an open regular file of `T`, `iter` a valid source.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a valid `kiocb`, and keeps its file open until it is completed.
        let (inode, may_wait) = unsafe {
            (
                Inode::<T>::from_raw((*(*kiocb).ki_filp).f_inode),
                (*kiocb).ki_flags & bindings::IOCB_NOWAIT == 0,
            )
        };
        let inode = if may_wait {
            inode.lock()
        } else {
            match inode.try_lock() {
                Some(inode) => inode,
                None => return EAGAIN.to_errno() as isize,
            }
        };
        // It may have become so since it was opened.
        if inode.is_immutable() {
            return EPERM.to_errno() as isize;
        }
        // SAFETY: By the safety requirements; the inode is locked.
        let count = unsafe { bindings::generic_write_checks(kiocb, iter) };
        if count <= 0 {
            return count;
        }
        // SAFETY: By the safety requirements; the inode is locked.
        let changing = Changing::begin_with(&inode, || unsafe { bindings::kiocb_modified(kiocb) });
        // SAFETY: By the safety requirements.
        let (kiocb, from) = unsafe { (&mut *kiocb, IovIterSource::from_raw(iter)) };
        let len = from.len();
        let written =
            changing.and_then(|inode| T::write(&inode, kiocb.ki_pos as u64, from, may_wait));
        // Bytes may have been taken that could not be stored in the end. Who goes on from where
        // `iter` stands, as io_uring does, must not skip them.
        let taken = len - from.len();
        // SAFETY: No more is given back than was taken.
        unsafe { bindings::iov_iter_revert(iter, taken - written.unwrap_or(0).min(taken)) };
        match written {
            Ok(n) => {
                kiocb.ki_pos += n as i64;
                n as isize
            }
            Err(err) => err.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// `file` is an open regular file of `T`.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
        let size = inode.size();
        let hole = whence as u32 == bindings::SEEK_HOLE;
        if !hole && whence as u32 != bindings::SEEK_DATA {
            // SAFETY: By the safety requirements.
            return unsafe {
                bindings::generic_file_llseek_size(
                    file,
                    offset,
                    whence,
                    MAX_FILE_SIZE as i64,
                    size as i64,
                )
            };
        }
        let found = u64::try_from(offset)
            .ok()
            .filter(|&pos| pos < size)
            .and_then(|pos| T::seek(inode, pos, hole));
        match found {
            // SAFETY: By the safety requirements.
            Some(pos) => unsafe { bindings::vfs_setpos(file, pos as i64, MAX_FILE_SIZE as i64) },
            None => ENXIO.to_errno().into(),
        }
    }
}
