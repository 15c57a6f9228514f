// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reading and writing, and moving bytes through pipes.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Caller, Piece, BUFFER};
use crate::failure::{Context, Outcome, Sys};
use crate::sys::{check, read_to, write_from};

pub use super::NEEDS;

pub fn impatient_pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })
        .or_fail("pipe2")?;
    // SAFETY: the kernel just gave us both.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Returns a list of the same buffer, with as many bytes as one call can move.
fn vectors(caller: &Caller<'_>) -> Vec<libc::iovec> {
    let vector = libc::iovec {
        iov_base: caller.buffer.at(0).cast(),
        iov_len: BUFFER,
    };
    vec![vector; 1024]
}

pub fn read(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    caller.bomb.file.seek(piece.offset as i64, libc::SEEK_SET)?;
    read_to(&caller.bomb.file, caller.buffer.at(0), BUFFER)
}

pub fn preadv2(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let vectors = vectors(caller);
    let (fd, offset) = (caller.bomb.file.as_raw_fd(), piece.offset as i64);
    // SAFETY: the vectors lie in the buffer, which no reference points at.
    check(unsafe { libc::preadv2(fd, vectors.as_ptr(), 1024, offset, 0) } as i64)
}

pub fn preadv2_nowait(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let vectors = vectors(caller);
    let (fd, offset) = (caller.bomb.file.as_raw_fd(), piece.offset as i64);
    // SAFETY: as in `preadv2`.
    check(unsafe { libc::preadv2(fd, vectors.as_ptr(), 1024, offset, libc::RWF_NOWAIT) } as i64)
}

pub fn write(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    caller.bomb.file.seek(piece.offset as i64, libc::SEEK_SET)?;
    write_from(&caller.bomb.file, caller.buffer.at(0), BUFFER)
}

pub fn pwritev2(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let vectors = vectors(caller);
    let (fd, offset) = (caller.bomb.file.as_raw_fd(), piece.offset as i64);
    // SAFETY: the vectors lie in the buffer.
    check(unsafe { libc::pwritev2(fd, vectors.as_ptr(), 1024, offset, 0) } as i64)
}

pub fn splice_to_a_pipe(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let mut offset = piece.offset as i64;
    let (file, pipe) = (caller.bomb.file.as_raw_fd(), caller.pipe.1.as_raw_fd());
    // SAFETY: the offset is valid during the call.
    check(unsafe {
        let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
        libc::splice(file, &mut offset, pipe, none, piece.len as usize, flags) as i64
    })
}

pub fn splice_from_a_pipe(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    write_from(&caller.pipe.1, caller.buffer.at(0), 64 << 10)?;
    let mut offset = piece.offset as i64;
    let (file, pipe) = (caller.bomb.file.as_raw_fd(), caller.pipe.0.as_raw_fd());
    // SAFETY: the offset is valid during the call.
    check(unsafe {
        let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
        libc::splice(pipe, none, file, &mut offset, piece.len as usize, flags) as i64
    })
}

fn sendfile(from: i32, to: i32, piece: Piece) -> Sys<usize> {
    let mut offset = piece.offset as i64;
    // SAFETY: the offset is valid during the call.
    check(unsafe { libc::sendfile(to, from, &mut offset, piece.len as usize) } as i64)
}

pub fn sendfile_to_nowhere(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    sendfile(caller.bomb.file.as_raw_fd(), caller.null.as_raw_fd(), piece)
}

pub fn sendfile_to_a_file(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    caller.bomb.file.seek(piece.offset as i64, libc::SEEK_SET)?;
    let (other, file) = (&caller.bomb.other, &caller.bomb.file);
    sendfile(other.as_raw_fd(), file.as_raw_fd(), piece)
}
