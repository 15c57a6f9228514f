// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Failures of a test: the call, its errno, the place in the test.

use std::fmt::{self, Debug, Display};
use std::panic::Location;

/// An errno, displayed by its name.
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

/// The result of a system call.
pub type Sys<T = ()> = Result<T, Errno>;

/// A failure of a test, with its place in the test.
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

/// The result of a test, or of a step of one.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Adds the failed action to an error.
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

/// Expects a call to fail with this errno.
#[track_caller]
pub fn expect_errno<T: Debug>(seen: Sys<T>, errno: i32, doing: impl Display) -> Outcome {
    expect_one_of(seen, &[errno], doing)
}

/// Expects a call to fail with one of these errnos, for calls where POSIX allows several.
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

/// Expects a condition to hold; `what` says what must be true, and the value.
#[track_caller]
pub fn expect(holds: bool, what: impl Display) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

/// Expects the same bytes; the failure names the first difference instead of all bytes.
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
