// SPDX-License-Identifier: GPL-2.0 OR MIT
#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("copy_file_range(2) is Linux's");

mod check;
mod copy;
mod dedupe;
mod extents;
mod fallback;
mod file;
mod reflink;
mod sys;
#[cfg(test)]
mod tests;

pub use fallback::copy_range_fallback;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// The mode of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Share what the filesystem can share, copy the rest: no flag.
    Auto,
    /// Copy all bytes, share nothing: `COPY_FR_COPY`.
    Copy,
    /// Share, or fail: `COPY_FR_REFLINK`.
    Reflink,
    /// Share if the bytes are equal, or fail: `COPY_FR_DEDUP`.
    Dedup,
}

impl Mode {
    /// Returns the flag of the system call.
    pub const fn flags(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Copy => 1,
            Self::Reflink => 2,
            Self::Dedup => 4,
        }
    }

    /// Returns whether the mode may copy blocks that it cannot share.
    const fn copies(self) -> bool {
        matches!(self, Self::Auto | Self::Copy)
    }
}

/// Whether the blocks in the destination's range are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloned {
    /// None is.
    No,
    /// All are.
    Yes,
    /// Some are, some are not.
    Some,
    /// There is no FIEMAP; or there are only holes; or too many extents.
    Unknown,
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Done {
    /// The number of bytes; may be less than the length of the range.
    pub bytes: usize,
    /// Whether their blocks are shared.
    pub cloned: Cloned,
}

/// Copies or shares `len` bytes of `from` to `to`, also where the kernel refuses flags.
///
/// A position is in bytes, and advances by the bytes done; without one, the file position is used
/// and advances. Except for [`Mode::Copy`] this reads the destination's extents. [`Mode::Auto`]
/// does 0 bytes at the end of the source, which may have become shorter: a loop must end there.
///
/// # Errors
///
/// Those of `copy_file_range(2)`, see the [table](crate#errors). No position has changed then.
pub fn copy_range(
    from: impl AsFd,
    from_pos: Option<&mut u64>,
    to: impl AsFd,
    to_pos: Option<&mut u64>,
    len: usize,
    mode: Mode,
) -> io::Result<Done> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let (mut from_pos, mut to_pos) = (from_pos, to_pos);
    let result = by_kernel(
        from,
        from_pos.as_deref_mut(),
        to,
        to_pos.as_deref_mut(),
        len,
        mode,
    );
    match result {
        Err(err) if falls_back(from, to, mode, &err) => {
            fallback::by_other_calls(from, from_pos, to, to_pos, len, mode)
        }
        result => result,
    }
}

/// Returns whether to use other calls after an error of the kernel's own.
fn falls_back(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mode: Mode, err: &io::Error) -> bool {
    if sys::copy_file_range_is_missing(err) {
        return true;
    }
    if mode == Mode::Auto {
        return sys::is(err, libc::EOPNOTSUPP);
    }
    sys::is(err, libc::EINVAL) && !kernel_takes_flags(from, to)
}

/// Makes the system call, and finds out whether blocks are shared.
fn by_kernel(
    from: BorrowedFd<'_>,
    from_pos: Option<&mut u64>,
    to: BorrowedFd<'_>,
    to_pos: Option<&mut u64>,
    len: usize,
    mode: Mode,
) -> io::Result<Done> {
    // Before the call: other threads may move the file position meanwhile.
    let start = file::position_or(to, to_pos.as_deref()).ok();
    let bytes = sys::copy_file_range(from, from_pos, to, to_pos, len, mode.flags())?;
    Ok(Done {
        bytes,
        cloned: extents::shared(to, start, bytes, mode),
    })
}

/// Returns whether the kernel takes flags, after `EINVAL` of a flagged call. Remembers that it does
/// not for the process's lifetime: if a module is loaded later, flagged calls succeed and do not
/// get here.
fn kernel_takes_flags(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    static NONE: AtomicBool = AtomicBool::new(false);

    if NONE.load(Relaxed) {
        return false;
    }
    // Files that are refused without a flag prove nothing.
    if check::attempt(from, to, Mode::Auto).is_err() {
        return false;
    }
    match check::attempt(from, to, Mode::Copy) {
        Err(err) if sys::is(&err, libc::EINVAL) => {
            NONE.store(true, Relaxed);
            false
        }
        _ => true,
    }
}
