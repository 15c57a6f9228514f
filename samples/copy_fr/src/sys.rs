// SPDX-License-Identifier: GPL-2.0 OR MIT

//! System calls.

use reflink_sys::{FiemapExtent, FileDedupeRangeInfo, FILE_DEDUPE_RANGE_DIFFERS};
use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// The most extents of one FIEMAP call.
const EXTENTS: u32 = 32;

const FIGETBSZ: libc::Ioctl = libc::_IO(0, 2);
const FS_IOC_UNRESVSP64: libc::Ioctl = libc::_IOW::<SpaceRequest>(b'X' as u32, 43);

/// `struct space_resv`.
#[repr(C)]
#[derive(Default)]
struct SpaceRequest {
    kind: i16,
    whence: i16,
    start: i64,
    len: i64,
    sysid: i32,
    pid: u32,
    reserved: [i32; 4],
}

pub(crate) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

pub(crate) fn is(err: &io::Error, errno: i32) -> bool {
    err.raw_os_error() == Some(errno)
}

/// Makes the call, with positions that are not negative.
pub(crate) fn copy_file_range(
    from: BorrowedFd<'_>,
    from_pos: Option<&mut u64>,
    to: BorrowedFd<'_>,
    to_pos: Option<&mut u64>,
    len: usize,
    flags: u32,
) -> io::Result<usize> {
    let signed = |pos: &Option<&mut u64>| pos.as_ref().map(|pos| **pos as i64);
    let (mut at, mut to_at) = (signed(&from_pos), signed(&to_pos));
    let copied = reflink_sys::copy_file_range(&from, at.as_mut(), &to, to_at.as_mut(), len, flags)?;
    for (pos, moved) in [(from_pos, at), (to_pos, to_at)] {
        if let (Some(pos), Some(moved)) = (pos, moved) {
            *pos = moved as u64;
        }
    }
    Ok(copied)
}

/// Returns whether an error means that there is no such call: an old kernel, or a seccomp filter. A
/// filter may return `EPERM`, but returns it for closed descriptors, too.
pub(crate) fn copy_file_range_is_missing(err: &io::Error) -> bool {
    if !is(err, libc::EPERM) {
        return is(err, libc::ENOSYS);
    }
    const NONE: libc::c_int = -1;
    let no_offset = ptr::null_mut::<u64>();
    // SAFETY: Neither descriptor is open, and there is no offset.
    let result = unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            NONE,
            no_offset,
            NONE,
            no_offset,
            0usize,
            0,
        )
    };
    result == -1 && !is(&io::Error::last_os_error(), libc::EBADF)
}

/// # Safety
///
/// `argument` has the type that the request takes.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: By the safety requirements.
    if unsafe { libc::ioctl(fd.as_raw_fd(), request, ptr::from_mut(argument)) } == -1 {
        return Err(remap_error(io::Error::last_os_error()));
    }
    Ok(())
}

/// Filesystems that cannot share return several errors for that.
fn remap_error(err: io::Error) -> io::Error {
    const KERNEL_ENOTSUPP: i32 = 524;

    match err.raw_os_error() {
        Some(libc::ENOTTY | KERNEL_ENOTSUPP) => error(libc::EOPNOTSUPP),
        _ => err,
    }
}

/// Calls `FICLONERANGE`.
pub(crate) fn clone_range(
    from: BorrowedFd<'_>,
    from_pos: u64,
    to: BorrowedFd<'_>,
    to_pos: u64,
    len: u64,
) -> io::Result<()> {
    reflink_sys::ficlonerange(&to, to_pos, &from, from_pos, len).map_err(remap_error)
}

/// Calls `FIDEDUPERANGE` with one destination. Returns the number of bytes done.
pub(crate) fn dedupe_range(
    from: BorrowedFd<'_>,
    from_pos: u64,
    to: BorrowedFd<'_>,
    to_pos: u64,
    len: u64,
) -> io::Result<u64> {
    let mut destination = [FileDedupeRangeInfo::new(&to, to_pos)];
    reflink_sys::fideduperange(&from, from_pos, len, &mut destination).map_err(remap_error)?;
    match destination[0].status {
        0 => Ok(destination[0].bytes_deduped),
        FILE_DEDUPE_RANGE_DIFFERS => Err(error(libc::EBADE)),
        status => Err(remap_error(error(-status))),
    }
}

/// Returns the block size of the filesystem, in bytes.
pub(crate) fn block_size(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size: libc::c_int = 0;
    // SAFETY: The request takes an int.
    unsafe { ioctl(file, FIGETBSZ, &mut size)? };
    Ok(size as u64)
}

/// Returns the first extents of a range.
pub(crate) fn fiemap(
    file: BorrowedFd<'_>,
    range: Range<u64>,
    flags: u32,
) -> io::Result<Vec<FiemapExtent>> {
    let len = range.end - range.start;
    let (_, extents) =
        reflink_sys::fiemap(&file, range.start, len, flags, EXTENTS).map_err(remap_error)?;
    Ok(extents)
}

/// Frees the blocks of a range, as `fallocate` with `FALLOC_FL_PUNCH_HOLE`.
pub(crate) fn punch(file: BorrowedFd<'_>, start: u64, len: u64) -> io::Result<()> {
    let mut request = SpaceRequest {
        start: start as i64,
        len: len as i64,
        ..Default::default()
    };
    // SAFETY: The request takes this structure.
    unsafe { ioctl(file, FS_IOC_UNRESVSP64, &mut request) }
}

/// Returns the begin of the next data from `pos` on, or of the next hole, by `SEEK_DATA` or
/// `SEEK_HOLE`. This moves the file position; restores it.
pub(crate) fn seek_from(file: BorrowedFd<'_>, pos: u64, whence: libc::c_int) -> io::Result<u64> {
    let seek = |pos, whence| {
        // SAFETY: It takes no pointer.
        match unsafe { libc::lseek64(file.as_raw_fd(), pos, whence) } {
            -1 => Err(io::Error::last_os_error()),
            pos => Ok(pos),
        }
    };
    let old = seek(0, libc::SEEK_CUR)?;
    let found = seek(pos as i64, whence);
    seek(old, libc::SEEK_SET)?;
    found.map(|pos| pos as u64)
}

/// Returns whether FIEMAP reports shared blocks: SMB has FIEMAP, but does not know.
pub(crate) fn tells_what_is_shared(file: BorrowedFd<'_>) -> bool {
    const SMB: [u32; 3] = [0xff53_4d42, 0xfe53_4d42, 0x517b];

    let mut buffer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: The call writes to `buffer`, which is valid if it is all zeros, too.
    let (result, statfs) = unsafe {
        let result = libc::fstatfs(file.as_raw_fd(), buffer.as_mut_ptr());
        (result, buffer.assume_init())
    };
    result == 0 && !SMB.contains(&(statfs.f_type as u32))
}

/// Returns the flags that the file was opened with.
pub(crate) fn open_flags(file: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: It takes no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

/// Returns `RLIMIT_FSIZE`, or `None` if there is none.
pub(crate) fn file_size_limit() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: It writes to `limit`.
    if unsafe { libc::getrlimit64(libc::RLIMIT_FSIZE, &mut limit) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(limit.rlim_cur).filter(|&limit| limit != libc::RLIM64_INFINITY))
}

/// Sends the signal of a write beyond the limit.
pub(crate) fn raise_file_size() {
    // SAFETY: It takes no pointer.
    unsafe { libc::raise(libc::SIGXFSZ) };
}
