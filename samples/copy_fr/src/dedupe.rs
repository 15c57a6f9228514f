// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `COPY_FR_DEDUP`.

use crate::{
    copy::BUFFER,
    fallback::Range,
    file::{self, Buffer},
    sys,
};
use std::io;

/// The most bytes of one `FIDEDUPERANGE`.
const MAX: usize = 1 << 30;

/// Shares the range if the bytes are equal. A difference at the end leaves the beginning unshared,
/// too. Returns the number of bytes.
pub(crate) fn dedupe(range: &Range<'_>) -> io::Result<usize> {
    check_ends(range)?;
    let mut len = range.len;
    if len > MAX {
        // This process may not read the destination: lets the kernel compare one step.
        if file::is_readable(range.to) {
            compare(range)?;
        } else {
            len = MAX;
        }
    }
    let mut done = 0;
    while done < len {
        match piece(range, done, MAX.min(len - done)) {
            Ok(bytes) => done += bytes,
            Err(_) if done > 0 => break,
            Err(err) => return Err(err),
        }
    }
    Ok(done)
}

/// Checks the ends of the range: `FIDEDUPERANGE` would silently do less.
fn check_ends(range: &Range<'_>) -> io::Result<()> {
    let block = sys::block_size(range.from)?;
    let ends = range.ends();
    let aligned = range.from_pos % block == 0 && range.to_pos % block == 0;
    let whole = range.len as u64 % block == 0 || ends == (range.from_size, range.to_size);
    if !aligned || !whole {
        return Err(sys::error(libc::EINVAL));
    }
    Ok(())
}

fn piece(range: &Range<'_>, done: usize, len: usize) -> io::Result<usize> {
    let done = done as u64;
    let (from_pos, to_pos) = (range.from_pos + done, range.to_pos + done);
    match sys::dedupe_range(range.from, from_pos, range.to, to_pos, len as u64)? {
        0 => Err(sys::error(libc::EINVAL)),
        bytes => Ok(bytes as usize),
    }
}

/// Returns `EBADE` if the ranges differ.
pub(crate) fn compare(range: &Range<'_>) -> io::Result<()> {
    let (mut these, mut those) = (Buffer::new(BUFFER)?, Buffer::new(BUFFER)?);
    let mut done = 0;
    while done < range.len {
        let size = BUFFER.min(range.len - done);
        let at = done as u64;
        let these = these.read_all_at(range.from, size, range.from_pos + at)?;
        let those = those.read_all_at(range.to, size, range.to_pos + at)?;
        // One of the files has become shorter.
        if these.len() < size || those.len() < size {
            return Err(sys::error(libc::EINVAL));
        }
        if these != those {
            return Err(sys::error(libc::EBADE));
        }
        done += size;
    }
    Ok(())
}
