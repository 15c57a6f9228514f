// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Files by their descriptors.

use crate::sys;
use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Seek, SeekFrom},
    mem::ManuallyDrop,
    ops::Deref,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd},
        unix::fs::OpenOptionsExt,
    },
};

/// A [`File`] that does not close the descriptor.
pub(crate) fn borrow(fd: BorrowedFd<'_>) -> impl Deref<Target = File> + '_ {
    // SAFETY: The descriptor is open for as long as it is borrowed, and is not closed here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) })
}

pub(crate) fn metadata(fd: BorrowedFd<'_>) -> io::Result<Metadata> {
    borrow(fd).metadata()
}

pub(crate) fn position(fd: BorrowedFd<'_>) -> io::Result<u64> {
    (&*borrow(fd)).stream_position()
}

/// What the caller gave, or the file position.
pub(crate) fn position_or(fd: BorrowedFd<'_>, given: Option<&u64>) -> io::Result<u64> {
    given.map_or_else(|| position(fd), |pos| Ok(*pos))
}

/// Moves what the caller gave, or the file position, to `pos`.
pub(crate) fn advance(fd: BorrowedFd<'_>, given: Option<&mut u64>, pos: u64) {
    match given {
        Some(given) => *given = pos,
        // A regular file, and a position below 2^63: nothing to go wrong.
        None => drop((&*borrow(fd)).seek(SeekFrom::Start(pos))),
    }
}

/// Zeroed memory.
pub(crate) fn buffer(size: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(size)
        .map_err(|_| sys::error(libc::ENOMEM))?;
    buffer.resize(size, 0);
    Ok(buffer)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A file of which any part may be read or written.
pub(crate) enum Buffered<'a> {
    Given(BorrowedFd<'a>),
    Own(File),
}

impl Buffered<'_> {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Given(fd) => *fd,
            Self::Own(file) => file.as_fd(),
        }
    }
}

/// The same file for `access`, without `O_DIRECT`: the given descriptor if it will do, else a new
/// one; `None` where there is none.
pub(crate) fn buffered(fd: BorrowedFd<'_>, access: Access) -> Option<Buffered<'_>> {
    let flags = sys::open_flags(fd).ok()?;
    let wanted = match access {
        Access::Read => libc::O_RDONLY,
        Access::Write => libc::O_WRONLY,
    };
    let mode = flags & libc::O_ACCMODE;
    if flags & libc::O_DIRECT == 0 && (mode == wanted || mode == libc::O_RDWR) {
        return Some(Buffered::Given(fd));
    }
    OpenOptions::new()
        .read(access == Access::Read)
        .write(access == Access::Write)
        .custom_flags(flags & libc::O_SYNC)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .ok()
        .map(Buffered::Own)
}
