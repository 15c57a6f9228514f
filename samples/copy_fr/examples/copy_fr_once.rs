// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Makes one call of the library from the command line, and prints its result.
//! `samples/copy_fr_once.c` is the same in C.
//!
//! An offset is passed to the call; without one the file position is used. LEN is by default the
//! rest of the source from there. The destination is created if it does not exist, and not
//! truncated.
//!
//! Exit status: 0, 1 if a call failed, 2 for a wrong command line.

use copy_fr::{copy_range, copy_range_fallback, Cloned, Done, Mode};
use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    process::ExitCode,
};

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

const ERRORS: &[(i32, &str)] = names! {
    EACCES EBADE EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG
    ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY EXDEV
};

struct Line {
    mode: Mode,
    fallback: bool,
    from: (String, Option<u64>),
    to: (String, Option<u64>),
    len: Option<usize>,
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Cuts the offset off the argument. `None` for an offset that is too large.
fn offset(argument: String) -> Option<(String, Option<u64>)> {
    if let Some((name, digits)) = argument.rsplit_once(':') {
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some((name.to_owned(), Some(number(digits)?)));
        }
    }
    Some((argument, None))
}

fn line() -> Option<Line> {
    let mut modes = Vec::new();
    let mut fallback = false;
    let mut arguments = env::args().skip(1).peekable();
    while let Some(option) = arguments.next_if(|argument| argument.starts_with("--")) {
        match option.as_str() {
            "--copy" => modes.push(Mode::Copy),
            "--reflink" => modes.push(Mode::Reflink),
            "--dedup" => modes.push(Mode::Dedup),
            "--no-kernel" => fallback = true,
            _ => return None,
        }
    }
    modes.dedup();
    let line = Line {
        mode: match modes[..] {
            [] => Mode::Auto,
            [mode] => mode,
            _ => return None,
        },
        fallback,
        from: offset(arguments.next()?)?,
        to: offset(arguments.next()?)?,
        len: match arguments.next() {
            Some(len) => Some(usize::try_from(number(&len)?).ok()?),
            None => None,
        },
    };
    arguments.next().is_none().then_some(line)
}

fn run(line: Line) -> io::Result<Done> {
    let (from, mut from_pos) = (File::open(&line.from.0)?, line.from.1);
    let mut to_pos = line.to.1;
    let rest = from.metadata()?.len().saturating_sub(from_pos.unwrap_or(0));
    let to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&line.to.0)?;
    let len = line.len.unwrap_or(rest as usize);
    let (from_pos, to_pos) = (from_pos.as_mut(), to_pos.as_mut());
    if line.fallback {
        copy_range_fallback(from, from_pos, to, to_pos, len, line.mode)
    } else {
        copy_range(from, from_pos, to, to_pos, len, line.mode)
    }
}

const USAGE: &str =
    "usage: copy_fr_once [--copy|--reflink|--dedup] [--no-kernel] SRC[:OFF] DST[:OFF] [LEN]";

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(line) = line() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let (text, status) = match run(line) {
        Ok(Done { bytes, cloned }) => {
            let cloned = match cloned {
                Cloned::No => "no",
                Cloned::Yes => "yes",
                Cloned::Some => "some",
                Cloned::Unknown => "unknown",
            };
            (format!("bytes {bytes} cloned {cloned}"), 0)
        }
        Err(err) => {
            let errno = err.raw_os_error().unwrap_or(0);
            let name = ERRORS.iter().find(|(number, _)| *number == errno);
            let name = name.map_or_else(|| errno.to_string(), |(_, name)| (*name).to_owned());
            (format!("error {name}"), 1)
        }
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::FAILURE,
    }
}
