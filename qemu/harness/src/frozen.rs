// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Freezing a filesystem.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::failure::{Context, Outcome, Sys};
use crate::instance::Instance;
use crate::sys::{check, File};

pub const FIFREEZE: libc::c_ulong = 0xc004_5877;
pub const FITHAW: libc::c_ulong = 0xc004_5878;

/// `FIFREEZE` or `FITHAW` of the filesystem that `dir` is on.
pub fn ioctl(dir: &Path, request: libc::c_ulong) -> Sys {
    let root = File::open(dir, libc::O_RDONLY | libc::O_DIRECTORY)?;
    // SAFETY: an open descriptor; the argument is not looked at.
    check(unsafe { libc::ioctl(root.as_raw_fd(), request, 0) }).map(|_| ())
}

/// Does it while the filesystem is frozen, which is thawed whatever happens: nothing could be
/// unmounted otherwise.
pub fn while_frozen<T>(fs: &Instance, step: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    ioctl(&fs.root, FIFREEZE).or_fail("FIFREEZE")?;
    let result = step();
    ioctl(&fs.root, FITHAW).or_fail("FITHAW")?;
    result
}
