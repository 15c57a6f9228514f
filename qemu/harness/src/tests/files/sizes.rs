// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Truncation, and the largest file sizes.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::Feature;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{check, File};

pub const CASES: &[Case] = &[
    case!(truncate_cuts_and_extends),
    case!(truncate_leaves_no_old_bytes_behind),
    case!(truncate_frees_blocks).needs(&[Feature::ExactBlocks]),
    case!(truncate_refuses_what_it_must),
    case!(opening_with_o_trunc_empties_the_file),
    case!(the_size_limit_of_a_process_is_kept),
    case!(the_size_limit_of_a_process_holds_for_truncate),
    case!(the_largest_offset_works_and_the_next_is_efbig),
    case!(a_sparse_file_of_many_terabytes_works),
];

fn truncate_cuts_and_extends(t: &Test) -> Outcome {
    let mut model = blocks(7, 3);
    let file = t.create_with("file", &model)?;
    for size in [
        12287, 8193, 8192, 8191, 5000, 20000, 4096, 4095, 1, 0, 1, 9000,
    ] {
        file.truncate(size)?;
        model.resize(size as usize, 0);
        file.expect_contents(&model, &format!("truncated to {size}"))?;
    }
    crate::sys::truncate(&file.path, 3).or_fail("truncate by name")?;
    expect_eq(file.size()?, 3, "size after truncate by name")
}

fn truncate_leaves_no_old_bytes_behind(t: &Test) -> Outcome {
    for cut in [1, 100, 4095, 4096, 4097, 8000] {
        let file = t.create_with("file", &blocks(8, 3))?;
        file.truncate(cut)?;
        file.truncate(3 * BLOCK64)?;
        let mut model = blocks(8, 3);
        model[cut as usize..].fill(0);
        file.expect_contents(&model, &format!("cut to {cut} and extended again"))?;
        // The same with the extension made by a write.
        let file = t.create_with("file", &blocks(8, 3))?;
        file.truncate(cut)?;
        file.write_at(b"end", 3 * BLOCK64 - 3)?;
        model[3 * BLOCK - 3..].copy_from_slice(b"end");
        file.expect_contents(&model, &format!("cut to {cut} and extended by a write"))?;
    }
    Ok(())
}

fn truncate_frees_blocks(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(9, 200))?;
    for (size, left) in [
        (150 * BLOCK64 + 1, 151),
        (65 * BLOCK64, 65),
        (64 * BLOCK64, 64),
        (1, 1),
    ] {
        file.truncate(size)?;
        expect_eq(
            file.data_blocks()?,
            left,
            format_args!("blocks at a size of {size}"),
        )?;
    }
    file.truncate(100 * BLOCK64)?;
    expect_eq(
        file.data_blocks()?,
        1,
        "blocks after extending without data",
    )
}

fn truncate_refuses_what_it_must(t: &Test) -> Outcome {
    let missing = t.path("missing");
    expect_errno(
        crate::sys::truncate(missing, 0),
        libc::ENOENT,
        "truncate of nothing",
    )?;
    let file = t.create_with("file", b"data")?;
    let negative = unsafe_ftruncate(&file, -1);
    expect_errno(negative, libc::EINVAL, "ftruncate to -1")?;
    file.expect_contents(b"data", "after the refusals")
}

fn unsafe_ftruncate(file: &File, size: i64) -> Sys<usize> {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), size) })
}

fn opening_with_o_trunc_empties_the_file(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    let other = file.reopen(libc::O_WRONLY | libc::O_TRUNC)?;
    expect_eq(file.size()?, 0, "size after open(O_TRUNC)")?;
    other.write_at(b"new", 0)?;
    file.expect_contents(b"new", "written after open(O_TRUNC)")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let file = t.create("file")?;
    limit_file_size(10_000)?;
    count_signals(libc::SIGXFSZ);
    let data = pattern(1, 12_000);
    let n = file
        .try_pwrite(&data, 0)
        .or_fail("a write across the limit")?;
    expect_eq(n, 10_000, "bytes written of 12000 with a limit of 10000")?;
    expect_eq(
        signals_seen(),
        0,
        "signals after a write that was shortened",
    )?;
    expect_errno(
        file.try_pwrite(b"x", 10_000),
        libc::EFBIG,
        "a write at the limit",
    )?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a write at the limit")?;
    expect_errno(
        file.try_pwrite(b"x", 1 << 40),
        libc::EFBIG,
        "a write behind the limit",
    )?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a write behind the limit")?;
    file.write_at(b"inside", 9_994)?;
    expect_eq(file.size()?, 10_000, "size")
}

