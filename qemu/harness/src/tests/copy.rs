// SPDX-License-Identifier: GPL-2.0 OR MIT
//! copy_file_range(2) with flags = 0.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_letters, expect_nothing_shared, expect_shared, Block};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Need, Tmpfs, Xfs, Btrfs};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{
    copy_file_range, copy_file_range_raw, copy_loop, copy_once, pipe, write_all, File,
};

pub const CASES: &[Case] = &[
    case!(any_offsets_and_lengths_copy_the_right_bytes),
    case!(one_call_copies_all_that_was_asked)
        .except(Xfs, "gives a short count after the whole blocks")
        .except(Btrfs, "gives a short count after the whole blocks"),
    case!(null_offsets_use_and_move_the_positions),
    case!(given_offsets_move_and_leave_the_positions_alone),
    case!(one_null_and_one_given_offset_work),
    case!(one_descriptor_can_be_both_sides),
    case!(a_request_beyond_the_source_is_shortened),
    case!(at_or_past_the_end_of_the_source_nothing_is_copied),
    case!(an_empty_source_copies_nothing_and_leaves_the_destination),
    case!(a_length_of_zero_does_nothing),
    case!(the_destination_grows_with_a_hole_before_the_copy),
    case!(a_copy_onto_existing_data_changes_only_its_range),
    case!(a_copy_within_a_file_works_where_ranges_do_not_overlap),
    case!(overlapping_ranges_of_one_file_are_einval),
    case!(whole_blocks_are_shared_when_aligned).needs(&[Need::Reflink, Need::Fiemap]),
    case!(only_ragged_ends_are_copied_when_congruent)
        .needs(&[Need::Reflink, Need::Fiemap, Need::RaggedSharing]),
    case!(a_ragged_end_inside_the_source_is_copied)
        .needs(&[Need::Reflink, Need::Fiemap, Need::RaggedSharing]),
    case!(nothing_is_shared_when_offsets_are_not_congruent).needs(&[Need::Reflink, Need::Fiemap]),
    case!(sharing_costs_no_space).needs(&[Need::Reflink, Need::Instance]),
    case!(holes_stay_holes).except(Tmpfs, "copies holes as zeros"),
    case!(holes_replace_data_in_the_destination),
    case!(source_and_destination_are_independent_afterwards),
    case!(a_copy_right_after_writing_is_complete),
    case!(any_flag_is_einval_on_this_kernel),
    case!(descriptors_that_do_not_fit_are_ebadf),
    case!(an_appending_destination_is_ebadf),
    case!(directories_are_eisdir),
    case!(pipes_sockets_and_devices_are_einval),
    case!(bad_pointers_are_efault),
    case!(offsets_that_overflow_are_refused),
    case!(another_filesystem_is_exdev_and_copies_nothing),
    case!(two_instances_never_copy_wrongly).needs(&[Need::Instance]),
    case!(files_that_hide_their_size_are_never_called_copied),
    case!(the_size_limit_of_a_process_is_kept),
    case!(a_full_filesystem_gives_a_short_count_then_enospc).needs(&[Need::Instance]),
    case!(an_error_moves_no_offset),
    case!(the_largest_offsets_work),
    case!(a_huge_length_copies_what_there_is),
    case!(the_times_of_the_destination_change),
    case!(the_set_user_bit_of_the_destination_is_cleared),
    case!(cp_copies_files_as_it_should),
];

fn any_offsets_and_lengths_copy_the_right_bytes(t: &Test) -> Outcome {
    const SIZE: usize = 5 * BLOCK + 123;
    let data = pattern(1, SIZE);
    let source = t.create_with("source", &data)?;
    let offsets = [0, 1, 100, 4095, 4096, 4097, 8192, 20480, 20500];
    let lengths = [1, 99, 4095, 4096, 4097, 8192, 8200, 12288, 20603, 30000];
    let old = pattern(2, 7 * BLOCK);
    let divisor = t.effort.divisor;
    let mut number = 0;
    for off_in in offsets {
        for off_out in offsets {
            for len in lengths {
                number += 1;
                if number % divisor != 0 {
                    continue;
                }
                // Sometimes onto data, sometimes into a new file.
                let mut model = if number % 2 == 0 { old.clone() } else { Vec::new() };
                let to = t.create_with("to", &model)?;
                let expected = len.min(SIZE - off_in);
                let what = format!("{len} bytes from {off_in} to {off_out}");
                let copied = copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
                expect_eq(copied, expected, format_args!("{what}: bytes copied"))?;
                model.resize(model.len().max(off_out + expected), 0);
                model[off_out..off_out + expected]
                    .copy_from_slice(&data[off_in..off_in + expected]);
                to.expect_contents(&model, &what)?;
            }
        }
    }
    source.expect_contents(&data, "the source")
}

