// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The kernel's calls that share blocks between files and report shared blocks:
//! `copy_file_range(2)` with its flags, `ioctl_ficlone(2)`, `ioctl_fideduperange(2)` and
//! `FS_IOC_FIEMAP` (`include/uapi/linux/fs.h`, `fiemap.h`). Each function makes one call and
//! returns the kernel's error.

mod dedupe;
mod fiemap;

use std::{io, os::fd::AsRawFd, ptr};

pub use dedupe::{fideduperange, FileDedupeRangeInfo, FIDEDUPERANGE, FILE_DEDUPE_RANGE_DIFFERS};
pub use fiemap::{
    fiemap, FiemapExtent, FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_SHARED, FIEMAP_EXTENT_UNWRITTEN,
    FIEMAP_FLAG_CACHE, FIEMAP_FLAG_SYNC, FIEMAP_FLAG_XATTR, FS_IOC_FIEMAP,
};
pub use libc::{file_clone_range, FICLONE, FICLONERANGE};

/// Calls `copy_file_range(2)` itself, as the C library's function may refuse flags. `None` is the
/// file position. Returns the number of bytes copied.
///
/// # Errors
///
/// Those of the call.
pub fn copy_file_range(
    from: &impl AsRawFd,
    from_pos: Option<&mut i64>,
    to: &impl AsRawFd,
    to_pos: Option<&mut i64>,
    len: usize,
    flags: u32,
) -> io::Result<usize> {
    // SAFETY: The pointers are NULL or point to offsets that are borrowed for the call.
    let copied = unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            from.as_raw_fd(),
            from_pos.map_or(ptr::null_mut(), ptr::from_mut),
            to.as_raw_fd(),
            to_pos.map_or(ptr::null_mut(), ptr::from_mut),
            len,
            flags,
        )
    };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
}

/// Makes `to` a clone of `from`.
///
/// # Errors
///
/// Those of the call; `ENOTTY` if the filesystem has no clones.
pub fn ficlone(to: &impl AsRawFd, from: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: The argument is a number.
    result(unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) })
}

/// Shares `len` bytes from `from_pos` in `from` at `to_pos` in `to`; `len` 0 is up to the end.
///
/// # Errors
///
/// Those of the call; `ENOTTY` if the filesystem has no clones.
pub fn ficlonerange(
    to: &impl AsRawFd,
    to_pos: u64,
    from: &impl AsRawFd,
    from_pos: u64,
    len: u64,
) -> io::Result<()> {
    let range = file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: from_pos,
        src_length: len,
        dest_offset: to_pos,
    };
    // SAFETY: The call reads a `struct file_clone_range`.
    result(unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &range) })
}

fn result(returned: libc::c_int) -> io::Result<()> {
    match returned {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes a request of a header and `items` after it, aligned for both.
fn request<Header: Copy, T: Copy>(header: Header, items: &[T]) -> Vec<u64> {
    const { assert!(size_of::<Header>() % 8 == 0 && size_of::<T>() % 8 == 0) };
    const { assert!(align_of::<Header>() <= 8 && align_of::<T>() <= 8) };
    let mut words = vec![0; (size_of::<Header>() + size_of_val(items)) / 8];
    let start: *mut u64 = words.as_mut_ptr();
    // SAFETY: There is room for a header and the items, and words are aligned for both.
    unsafe {
        start.cast::<Header>().write(header);
        let behind = start.add(size_of::<Header>() / 8).cast::<T>();
        behind.copy_from_nonoverlapping(items.as_ptr(), items.len());
    }
    words
}

/// Returns the header of a request, and the items after it.
///
/// # Safety
///
/// `words` was made by [`request`] for these types, and every pattern of bits is a value of both.
unsafe fn reply<Header: Copy, T: Copy>(words: &[u64]) -> (Header, &[T]) {
    let count = (words.len() * 8 - size_of::<Header>()) / size_of::<T>();
    // SAFETY: `request` made room for both, aligned; any bits are a value, by the caller.
    unsafe {
        let behind = words.as_ptr().add(size_of::<Header>() / 8).cast::<T>();
        (
            words.as_ptr().cast::<Header>().read(),
            std::slice::from_raw_parts(behind, count),
        )
    }
}
