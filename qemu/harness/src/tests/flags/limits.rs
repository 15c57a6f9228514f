// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Limits of processes and filesystems.

use libc::{EFBIG, ENOSPC};

use super::{copy, range, Disk, COPY, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Feature, Reflinkfs};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};

pub const CASES: &[Case] = &[
    case!(a_copy_ends_at_the_size_limit_of_the_process),
    case!(sharing_beyond_the_size_limit_of_the_process_is_refused).needs(&[Feature::Reflink]),
    case!(a_full_filesystem_gives_a_short_count_then_enospc),
    case!(sharing_needs_no_room).needs(&[Feature::Reflink, Feature::Instance]),
];

fn a_copy_ends_at_the_size_limit_of_the_process(t: &Test) -> Outcome {
    let data = blocks(1, 8);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    let limit = 3 * BLOCK + 10;
    limit_file_size(limit as u64)?;
    count_signals(libc::SIGXFSZ);
    let copied = copy(&source, &to, range(0, 0, data.len()), COPY).or_fail("across the limit")?;
    expect_eq(copied, limit, "bytes copied up to the limit")?;
    expect_eq(signals_seen(), 0, "signals after a copy that was shortened")?;
    for at in [limit as u64, 5 * BLOCK64] {
        let result = copy(&source, &to, range(0, at, 10), COPY);
        expect_errno(result, EFBIG, format_args!("a copy to {at}"))?;
        expect_eq(
            signals_seen(),
            1,
            format_args!("SIGXFSZ after a copy to {at}"),
        )?;
    }
    to.expect_contents(&data[..limit], "the copy")
}

fn sharing_beyond_the_size_limit_of_the_process_is_refused(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(2, 8))?;
    let to = t.create("to")?;
    limit_file_size(3 * BLOCK64)?;
    count_signals(libc::SIGXFSZ);
    let result = copy(&source, &to, range(0, 3 * BLOCK64, BLOCK), REFLINK);
    expect_errno(result, EFBIG, "sharing at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after sharing at the limit")?;
    // FICLONERANGE returns EINVAL for a range that cannot be shared as a whole.
    let result = copy(&source, &to, range(0, 0, 8 * BLOCK), REFLINK);
    crate::failure::expect_one_of(result, &[EFBIG, libc::EINVAL], "sharing across the limit")?;
    expect_eq(to.size()?, 0, "size of the destination")?;
    super::copy_all(&source, &to, range(0, 0, 3 * BLOCK), REFLINK)?;
    to.expect_contents(&blocks(2, 3), "the range shared up to the limit")
}

fn a_full_filesystem_gives_a_short_count_then_enospc(t: &Test) -> Outcome {
    let disk = Disk::new(t)?;
    let data = blocks(3, 256);
    let source = disk.create_with("source", &data)?;
    source.sync()?;
    let to = disk.create_with("to", b"")?;
    let filler = disk.fill(64 * BLOCK64)?;
    let mut done = 0;
    let last = loop {
        let rest = range(done as u64, done as u64, data.len() - done);
        match copy(&source, &to, rest, COPY) {
            Ok(n) if n > 0 && done + n < data.len() => done += n,
            other => break other,
        }
    };
    expect_errno(
        last,
        ENOSPC,
        format_args!("a copy with nothing free, after {done} bytes"),
    )?;
    expect(done > 0, "a short count comes first")?;
    if t.filesystem == Reflinkfs {
        expect_eq(done, 64 * BLOCK, "bytes copied until nothing was free")?;
    }
    to.expect_contents(&data[..done], "the copied range")?;
    source.expect_contents(&data, "the source")?;
    filler.truncate(0)?;
    disk.settle(&filler, 1 << 20)?;
    let rest = range(done as u64, done as u64, data.len() - done);
    super::copy_all(&source, &to, rest, COPY)?;
    to.expect_contents(&data, "the copy once there is room")?;
    drop((source, to, filler));
    disk.unmount()
}

fn sharing_needs_no_room(t: &Test) -> Outcome {
    let disk = Disk::new(t)?;
    let data = blocks(4, 64);
    let source = disk.create_with("source", &data)?;
    let to = disk.create_with("to", &data)?;
    let other = disk.create_with("other", b"")?;
    let filler = disk.fill(0)?;
    for (to, flags) in [(&to, super::DEDUP), (&other, REFLINK)] {
        super::copy_all(&source, to, range(0, 0, data.len()), flags)?;
        to.expect_contents(&data, "the shared range")?;
    }
    drop(filler);
    source.expect_contents(&data, "the source")
}