fn one_call_copies_all_that_was_asked(t: &Test) -> Outcome {
    let data = pattern(3, 9 * BLOCK + 77);
    let source = t.create_with("source", &data)?;
    for (off_in, off_out, len) in [
        (0, 0, data.len()),
        (0, 0, 5 * BLOCK + 5),
        (10, 10, 7 * BLOCK),
        (BLOCK, 3 * BLOCK, 4 * BLOCK + 1),
        (5, 0, 8 * BLOCK),
    ] {
        let to = t.create("to")?;
        let copied = copy_once(&source, off_in as u64, &to, off_out as u64, len)
            .or_fail("copy_file_range")?;
        expect_eq(copied, len, format_args!("one call, from {off_in} to {off_out}"))?;
        let seen = to.read_at(off_out as u64, len + 1)?;
        expect_bytes(&seen, &data[off_in..off_in + len], "the copy")?;
    }
    Ok(())
}

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
        expect_eq(source.position()?, 100 + total as u64, "position of the source")?;
        expect_eq(to.position()?, 50 + total as u64, "position of the destination")?;
    }
    expect_bytes(&to.read_at(50, 6001)?, &data[100..6100], "the copy")?;
    source.seek(0, libc::SEEK_END).or_fail("lseek")?;
    let n = copy_file_range(&source, None, &to, None, 10, 0).or_fail("copy at the end")?;
    expect_eq(n, 0, "bytes copied at the end")?;
    expect_eq(to.position()?, 6050, "position of the destination after copying nothing")
}

fn given_offsets_move_and_leave_the_positions_alone(t: &Test) -> Outcome {
    let data = pattern(5, 3 * BLOCK);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    source.seek(7, libc::SEEK_SET).or_fail("lseek")?;
    to.seek(9, libc::SEEK_SET).or_fail("lseek")?;
    let (mut off_in, mut off_out) = (BLOCK as i64, 0);
    let n = copy_file_range(&source, Some(&mut off_in), &to, Some(&mut off_out), BLOCK, 0)
        .or_fail("copy")?;
    expect_eq(n, BLOCK, "bytes copied")?;
    expect_eq((off_in, off_out), (2 * BLOCK as i64, BLOCK as i64), "the offsets afterwards")?;
    expect_eq((source.position()?, to.position()?), (7, 9), "the positions")?;
    to.expect_contents(&data[BLOCK..2 * BLOCK], "the copy")
}

fn one_null_and_one_given_offset_work(t: &Test) -> Outcome {
    let data = pattern(6, 2 * BLOCK);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    let mut offset = 10;
    copy_file_range(&source, Some(&mut offset), &to, None, 20, 0).or_fail("copy")?;
    expect_eq((offset, source.position()?, to.position()?), (30, 0, 20), "after the first")?;
    let mut offset = 20;
    copy_file_range(&source, None, &to, Some(&mut offset), 5, 0).or_fail("copy")?;
    expect_eq((offset, source.position()?, to.position()?), (25, 5, 20), "after the second")?;
    let expected = [&data[10..30], &data[0..5]].concat();
    to.expect_contents(&expected, "both copies")
}

