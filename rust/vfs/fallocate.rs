// SPDX-License-Identifier: GPL-2.0

//! `fallocate(2)`. Compare `xfs_file_fallocate`.

use super::{
    change::Changing,
    file::{File, FileOperations},
    to_errno, MAX_FILE_SIZE,
};
use crate::bindings;
use kernel::{error::to_result, page::PAGE_SIZE, prelude::*};

/// What is to be done with a range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fallocate {
    /// Give room to all of it, so that no write there fails for want of it.
    Allocate,
    /// Give its room back: it reads as zeros.
    Punch,
    /// Make it read as zeros, with room.
    Zero,
    /// As [`Fallocate::Allocate`], and share none of it any more.
    Unshare,
    /// Take it out of the file: what lies behind moves to its place.
    Collapse,
    /// Put a hole of its length before it, which moves what lies there.
    Insert,
}

impl Fallocate {
    /// What the call's mode says, if it is one of these.
    fn of(mode: u32) -> Option<Self> {
        match mode & !bindings::FALLOC_FL_KEEP_SIZE {
            bindings::FALLOC_FL_ALLOCATE_RANGE => Some(Self::Allocate),
            bindings::FALLOC_FL_PUNCH_HOLE => Some(Self::Punch),
            bindings::FALLOC_FL_ZERO_RANGE => Some(Self::Zero),
            bindings::FALLOC_FL_UNSHARE_RANGE => Some(Self::Unshare),
            bindings::FALLOC_FL_COLLAPSE_RANGE => Some(Self::Collapse),
            bindings::FALLOC_FL_INSERT_RANGE => Some(Self::Insert),
            _ => None,
        }
    }
}

/// # Safety
///
/// `file` is an open regular file of `T`; the VFS has checked the range, which is not empty.
pub(super) unsafe extern "C" fn fallocate<T: FileOperations>(
    file: *mut bindings::file,
    mode: c_int,
    offset: bindings::loff_t,
    len: bindings::loff_t,
) -> c_long {
    // SAFETY: By the safety requirements.
    let file = unsafe { File::<T>::from_raw(file) };
    let result = fallocate_range(file, mode as u32, offset as u64, len as u64);
    to_errno(result) as c_long
}

fn fallocate_range<T: FileOperations>(file: &File<T>, mode: u32, start: u64, len: u64) -> Result {
    let what = Fallocate::of(mode).ok_or(EOPNOTSUPP)?;
    let inode = file.inode().lock();
    let (end, old_size) = (start + len, inode.size());
    let is_aligned = start % PAGE_SIZE as u64 == 0 && len % PAGE_SIZE as u64 == 0;
    let size = match what {
        Fallocate::Collapse | Fallocate::Insert if !is_aligned => return Err(EINVAL),
        // To take the end away is what truncation is for.
        Fallocate::Collapse if end >= old_size => return Err(EINVAL),
        Fallocate::Collapse => old_size - len,
        Fallocate::Insert if len > MAX_FILE_SIZE - old_size => return Err(EFBIG),
        Fallocate::Insert if start >= old_size => return Err(EINVAL),
        Fallocate::Insert => old_size + len,
        _ if mode & bindings::FALLOC_FL_KEEP_SIZE == 0 => old_size.max(end),
        _ => old_size,
    };
    if size > old_size {
        // SAFETY: The inode is live and locked.
        to_result(unsafe { bindings::inode_newsize_ok(inode.as_raw(), size as i64) })?;
    }
    // The VFS has looked at this before it had the lock.
    if inode.is_append_only() && what != Fallocate::Allocate {
        return Err(EPERM);
    }
    let inode = Changing::begin(&inode, file)?;
    T::fallocate(&inode, what, start..end, size)
}
