// SPDX-License-Identifier: GPL-2.0 OR MIT
//! copy_file_range(2) without flags: the contents of the destination.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{Btrfs, Xfs};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::sys::{copy_file_range, copy_loop, copy_once, File};
use crate::tests::fallocate::{apply, PUNCH};

pub const CASES: &[Case] = &[
    case!(any_offsets_and_lengths_copy_the_right_bytes),
    case!(blocks_are_copied_wherever_they_lie),
    case!(one_call_copies_all_that_was_asked)
        .except(Xfs, "gives a short count after the whole blocks")
        .except(Btrfs, "gives a short count after the whole blocks"),
    case!(an_empty_source_copies_nothing_and_leaves_the_destination),
    case!(the_destination_grows_with_a_hole_before_the_copy),
    case!(a_copy_onto_existing_data_changes_only_its_range),
    case!(a_copy_within_a_file_works_where_ranges_do_not_overlap),
    case!(source_and_destination_are_independent_afterwards),
    case!(a_copy_right_after_writing_is_complete),
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
    let divisor = t.settings.divisor;
    let mut number = 0;
    for off_in in offsets {
        for off_out in offsets {
            for len in lengths {
                number += 1;
                if number % divisor != 0 {
                    continue;
                }
                // Sometimes onto data, sometimes into a new file.
                let mut model = if number % 2 == 0 {
                    old.clone()
                } else {
                    Vec::new()
                };
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

/// Creates a file of 300 blocks; returns it and its contents. One call wrote it; then some blocks
/// became holes, and some of those got new blocks, written or not. Adjacent blocks may be adjacent
/// in memory, or not.
pub fn scattered(t: &Test) -> Outcome<(File, Vec<u8>)> {
    const BLOCKS: usize = 300;
    let mut model = blocks(1, BLOCKS);
    let file = t.create_with("source", &model)?;
    let mut random = Random::new(7);
    for _ in 0..60 {
        let first = random.below(BLOCKS);
        let count = (1 + random.below(4)).min(BLOCKS - first);
        let (start, len) = (first * BLOCK, count * BLOCK);
        let range = &mut model[start..start + len];
        apply(&file, PUNCH, start as u64, len as u64)?;
        range.fill(0);
        match random.below(3) {
            0 => apply(&file, 0, start as u64, len as u64)?,
            1 => {
                range.copy_from_slice(&random.bytes(len));
                file.write_at(range, start as u64)?;
            }
            _ => {}
        }
    }
    Ok((file, model))
}

fn blocks_are_copied_wherever_they_lie(t: &Test) -> Outcome {
    let (source, data) = scattered(t)?;
    for (off_in, off_out) in [(0, 0), (1, 0), (0, 1), (4095, 4096), (70_000, 70_001)] {
        for old in [0, 200 * BLOCK] {
            let what = format!("from {off_in} to {off_out} of {old} bytes");
            let mut model = pattern(2, old);
            let to = t.create_with("to", &model)?;
            let copied = copy_loop(&source, off_in as u64, &to, off_out as u64, data.len())?;
            expect_eq(
                copied,
                data.len() - off_in,
                format_args!("{what}: bytes copied"),
            )?;
            model.resize(off_out + copied, 0);
            model[off_out..].copy_from_slice(&data[off_in..]);
            to.expect_contents(&model, &what)?;
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
        expect_eq(
            copied,
            len,
            format_args!("one call, from {off_in} to {off_out}"),
        )?;
        let seen = to.read_at(off_out as u64, len + 1)?;
        expect_bytes(&seen, &data[off_in..off_in + len], "the copy")?;
    }
    Ok(())
}

fn an_empty_source_copies_nothing_and_leaves_the_destination(t: &Test) -> Outcome {
    let source = t.create("empty")?;
    let to = t.create_with("to", b"kept")?;
    expect_eq(
        copy_once(&source, 0, &to, 0, BLOCK).or_fail("copy")?,
        0,
        "bytes copied",
    )?;
    let n = copy_file_range(&source, None, &to, None, BLOCK, 0).or_fail("copy")?;
    expect_eq(n, 0, "bytes copied with NULL offsets")?;
    to.expect_contents(b"kept", "after copying an empty file")
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
        let hole = to
            .seek(BLOCK as i64, libc::SEEK_HOLE)
            .or_fail("SEEK_HOLE")?;
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
        expect_eq(
            copy_loop(&source, 0, &to, 0, 1 << 30)?,
            data.len(),
            "bytes copied",
        )?;
        to.expect_contents(&data, "a copy made right after the write")?;
        expect_eq(
            to.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?,
            0,
            "SEEK_DATA of the copy",
        )?;
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
    expect(
        to.stat()?.st_mtime != old.tv_sec,
        "the destination's mtime is new",
    )?;
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
            expect_eq(
                mode,
                0o755,
                format_args!("mode after a copy of {len} bytes"),
            )?;
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
    for mode in [
        "--reflink=auto",
        "--sparse=always",
        "--sparse=never",
        "--reflink=never",
    ] {
        let (from, to) = (source.path.to_string_lossy(), t.path("to"));
        let arguments = [mode, &from, &to.to_string_lossy()];
        let (end, said) = run_program("/bin/cp".as_ref(), &arguments)?;
        expect_eq(end, End::Exited(0), format_args!("cp {mode}: {said}"))?;
        let copy = File::open(&to, libc::O_RDONLY).or_fail("open")?;
        copy.expect_contents(&expected, &format!("cp {mode}"))?;
    }
    Ok(())
}
