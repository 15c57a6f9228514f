// SPDX-License-Identifier: GPL-2.0

//! `copy_file_range(2)` with a flag.

mod check;
mod copy;
mod counters;
mod dedupe;
mod position;

pub(crate) use counters::show;

use crate::{
    compat::EOPNOTSUPP,
    copy_flags::{
        COPY_FR_COPY,
        COPY_FR_DEDUP,
        COPY_FR_REFLINK, //
    },
    file::{
        signal_pending,
        Descriptor,
        Range, //
    },
    hook::{
        Arguments,
        SystemCall, //
    },
};
use counters::Counters;
use kernel::{
    prelude::*,
    uaccess::UserPtr, //
};
use position::Position;

/// How many bytes are copied or compared between two checks for signals.
const PIECE_BYTES: u64 = 16 << 20;

/// The most bytes that `FIDEDUPERANGE` shares at a time, and that a call with a 32-bit result
/// copies or shares: whole blocks of every filesystem.
const LIMIT_BYTES: u64 = 1 << 30;

/// What a call is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    Copy,
    Reflink,
    Dedup,
}

impl Flag {
    /// Returns the flag in the call's sixth argument, if it is exactly one of the three.
    fn of(arguments: &Arguments) -> Option<Self> {
        match arguments.values[5] as u32 {
            COPY_FR_COPY => Some(Self::Copy),
            COPY_FR_REFLINK => Some(Self::Reflink),
            COPY_FR_DEDUP => Some(Self::Dedup),
            _ => None,
        }
    }
}

/// The system call.
pub(crate) struct CopyFileRange;

impl SystemCall for CopyFileRange {
    const NAME: &'static str = "copy_file_range";

    fn wants(arguments: &Arguments) -> bool {
        Flag::of(arguments).is_some()
    }

    fn call(arguments: &Arguments) -> Result<usize> {
        let flag = Flag::of(arguments).ok_or(EINVAL)?;
        let len = arguments.values[4] as u64;
        let result = copy_file_range(arguments, len, flag);
        Counters::of(flag).count(len, &result);
        Ok(result? as usize)
    }
}

/// `COPY_FR_REFLINK`: in one piece, as to share is quick. A filesystem that takes the flag shares
/// all that it says, and may end before a block that it cannot share; any other reports the whole
/// range.
fn reflink(range: &Range<'_>) -> Result<u64> {
    match range.call_copy_file_range(COPY_FR_REFLINK) {
        Err(err) if err == EOPNOTSUPP => range.clone_file_range(),
        result => result,
    }
}

/// Runs the call, in the order of the kernel's own.
fn copy_file_range(arguments: &Arguments, len: u64, flag: Flag) -> Result<u64> {
    let [from, from_pos, to, to_pos, ..] = arguments.values;
    let from = Descriptor::get(from as u32)?;
    let to = Descriptor::get(to as u32)?;
    let from_pos = Position::get(&from, UserPtr::from_addr(from_pos))?;
    let to_pos = Position::get(&to, UserPtr::from_addr(to_pos))?;

    let Some(mut range) = check::check(&from, from_pos.value(), &to, to_pos.value(), len, flag)?
    else {
        return Ok(0);
    };
    if arguments.is_32_bit {
        range.len = range.len.min(LIMIT_BYTES);
    }
    let done = match flag {
        Flag::Copy => copy::copy(&range),
        Flag::Reflink => reflink(&range),
        Flag::Dedup => dedupe::dedupe(&range),
    }?;
    // Both, also where one fails.
    from_pos.advance(done).and(to_pos.advance(done))?;
    Ok(done)
}

/// Calls `f` with one piece of `range` after the other, which returns how many bytes it did: up to
/// the end, to nothing done, a failure or a signal. Returns how many bytes.
///
/// # Errors
///
/// That of `f`, if not one byte was done.
fn in_pieces(range: &Range<'_>, f: impl Fn(&Range<'_>) -> Result<u64>) -> Result<u64> {
    let mut done = 0;
    while done < range.len {
        match f(&range.part(done, PIECE_BYTES.min(range.len - done))) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(err) if done == 0 => return Err(err),
            Err(_) => break,
        }
        if signal_pending() {
            break;
        }
    }
    Ok(done)
}