fn one_descriptor_can_be_both_sides(t: &Test) -> Outcome {
    let mut model = pattern(7, 2 * BLOCK);
    let file = t.create_with("file", &model)?;
    file.seek(2 * BLOCK as i64, libc::SEEK_SET).or_fail("lseek")?;
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
        expect_eq(copied, data.len() - off_in, format_args!("copied from {off_in}"))?;
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

fn an_empty_source_copies_nothing_and_leaves_the_destination(t: &Test) -> Outcome {
    let source = t.create("empty")?;
    let to = t.create_with("to", b"kept")?;
    expect_eq(copy_once(&source, 0, &to, 0, BLOCK).or_fail("copy")?, 0, "bytes copied")?;
    let n = copy_file_range(&source, None, &to, None, BLOCK, 0).or_fail("copy")?;
    expect_eq(n, 0, "bytes copied with NULL offsets")?;
    to.expect_contents(b"kept", "after copying an empty file")
}

fn a_length_of_zero_does_nothing(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(10, 1))?;
    let to = t.create_with("to", b"kept")?;
    expect_eq(copy_once(&source, 0, &to, 0, 0).or_fail("copy")?, 0, "bytes copied")?;
    expect_eq(copy_once(&source, 0, &source, 0, 0).or_fail("copy")?, 0, "onto itself")?;
    to.expect_contents(b"kept", "after copying nothing")
}

fn the_destination_grows_with_a_hole_before_the_copy(t: &Test) -> Outcome {
    let data = blocks(11, 2);
    let source = t.create_with("source", &data)?;
    for off_out in [3 * BLOCK, 3 * BLOCK + 5] {
        let to = t.create_with("to", b"start")?;
        copy_loop(&source, 0, &to, off_out as u64, data.len())?;
        let mut model = b"start".to_vec();
        model.resize(off_out, 0);
        model.extend(&data);
        to.expect_contents(&model, &format!("copied to {off_out}"))?;
        let hole = to.seek(BLOCK as i64, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?;
        expect_eq(hole, BLOCK64, "the hole before the copy")?;
    }
    Ok(())
}

fn a_copy_onto_existing_data_changes_only_its_range(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(12, 4))?;
    for (off_in, off_out, len) in [(0, BLOCK, 2 * BLOCK), (5, 5, 3 * BLOCK), (1, 4000, 5000)] {
        let mut model = blocks(13, 5);
        let to = t.create_with("to", &model)?;
        copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
        model[off_out..off_out + len].copy_from_slice(&blocks(12, 4)[off_in..off_in + len]);
        to.expect_contents(&model, &format!("{len} bytes from {off_in} to {off_out}"))?;
    }
    Ok(())
}

fn a_copy_within_a_file_works_where_ranges_do_not_overlap(t: &Test) -> Outcome {
    for (off_in, off_out, len) in [
        (0, 4 * BLOCK, 4 * BLOCK),
        (4 * BLOCK, 0, 4 * BLOCK),
        (0, 100, 100),
        (100, 0, 100),
        (0, BLOCK, BLOCK),
        (10, BLOCK + 10, BLOCK),
        (0, 20 * BLOCK, 3 * BLOCK),
    ] {
        let mut model = blocks(14, 8);
        let file = t.create_with("file", &model)?;
        let n = copy_loop(&file, off_in as u64, &file, off_out as u64, len)?;
        expect_eq(n, len, "bytes copied")?;
        model.resize(model.len().max(off_out + len), 0);
        model.copy_within(off_in..off_in + len, off_out);
        file.expect_contents(&model, &format!("{len} bytes from {off_in} to {off_out}"))?;
    }
    Ok(())
}

fn overlapping_ranges_of_one_file_are_einval(t: &Test) -> Outcome {
    let data = blocks(15, 4);
    let file = t.create_with("file", &data)?;
    let again = file.reopen(libc::O_RDWR)?;
    for (off_in, off_out, len) in [
        (0, 0, BLOCK),
        (0, 1, 2),
        (1, 0, 2),
        (0, BLOCK, BLOCK + 1),
        (BLOCK, 0, 2 * BLOCK),
        (0, 0, 1),
        // The length counts only up to the end of the source.
        (3 * BLOCK, 3 * BLOCK + 10, 100 * BLOCK),
    ] {
        for other in [&file, &again] {
            let copied = copy_once(&file, off_in as u64, other, off_out as u64, len);
            let what = format!("{len} bytes from {off_in} to {off_out} of one file");
            expect_errno(copied, libc::EINVAL, what)?;
        }
    }
    file.expect_contents(&data, "after the refusals")?;
    let beyond = copy_once(&file, 3 * BLOCK64, &file, 4 * BLOCK64, 100 * BLOCK).or_fail("copy")?;
    expect_eq(beyond, BLOCK, "a request whose shortened range does not overlap")
}

