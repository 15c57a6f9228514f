// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Files by their descriptors.
//!
//! Nothing is opened or closed here: to close any descriptor of a file takes away all POSIX locks that
//! the process has on it.

use crate::sys;
use std::{
    fs::{File, Metadata},
    io::{self, Seek, SeekFrom},
    mem::ManuallyDrop,
    ops::Deref,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd},
        unix::fs::FileExt,
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

/// The size in bytes.
pub(crate) fn size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    metadata(fd).map(|metadata| metadata.len())
}

pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    sys::open_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_WRONLY)
}

pub(crate) fn is_direct(fd: BorrowedFd<'_>) -> bool {
    sys::open_flags(fd).is_ok_and(|flags| flags & libc::O_DIRECT != 0)
}

/// What `O_DIRECT` wants offsets, lengths and memory to be multiples of, on all but rare devices.
pub(crate) const ALIGN: usize = 4096;

/// Memory to read into, also from a file open with `O_DIRECT`.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    /// Where it is aligned.
    start: usize,
}

impl Buffer {
    /// For up to `size` bytes at a time.
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        let mut memory = Vec::new();
        // The bytes, what is read around them, and what aligns them.
        let size = size + 3 * ALIGN;
        memory
            .try_reserve_exact(size)
            .map_err(|_| sys::error(libc::ENOMEM))?;
        memory.resize(size, 0);
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGN;
        Ok(Self { memory, start })
    }

    /// As `pread`, and at any offset also of a file open with `O_DIRECT`.
    pub(crate) fn read_at(
        &mut self,
        fd: BorrowedFd<'_>,
        size: usize,
        pos: u64,
    ) -> io::Result<&[u8]> {
        let memory = &mut self.memory[self.start..];
        let file = borrow(fd);
        if !is_direct(fd) {
            let got = file.read_at(&mut memory[..size], pos)?;
            return Ok(&memory[..got]);
        }
        let skip = pos as usize % ALIGN;
        let whole = (skip + size).next_multiple_of(ALIGN);
        let got = file.read_at(&mut memory[..whole], pos - skip as u64)?;
        let got = got.saturating_sub(skip).min(size);
        // Aligned for a write, too.
        memory.copy_within(skip..skip + got, 0);
        Ok(&memory[..got])
    }

    /// The same, but fewer bytes than asked for are there only at the end of the file.
    pub(crate) fn read_all_at(
        &mut self,
        fd: BorrowedFd<'_>,
        size: usize,
        pos: u64,
    ) -> io::Result<&[u8]> {
        if is_direct(fd) {
            return self.read_at(fd, size, pos);
        }
        let memory = &mut self.memory[self.start..][..size];
        let file = borrow(fd);
        let mut done = 0;
        while done < size {
            match file.read_at(&mut memory[done..], pos + done as u64)? {
                0 => break,
                got => done += got,
            }
        }
        Ok(&memory[..done])
    }
}
