// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Offsets and lengths of copy_file_range(2): their use, advance and limits.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Ext4;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{copy_file_range, copy_loop, copy_once};

pub const CASES: &[Case] = &[
    case!(null_offsets_use_and_move_the_positions),
    case!(given_offsets_move_and_leave_the_positions_alone),
    case!(one_null_and_one_given_offset_work),
    case!(one_descriptor_can_be_both_sides),
    case!(a_request_beyond_the_source_is_shortened),
    case!(at_or_past_the_end_of_the_source_nothing_is_copied),
    case!(a_length_of_zero_does_nothing),
    case!(an_error_moves_no_offset),
    case!(the_largest_offsets_work),
    case!(bytes_are_copied_to_the_end_of_the_largest_file_and_back)
        .except(Ext4, "its files end at 16 TiB"),
    case!(a_huge_length_copies_what_there_is),
];

fn null_offsets_use_and_move_the_positions(t: &Test) -> Outcome {
    let data = pattern(4, 3 * BLOCK);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    source.seek(100, libc::SEEK_SET).or_fail("lseek")?;
    to.seek(50, libc::SEEK_SET).or_fail("lseek")?;
    let mut total = 0;
    while total < 6000 {
        let n = copy_file_range(&source, None, &to, None, 6000 - total, 0).or_fail("copy")?;
        expect(n > 0, "something is copied")?;
        total += n;
        expect_eq(
            source.position()?,
            100 + total as u64,
            "position of the source",
        )?;
        expect_eq(
            to.position()?,
            50 + total as u64,
            "position of the destination",
        )?;
    }
    expect_bytes(&to.read_at(50, 6001)?, &data[100..6100], "the copy")?;
    source.seek(0, libc::SEEK_END).or_fail("lseek")?;
    let n = copy_file_range(&source, None, &to, None, 10, 0).or_fail("copy at the end")?;
    expect_eq(n, 0, "bytes copied at the end")?;
    expect_eq(
        to.position()?,
        6050,
        "position of the destination after copying nothing",
    )
}

fn given_offsets_move_and_leave_the_positions_alone(t: &Test) -> Outcome {
    let data = pattern(5, 3 * BLOCK);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    source.seek(7, libc::SEEK_SET).or_fail("lseek")?;
    to.seek(9, libc::SEEK_SET).or_fail("lseek")?;
    let (mut off_in, mut off_out) = (BLOCK as i64, 0);
    let n = copy_file_range(
        &source,
        Some(&mut off_in),
        &to,
        Some(&mut off_out),
        BLOCK,
        0,
    )
    .or_fail("copy")?;
    expect_eq(n, BLOCK, "bytes copied")?;
    expect_eq(
        (off_in, off_out),
        (2 * BLOCK as i64, BLOCK as i64),
        "the offsets afterwards",
    )?;
    expect_eq(
        (source.position()?, to.position()?),
        (7, 9),
        "the positions",
    )?;
    to.expect_contents(&data[BLOCK..2 * BLOCK], "the copy")
}

fn one_null_and_one_given_offset_work(t: &Test) -> Outcome {
    let data = pattern(6, 2 * BLOCK);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    let mut offset = 10;
    copy_file_range(&source, Some(&mut offset), &to, None, 20, 0).or_fail("copy")?;
    expect_eq(
        (offset, source.position()?, to.position()?),
        (30, 0, 20),
        "after the first",
    )?;
    let mut offset = 20;
    copy_file_range(&source, None, &to, Some(&mut offset), 5, 0).or_fail("copy")?;
    expect_eq(
        (offset, source.position()?, to.position()?),
        (25, 5, 20),
        "after the second",
    )?;
    let expected = [&data[10..30], &data[0..5]].concat();
    to.expect_contents(&expected, "both copies")
}

fn one_descriptor_can_be_both_sides(t: &Test) -> Outcome {
    let mut model = pattern(7, 2 * BLOCK);
    let file = t.create_with("file", &model)?;
    file.seek(2 * BLOCK as i64, libc::SEEK_SET)
        .or_fail("lseek")?;
    let mut off_in = 0;
    let n = copy_file_range(&file, Some(&mut off_in), &file, None, BLOCK, 0).or_fail("copy")?;
    expect_eq(n, BLOCK, "bytes copied")?;
    expect_eq(file.position()?, 3 * BLOCK64, "position")?;
    model.extend_from_within(..BLOCK);
    file.expect_contents(&model, "a file that copied from itself")
}

fn a_request_beyond_the_source_is_shortened(t: &Test) -> Outcome {
    let data = pattern(8, BLOCK + 1000);
    let source = t.create_with("source", &data)?;
    for off_in in [0, 10, BLOCK, BLOCK + 999] {
        let to = t.create("to")?;
        let copied = copy_loop(&source, off_in as u64, &to, 0, 1 << 20)?;
        expect_eq(
            copied,
            data.len() - off_in,
            format_args!("copied from {off_in}"),
        )?;
        to.expect_contents(&data[off_in..], "a copy to the end of the source")?;
    }
    Ok(())
}

