// SPDX-License-Identifier: GPL-2.0

//! Open files of a filesystem, and single reads and writes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    FileSystem,
    Inode,
    InodeGuard,
    LockedInode,
    NewInode, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*,
    types::Opaque, //
};

/// An open file of a filesystem, `struct file`.
#[repr(transparent)]
pub struct File<T: FileSystem>(Opaque<bindings::file>, PhantomData<T>);

impl<T: FileSystem> File<T> {
    /// # Safety
    ///
    /// `file` is an open file whose inode is one of `T`, during `'a`.
    pub(super) unsafe fn from_raw<'a>(file: *mut bindings::file) -> &'a Self {
        // SAFETY: The caller guarantees that the file is open; the types have the same layout.
        unsafe { &*file.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// Returns the inode.
    pub fn inode(&self) -> &Inode<T> {
        // SAFETY: `from_raw` was promised a file of `T`; an open file has a reference to its inode.
        unsafe { Inode::from_raw((*self.as_raw()).f_inode) }
    }

    /// Sets the access time, where the mount wants that: `file_accessed`.
    pub fn accessed(&self) {
        // SAFETY: The file is open.
        unsafe { bindings::file_accessed(self.as_raw()) };
    }

    /// Seeks, for `SEEK_SET`, `SEEK_CUR` and `SEEK_END`: `generic_file_llseek_size`.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EOVERFLOW`.
    pub fn generic_llseek(&self, offset: i64, whence: u32, max: u64, eof: u64) -> Result<i64> {
        // SAFETY: The file is open.
        let pos = unsafe {
            bindings::generic_file_llseek_size(
                self.as_raw(),
                offset,
                whence as c_int,
                max as i64,
                eof as i64,
            )
        };
        to_pos(pos)
    }

    /// Sets the file position, `vfs_setpos`. Returns it.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond `max`.
    pub fn setpos(&self, pos: u64, max: u64) -> Result<i64> {
        // SAFETY: The file is open.
        let pos = unsafe { bindings::vfs_setpos(self.as_raw(), pos as i64, max as i64) };
        to_pos(pos)
    }

    /// Removes set-id bits and capabilities and updates the times, `file_modified`. `inode` is the
    /// file's.
    ///
    /// # Errors
    ///
    /// Those of `file_modified`.
    pub(super) fn modified(&self, inode: &LockedInode<T>) -> Result {
        debug_assert!(core::ptr::eq::<Inode<T>>(&**inode, self.inode()));
        // SAFETY: The file is open, and its inode locked.
        to_result(unsafe { bindings::file_modified(self.as_raw()) })
    }

    /// Returns how many bytes of a write of `len` at `pos` the limits on the size of a file allow:
    /// `generic_write_check_limits`.
    ///
    /// # Errors
    ///
    /// `EFBIG` if none, with a `SIGXFSZ` for `RLIMIT_FSIZE`.
    pub fn write_check_limits(&self, pos: u64, len: u64) -> Result<u64> {
        let mut count = len as i64;
        // SAFETY: The file is open, `count` valid for the call.
        to_result(unsafe {
            bindings::generic_write_check_limits(self.as_raw(), pos as i64, &mut count)
        })?;
        Ok(count as u64)
    }
}

/// A file that `O_TMPFILE` opens, which has no inode yet.
pub struct TmpFile<'a, T: FileSystem>(*mut bindings::file, PhantomData<&'a T>);

impl<T: FileSystem> TmpFile<'_, T> {
    /// # Safety
    ///
    /// `file` is a file that is being opened by `->tmpfile`, during the lifetime of the result.
    pub(super) unsafe fn from_raw(file: *mut bindings::file) -> Self {
        Self(file, PhantomData)
    }

    /// Gives the file its inode, which is locked and loses its link. As `d_tmpfile`, which also
    /// marks the inode as dirty.
    pub fn set_inode(self, inode: NewInode<T>) {
        inode.drop_nlink();
        let inode = inode.into_raw();
        // SAFETY: `from_raw` was promised a file that `->tmpfile` is opening, with a dentry of its
        // own. The inode is locked and new, and its reference goes to the dentry.
        unsafe {
            bindings::d_mark_tmpfile(self.0, inode);
            bindings::d_instantiate_new((*self.0).__bindgen_anon_1.f_path.dentry, inode);
        }
    }
}

/// A read or write of a file, `struct kiocb`.
pub struct Kiocb<'a, T: FileSystem>(&'a mut bindings::kiocb, PhantomData<T>);

impl<'a, T: FileSystem> Kiocb<'a, T> {
    /// # Safety
    ///
    /// `kiocb` is of an open file of `T`, and not accessed otherwise during `'a`.
    pub(super) unsafe fn from_raw(kiocb: *mut bindings::kiocb) -> Self {
        // SAFETY: The caller guarantees that `kiocb` is valid, and not accessed otherwise.
        Self(unsafe { &mut *kiocb }, PhantomData)
    }