fn whole_blocks_are_shared_when_aligned(t: &Test) -> Outcome {
    let data = pattern(16, 8 * BLOCK + 500);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    expect_eq(copy_loop(&source, 0, &to, 0, data.len())?, data.len(), "bytes copied")?;
    to.expect_contents(&data, "the copy")?;
    expect_shared(&source, 0, &to, 0, 8)?;
    let to = t.create_with("other", &blocks(1, 2))?;
    copy_loop(&source, 2 * BLOCK64, &to, BLOCK64, 4 * BLOCK)?;
    expect_shared(&source, 2, &to, 1, 4)?;
    expect(matches!(block_map(&to)?[0], Block::Private(_)), "the block before is its own")
}

fn only_ragged_ends_are_copied_when_congruent(t: &Test) -> Outcome {
    let data = blocks(17, 8);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    // From inside block 1 to inside block 6, to the same place one block further on.
    let (off_in, off_out, len) = (BLOCK + 100, 2 * BLOCK + 100, 5 * BLOCK);
    copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
    expect_bytes(&to.read_at(off_out as u64, len)?, &data[off_in..off_in + len], "the copy")?;
    expect_letters(&to, "..pssssp", "the destination")?;
    expect_letters(&source, "ppsssspp", "the source")?;
    expect_shared(&source, 2, &to, 3, 4)
}

fn a_ragged_end_inside_the_source_is_copied(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(18, 6))?;
    let to = t.create_with("to", &blocks(19, 6))?;
    copy_loop(&source, 0, &to, 0, 3 * BLOCK + 10)?;
    expect_letters(&to, "sssppp", "three whole blocks and ten bytes")?;
    let mut model = blocks(19, 6);
    model[..3 * BLOCK + 10].copy_from_slice(&blocks(18, 6)[..3 * BLOCK + 10]);
    to.expect_contents(&model, "the copy")
}

fn nothing_is_shared_when_offsets_are_not_congruent(t: &Test) -> Outcome {
    let data = blocks(20, 8);
    let source = t.create_with("source", &data)?;
    for (off_in, off_out) in [(0, 1), (1, 0), (100, 200), (4095, 4096)] {
        let to = t.create("to")?;
        let len = 4 * BLOCK;
        copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
        expect_bytes(&to.read_at(off_out as u64, len)?, &data[off_in..off_in + len], "the copy")?;
        expect_nothing_shared(&source, &to)?;
    }
    Ok(())
}

fn sharing_costs_no_space(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "8M")])?;
    let source = fs.create_with("source", &blocks(21, 100))?;
    let to = fs.create("to")?;
    let before = fs.used()?;
    copy_loop(&source, 0, &to, 0, 100 * BLOCK)?;
    expect_eq(fs.used()?, before, "blocks used after an aligned copy")?;
    expect_eq(to.data_blocks()?, 100, "st_blocks of the copy, in blocks")?;
    copy_loop(&source, 10, &to, 200 * BLOCK64 + 10, 50 * BLOCK)?;
    expect_eq(fs.used()?, before + 2, "blocks used after a congruent copy with ragged ends")?;
    copy_loop(&source, 0, &to, 400 * BLOCK64 + 1, 10 * BLOCK)?;
    expect_eq(fs.used()?, before + 2 + 11, "blocks used after a copy that cannot share")
}

fn holes_stay_holes(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(64 * BLOCK64)?;
    source.write_at(&blocks(22, 1), 10 * BLOCK64)?;
    source.write_at(&blocks(23, 2), 40 * BLOCK64)?;
    let to = t.create("to")?;
    expect_eq(copy_loop(&source, 0, &to, 0, 64 * BLOCK)?, 64 * BLOCK, "bytes copied")?;
    to.expect_contents(&source.contents()?, "a copy with holes")?;
    let edges = [(10, 11), (40, 42)].map(|(a, b)| (a * BLOCK64, b * BLOCK64));
    expect_eq(to.data_ranges()?, edges, "data of the copy")
}