fn at_or_past_the_end_of_the_source_nothing_is_copied(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(9, 5000))?;
    let to = t.create_with("to", b"kept")?;
    for at in [5000, 5001, 8192, 1 << 40] {
        let n = copy_once(&source, at, &to, 0, BLOCK).or_fail(format_args!("copy from {at}"))?;
        expect_eq(n, 0, format_args!("bytes copied from {at}"))?;
        let n = copy_once(&source, at, &to, 100_000, BLOCK).or_fail("copy to 100000")?;
        expect_eq(n, 0, format_args!("bytes copied from {at} to 100000"))?;
    }
    to.expect_contents(b"kept", "after copying nothing")
}

fn a_length_of_zero_does_nothing(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(10, 1))?;
    let to = t.create_with("to", b"kept")?;
    expect_eq(
        copy_once(&source, 0, &to, 0, 0).or_fail("copy")?,
        0,
        "bytes copied",
    )?;
    expect_eq(
        copy_once(&source, 0, &source, 0, 0).or_fail("copy")?,
        0,
        "onto itself",
    )?;
    to.expect_contents(b"kept", "after copying nothing")
}

fn an_error_moves_no_offset(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(39, 2))?;
    file.seek(100, libc::SEEK_SET).or_fail("lseek")?;
    let other = file.reopen(libc::O_RDWR)?;
    other.seek(200, libc::SEEK_SET).or_fail("lseek")?;
    let copied = copy_file_range(&file, None, &other, None, BLOCK, 0);
    expect_errno(copied, libc::EINVAL, "overlapping ranges")?;
    expect_eq(
        (file.position()?, other.position()?),
        (100, 200),
        "the positions",
    )?;
    let (mut off_in, mut off_out) = (5, 6);
    let copied = copy_file_range(
        &file,
        Some(&mut off_in),
        &other,
        Some(&mut off_out),
        BLOCK,
        0,
    );
    expect_errno(copied, libc::EINVAL, "overlapping ranges")?;
    expect_eq((off_in, off_out), (5, 6), "the offsets")
}

fn the_largest_offsets_work(t: &Test) -> Outcome {
    let source = t.create_with("source", b"at the end")?;
    let to = t.create("to")?;
    let last = (1u64 << 43) - 5;
    expect_eq(
        copy_loop(&source, 0, &to, last, 10)?,
        10,
        "bytes copied to 8 TiB",
    )?;
    expect_bytes(&to.read_at(last, 20)?, b"at the end", "the copy")?;
    let back = t.create("back")?;
    expect_eq(
        copy_loop(&to, last + 3, &back, 0, 100)?,
        7,
        "bytes copied from 8 TiB",
    )?;
    back.expect_contents(b"the end", "the copy back")?;
    let copied = copy_once(&source, 0, &to, i64::MAX as u64, 10);
    expect_errno(copied, libc::EFBIG, "a copy to 2^63 - 1")
}

fn bytes_are_copied_to_the_end_of_the_largest_file_and_back(t: &Test) -> Outcome {
    const LEN: usize = 5 * BLOCK;
    let end = i64::MAX as u64;
    let data = pattern(41, LEN + 1);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    let back = t.create("back")?;
    // The range of the last block is one byte short of the block, unlike any other.
    for (from, len) in [(0, LEN), (1, LEN), (1, LEN - 100), (0, 2 * BLOCK - 1)] {
        let at = end - len as u64;
        let what = format!("{len} bytes from {from}");
        let copied = copy_loop(&source, from as u64, &to, at, len).or_fail(&what)?;
        expect_eq(copied, len, format_args!("{what}: copied"))?;
        expect_bytes(&to.read_at(at, len)?, &data[from..from + len], &what)?;
        let copied = copy_loop(&to, at, &back, 0, LEN + BLOCK).or_fail(&what)?;
        expect_eq(copied, len, format_args!("{what}: copied back"))?;
        expect_bytes(&back.read_at(0, len)?, &data[from..from + len], &what)?;
    }
    Ok(())
}

fn a_huge_length_copies_what_there_is(t: &Test) -> Outcome {
    let data = pattern(40, 2 * BLOCK + 9);
    let source = t.create_with("source", &data)?;
    for len in [i64::MAX as usize, 1 << 62, usize::MAX] {
        let to = t.create("to")?;
        let n = copy_once(&source, 0, &to, 0, len).or_fail(format_args!("length {len:#x}"))?;
        let rest = copy_loop(&source, n as u64, &to, n as u64, data.len())?;
        expect_eq(
            n + rest,
            data.len(),
            format_args!("bytes copied with length {len:#x}"),
        )?;
        to.expect_contents(&data, "the copy")?;
    }
    Ok(())
}
