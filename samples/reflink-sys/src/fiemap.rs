// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `FS_IOC_FIEMAP`.

use crate::{reply, request, result};
use std::{io, os::fd::AsRawFd};

/// The request; see `Documentation/filesystems/fiemap.rst`.
pub const FS_IOC_FIEMAP: libc::Ioctl = libc::_IOWR::<Fiemap>(b'f' as u32, 11);

/// Writes the file back first.
pub const FIEMAP_FLAG_SYNC: u32 = 1;
/// Maps the extended attributes instead.
pub const FIEMAP_FLAG_XATTR: u32 = 2;
/// Keeps the extents in memory.
pub const FIEMAP_FLAG_CACHE: u32 = 4;

/// The last extent of the file.
pub const FIEMAP_EXTENT_LAST: u32 = 1;
/// Allocated, and never written to.
pub const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;
/// Other files have its blocks, too.
pub const FIEMAP_EXTENT_SHARED: u32 = 0x2000;

/// `struct fiemap` without its extents.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FiemapExtent {
    /// The offset in the file, in bytes.
    pub logical: u64,
    /// The address on the device, in bytes.
    pub physical: u64,
    /// The length, in bytes.
    pub length: u64,
    reserved64: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    reserved: [u32; 3],
}

impl FiemapExtent {
    /// Returns whether other files have its blocks, too.
    pub fn shared(&self) -> bool {
        self.flags & FIEMAP_EXTENT_SHARED != 0
    }

    /// Returns whether it is allocated, and was never written to.
    pub fn unwritten(&self) -> bool {
        self.flags & FIEMAP_EXTENT_UNWRITTEN != 0
    }

    /// Returns whether it is the last of the file.
    pub fn last(&self) -> bool {
        self.flags & FIEMAP_EXTENT_LAST != 0
    }

    /// Returns where it ends in the file, in bytes.
    pub fn end(&self) -> u64 {
        self.logical + self.length
    }
}

const _: () = assert!(size_of::<Fiemap>() == 32 && size_of::<FiemapExtent>() == 56);

/// Returns the number of extents in `length` bytes from `start`, and the first of them, at most
/// `room`; with `room` 0, the number of all extents.
///
/// # Errors
///
/// Those of the call.
pub fn fiemap(
    file: &impl AsRawFd,
    start: u64,
    length: u64,
    flags: u32,
    room: u32,
) -> io::Result<(u32, Vec<FiemapExtent>)> {
    let header = Fiemap {
        start,
        length,
        flags,
        mapped_extents: 0,
        extent_count: room,
        reserved: 0,
    };
    let mut words = request(header, &vec![FiemapExtent::default(); room as usize]);
    // SAFETY: The call reads and writes the header, and writes as many extents as that has room for.
    result(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, words.as_mut_ptr()) })?;
    // SAFETY: Made for these types, which are numbers.
    let (header, extents) = unsafe { reply::<Fiemap, FiemapExtent>(&words) };
    let filled = extents.len().min(header.mapped_extents as usize);
    Ok((header.mapped_extents, extents[..filled].to_vec()))
}
