// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The flags by the calls that every kernel has.

use crate::{check, copy, copy_range, dedupe, extents, file, reflink, Done, Mode};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// A range of the source and its destination. Positions and lengths are in bytes, and end below
/// 2^63.
pub(crate) struct Range<'a> {
    pub(crate) from: BorrowedFd<'a>,
    pub(crate) from_pos: u64,
    pub(crate) from_size: u64,
    /// The number of blocks of 512 bytes of the source.
    pub(crate) from_blocks: u64,
    pub(crate) to: BorrowedFd<'a>,
    pub(crate) to_pos: u64,
    pub(crate) to_size: u64,
    pub(crate) len: usize,
}

impl Range<'_> {
    /// Returns the end of the range in either file.
    pub(crate) fn ends(&self) -> (u64, u64) {
        let len = self.len as u64;
        (self.from_pos + len, self.to_pos + len)
    }
}

/// As [`copy_range`](crate::copy_range), but without the kernel's flags.
///
/// Uses only calls that every kernel has, even if the kernel takes flags.
///
/// # Errors
///
/// As [`copy_range`](crate::copy_range).
pub fn copy_range_fallback(
    from: impl AsFd,
    from_pos: Option<&mut u64>,
    to: impl AsFd,
    to_pos: Option<&mut u64>,
    len: usize,
    mode: Mode,
) -> io::Result<Done> {
    if mode == Mode::Auto {
        return copy_range(from, from_pos, to, to_pos, len, mode);
    }
    by_other_calls(from.as_fd(), from_pos, to.as_fd(), to_pos, len, mode)
}

/// Implements the flags, and no flag, by the calls that every kernel has.
pub(crate) fn by_other_calls(
    from: BorrowedFd<'_>,
    from_pos: Option<&mut u64>,
    to: BorrowedFd<'_>,
    to_pos: Option<&mut u64>,
    len: usize,
    mode: Mode,
) -> io::Result<Done> {
    check::files(from, to, mode)?;
    let positions = (
        file::position_or(from, from_pos.as_deref())?,
        file::position_or(to, to_pos.as_deref())?,
    );
    let range = check::range(from, to, positions, len, mode)?;
    let bytes = match (range.len, mode) {
        (0, _) => 0,
        (_, Mode::Auto) => reflink::reflink(&range).or_else(|_| copy::copy(&range))?,
        (_, Mode::Copy) => copy::copy(&range)?,
        (_, Mode::Reflink) => reflink::reflink(&range)?,
        (_, Mode::Dedup) => dedupe::dedupe(&range)?,
    };
    if bytes > 0 {
        file::advance(from, from_pos, range.from_pos + bytes as u64);
        file::advance(to, to_pos, range.to_pos + bytes as u64);
    }
    Ok(Done {
        bytes,
        cloned: extents::shared(to, Some(range.to_pos), bytes, mode),
    })
}
