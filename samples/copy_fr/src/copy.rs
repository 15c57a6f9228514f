// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `COPY_FR_COPY`: through this process's memory, so that nothing can come out shared.

use crate::{
    fallback::Range,
    file::{self, Access},
    sys,
};
use std::{fs::File, io, os::unix::fs::FileExt};

/// How much is read at a time.
pub(crate) const BUFFER: usize = 256 << 10;

/// Copies the range. Returns how much: less than all where something got in the way.
pub(crate) fn copy(range: &Range<'_>) -> io::Result<usize> {
    let mut buffer = file::buffer(range.len.min(BUFFER))?;
    let from = file::buffered(range.from, Access::Read);
    let to = file::buffered(range.to, Access::Write);
    let from = from.as_ref().map_or(range.from, file::Buffered::fd);
    let to = to.as_ref().map_or(range.to, file::Buffered::fd);
    let (from, to) = (file::borrow(from), file::borrow(to));

    let mut done = 0;
    while done < range.len {
        let size = buffer.len().min(range.len - done);
        match step(range, &from, &to, done, &mut buffer[..size]) {
            Ok((read, written)) => {
                done += written;
                // What stopped a write half way is what the next call will say.
                if written < read {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
            Err(err) => return Err(err),
        }
    }
    Ok(done)
}

/// Returns how much was read, and how much of it was written.
fn step(
    range: &Range<'_>,
    from: &File,
    to: &File,
    done: usize,
    buffer: &mut [u8],
) -> io::Result<(usize, usize)> {
    let done = done as u64;
    let read = from.read_at(buffer, range.from_pos + done)?;
    // The source has become shorter.
    if read == 0 {
        return Err(sys::error(libc::EINVAL));
    }
    match to.write_at(&buffer[..read], range.to_pos + done)? {
        0 => Err(sys::error(libc::EIO)),
        written => Ok((read, written)),
    }
}