fn the_size_limit_of_a_process_holds_for_truncate(t: &Test) -> Outcome {
    let file = t.create("file")?;
    limit_file_size(10_000)?;
    count_signals(libc::SIGXFSZ);
    file.truncate(10_000)?;
    expect_errno(
        file.try_truncate(10_001),
        libc::EFBIG,
        "truncate above the limit",
    )?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after truncate above the limit")?;
    expect_eq(file.size()?, 10_000, "size")
}

fn the_largest_offset_works_and_the_next_is_efbig(t: &Test) -> Outcome {
    let file = t.create("file")?;
    // The largest size that truncate takes is the filesystem's limit.
    let (mut works, mut fails) = (0u64, i64::MAX as u64 + 1);
    while fails - works > 1 {
        let middle = works + (fails - works) / 2;
        match file.try_truncate(middle) {
            Ok(()) => works = middle,
            Err(Errno(libc::EFBIG)) => fails = middle,
            Err(error) => return Err(error).or_fail(format_args!("ftruncate to {middle}")),
        }
    }
    file.truncate(0)?;
    expect(
        works >= 1 << 40,
        format_args!("the largest size is at least 1 TiB: {works}"),
    )?;
    file.write_at(b"last", works - 4)?;
    expect_eq(file.size()?, works, "size after writing the last bytes")?;
    expect_bytes(&file.read_at(works - 4, 4)?, b"last", "the last bytes")?;
    if works < i64::MAX as u64 {
        expect_errno(
            file.try_pwrite(b"x", works),
            libc::EFBIG,
            "a write at the largest size",
        )?;
        let n = file
            .try_pwrite(b"past", works - 2)
            .or_fail("a write across the largest size")?;
        expect_eq(n, 2, "bytes written across the largest size")?;
    } else {
        // The end of such a write is beyond the largest offset.
        expect_errno(
            file.try_pwrite(b"x", works),
            libc::EINVAL,
            "a write at 2^63 - 1",
        )?;
        expect_errno(
            file.try_pwrite(b"past", works - 2),
            libc::EINVAL,
            "a write across 2^63 - 1",
        )?;
    }
    expect_eq(
        file.seek(works as i64 - 4, libc::SEEK_DATA)
            .or_fail("SEEK_DATA")?,
        works - 4,
        "data",
    )?;
    if works < i64::MAX as u64 {
        expect_errno(
            file.seek(works as i64 + 1, libc::SEEK_SET),
            libc::EINVAL,
            "lseek behind it",
        )?;
    }
    expect_bytes(&file.read_at(0, 10)?, &[0; 10], "the start")?;
    file.truncate(1)?;
    file.expect_contents(&[0], "cut down to one byte")
}

fn a_sparse_file_of_many_terabytes_works(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let places: Vec<u64> = (12..44).map(|bit| (1u64 << bit) - 3).collect();
    for (i, &place) in places.iter().enumerate() {
        file.write_at(&[i as u8 + 1; 6], place)?;
    }
    for (i, &place) in places.iter().enumerate() {
        let mut expected = vec![0; 3];
        expected.extend([i as u8 + 1; 6]);
        // The data before this range ends where it starts, for small offsets.
        if place > 20 {
            expect_bytes(
                &file.read_at(place - 3, 9)?,
                &expected,
                format!("around {place}"),
            )?;
        }
    }
    for &place in &places {
        let data = file
            .seek(place as i64, libc::SEEK_DATA)
            .or_fail("SEEK_DATA")?;
        expect_eq(data, place, format_args!("SEEK_DATA at data at {place}"))?;
    }
    file.truncate((1 << 20) + 1)?;
    expect_eq(
        file.read_at((1 << 20) - 3, 20)?,
        [9, 9, 9, 9],
        "the end after truncation",
    )
}
