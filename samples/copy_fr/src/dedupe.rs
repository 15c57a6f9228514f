// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `COPY_FR_DEDUP`.

use crate::{
    copy::BUFFER,
    fallback::Range,
    file::{self, Access},
    sys,
};
use std::{io, os::fd::BorrowedFd, os::unix::fs::FileExt};

/// `FIDEDUPERANGE` takes no more at a time.
const MAX: usize = 1 << 30;

/// Shares the range if the bytes are equal. A difference at the end leaves the beginning unshared,
/// too. Returns how much.
pub(crate) fn dedupe(range: &Range<'_>) -> io::Result<usize> {
    check_ends(range)?;
    let mut len = range.len;
    if len > MAX {
        let from = file::buffered(range.from, Access::Read);
        let to = file::buffered(range.to, Access::Read);
        match (from, to) {
            (Some(from), Some(to)) => compare(range, from.fd(), to.fd())?,
            // What may not be read here only the kernel can compare: a piece, all or nothing.
            _ => len = MAX,
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

/// `FIDEDUPERANGE` would take less than it is asked for, and not say so.
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

/// `EBADE` if the ranges do not hold the same bytes.
fn compare(range: &Range<'_>, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let (from, to) = (file::borrow(from), file::borrow(to));
    let (mut these, mut those) = (file::buffer(BUFFER)?, file::buffer(BUFFER)?);
    let shorter = |err: io::Error| match err.kind() {
        io::ErrorKind::UnexpectedEof => sys::error(libc::EINVAL),
        _ => err,
    };
    let mut done = 0;
    while done < range.len {
        let size = BUFFER.min(range.len - done);
        let (these, those) = (&mut these[..size], &mut those[..size]);
        from.read_exact_at(these, range.from_pos + done as u64)
            .map_err(shorter)?;
        to.read_exact_at(those, range.to_pos + done as u64)
            .map_err(shorter)?;
        if these != those {
            return Err(sys::error(libc::EBADE));
        }
        done += size;
    }
    Ok(())
}
