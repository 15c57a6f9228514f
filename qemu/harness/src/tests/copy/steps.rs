// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The duties of each step of a long copy: it is many changes, and between two of them the file may
//! become a program, or immutable.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Failure, Outcome};
use crate::fileattr::{set_flags, IMMUTABLE};
use crate::filesystem::{Btrfs, Feature, Tmpfs, Xfs};
use crate::pattern::{BLOCK, BLOCK64};
use crate::process::{count_signals, signals_seen, Child};
use crate::stall::Stall;
use crate::sys::{
    check, chmod, chown, copy_once, lstat, pwrite_from, set_times, sleep_ms, timespec, File, Times,
};
use crate::tests::xattr;
use std::time::Duration;

/// Why other filesystems are skipped.
const OTHERS_OWE: &str = "writes through a pipe, and checks the flag at the beginning of the call";

pub const CASES: &[Case] = &[
    case!(a_program_made_in_the_middle_of_a_copy_loses_its_bits).needs(IN_THE_MIDDLE),
    case!(a_program_made_while_a_copy_waits_for_its_source_loses_its_bits)
        .needs(&[Feature::Reflinkfs]),
    case!(capabilities_given_in_the_middle_of_a_copy_are_lost).needs(IN_THE_MIDDLE),
    case!(a_copy_ends_where_the_file_becomes_immutable)
        .needs(IN_THE_MIDDLE)
        .except(Tmpfs, OTHERS_OWE)
        .except(Xfs, OTHERS_OWE)
        .except(Btrfs, OTHERS_OWE),
    case!(each_step_of_a_copy_changes_the_time).needs(IN_THE_MIDDLE),
    case!(a_signal_ends_a_copy_short).needs(&[Feature::Reflinkfs]),
];

const IN_THE_MIDDLE: &[Feature] = &[Feature::SecondProcessor];

/// The number of bytes to copy, in many steps.
fn length(t: &Test) -> u64 {
    if t.is_reflinkfs() {
        256 << 20
    } else {
        16 << 20
    }
}

/// The number of tries to make the change between two steps.
const TRIES: usize = 20;

/// The ways to fill a source, and the offset in it where the copy begins.
const SOURCES: [(&str, bool, u64); 2] = [("a sparse file", false, 1), ("data", true, 1)];

fn source(t: &Test, data: bool) -> Outcome<File> {
    let source = t.create("source")?;
    source.truncate(length(t) + 1)?;
    if data {
        for at in (0..length(t) / 4).step_by(1 << 20) {
            source.write_at(&[b'd'; 1 << 20], at)?;
        }
    } else {
        // A hole alone is copied in one step.
        for at in (0..length(t)).step_by(1 << 18) {
            source.write_at(&[b's'; BLOCK], at)?;
        }
    }
    chmod(&source.path, 0o644).or_fail("chmod")?;
    Ok(source)
}

/// Creates a file that an unprivileged user may write to.
fn destination(t: &Test) -> Outcome<File> {
    let to = t.create("to")?;
    chown(&to.path, 1000, 1000).or_fail("chown")?;
    chmod(&to.path, 0o755).or_fail("chmod")?;
    Ok(to)
}

/// Copies as an unprivileged user, in one call, and in further ones if that ends short.
fn copy_as_user(t: &Test, from: &File, from_pos: u64, to: &File) -> Outcome<Child> {
    Child::spawn(|| {
        let own = to.reopen(libc::O_RDWR)?;
        // SAFETY: plain calls in a process with one thread.
        unsafe {
            check(libc::setgroups(0, std::ptr::null())).or_fail("setgroups")?;
            check(libc::setgid(1000)).or_fail("setgid")?;
            check(libc::setuid(1000)).or_fail("setuid")?;
        }
        let copied = copy_once(from, from_pos, &own, 0, length(t) as usize);
        if copied != Err(crate::failure::Errno(libc::EPERM)) {
            copied.or_fail("copy_file_range")?;
        }
        Ok(())
    })
}

/// Makes `change` while the copy runs, and lets `see` check the result. `change` gets the file, and
/// whether the copy runs to its end.
fn in_the_middle(
    t: &Test,
    change: impl Fn(&File) -> Outcome,
    see: impl Fn(&File, u64, &str) -> Outcome,
) -> Outcome {
    for (what, data, from_pos) in SOURCES {
        let source = source(t, data)?;
        let mut seen = false;
        for _ in 0..TRIES {
            let to = destination(t)?;
            let copy = copy_as_user(t, &source, from_pos, &to)?;
            while to.size()? == 0 && !copy.is_over() {
                std::hint::spin_loop();
            }
            change(&to)?;
            let size = to.size()?;
            copy.join()?;
            set_flags(&to, 0).or_fail("FS_IOC_SETFLAGS of none")?;
            if size > 0 && size < length(t) {
                see(&to, size, what)?;
                seen = true;
                break;
            }
        }
        expect(
            seen,
            format_args!("the change came in the middle of copying {what}"),
        )?;
    }
    Ok(())
}

fn expect_mode(file: &File, expected: u32, what: &str) -> Outcome {
    let mode = lstat(&file.path).or_fail("lstat")?.st_mode & 0o7777;
    expect(
        mode == expected,
        format_args!("mode {mode:o} is {expected:o} after copying {what}"),
    )
}

