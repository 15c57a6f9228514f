// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Freezing filesystems.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::failure::{Context, Outcome, Sys};
use crate::instance::Instance;
use crate::sys::{check, File};

pub const FIFREEZE: libc::c_ulong = 0xc004_5877;
pub const FITHAW: libc::c_ulong = 0xc004_5878;

/// Calls `FIFREEZE` or `FITHAW` on the filesystem of `dir`.
pub fn ioctl(dir: &Path, request: libc::c_ulong) -> Sys {
    let root = File::open(dir, libc::O_RDONLY | libc::O_DIRECTORY)?;
    // SAFETY: an open descriptor; the kernel ignores the argument.
    check(unsafe { libc::ioctl(root.as_raw_fd(), request, 0) }).map(|_| ())
}

/// Runs a step while the filesystem is frozen. Thaws it also after a failure, as it could not be
/// unmounted otherwise.
pub fn while_frozen<T>(fs: &Instance, step: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    ioctl(&fs.root, FIFREEZE).or_fail("FIFREEZE")?;
    let result = step();
    ioctl(&fs.root, FITHAW).or_fail("FITHAW")?;
    result
}
