// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The checks of a call, in the kernel's order.

use crate::{fallback::Range, file, sys, Mode};
use std::{
    io,
    os::{fd::BorrowedFd, linux::fs::MetadataExt},
};

/// Calls copy_file_range for no bytes at offset 0: the kernel checks only the files.
pub(crate) fn attempt(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
    let (mut from_pos, mut to_pos) = (0, 0);
    sys::copy_file_range(
        from,
        Some(&mut from_pos),
        to,
        Some(&mut to_pos),
        0,
        mode.flags(),
    )
    .map(drop)
}

/// Checks that the filesystem can share blocks, and that both files are on it, by a request with a
/// negative offset: the kernel checks the offset after these.
fn sharing(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    match sys::clone_range(from, 1 << 63, to, 0, 1) {
        Err(err) if sys::is(&err, libc::EXDEV) || sys::is(&err, libc::EOPNOTSUPP) => Err(err),
        _ => Ok(()),
    }
}

/// Makes the kernel's checks of the files, if there is no such call.
fn descriptors(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let flags = (sys::open_flags(from)?, sys::open_flags(to)?);
    let files = [file::metadata(from)?, file::metadata(to)?];
    if files.iter().any(std::fs::Metadata::is_dir) {
        return Err(sys::error(libc::EISDIR));
    }
    if !files.iter().all(std::fs::Metadata::is_file) {
        return Err(sys::error(libc::EINVAL));
    }
    if flags.0 & libc::O_ACCMODE == libc::O_WRONLY
        || flags.1 & libc::O_ACCMODE == libc::O_RDONLY
        || flags.1 & libc::O_APPEND != 0
    {
        return Err(sys::error(libc::EBADF));
    }
    match sharing(from, to) {
        Err(err) if sys::is(&err, libc::EXDEV) => Err(err),
        _ => Ok(()),
    }
}

/// Checks that the call takes these files.
pub(crate) fn files(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
    let result = attempt(from, to, Mode::Auto);
    if matches!(&result, Err(err) if sys::copy_file_range_is_missing(err)) {
        return descriptors(from, to);
    }
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
    if !matches!(errno, None | Some(libc::EPERM | libc::ETXTBSY)) {
        return result;
    }
    // Without flags some files can be copied from one filesystem to another.
    match sharing(from, to) {
        Err(err) if !mode.copies() && sys::is(&err, libc::EXDEV) => Err(err),
        _ => result,
    }
}

/// Checks the range; cuts a copy at the process's limit.
pub(crate) fn range<'a>(
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    (from_pos, to_pos): (u64, u64),
    len: usize,
    mode: Mode,
) -> io::Result<Range<'a>> {
    let (from_file, to_file) = (file::metadata(from)?, file::metadata(to)?);
    if from_pos > i64::MAX as u64 || to_pos > i64::MAX as u64 {
        return Err(sys::error(libc::EINVAL));
    }
    let (mut from_end, mut to_end) = (end(from_pos, len)?, end(to_pos, len)?);
    let mut range = Range {
        from,
        from_pos,
        from_size: from_file.st_size(),
        from_blocks: from_file.st_blocks(),
        to,
        to_pos,
        to_size: to_file.st_size(),
        len,
    };
    // Without a flag the end of the source cuts the range.
    if mode == Mode::Auto && from_end > range.from_size {
        range.len = range.from_size.saturating_sub(from_pos) as usize;
        (from_end, to_end) = range.ends();
    }
    if range.len == 0 {
        return Ok(range);
    }
    if !mode.copies() {
        sharing(from, to).map_err(|_| sys::error(libc::EOPNOTSUPP))?;
    }
    if from_end > range.from_size {
        return Err(sys::error(libc::EINVAL));
    }
    let id = |file: &std::fs::Metadata| (file.st_dev(), file.st_ino());
    if id(&from_file) == id(&to_file) && to_end > from_pos && to_pos < from_end {
        return Err(sys::error(libc::EINVAL));
    }
    if mode == Mode::Dedup && to_end > range.to_size {
        return Err(sys::error(libc::EINVAL));
    }
    let Some(limit) = sys::file_size_limit()?.filter(|&limit| to_end > limit) else {
        return Ok(range);
    };
    if to_pos >= limit {
        sys::raise_file_size();
        return Err(sys::error(libc::EFBIG));
    }
    if !mode.copies() {
        return Err(sys::error(libc::EINVAL));
    }
    range.len = (limit - to_pos) as usize;
    Ok(range)
}

/// Returns the end of a range.
fn end(pos: u64, len: usize) -> io::Result<u64> {
    pos.checked_add(len as u64)
        .filter(|&end| end <= i64::MAX as u64)
        .ok_or_else(|| sys::error(libc::EOVERFLOW))
}