fn a_program_made_in_the_middle_of_a_copy_loses_its_bits(t: &Test) -> Outcome {
    in_the_middle(
        t,
        |to| chmod(&to.path, 0o6755).or_fail("chmod"),
        |to, _, what| {
            expect_eq(to.size()?, length(t), "size of the copy")?;
            expect_mode(to, 0o755, what)
        },
    )
}

fn capabilities_given_in_the_middle_of_a_copy_are_lost(t: &Test) -> Outcome {
    let (name, capability) = (xattr::CAPABILITY, xattr::capability());
    in_the_middle(
        t,
        |to| xattr::set(&to.path, name, &capability, 0).or_fail("setxattr"),
        |to, _, what| {
            let seen = xattr::get(&to.path, name);
            expect_errno(seen, libc::ENODATA, format_args!("after copying {what}"))
        },
    )
}

fn a_copy_ends_where_the_file_becomes_immutable(t: &Test) -> Outcome {
    in_the_middle(
        t,
        |to| set_flags(to, IMMUTABLE).or_fail("FS_IOC_SETFLAGS"),
        |to, size, what| {
            expect_eq(
                to.size()?,
                size,
                format_args!("size of an immutable file while {what} is copied to it"),
            )
        },
    )
}

fn each_step_of_a_copy_changes_the_time(t: &Test) -> Outcome {
    let past = timespec(1_000_000, 0);
    in_the_middle(
        t,
        |to| set_times(&to.path, [past, past]).or_fail("utimensat"),
        |to, _, what| {
            let Times { modified, .. } = to.times()?;
            expect(
                modified > 1_000_000_000_000_000,
                format_args!("the time of the last change is that of copying {what}"),
            )
        },
    )
}

/// An attack: the call waits for a lock of its source, which its caller holds by another call,
/// until the file is a program.
fn a_program_made_while_a_copy_waits_for_its_source_loses_its_bits(t: &Test) -> Outcome {
    let one = source(t, true)?;
    let other = t.create("other")?;
    other.truncate(length(t) + 1)?;
    for turn in 0..TRIES {
        // The addresses of the inodes determine which of the two is locked first.
        let (from, to) = if turn % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        chown(&from.path, 0, 0).or_fail("chown")?;
        chown(&to.path, 1000, 1000).or_fail("chown")?;
        chmod(&to.path, 0o755).or_fail("chmod")?;
        to.truncate(0)?;
        if park(t, from, to)? {
            expect_eq(to.size()?, length(t), "size of the copy")?;
            return expect_mode(to, 0o755, "with a wait for the source");
        }
        to.truncate(length(t) + 1)?;
    }
    Err(Failure::new("no copy waited for its source's lock alone"))
}

/// Returns whether the file was made a program in the middle.
fn park(t: &Test, from: &File, to: &File) -> Outcome<bool> {
    let stall = Stall::new()?;
    let copy = copy_as_user(t, from, 1, to)?;
    while to.size()? == 0 && !copy.is_over() {
        std::hint::spin_loop();
    }
    let mut made = None;
    let mut between = false;
    let write = || {
        pwrite_from(
            from,
            stall.buffer().at(0),
            BLOCK,
            (length(t) - BLOCK64) as i64,
        )
    };
    let written = stall.during(write, b'w', || {
        // Not if the copy holds this file's lock while it waits for the source's.
        let make = Child::spawn(|| chmod(&to.path, 0o4755).or_fail("chmod"))?;
        let done = make.wait_for(Duration::from_secs(2))?.is_some();
        between = done && (1..length(t)).contains(&to.size()?);
        sleep_ms(10);
        made = (!done).then_some(make);
        Ok(())
    })?;
    expect_eq(written.or_fail("pwrite")?, BLOCK, "bytes written")?;
    if let Some(make) = made {
        make.join()?;
    }
    copy.join()?;
    Ok(between)
}

fn a_signal_ends_a_copy_short(t: &Test) -> Outcome {
    const LENGTH: u64 = 64 << 20;
    let (source, dest) = (t.create("source")?, t.create("dest")?);
    for at in (0..=LENGTH).step_by(1 << 20) {
        source.write_at(&[b'd'; 1 << 20], at)?;
    }
    count_signals(libc::SIGALRM);
    let timer = |value, interval| {
        let time = |tv_usec| libc::timeval { tv_sec: 0, tv_usec };
        let timer = libc::itimerval {
            it_interval: time(interval),
            it_value: time(value),
        };
        // SAFETY: the timer is valid during the call.
        let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
        check(result).or_fail("setitimer")
    };
    timer(2000, 20_000)?;
    // Copied byte by byte, as it moves.
    let copied = copy_once(&source, 1, &dest, 0, LENGTH as usize);
    timer(0, 0)?;
    let copied = copied.or_fail("copy_file_range")? as u64;
    expect(signals_seen() > 0, "a signal came")?;
    expect(
        (1..LENGTH).contains(&copied),
        format_args!("{copied} bytes copied, although a signal was pending"),
    )?;
    expect_eq(dest.size()?, copied, "the size of the destination")
}
