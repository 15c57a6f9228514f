// SPDX-License-Identifier: GPL-2.0 OR MIT
//! copy_file_range(2) with its flags, which the module copy_fr makes valid on every filesystem.

mod compat;
mod counters;
mod data;
mod descriptors;
mod direct;
mod disk;
mod duties;
mod ends;
mod large;
mod limits;
mod manual;
mod offsets;
mod pinned;
mod refusals;
mod samples;
mod signals;
mod table;
mod tools;

use crate::case::Case;
use crate::failure::{expect_eq, Context, Outcome, Sys};
use crate::sys::{copy_file_range, File};

pub(super) use descriptors::WRONG_FLAGS;
pub(super) use disk::{run, Disk};

/// All tests of the flags, by file.
pub const ALL: &[(&str, &[Case])] = &[
    ("flags::table", table::CASES),
    ("flags::offsets", offsets::CASES),
    ("flags::ends", ends::CASES),
    ("flags::data", data::CASES),
    ("flags::descriptors", descriptors::CASES),
    ("flags::direct", direct::CASES),
    ("flags::refusals", refusals::CASES),
    ("flags::limits", limits::CASES),
    ("flags::duties", duties::CASES),
    ("flags::large", large::CASES),
    ("flags::signals", signals::CASES),
    ("flags::pinned", pinned::CASES),
    ("flags::counters", counters::CASES),
    ("flags::manual", manual::CASES),
    ("flags::samples", samples::CASES),
    ("flags::tools", tools::CASES),
    ("flags::compat", compat::CASES),
];

/// No flag: the kernel's own call.
pub const PLAIN: u32 = 0;
/// `COPY_FR_COPY`: copies the bytes, shares nothing.
pub const COPY: u32 = 1;
/// `COPY_FR_REFLINK`: share, or fail.
pub const REFLINK: u32 = 2;
/// `COPY_FR_DEDUP`: share if the bytes are equal.
pub const DEDUP: u32 = 4;

/// The flags that the module accepts.
pub const FLAGS: [u32; 3] = [COPY, REFLINK, DEDUP];

pub fn flag_name(flags: u32) -> String {
    match flags {
        PLAIN => "flags = 0".into(),
        COPY => "COPY_FR_COPY".into(),
        REFLINK => "COPY_FR_REFLINK".into(),
        DEDUP => "COPY_FR_DEDUP".into(),
        other => format!("flags = {other:#x}"),
    }
}

/// Whether each offset of a call is given; the others are NULL.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub off_in: bool,
    pub off_out: bool,
}

pub const BOTH: Given = Given {
    off_in: true,
    off_out: true,
};

/// Every way to give offsets.
pub const WAYS: [Given; 4] = [
    Given {
        off_in: false,
        off_out: false,
    },
    Given {
        off_in: true,
        off_out: false,
    },
    Given {
        off_in: false,
        off_out: true,
    },
    BOTH,
];

/// A range of one file, and its destination.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub off_in: u64,
    pub off_out: u64,
    pub len: usize,
}

pub const fn range(off_in: u64, off_out: u64, len: usize) -> Range {
    Range {
        off_in,
        off_out,
        len,
    }
}

/// The position of a file while an offset is given.
const ELSEWHERE: i64 = 777;

/// One offset of a call: a pointer to it, or NULL and the position.
struct Offset<'a> {
    file: &'a File,
    start: u64,
    given: Option<i64>,
}

impl<'a> Offset<'a> {
    fn new(file: &'a File, start: u64, given: bool) -> Outcome<Self> {
        let position = if given { ELSEWHERE } else { start as i64 };
        file.seek(position, libc::SEEK_SET).or_fail("lseek")?;
        Ok(Self {
            file,
            start,
            given: given.then_some(start as i64),
        })
    }

    /// Expects the offset or position in use to have moved by this much, and the other not.
    fn expect_moved(&self, by: u64, what: &str) -> Outcome {
        let end = self.start + by;
        let position = match self.given {
            None => end,
            Some(offset) => {
                expect_eq(
                    offset as u64,
                    end,
                    format_args!("{what} behind its pointer"),
                )?;
                ELSEWHERE as u64
            }
        };
        expect_eq(
            self.file.position()?,
            position,
            format_args!("the position of {what}"),
        )
    }
}

/// Makes one call, and checks the offsets against its result. The files are two, or the same one by
/// two descriptors.
pub fn call(given: Given, from: &File, to: &File, range: Range, flags: u32) -> Outcome<Sys<usize>> {
    let mut off_in = Offset::new(from, range.off_in, given.off_in)?;
    let mut off_out = Offset::new(to, range.off_out, given.off_out)?;
    let (pointer_in, pointer_out) = (off_in.given.as_mut(), off_out.given.as_mut());
    let result = copy_file_range(from, pointer_in, to, pointer_out, range.len, flags);
    let moved = result.unwrap_or(0) as u64;
    off_in.expect_moved(moved, "the source's offset")?;
    off_out.expect_moved(moved, "the destination's offset")?;
    Ok(result)
}

/// Makes one call with both offsets given.
pub fn copy(from: &File, to: &File, range: Range, flags: u32) -> Sys<usize> {
    copy_file_range(
        from,
        Some(&mut (range.off_in as i64)),
        to,
        Some(&mut (range.off_out as i64)),
        range.len,
        flags,
    )
}

/// Makes one call that must do the whole range.
#[track_caller]
pub fn copy_all(from: &File, to: &File, range: Range, flags: u32) -> Outcome {
    let what = format!("{} of {range:?}", flag_name(flags));
    let copied = copy(from, to, range, flags).or_fail(&what)?;
    expect_eq(copied, range.len, what)
}

/// Replaces a range of a file's bytes as a call does.
pub fn apply(model: &mut Vec<u8>, source: &[u8], range: Range, count: usize) {
    if count == 0 {
        return;
    }
    let (from, to) = (range.off_in as usize, range.off_out as usize);
    model.resize(model.len().max(to + count), 0);
    model[to..to + count].copy_from_slice(&source[from..from + count]);
}