fn holes_replace_data_in_the_destination(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(6 * BLOCK64)?;
    source.write_at(&blocks(24, 1), 2 * BLOCK64)?;
    for (off, len) in [(0, 6 * BLOCK), (100, 5 * BLOCK), (0, BLOCK)] {
        let mut model = blocks(25, 7);
        let to = t.create_with("to", &model)?;
        copy_loop(&source, off as u64, &to, off as u64, len)?;
        let from = source.contents()?;
        model[off..off + len].copy_from_slice(&from[off..off + len]);
        to.expect_contents(&model, &format!("holes copied onto data, {len} bytes at {off}"))?;
    }
    Ok(())
}

fn source_and_destination_are_independent_afterwards(t: &Test) -> Outcome {
    let data = blocks(26, 6);
    for offset in [0, 100] {
        let source = t.create_with("source", &data)?;
        let to = t.create("to")?;
        let len = 5 * BLOCK;
        copy_loop(&source, offset, &to, offset, len)?;
        let copy = to.contents()?;
        source.write_at(&vec![1; BLOCK], 2 * BLOCK64 + 50)?;
        to.expect_contents(&copy, "after a write to the source")?;
        let changed = source.contents()?;
        to.write_at(&vec![2; BLOCK], 3 * BLOCK64)?;
        source.expect_contents(&changed, "after a write to the destination")?;
        source.truncate(0)?;
        let mut model = copy;
        model[3 * BLOCK..4 * BLOCK].fill(2);
        to.expect_contents(&model, "after the source was emptied")?;
    }
    Ok(())
}

fn a_copy_right_after_writing_is_complete(t: &Test) -> Outcome {
    for i in 0..t.rounds(50) {
        let data = pattern(i as u8, 1 + i * 1000);
        let source = t.create_with("source", &data)?;
        let to = t.create("to")?;
        expect_eq(copy_loop(&source, 0, &to, 0, 1 << 30)?, data.len(), "bytes copied")?;
        to.expect_contents(&data, "a copy made right after the write")?;
        expect_eq(to.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?, 0, "SEEK_DATA of the copy")?;
    }
    Ok(())
}

fn any_flag_is_einval_on_this_kernel(t: &Test) -> Outcome {
    // With the flags module (a later one) 1, 2 and 4 mean something.
    let hooked = std::path::Path::new("/sys/module/copy_fr").exists();
    let source = t.create_with("source", &blocks(27, 1))?;
    let to = t.create("to")?;
    let all = [1, 2, 4, 3, 5, 6, 7, 8, 0x10, 1 << 31, u32::MAX];
    for flags in all.into_iter().filter(|f| !hooked || ![1, 2, 4].contains(f)) {
        let copied = copy_file_range(&source, None, &to, None, BLOCK, flags);
        expect_errno(copied, libc::EINVAL, format_args!("flags {flags:#x}"))?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn descriptors_that_do_not_fit_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(28, 1))?;
    let to = t.create("to")?;
    let null = std::ptr::null_mut();
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    for (what, fd_in, fd_out) in [("fd_in", -1, d), ("fd_out", s, -1), ("both", -1, 9999)] {
        let copied = copy_file_range_raw(fd_in, null, fd_out, null, BLOCK, 0);
        expect_errno(copied, libc::EBADF, format_args!("{what} not open"))?;
    }
    let write_only = source.reopen(libc::O_WRONLY)?;
    let copied = copy_once(&write_only, 0, &to, 0, BLOCK);
    expect_errno(copied, libc::EBADF, "fd_in open for writing only")?;
    let read_only = to.reopen(libc::O_RDONLY)?;
    let copied = copy_once(&source, 0, &read_only, 0, BLOCK);
    expect_errno(copied, libc::EBADF, "fd_out open for reading only")?;
    let path = source.reopen(libc::O_PATH)?;
    expect_errno(copy_once(&path, 0, &to, 0, BLOCK), libc::EBADF, "fd_in opened with O_PATH")?;
    expect_errno(copy_once(&source, 0, &path, 0, BLOCK), libc::EBADF, "fd_out with O_PATH")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn an_appending_destination_is_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(29, 1))?;
    t.create("to")?;
    let to = File::open(t.path("to"), libc::O_RDWR | libc::O_APPEND).or_fail("open")?;
    expect_errno(copy_once(&source, 0, &to, 0, BLOCK), libc::EBADF, "fd_out with O_APPEND")?;
    let copied = copy_file_range(&source, None, &to, None, BLOCK, 0);
    expect_errno(copied, libc::EBADF, "fd_out with O_APPEND and NULL offsets")?;
    // An appending source is fine.
    let plain = to.reopen(libc::O_RDWR)?;
    let source = source.reopen(libc::O_RDWR | libc::O_APPEND)?;
    expect_eq(copy_loop(&source, 0, &plain, 0, BLOCK)?, BLOCK, "from a source with O_APPEND")
}