    /// Returns the file.
    pub fn file(&self) -> &'a File<T> {
        // SAFETY: `from_raw` was promised a file of `T`, to which the caller of `->read_iter` or
        // `->write_iter` has a reference.
        unsafe { File::from_raw(self.0.ki_filp) }
    }

    /// Returns the position in bytes.
    pub fn pos(&self) -> u64 {
        self.0.ki_pos as u64
    }

    /// Returns whether it fails rather than wait, `IOCB_NOWAIT`.
    pub fn is_nowait(&self) -> bool {
        self.0.ki_flags & bindings::IOCB_NOWAIT != 0
    }

    /// Takes the inode's lock exclusive, at once where it must not wait.
    ///
    /// # Errors
    ///
    /// `EAGAIN`.
    pub fn lock_inode(&self) -> Result<InodeGuard<'a, T>> {
        let inode = self.file().inode();
        if self.is_nowait() {
            inode.try_lock().ok_or(EAGAIN)
        } else {
            Ok(inode.lock())
        }
    }

    /// Checks limits, moves an appending write to the end of the file, and cuts `from` where it
    /// would pass a limit: `generic_write_checks`. Returns whether any bytes are to be written.
    ///
    /// # Errors
    ///
    /// `EFBIG`, `ETXTBSY`, `EINVAL`.
    pub fn write_checks(
        &mut self,
        _inode: &LockedInode<T>,
        from: &mut IovIterSource<'_>,
    ) -> Result<bool> {
        // SAFETY: Both are valid, the inode is locked.
        let count = unsafe { bindings::generic_write_checks(&mut *self.0, from.as_raw()) };
        if count < 0 {
            return Err(Error::from_errno(count as c_int));
        }
        Ok(count > 0)
    }

    /// As [`File::modified`], and without waiting where that is asked for: `kiocb_modified`.
    pub(super) fn modified(&mut self, _inode: &LockedInode<T>) -> Result {
        // SAFETY: The file is open, and its inode locked.
        to_result(unsafe { bindings::kiocb_modified(&mut *self.0) })
    }

    /// Calls `read` with the position, and moves the position by what that returns.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn read_with(
        &mut self,
        to: &mut IovIterDest<'_>,
        read: impl FnOnce(u64, &mut IovIterDest<'_>) -> Result<usize>,
    ) -> Result<usize> {
        let n = read(self.pos(), to)?;
        self.0.ki_pos += n as i64;
        Ok(n)
    }

    /// Calls `write` with the position, and moves the position by what that returns.
    ///
    /// What `write` has taken from `from` and not written goes back: io_uring goes on from where
    /// `from` is.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    pub fn write_with(
        &mut self,
        from: &mut IovIterSource<'_>,
        write: impl FnOnce(u64, &mut IovIterSource<'_>) -> Result<usize>,
    ) -> Result<usize> {
        let len = from.len();
        let written = write(self.pos(), from);
        let taken = len - from.len();
        // SAFETY: No more goes back than was taken.
        unsafe { from.revert(taken - written.unwrap_or(0).min(taken)) };
        let n = written?;
        self.0.ki_pos += n as i64;
        Ok(n)
    }
}

/// Returns a position that C returned, or the error that it stands for.
fn to_pos(pos: bindings::loff_t) -> Result<i64> {
    if pos < 0 {
        return Err(Error::from_errno(pos as c_int));
    }
    Ok(pos)
}

/// Where the entries of a directory go, `struct dir_context`.
pub struct DirContext<'a>(&'a mut bindings::dir_context);

impl<'a> DirContext<'a> {
    /// # Safety
    ///
    /// `ctx` is valid, and not accessed otherwise, during `'a`.
    pub(super) unsafe fn from_raw(ctx: *mut bindings::dir_context) -> Self {
        // SAFETY: The caller guarantees that `ctx` is valid, and not accessed otherwise.
        Self(unsafe { &mut *ctx })
    }

    /// Returns the position.
    pub fn pos(&self) -> u64 {
        self.0.pos as u64
    }

    /// Sets the position.
    pub fn set_pos(&mut self, pos: u64) {
        self.0.pos = pos as i64;
    }

    /// Emits "." and "..", at positions 0 and 1: `dir_emit_dots`. Returns whether there is room for
    /// more.
    pub fn emit_dots<T: FileSystem>(&mut self, file: &File<T>) -> bool {
        // SAFETY: Both are valid.
        unsafe { bindings::dir_emit_dots(file.as_raw(), &mut *self.0) }
    }

    /// Emits an entry, `dir_emit`. `file_type` is `S_IFMT` of the mode. Returns whether there was
    /// room.
    pub fn emit(&mut self, name: &[u8], ino: u64, file_type: u32) -> bool {
        let kind = file_type >> 12 & 15;
        // SAFETY: Both are valid.
        unsafe {
            bindings::dir_emit(
                &mut *self.0,
                name.as_ptr().cast(),
                name.len() as c_int,
                ino,
                kind,
            )
        }
    }
}
