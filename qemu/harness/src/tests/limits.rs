// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The file size limit of a process, for calls other than writes that grow a file, or might.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::extents::expect_letters;
use crate::failure::{expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::{Reflinkfs, Tmpfs, Xfs, CLONES_SHOWN};
use crate::pattern::{blocks, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{check, dedupe, Deduped};

pub const CASES: &[Case] = &[
    case!(deduplication_ends_at_the_limit).needs(CLONES_SHOWN),
    case!(no_room_is_given_beyond_the_limit),
];

/// The limit, within a block.
const LIMIT: u64 = 2 * BLOCK64 + 10;

fn deduplication_ends_at_the_limit(t: &Test) -> Outcome {
    let data = blocks(1, 4);
    let (source, to) = (t.create_with("source", &data)?, t.create_with("to", &data)?);
    // Writes the setup to the disk before the limit is set.
    expect_letters(&to, "pppp", "before")?;
    limit_file_size(LIMIT)?;
    count_signals(libc::SIGXFSZ);
    let behind = 3 * BLOCK64;
    let result = dedupe(&source, behind, BLOCK64, &to, behind).or_fail("FIDEDUPERANGE")?;
    let refused = Deduped::Failed(Errno(libc::EFBIG));
    expect_eq(result, refused, "FIDEDUPERANGE behind the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after that")?;
    expect_letters(&to, "pppp", "after a refusal")?;
    // Across the limit the call does the part before it, but the kernel reports the whole range.
    let result = dedupe(&source, 0, 4 * BLOCK64, &to, 0).or_fail("FIDEDUPERANGE")?;
    expect_eq(
        result,
        Deduped::Same(4 * BLOCK64),
        "FIDEDUPERANGE across it",
    )?;
    expect_eq(signals_seen(), 0, "signals after a shortened call")?;
    expect_letters(&to, "sspp", "after a shortened call")?;
    to.expect_contents(&data, "the destination")?;
    source.expect_contents(&data, "the source")
}

fn no_room_is_given_beyond_the_limit(t: &Test) -> Outcome {
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    let data = blocks(1, 1);
    let file = t.create_with("file", &data)?;
    let fallocate = |mode: i32, offset: u64, len: u64| -> Sys<usize> {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) })
    };
    limit_file_size(LIMIT)?;
    count_signals(libc::SIGXFSZ);
    for (what, mode, has) in [
        ("allocating", 0, true),
        (
            "zeroing a range",
            libc::FALLOC_FL_ZERO_RANGE,
            t.filesystem != Tmpfs,
        ),
        (
            "unsharing",
            libc::FALLOC_FL_UNSHARE_RANGE,
            matches!(t.filesystem, Reflinkfs | Xfs),
        ),
    ] {
        if !has {
            continue;
        }
        for (offset, len) in [(BLOCK64, 2 * BLOCK64), (5 * BLOCK64, 10), (LIMIT, 1)] {
            let refused = fallocate(mode, offset, len);
            expect_errno(refused, libc::EFBIG, format_args!("{what} at {offset}"))?;
            expect_eq(signals_seen(), 1, format_args!("SIGXFSZ after {what}"))?;
            file.expect_contents(&data, &format!("after {what} was refused"))?;
        }
        // The limit is on the size; but tmpfs also checks the allocated range.
        let kept = fallocate(mode | keep, BLOCK64, 8 * BLOCK64);
        if t.filesystem == Tmpfs {
            expect_errno(kept, libc::EFBIG, format_args!("{what}, keeping the size"))?;
            expect_eq(signals_seen(), 1, format_args!("SIGXFSZ after {what}"))?;
        } else {
            kept.or_fail(format_args!("{what}, keeping the size"))?;
        }
        file.expect_contents(&data, &format!("after {what}, keeping the size"))?;
        fallocate(mode, BLOCK64, LIMIT - BLOCK64).or_fail(format_args!("{what} to the limit"))?;
        expect_eq(signals_seen(), 0, format_args!("signals after {what}"))?;
        expect_eq(file.size()?, LIMIT, format_args!("size after {what}"))?;
        file.truncate(BLOCK64)?;
    }
    Ok(())
}