fn directories_are_eisdir(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(30, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    expect_errno(copy_once(&dir, 0, &file, 0, 10), libc::EISDIR, "fd_in is a directory")?;
    expect_errno(copy_once(&file, 0, &dir, 0, 10), libc::EISDIR, "fd_out is a directory")?;
    expect_errno(copy_once(&file, 0, &dir, 0, 0), libc::EISDIR, "even for no bytes")
}

fn pipes_sockets_and_devices_are_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(31, 1))?;
    let null = std::ptr::null_mut();
    let try_both = |what: &str, input: i32, output: i32| -> Outcome {
        let fd = file.as_raw_fd();
        let copied = copy_file_range_raw(input, null, fd, null, 10, 0);
        expect_errno(copied, libc::EINVAL, format_args!("fd_in is a {what}"))?;
        let copied = copy_file_range_raw(fd, null, output, null, 10, 0);
        expect_errno(copied, libc::EINVAL, format_args!("fd_out is a {what}"))
    };
    let (reader, writer) = pipe()?;
    write_all(&writer, b"in the pipe")?;
    try_both("pipe", reader.as_raw_fd(), writer.as_raw_fd())?;
    let (a, b) = std::os::unix::net::UnixStream::pair().or_fail("socketpair")?;
    try_both("socket", a.as_raw_fd(), b.as_raw_fd())?;
    let zero = File::open("/dev/zero", libc::O_RDWR).or_fail("open /dev/zero")?;
    try_both("device", zero.as_raw_fd(), zero.as_raw_fd())?;
    file.expect_contents(&blocks(31, 1), "after the refusals")
}

fn bad_pointers_are_efault(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(32, 1))?;
    let to = t.create("to")?;
    let (s, d) = (source.as_raw_fd(), to.as_raw_fd());
    let bad = std::ptr::without_provenance_mut(8);
    let mut good = 0;
    let copied = copy_file_range_raw(s, bad, d, &mut good, BLOCK, 0);
    expect_errno(copied, libc::EFAULT, "a bad off_in")?;
    let copied = copy_file_range_raw(s, &mut good, d, bad, BLOCK, 0);
    expect_errno(copied, libc::EFAULT, "a bad off_out")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn offsets_that_overflow_are_refused(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(33, 2))?;
    let to = t.create("to")?;
    let copied = copy_once(&source, 4096, &to, 0, usize::MAX);
    expect_errno(copied, libc::EOVERFLOW, "off_in + len wraps")?;
    let copied = copy_once(&source, 0, &to, 4096, usize::MAX);
    expect_errno(copied, libc::EOVERFLOW, "off_out + len wraps")?;
    let copied = copy_once(&source, -1i64 as u64, &to, 0, 10);
    expect_errno(copied, libc::EOVERFLOW, "off_in is -1")?;
    let copied = copy_once(&source, -4096i64 as u64, &to, 0, 10);
    expect_errno(copied, libc::EINVAL, "off_in is -4096")?;
    let copied = copy_once(&source, 0, &to, -4096i64 as u64, 10);
    expect_errno(copied, libc::EINVAL, "off_out is -4096")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn another_filesystem_is_exdev_and_copies_nothing(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(34, 2))?;
    let there = t.create_elsewhere("there", &blocks(35, 1))?;
    expect_errno(copy_once(&here, 0, &there, 0, BLOCK), libc::EXDEV, "to another filesystem")?;
    expect_errno(copy_once(&there, 0, &here, 0, BLOCK), libc::EXDEV, "from another filesystem")?;
    here.expect_contents(&blocks(34, 2), "the file here")?;
    there.expect_contents(&blocks(35, 1), "the file there")
}

