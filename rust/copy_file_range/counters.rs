// SPDX-License-Identifier: GPL-2.0

//! Counts calls by their results: `/sys/kernel/debug/copy_fr/`, a file for each flag.

use super::Flag;
use crate::{
    compat::{
        EBADE,
        EOPNOTSUPP, //
    }, //
    debugfs::{
        Directory,
        Show, //
    },
};
use kernel::{
    error::code,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The errors that are counted apart.
const ERRORS: [(&str, Error); 8] = [
    ("EBADF", code::EBADF),
    ("EBADE", EBADE),
    ("EINVAL", code::EINVAL),
    ("EOPNOTSUPP", EOPNOTSUPP),
    ("EXDEV", code::EXDEV),
    ("ENOSPC", code::ENOSPC),
    ("EIO", code::EIO),
    ("ENOMEM", code::ENOMEM),
];

/// The calls with one of the flags.
pub(super) struct Counters {
    whole: Atomic<u64>,
    short: Atomic<u64>,
    bytes: Atomic<u64>,
    errors: [Atomic<u64>; ERRORS.len()],
    other_errors: Atomic<u64>,
}

static COPY: Counters = Counters::new();
static REFLINK: Counters = Counters::new();
static DEDUP: Counters = Counters::new();

impl Counters {
    const fn new() -> Self {
        Self {
            whole: Atomic::new(0),
            short: Atomic::new(0),
            bytes: Atomic::new(0),
            errors: [const { Atomic::new(0) }; ERRORS.len()],
            other_errors: Atomic::new(0),
        }
    }

    pub(super) fn of(flag: Flag) -> &'static Self {
        match flag {
            Flag::Copy => &COPY,
            Flag::Reflink => &REFLINK,
            Flag::Dedup => &DEDUP,
        }
    }

    /// Counts a call that asked for `len` bytes.
    pub(super) fn count(&self, len: u64, result: &Result<u64>) {
        let counter = match *result {
            Ok(done) => {
                self.bytes.add(done, Relaxed);
                if done == len {
                    &self.whole
                } else {
                    &self.short
                }
            }
            Err(err) => ERRORS
                .iter()
                .position(|&(_, error)| error == err)
                .map_or(&self.other_errors, |i| &self.errors[i]),
        };
        counter.add(1, Relaxed);
    }
}

/// A flag's counters, one `name value` a line: how many calls did all that was asked for, how many
/// less; how many bytes; how many failed, by error.
impl Show for Counters {
    fn show(&self, to: &SeqFile) {
        let line = |name, value: &Atomic<u64>| seq_print!(to, "{name} {}\n", value.load(Relaxed));
        line("whole", &self.whole);
        line("short", &self.short);
        line("bytes", &self.bytes);
        for ((name, _), value) in ERRORS.iter().zip(&self.errors) {
            line(name, value);
        }
        line("other_errors", &self.other_errors);
    }
}

/// Creates the files, which exist until the result is dropped.
pub(crate) fn show() -> Directory {
    let dir = Directory::new(c"copy_fr");
    dir.add(c"copy", &COPY);
    dir.add(c"reflink", &REFLINK);
    dir.add(c"dedup", &DEDUP);
    dir
}
