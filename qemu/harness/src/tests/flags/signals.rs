// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A signal ends a long call, which returns how much it has done.

use std::time::{Duration, Instant};

use super::{call, copy, range, Range, COPY, DEDUP, REFLINK, WAYS};
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::filesystem::{Feature, Reflinkfs};
use crate::pattern::{blocks, BLOCK};
use crate::process::{count_signals, signals_seen, Child};
use crate::sys::{check, sleep_ms, File};

pub const CASES: &[Case] = &[
    case!(a_signal_ends_a_copy_with_what_was_copied),
    case!(a_signal_ends_a_deduplication_with_what_was_shared).needs(&[Feature::Reflink]),
    case!(a_killed_copy_ends),
    case!(a_killed_deduplication_ends).needs(&[Feature::Reflink]),
    case!(a_signal_before_the_call_is_no_error),
];

/// The limit of one call for compared bytes.
const LIMIT: usize = 1 << 28;

/// Returns a length that none of these calls can finish before a signal comes.
fn long(t: &Test) -> usize {
    // On a disk the data must fit; elsewhere the range that is not copied takes no room.
    if t.filesystem == Reflinkfs {
        1 << 40
    } else {
        512 << 20
    }
}

/// The limit for a call that should end at once: a slow machine takes long, and its clock may be
/// several times too fast. A call without a bound takes hours.
fn soon(t: &Test) -> Duration {
    Duration::from_secs(if t.settings.divisor > 1 { 90 } else { 30 })
}

/// Creates a long file; no two of them share a block.
fn long_file(t: &Test, name: &str) -> Outcome<(File, Range)> {
    let size = long(t);
    let file = t.create(name)?;
    if t.filesystem == Reflinkfs {
        // A call would pass holes, and blocks that both files share, at once.
        file.write_at(&blocks(1, 16), 0)?;
        let mut have = 16 * BLOCK;
        while have < size {
            super::copy_all(&file, &file, range(0, have as u64, have), REFLINK)?;
            have *= 2;
        }
    } else {
        file.truncate(size as u64)?;
    }
    Ok((file, range(0, 0, size)))
}

/// Sends the process SIGALRM, with a handler, again and again from now on.
fn alarm_every(ms: i64) -> Outcome {
    count_signals(libc::SIGALRM);
    let every = libc::timeval {
        tv_sec: ms / 1000,
        tv_usec: ms % 1000 * 1000,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: `timer` is valid.
    check(unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &timer, 0) })
        .or_fail("setitimer")?;
    Ok(())
}

/// Expects a signal to end each of several calls with a count, and the count to be right.
fn expect_interrupted(t: &Test, from: &File, to: &File, whole: Range, flags: u32) -> Outcome {
    let child = Child::spawn(|| interrupt(t, from, to, whole, flags))?;
    if child.wait_for(soon(t) * 2)?.is_some() {
        let said = child.said();
        return expect(said.is_empty(), said);
    }
    child.kill(libc::SIGKILL);
    Err(Failure::new("no signal but SIGKILL ends the call"))
}

fn interrupt(t: &Test, from: &File, to: &File, whole: Range, flags: u32) -> Outcome {
    let size_before = to.size()?;
    alarm_every(if t.settings.divisor > 1 { 300 } else { 50 })?;
    let mut done = 0;
    for (turn, way) in WAYS.iter().enumerate() {
        signals_seen();
        let rest = range(done as u64, done as u64, whole.len - done);
        let count = match call(*way, from, to, rest, flags)? {
            Ok(count) => count,
            Err(error) => {
                let what = format!("call {turn}, after {done} bytes: {error}");
                return Err(Failure::new(what));
            }
        };
        expect(
            count > 0 && count < rest.len,
            format_args!("call {turn} did {count} of {} bytes", rest.len),
        )?;
        expect(
            signals_seen() > 0 || (flags == DEDUP && count >= LIMIT),
            format_args!("call {turn} was short without a signal"),
        )?;
        done += count;
        expect_eq(
            to.size()?,
            size_before.max(done as u64),
            "size of the destination",
        )?;
    }
    alarm_every(0)
}

fn a_signal_ends_a_copy_with_what_was_copied(t: &Test) -> Outcome {
    let (source, whole) = long_file(t, "source")?;
    let to = t.create("to")?;
    expect_interrupted(t, &source, &to, whole, COPY)?;
    let size = to.size()?;
    for at in [0, size / 2, size - 100] {
        let expected = source.read_at(at, 100)?;
        expect_eq(
            to.read_at(at, 100)?,
            expected,
            format_args!("the range copied to {at}"),
        )?;
    }
    Ok(())
}

fn a_signal_ends_a_deduplication_with_what_was_shared(t: &Test) -> Outcome {
    let (source, whole) = long_file(t, "source")?;
    let (to, _) = long_file(t, "to")?;
    expect_interrupted(t, &source, &to, whole, DEDUP)
}

fn expect_killed_soon(t: &Test, call: impl FnOnce() -> Outcome) -> Outcome {
    let child = Child::spawn(call)?;
    sleep_ms(100);
    let started = Instant::now();
    expect(
        !child.is_over(),
        format_args!("it runs until it is killed: {}", child.said()),
    )?;
    child.kill(libc::SIGKILL);
    let end = child.wait_for(soon(t))?;
    expect(
        end.is_some(),
        format_args!("not dead {:?} after SIGKILL", started.elapsed()),
    )
}

fn a_killed_copy_ends(t: &Test) -> Outcome {
    let (source, whole) = long_file(t, "source")?;
    let to = t.create("to")?;
    expect_killed_soon(t, || {
        copy(&source, &to, whole, COPY)
            .map(|_| ())
            .or_fail("the copy")
    })?;
    expect(to.size()? < whole.len as u64, "the copy did not end")
}

fn a_killed_deduplication_ends(t: &Test) -> Outcome {
    let (source, whole) = long_file(t, "source")?;
    let (to, _) = long_file(t, "to")?;
    // The limit of one call for compared bytes.
    expect_killed_soon(t, || loop {
        copy(&source, &to, whole, DEDUP).or_fail("the deduplication")?;
    })
}

fn a_signal_before_the_call_is_no_error(t: &Test) -> Outcome {
    // Blocked, so that it is pending all the time: a pending signal that is blocked must not end a
    // call.
    let source = t.create_with("source", &blocks(2, 4))?;
    let to = t.create("to")?;
    // SAFETY: a sigset of zeros is valid; plain calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGUSR1);
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &set,
            std::ptr::null_mut(),
        ))
        .or_fail("mask")?;
        libc::raise(libc::SIGUSR1);
    }
    super::copy_all(&source, &to, range(0, 0, 4 * BLOCK), COPY)?;
    to.expect_contents(&blocks(2, 4), "copied with a blocked signal pending")
}