fn two_instances_never_copy_wrongly(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    let data = pattern(36, 3 * BLOCK + 5);
    let from = one.create_with("file", &data)?;
    let to = other.create("file")?;
    match copy_once(&from, 0, &to, 0, data.len()) {
        Ok(n) => {
            // A real copy is fine; what is shared between two instances would be a disaster.
            to.expect_contents(&data[..n], "a copy to another instance")?;
            from.write_at(&vec![0; BLOCK], 0)?;
            to.expect_contents(&data[..n], "after the source changed")
        }
        refused => {
            expect_errno(refused, libc::EXDEV, "a copy to another instance")?;
            expect_eq(to.size()?, 0, "size of the destination")
        }
    }
}

fn files_that_hide_their_size_are_never_called_copied(t: &Test) -> Outcome {
    let to = t.create("to")?;
    let source = File::open("/proc/version", libc::O_RDONLY).or_fail("open /proc/version")?;
    expect_eq(source.size()?, 0, "size of /proc/version")?;
    match copy_once(&source, 0, &to, 0, BLOCK) {
        Ok(n) => expect_eq(n, 0, "bytes copied of /proc/version")?,
        refused => expect_errno(refused, libc::EXDEV, "a copy of /proc/version")?,
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let data = blocks(37, 8);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    limit_file_size(3 * BLOCK64 + 10)?;
    count_signals(libc::SIGXFSZ);
    let mut done = 0;
    while done < 3 * BLOCK + 10 {
        let n = copy_once(&source, done as u64, &to, done as u64, data.len() - done)
            .or_fail("a copy across the limit")?;
        expect(n > 0, "a copy below the limit copies something")?;
        done += n;
    }
    expect_eq(done, 3 * BLOCK + 10, "bytes copied up to the limit")?;
    expect_eq(signals_seen(), 0, "signals after copies that were shortened")?;
    let copied = copy_once(&source, 0, &to, done as u64, 10);
    expect_errno(copied, libc::EFBIG, "a copy at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a copy at the limit")?;
    to.expect_contents(&data[..done], "the copy")
}

fn a_full_filesystem_gives_a_short_count_then_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let data = blocks(38, 16);
    let source = fs.create_with("source", &data)?;
    let to = fs.create("to")?;
    let filler = fs.fill(5)?;
    // Not congruent, so that every byte needs a block of its own.
    let copied = copy_once(&source, 1, &to, 0, 10 * BLOCK).or_fail("a copy with 5 blocks free")?;
    expect(copied > 0 && copied <= 5 * BLOCK, format_args!("a short count: {copied}"))?;
    let mut done = copied;
    let last = loop {
        match copy_once(&source, 1 + done as u64, &to, done as u64, 10 * BLOCK - done) {
            Ok(n) if n > 0 => done += n,
            other => break other,
        }
    };
    expect_errno(last, libc::ENOSPC, "a copy with nothing free")?;
    expect_eq(done, 5 * BLOCK, "bytes copied until nothing was free")?;
    to.expect_contents(&data[1..1 + done], "what was copied")?;
    source.expect_contents(&data, "the source")?;
    drop(filler);
    crate::sys::unlink(fs.path("filler")).or_fail("unlink")?;
    let more = copy_loop(&source, 1 + done as u64, &to, done as u64, 10 * BLOCK - done)?;
    to.expect_contents(&data[1..1 + done + more], "the copy once there is room")
}

fn an_error_moves_no_offset(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(39, 2))?;
    file.seek(100, libc::SEEK_SET).or_fail("lseek")?;
    let other = file.reopen(libc::O_RDWR)?;
    other.seek(200, libc::SEEK_SET).or_fail("lseek")?;
    let copied = copy_file_range(&file, None, &other, None, BLOCK, 0);
    expect_errno(copied, libc::EINVAL, "overlapping ranges")?;
    expect_eq((file.position()?, other.position()?), (100, 200), "the positions")?;
    let (mut off_in, mut off_out) = (5, 6);
    let copied = copy_file_range(&file, Some(&mut off_in), &other, Some(&mut off_out), BLOCK, 0);
    expect_errno(copied, libc::EINVAL, "overlapping ranges")?;
    expect_eq((off_in, off_out), (5, 6), "the offsets")
}

