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

/// What a call is to do.
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
    /// The flag of the system call.
    pub const fn flags(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Copy => 1,
            Self::Reflink => 2,
            Self::Dedup => 4,
        }
    }
}

/// What became of the blocks in the destination's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloned {
    /// The call shared none.
    No,
    /// It shared some; with [`Mode::Reflink`] and [`Mode::Dedup`], all.
    Yes,
    /// The mode was [`Mode::Auto`], and the filesystem does not tell; or there are only holes.
    Unknown,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Done {
    /// How many bytes; may be fewer than were asked for.
    pub bytes: usize,
    /// Whether they were shared.
    pub cloned: Cloned,
}

impl Done {
    /// Of a call that succeeded in a mode that says what it does.
    fn new(bytes: usize, mode: Mode) -> Self {
        let shares = bytes > 0 && matches!(mode, Mode::Reflink | Mode::Dedup);
        Self {
            bytes,
            cloned: if shares { Cloned::Yes } else { Cloned::No },
        }
    }
}

/// Copies or shares `len` bytes of `from` to `to`, also where the kernel refuses flags.
///
/// A position is in bytes, and is moved on by what was done; without one the file position is
/// used, and moved on. With [`Mode::Auto`] this takes a look at the destination's extents.
///
/// # Errors
///
/// Those of `copy_file_range(2)`, see the [table](crate#errors). No position has moved then.
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
        Err(err) if mode != Mode::Auto && sys::is(&err, libc::EINVAL) => {
            if kernel_takes_flags(from, to) {
                Err(err)
            } else {
                copy_range_fallback(from, from_pos, to, to_pos, len, mode)
            }
        }
        result => result,
    }
}

/// The system call, and what became of the blocks.
fn by_kernel(
    from: BorrowedFd<'_>,
    from_pos: Option<&mut u64>,
    to: BorrowedFd<'_>,
    mut to_pos: Option<&mut u64>,
    len: usize,
    mode: Mode,
) -> io::Result<Done> {
    let bytes = sys::copy_file_range(from, from_pos, to, to_pos.as_deref_mut(), len, mode.flags())?;
    let mut done = Done::new(bytes, mode);
    if mode == Mode::Auto && bytes > 0 {
        let end = match to_pos {
            Some(pos) => Ok(*pos),
            None => file::position(to),
        };
        done.cloned = end.map_or(Cloned::Unknown, |end| {
            extents::shared(to, end - bytes as u64..end)
        });
    }
    Ok(done)
}

/// Whether a flagged call's `EINVAL` meant that the kernel takes no flags. That it does not is kept
/// for the process's lifetime; should it learn to, its calls no longer fail for that.
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
