// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `FIDEDUPERANGE`.

use crate::{reply, request, result};
use std::{io, os::fd::AsRawFd};

/// The request of `ioctl_fideduperange(2)`.
pub const FIDEDUPERANGE: libc::Ioctl = libc::_IOWR::<FileDedupeRange>(0x94, 54);

/// The status of a destination whose bytes differ.
pub const FILE_DEDUPE_RANGE_DIFFERS: i32 = 1;

/// `struct file_dedupe_range` without its destinations.
#[repr(C)]
#[derive(Clone, Copy)]
struct FileDedupeRange {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved1: u16,
    reserved2: u32,
}

/// `struct file_dedupe_range_info`: a destination, and its result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDedupeRangeInfo {
    /// The descriptor of the destination.
    pub dest_fd: i64,
    /// The offset of its range, in bytes.
    pub dest_offset: u64,
    /// The number of bytes that are shared now.
    pub bytes_deduped: u64,
    /// 0, [`FILE_DEDUPE_RANGE_DIFFERS`], or an error as a negative number.
    pub status: i32,
    /// Must be 0.
    pub reserved: u32,
}

impl FileDedupeRangeInfo {
    /// Makes one for the range from `offset` in `to`.
    pub fn new(to: &impl AsRawFd, offset: u64) -> Self {
        Self {
            dest_fd: to.as_raw_fd().into(),
            dest_offset: offset,
            ..Self::default()
        }
    }
}

const _: () = assert!(size_of::<FileDedupeRange>() == 24 && size_of::<FileDedupeRangeInfo>() == 32);

/// Makes `len` bytes from `offset` in `from` share blocks with each destination that has the same
/// bytes, and fills in the results.
///
/// # Errors
///
/// Those of the call; `EINVAL` for too many destinations.
pub fn fideduperange(
    from: &impl AsRawFd,
    offset: u64,
    len: u64,
    to: &mut [FileDedupeRangeInfo],
) -> io::Result<()> {
    let header = FileDedupeRange {
        src_offset: offset,
        src_length: len,
        dest_count: u16::try_from(to.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        reserved1: 0,
        reserved2: 0,
    };
    let mut words = request(header, to);
    // SAFETY: The call reads and writes the header and as many destinations as that says.
    result(unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE, words.as_mut_ptr()) })?;
    // SAFETY: Made for these types, which are numbers.
    let (_, results) = unsafe { reply::<FileDedupeRange, FileDedupeRangeInfo>(&words) };
    to.copy_from_slice(results);
    Ok(())
}
