// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `COPY_FR_COPY`: copies through this process's memory, so that no block is shared.

use crate::{
    fallback::Range,
    file::{self, Buffer},
    sys,
};
use std::{io, os::unix::fs::FileExt};

/// The size of the buffer, in bytes.
pub(crate) const BUFFER: usize = 256 << 10;

/// Copies the range. Holes of the source stay holes if the destination can have them. Returns the
/// number of bytes: fewer than the range after a failure half way.
///
/// # Errors
///
/// Those of reading and writing, also `EINTR`, if not one byte was copied; `EINVAL` if the source
/// now ends before the range.
pub(crate) fn copy(range: &Range<'_>) -> io::Result<usize> {
    let mut buffer = Buffer::new(range.len.min(BUFFER))?;
    let direct_out = file::is_direct(range.to);
    let mut extents = Extents::new(range, !direct_out);
    // The number of bytes done, and the end of the last write.
    let (mut done, mut written) = (0, 0);
    let mut result = Ok(());
    while done < range.len && result.is_ok() {
        let pos = range.from_pos + done as u64;
        let (data, hole) = extents.next(range, pos);
        let skip = (data - pos) as usize;
        if skip > 0 && punch(range, done, skip) {
            done += skip;
            continue;
        }
        let mut size = BUFFER.min((hole - pos) as usize);
        // The unaligned rest, which direct I/O cannot write, comes last, and fails.
        if direct_out && size > file::ALIGN {
            size -= size % file::ALIGN;
        }
        match step(range, done, size, &mut buffer) {
            Ok(bytes) => {
                done += bytes;
                written = done;
            }
            Err(err) => result = Err(err),
        }
    }
    // A hole at the end makes the destination longer, too.
    if done > written {
        if let Err(err) = end_behind(range, range.to_pos + done as u64 - 1) {
            done = written;
            result = Err(err);
        }
    }
    match result {
        Err(err) if done == 0 => Err(err),
        _ => Ok(done),
    }
}

/// Copies up to `size` bytes. Returns the number of bytes.
fn step(range: &Range<'_>, done: usize, size: usize, buffer: &mut Buffer) -> io::Result<usize> {
    let bytes = buffer.read_at(range.from, size, range.from_pos + done as u64)?;
    // The source has become shorter.
    if bytes.is_empty() {
        return Err(sys::error(libc::EINVAL));
    }
    match file::borrow(range.to).write_at(bytes, range.to_pos + done as u64)? {
        0 => Err(sys::error(libc::EIO)),
        written => Ok(written),
    }
}

/// Makes a hole, and returns whether it could. A hole beyond the destination's end needs no call: a
/// later write behind it makes it.
fn punch(range: &Range<'_>, done: usize, len: usize) -> bool {
    let start = range.to_pos + done as u64;
    file::size(range.to)
        .is_ok_and(|size| start >= size || sys::punch(range.to, start, len as u64).is_ok())
}

/// Makes the destination reach to `last`, whose byte is zero, unless another process has made it
/// longer.
fn end_behind(range: &Range<'_>, last: u64) -> io::Result<()> {
    if file::size(range.to)? > last {
        return Ok(());
    }
    file::borrow(range.to).write_all_at(&[0], last)
}

/// The data ranges of the source.
struct Extents {
    data: u64,
    hole: u64,
}

impl Extents {
    /// Treats the whole range as data without `holes`, or if the file has as many blocks as bytes.
    fn new(range: &Range<'_>, holes: bool) -> Self {
        let (start, end) = (range.from_pos, range.ends().0);
        let holes = holes && range.from_blocks < range.from_size / 512;
        Self {
            data: start,
            hole: if holes { start } else { end },
        }
    }

    /// Returns the begin and end of the next data from `pos` on, both up to the end of the range.
    fn next(&mut self, range: &Range<'_>, pos: u64) -> (u64, u64) {
        if pos >= self.hole {
            let end = range.ends().0;
            let data = match sys::seek_from(range.from, pos, libc::SEEK_DATA) {
                // No data: a hole up to the current end of the file.
                Err(err) if sys::is(&err, libc::ENXIO) => file::size(range.from).unwrap_or(pos),
                Err(_) => pos,
                Ok(data) => data,
            };
            self.data = data.clamp(pos, end);
            self.hole = match sys::seek_from(range.from, self.data, libc::SEEK_HOLE) {
                Ok(hole) if hole > self.data => hole.min(end),
                _ => end,
            };
        }
        (self.data.max(pos), self.hole)
    }
}
