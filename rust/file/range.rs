// SPDX-License-Identifier: GPL-2.0

//! Copying and sharing ranges of files of any filesystem.
//!
//! Compare `fs/read_write.c`, `fs/remap_range.c`.

use super::AnyFile;
use crate::{
    bindings,
    compat::EOPNOTSUPP,
    copy_flags::{
        COPY_FR_COPY,
        COPY_FR_REFLINK, //
    },
};
use core::mem::MaybeUninit;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// A range of one file that is to go to another. Positions and lengths are in bytes, and end below
/// 2^63.
#[derive(Clone, Copy)]
pub(crate) struct Range<'a> {
    /// The source.
    pub(crate) from: &'a AnyFile,
    /// Where the range begins in the source.
    pub(crate) from_pos: u64,
    /// The destination, which may be the source.
    pub(crate) to: &'a AnyFile,
    /// Where the range goes.
    pub(crate) to_pos: u64,
    /// How long it is.
    pub(crate) len: u64,
}

fn to_count(result: i64) -> Result<u64> {
    u64::try_from(result).map_err(|_| Error::from_errno(result as c_int))
}

impl<'a> Range<'a> {
    /// `len` bytes of it, from `skip` on.
    pub(crate) fn part(&self, skip: u64, len: u64) -> Range<'a> {
        Range {
            from_pos: self.from_pos + skip,
            to_pos: self.to_pos + skip,
            len,
            ..*self
        }
    }

    /// Whether the process may read the one and write the other, see `rw_verify_area`.
    ///
    /// # Errors
    ///
    /// Those of the security modules.
    pub(crate) fn rw_verify_area(&self) -> Result {
        let verify = |file: &AnyFile, pos, access| {
            let pos = pos as i64;
            // SAFETY: The file is open, `pos` valid for the call.
            to_result(unsafe {
                bindings::rw_verify_area(access, file.as_raw(), &pos, self.len as usize)
            })
        };
        verify(self.from, self.from_pos, bindings::READ as c_int)?;
        verify(self.to, self.to_pos, bindings::WRITE as c_int)
    }

    /// Shares the range, as `FICLONERANGE` does. Returns how many bytes.
    ///
    /// Where a filesystem that takes flags is below overlayfs, which passes these on: fewer than
    /// all where it cannot share what follows. No ioctl has it cut a clone short: so it knows that
    /// this is none, and copies nothing (see
    /// [`FOP_COPY_FLAGS`](crate::copy_flags::FOP_COPY_FLAGS)).
    ///
    /// # Errors
    ///
    /// See the manual page of `ioctl_ficlonerange`; `EBUSY` where it cannot share the beginning.
    pub(crate) fn clone_file_range(&self) -> Result<u64> {
        let flags = match self.to.data_takes_copy_flags() {
            true => bindings::REMAP_FILE_CAN_SHORTEN,
            false => 0,
        };
        // SAFETY: Both files are open.
        to_count(unsafe {
            bindings::vfs_clone_file_range(
                self.from.as_raw(),
                self.from_pos as i64,
                self.to.as_raw(),
                self.to_pos as i64,
                self.len as i64,
                flags,
            )
        })
    }

    /// Shares the range if both files hold the same bytes, as `FIDEDUPERANGE` does, but for its
    /// limit to the length, and that a length which is not aligned is an error. Returns how many
    /// bytes.
    ///
    /// # Errors
    ///
    /// See the manual page of `ioctl_fideduperange`; `EBADE` where the bytes differ.
    pub(crate) fn dedupe(&self) -> Result<u64> {
        self.dedupe_one(self.len, 0)
    }

    /// Asks the filesystem whether it would deduplicate from these positions on: for one byte,
    /// which is less than a block and may be shortened to nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` where the positions are not aligned, `EOPNOTSUPP` where the filesystem cannot.
    pub(crate) fn try_dedupe(&self) -> Result {
        self.dedupe_one(1, bindings::REMAP_FILE_CAN_SHORTEN)
            .map(drop)
    }

    /// Calls `vfs_dedupe_file_range_one` for `len` bytes. `flags` are `REMAP_FILE_*`.
    fn dedupe_one(&self, len: u64, flags: u32) -> Result<u64> {
        // SAFETY: Both files are open.
        to_count(unsafe {
            bindings::vfs_dedupe_file_range_one(
                self.from.as_raw(),
                self.from_pos as i64,
                self.to.as_raw(),
                self.to_pos as i64,
                len as i64,
                flags,
            )
        })
    }

    /// Returns whether splicing would go by the rules of `O_DIRECT`, which refuse what is not
    /// aligned.
    pub(crate) fn is_direct(&self) -> bool {
        self.from.is_direct() || self.to.is_direct()
    }

    /// Copies the bytes through the page caches and a buffer, whether the files were opened with
    /// `O_DIRECT` or not. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of reading and writing, `ENOMEM`.
    pub(crate) fn copy_buffered(&self) -> Result<u64> {
        const BUFFER_BYTES: u64 = 128 << 10;

        let mut buffer = KVVec::from_elem(0u8, self.len.min(BUFFER_BYTES) as usize, GFP_KERNEL)?;
        let mut done = 0;
        while done < self.len {
            let (wanted, written) = match self.part(done, self.len - done).step(&mut buffer) {
                Ok(step) => step,
                Err(err) if done == 0 => return Err(err),
                Err(_) => break,
            };
            done += written;
            if written < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// Copies what fits into the buffer. Returns how much that is, and how much was copied.
    fn step(&self, buffer: &mut [u8]) -> Result<(u64, u64)> {
        let wanted = self.len.min(buffer.len() as u64);
        let read = self
            .from
            .transfer(buffer, wanted as usize, self.from_pos, false);
        count_read(read);
        let read = to_count(read as i64)?;
        let written = self.to.transfer(buffer, read as usize, self.to_pos, true);
        count_write(written);
        Ok((wanted, to_count(written as i64)?))
    }

    /// Copies the bytes by splicing, through the page caches. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of reading and writing.
    pub(crate) fn splice(&self) -> Result<u64> {
        // SAFETY: Both files are open.
        to_count(unsafe {
            bindings::vfs_copy_file_range(
                self.from.as_raw(),
                self.from_pos as i64,
                self.to.as_raw(),
                self.to_pos as i64,
                self.len as usize,
                bindings::COPY_FILE_SPLICE,
            )
        } as i64)
    }

    /// Does what `flag` says by the filesystem's own method, which both files have and which takes
    /// flags. Returns how many bytes. Does around it what `vfs_copy_file_range` does, and
    /// `vfs_clone_file_range`; deduplication does not change contents, so that no fsnotify event is
    /// sent.
    ///
    /// # Errors
    ///
    /// Those of the method; `EOPNOTSUPP` where there is none.
    pub(crate) fn call_copy_file_range(&self, flag: u32) -> Result<u64> {
        if !self.from.takes_copy_flags() || !self.from.same_copy_file_range(self.to) {
            return Err(EOPNOTSUPP);
        }
        let method = self.to.operations().copy_file_range.ok_or(EOPNOTSUPP)?;
        let (from, to) = (self.from.as_raw(), self.to.as_raw());
        // SAFETY: Both files are open, the method is that of both.
        to_count(unsafe {
            bindings::file_start_write(to);
            let result = method(
                from,
                self.from_pos as i64,
                to,
                self.to_pos as i64,
                self.len as usize,
                flag,
            );
            bindings::file_end_write(to);
            if flag == COPY_FR_COPY && result > 0 || flag == COPY_FR_REFLINK && result >= 0 {
                bindings::fsnotify_access(from);
                bindings::fsnotify_modify(to);
            }
            if flag == COPY_FR_COPY {
                count_read(result);
                count_write(result);
            }
            result
        } as i64)
    }
}

/// Counts a read of the current task, of which `len` is the result (`rchar` of `/proc/PID/io`).
fn count_read(len: isize) {
    // SAFETY: The task is the current one, whose counters no other changes.
    unsafe {
        let task = bindings::get_current();
        bindings::add_rchar(task, len.max(0));
        bindings::inc_syscr(task);
    }
}

/// Counts a write of the current task, as [`count_read`].
fn count_write(len: isize) {
    // SAFETY: The task is the current one, whose counters no other changes.
    unsafe {
        let task = bindings::get_current();
        bindings::add_wchar(task, len.max(0));
        bindings::inc_syscw(task);
    }
}

impl AnyFile {
    /// Reads `len` bytes from `pos` on into `buffer`, or writes them from there, as far as the
    /// buffer has them, through the page cache, whether the file was opened with `O_DIRECT` or not.
    /// Returns what the C function does.
    fn transfer(&self, buffer: &mut [u8], len: usize, pos: u64, write: bool) -> isize {
        let vec = bindings::kvec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: len.min(buffer.len()),
        };
        let mut kiocb = MaybeUninit::uninit();
        let mut iter = MaybeUninit::uninit();
        let iter = iter.as_mut_ptr();
        // SAFETY: The file is open. `kiocb` and `iter` are initialised before they are used; `vec`
        // and the buffer stay in place until the call is over.
        unsafe {
            bindings::init_sync_kiocb(kiocb.as_mut_ptr(), self.as_raw());
            let kiocb = kiocb.assume_init_mut();
            kiocb.ki_flags &= !(bindings::IOCB_DIRECT as c_int);
            kiocb.ki_pos = pos as i64;
            if write {
                bindings::iov_iter_kvec(iter, bindings::ITER_SOURCE, &vec, 1, vec.iov_len);
                bindings::vfs_iocb_iter_write(self.as_raw(), kiocb, iter)
            } else {
                bindings::iov_iter_kvec(iter, bindings::ITER_DEST, &vec, 1, vec.iov_len);
                bindings::vfs_iocb_iter_read(self.as_raw(), kiocb, iter)
            }
        }
    }
}