fn the_largest_offsets_work(t: &Test) -> Outcome {
    let source = t.create_with("source", b"at the end")?;
    let to = t.create("to")?;
    let last = (1u64 << 43) - 5;
    expect_eq(copy_loop(&source, 0, &to, last, 10)?, 10, "bytes copied to 8 TiB")?;
    expect_bytes(&to.read_at(last, 20)?, b"at the end", "the copy")?;
    let back = t.create("back")?;
    expect_eq(copy_loop(&to, last + 3, &back, 0, 100)?, 7, "bytes copied from 8 TiB")?;
    back.expect_contents(b"the end", "the copy back")?;
    let copied = copy_once(&source, 0, &to, i64::MAX as u64, 10);
    expect_errno(copied, libc::EFBIG, "a copy to 2^63 - 1")
}

fn a_huge_length_copies_what_there_is(t: &Test) -> Outcome {
    let data = pattern(40, 2 * BLOCK + 9);
    let source = t.create_with("source", &data)?;
    for len in [i64::MAX as usize, 1 << 62, usize::MAX] {
        let to = t.create("to")?;
        let n = copy_once(&source, 0, &to, 0, len).or_fail(format_args!("length {len:#x}"))?;
        let rest = copy_loop(&source, n as u64, &to, n as u64, data.len())?;
        expect_eq(n + rest, data.len(), format_args!("bytes copied with length {len:#x}"))?;
        to.expect_contents(&data, "the copy")?;
    }
    Ok(())
}

fn the_times_of_the_destination_change(t: &Test) -> Outcome {
    use crate::sys::{set_times, timespec};
    let source = t.create_with("source", &blocks(41, 2))?;
    let to = t.create("to")?;
    let old = timespec(1_000_000_000, 0);
    set_times(&source.path, [old, old]).or_fail("utimensat")?;
    set_times(&to.path, [old, old]).or_fail("utimensat")?;
    copy_loop(&source, 0, &to, 0, 2 * BLOCK)?;
    expect(to.stat()?.st_mtime != old.tv_sec, "the destination's mtime is new")?;
    expect_eq(source.stat()?.st_mtime, old.tv_sec, "the source's mtime")
}

fn the_set_user_bit_of_the_destination_is_cleared(t: &Test) -> Outcome {
    crate::sys::chmod(&t.dir, 0o777).or_fail("chmod")?;
    t.create_with("source", &blocks(42, 2))?;
    crate::process::as_user(1000, 1000, || {
        let source = File::open(t.path("source"), libc::O_RDONLY).or_fail("open")?;
        for (offset, len) in [(0, 2 * BLOCK), (0, 10), (1, 10)] {
            let to = t.create("to")?;
            crate::sys::chmod(&to.path, 0o6755).or_fail("chmod")?;
            copy_loop(&source, offset, &to, 0, len)?;
            let mode = to.stat()?.st_mode & 0o7777;
            expect_eq(mode, 0o755, format_args!("mode after a copy of {len} bytes"))?;
            crate::sys::unlink(&to.path).or_fail("unlink")?;
        }
        Ok(())
    })
}

fn cp_copies_files_as_it_should(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let source = t.create_with("source", &pattern(43, 50_000))?;
    source.truncate(300_000)?;
    source.write_at(b"end", 290_000)?;
    let expected = source.contents()?;
    for mode in ["--reflink=auto", "--sparse=always", "--sparse=never", "--reflink=never"] {
        let (from, to) = (source.path.to_string_lossy(), t.path("to"));
        let arguments = [mode, &from, &to.to_string_lossy()];
        let (end, said) = run_program("/bin/cp".as_ref(), &arguments)?;
        expect_eq(end, End::Exited(0), format_args!("cp {mode}: {said}"))?;
        let copy = File::open(&to, libc::O_RDONLY).or_fail("open")?;
        copy.expect_contents(&expected, &format!("cp {mode}"))?;
    }
    Ok(())
}
