// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Files by their descriptors.
//!
//! Opens and closes no file: closing any descriptor of a file releases all POSIX locks that the
//! process has on it.

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

/// Returns the given position, or the file position.
pub(crate) fn position_or(fd: BorrowedFd<'_>, given: Option<&u64>) -> io::Result<u64> {
    given.map_or_else(|| position(fd), |pos| Ok(*pos))
}

/// Sets the given position, or the file position, to `pos`.
pub(crate) fn advance(fd: BorrowedFd<'_>, given: Option<&mut u64>, pos: u64) {
    match given {
        Some(given) => *given = pos,
        // A regular file, and a position below 2^63: this cannot fail.
        None => drop((&*borrow(fd)).seek(SeekFrom::Start(pos))),
    }
}

/// Returns the size in bytes.
pub(crate) fn size(fd: BorrowedFd<'_>) -> io::Result<u64> {
    metadata(fd).map(|metadata| metadata.len())
}

pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    sys::open_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_WRONLY)
}

pub(crate) fn is_direct(fd: BorrowedFd<'_>) -> bool {
    sys::open_flags(fd).is_ok_and(|flags| flags & libc::O_DIRECT != 0)
}

/// The alignment of offsets, lengths and memory for `O_DIRECT`, enough for all but rare devices.
pub(crate) const ALIGN: usize = 4096;

/// Memory to read into, aligned for `O_DIRECT`.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    /// The aligned start.
    start: usize,
}

impl Buffer {
    /// Allocates memory for reads of up to `size` bytes.
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        let mut memory = Vec::new();
        // The bytes, the unaligned rests around them, and the alignment.
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

    /// As `read_at`, but returns fewer bytes only at the end of the file.
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
