// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What a test says when it fails: which call, with which errno, where.

use std::fmt::{self, Debug, Display};
use std::panic::Location;

/// An errno, shown by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    fn name(self) -> Option<&'static str> {
        macro_rules! names {
            ($($name:ident)*) => {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            };
        }
        names!(EPERM ENOENT EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
               ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY
               EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOSYS
               ENOTEMPTY ELOOP ENODATA EBADE EBADR EOVERFLOW EOPNOTSUPP ETIMEDOUT ESTALE EDQUOT EUCLEAN
               EOWNERDEAD ENOTRECOVERABLE)
    }
}

impl Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What a system call gave.
pub type Sys<T = ()> = Result<T, Errno>;

/// Why a test failed, with the place in the test that says so.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    #[track_caller]
    pub fn new(what: impl Display) -> Self {
        let at = Location::caller();
        Self(format!("{what}\n    at {}:{}", at.file(), at.line()))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a test, or a step of one, gives.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Says what was being done when a call failed.
pub trait Context<T> {
    fn or_fail(self, doing: impl Display) -> Outcome<T>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, doing: impl Display) -> Outcome<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(Failure::new(format_args!("{doing}: {error}"))),
        }
    }
}

/// Expects a call to fail with this errno and no other.
#[track_caller]
pub fn expect_errno<T: Debug>(seen: Sys<T>, errno: i32, doing: impl Display) -> Outcome {
    expect_one_of(seen, &[errno], doing)
}

/// Expects a call to fail with one of these: for calls that POSIX gives a choice.
#[track_caller]
pub fn expect_one_of<T: Debug>(seen: Sys<T>, errnos: &[i32], doing: impl Display) -> Outcome {
    let expected = || {
        let names: Vec<_> = errnos.iter().map(|&e| Errno(e).to_string()).collect();
        names.join(" or ")
    };
    match seen {
        Err(error) if errnos.contains(&error.0) => Ok(()),
        Err(error) => Err(Failure::new(format_args!(
            "{doing}: expected {}, got {error}",
            expected()
        ))),
        Ok(value) => Err(Failure::new(format_args!(
            "{doing}: expected {}, but it succeeded with {value:?}",
            expected()
        ))),
    }
}

/// Expects two values to be equal.
#[track_caller]
pub fn expect_eq<T: PartialEq<U> + Debug, U: Debug>(
    seen: T,
    expected: U,
    what: impl Display,
) -> Outcome {
    if seen == expected {
        Ok(())
    } else {
        Err(Failure::new(format_args!(
            "{what}: expected {expected:?}, got {seen:?}"
        )))
    }
}

/// Expects a condition to hold; `what` says what must be true and what was seen.
#[track_caller]
pub fn expect(holds: bool, what: impl Display) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

/// Expects the same bytes, and says where the first difference is, not the bytes.
#[track_caller]
pub fn expect_bytes(seen: &[u8], expected: &[u8], what: impl Display) -> Outcome {
    if seen == expected {
        return Ok(());
    }
    let first = seen.iter().zip(expected).position(|(s, e)| s != e);
    let lengths = if seen.len() == expected.len() {
        String::new()
    } else {
        format!(" ({} bytes expected, {} seen)", expected.len(), seen.len())
    };
    Err(match first {
        Some(at) => {
            let differing = seen.iter().zip(expected).filter(|(s, e)| s != e).count();
            let end = (at + 8).min(seen.len()).min(expected.len());
            Failure::new(format_args!(
                "{what}: bytes differ from offset {at} ({at:#x}) on: expected {:02x?}, got {:02x?}; {differing} bytes differ{lengths}",
                &expected[at..end],
                &seen[at..end],
            ))
        }
        None => Failure::new(format_args!("{what}: lengths differ{lengths}")),
    })
}
