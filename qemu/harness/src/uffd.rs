// SPDX-License-Identifier: GPL-2.0 OR MIT
//! userfaultfd(2) and its requests.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::failure::{Context, Outcome, Sys};
use crate::sys::check;

pub const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
pub const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
pub const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
pub const UFFDIO_WRITEPROTECT: libc::c_ulong = 0xc018_aa06;
pub const UFFD_API: u64 = 0xaa;

#[track_caller]
pub fn open() -> Outcome<OwnedFd> {
    // SAFETY: plain call.
    let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) });
    let fd = fd.or_fail("userfaultfd")?;
    // SAFETY: the kernel just gave us the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes a request, with all 64-bit words of its structure.
pub fn request(uffd: &OwnedFd, number: libc::c_ulong, words: &mut [u64]) -> Sys {
    // SAFETY: each of these requests takes a structure of 64-bit words, and gets all of them.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), number, words.as_mut_ptr()) }).map(|_| ())
}
