// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls that change nothing: seeking, querying, writing back, advice, locks.

use std::os::fd::AsRawFd;

use super::{Caller, Piece};
use crate::extents::{fiemap, FLAG_SYNC};
use crate::failure::{Errno, Sys};
use crate::sys::check;

pub use super::NEEDS;

fn seek(caller: &Caller<'_>, piece: Piece, whence: i32) -> Sys<usize> {
    let found = caller.bomb.file.seek(piece.offset as i64, whence)?;
    Ok(found as usize)
}

pub fn seek_data(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    seek(caller, piece, libc::SEEK_DATA)
}

pub fn seek_hole(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    seek(caller, piece, libc::SEEK_HOLE)
}

pub fn seek_end(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    seek(caller, piece, libc::SEEK_END)
}

fn map(caller: &Caller<'_>, piece: Piece, flags: u32, room: u32) -> Sys<usize> {
    let (count, _) = fiemap(&caller.bomb.file, piece.offset, piece.len, flags, room)?;
    Ok(count as usize)
}

pub fn fiemap_counting(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    map(caller, piece, 0, 0)
}

pub fn fiemap_one(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    map(caller, piece, FLAG_SYNC, 1)
}

pub fn fiemap_many(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    map(caller, piece, 0, 100_000)
}

pub fn fsync(caller: &Caller<'_>, _: Piece) -> Sys<usize> {
    let fd = caller.bomb.file.as_raw_fd();
    // SAFETY: plain calls on an open descriptor.
    unsafe {
        check(libc::fsync(fd))?;
        check(libc::fdatasync(fd))?;
        check(libc::syncfs(fd))
    }
}

pub fn sync_file_range(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let (fd, offset, len) = (
        caller.bomb.file.as_raw_fd(),
        piece.offset as i64,
        piece.len as i64,
    );
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::sync_file_range(fd, offset, len, 7) })
}

/// Gives every advice.
pub fn posix_fadvise(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let (offset, len) = (piece.offset as i64, piece.len as i64);
    for advice in 0..6 {
        // SAFETY: plain call on an open descriptor.
        match unsafe { libc::posix_fadvise(caller.bomb.file.as_raw_fd(), offset, len, advice) } {
            0 => {}
            errno => return Err(Errno(errno)),
        }
    }
    Ok(0)
}

pub fn readahead(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let (fd, offset, len) = (
        caller.bomb.file.as_raw_fd(),
        piece.offset as i64,
        piece.len as usize,
    );
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::readahead(fd, offset, len) } as i64)
}

pub fn cachestat(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = [piece.offset, piece.len];
    let mut counts = [0u64; 5];
    let fd = caller.bomb.file.as_raw_fd();
    // SAFETY: a range of two words and room for five counts.
    check(unsafe { libc::syscall(SYS_CACHESTAT, fd, range.as_ptr(), counts.as_mut_ptr(), 0u32) })
}

/// Takes a lock of the range, queries it, releases it.
pub fn locks(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let fd = caller.bomb.file.as_raw_fd();
    for (command, kind) in [
        (libc::F_SETLK, libc::F_WRLCK),
        (libc::F_GETLK, libc::F_RDLCK),
        (libc::F_OFD_SETLK, libc::F_RDLCK),
        (libc::F_SETLK, libc::F_UNLCK),
    ] {
        // SAFETY: a flock of zeros is a valid value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_start = piece.offset as i64;
        lock.l_len = piece.len as i64;
        // SAFETY: the lock is valid during the call.
        check(unsafe { libc::fcntl(fd, command, &mut lock) })?;
    }
    Ok(0)
}

pub fn statx(caller: &Caller<'_>, _: Piece) -> Sys<usize> {
    let fd = caller.bomb.file.as_raw_fd();
    // SAFETY: a statx and a statfs of zeros are valid values, and valid during the calls.
    unsafe {
        let mut statx: libc::statx = std::mem::zeroed();
        let mut statfs: libc::statfs = std::mem::zeroed();
        let (empty, all) = (libc::AT_EMPTY_PATH, libc::STATX_ALL);
        check(libc::statx(fd, c"".as_ptr(), empty, all, &mut statx))?;
        check(libc::fstatfs(fd, &mut statfs))
    }
}
