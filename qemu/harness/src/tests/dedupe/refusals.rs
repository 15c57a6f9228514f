// SPDX-License-Identifier: GPL-2.0 OR MIT
//! FIDEDUPERANGE: refusals, and permissions.

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::CLONES;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::as_user;
use crate::sys::{chmod, chown, dedupe, dedupe_many, pipe, Deduped, File, FileDedupeRangeInfo};

use super::sharing::{expect_result, failed, same};

pub const CASES: &[Case] = &[
    case!(one_bad_destination_does_not_spoil_the_others).needs(CLONES),
    case!(the_source_itself_as_destination_is_einval).needs(CLONES),
    case!(overlapping_ranges_of_one_file_are_einval).needs(CLONES),
    case!(more_destinations_than_fit_are_enomem).needs(CLONES),
    case!(unaligned_ranges_are_einval).needs(CLONES),
    case!(a_range_past_the_end_of_the_source_is_einval).needs(CLONES),
    case!(a_range_past_the_end_of_a_destination_is_its_einval).needs(CLONES),
    case!(a_partial_last_block_is_not_deduplicated_into_the_middle).needs(CLONES),
    case!(another_filesystem_is_its_exdev).needs(CLONES),
    case!(directories_and_pipes_are_refused).needs(CLONES),
    case!(a_source_not_open_for_reading_is_einval).needs(CLONES),
    case!(a_destination_that_is_not_open_is_its_ebadf).needs(CLONES),
    case!(reserved_fields_must_be_zero).needs(CLONES),
    case!(root_may_deduplicate_a_file_open_for_reading).needs(CLONES),
    case!(the_owner_may_deduplicate_a_file_open_for_reading).needs(CLONES),
    case!(others_may_not_deduplicate_a_file_open_for_reading).needs(CLONES),
    case!(whoever_may_write_may_deduplicate_a_file_open_for_reading).needs(CLONES),
    case!(a_read_only_mount_is_its_erofs).needs(CLONES),
];

fn one_bad_destination_does_not_spoil_the_others(t: &Test) -> Outcome {
    let data = blocks(10, 1);
    let source = t.create_with("source", &data)?;
    let good = t.create_with("good", &data)?;
    let last = t.create_with("last", &data)?;
    let mut targets = [
        FileDedupeRangeInfo::new(&-1, 0),
        FileDedupeRangeInfo::new(&good, 0),
        FileDedupeRangeInfo::new(&good, 100),
        FileDedupeRangeInfo::new(&last, 0),
    ];
    dedupe_many(&source, 0, BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    let expected = [
        failed(libc::EBADF),
        same(BLOCK),
        failed(libc::EINVAL),
        same(BLOCK),
    ];
    expect_eq(targets.map(Deduped::from), expected, "results")
}

fn the_source_itself_as_destination_is_einval(t: &Test) -> Outcome {
    let data = blocks(12, 2);
    let file = t.create_with("file", &data)?;
    let result = dedupe(&file, 0, 2 * BLOCK64, &file, 0);
    expect_result(result, failed(libc::EINVAL), "a range onto itself")?;
    file.expect_contents(&data, "the file")
}

fn overlapping_ranges_of_one_file_are_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", &vec![7; 6 * BLOCK])?;
    for (from, len, to) in [(0, 2, 1), (2, 3, 0), (0, 4, 2)] {
        let result = dedupe(&file, from * BLOCK64, len * BLOCK64, &file, to * BLOCK64);
        let what = format!("{len} blocks at {from} and {to}");
        expect_result(result, failed(libc::EINVAL), &what)?;
    }
    Ok(())
}

fn more_destinations_than_fit_are_enomem(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(15, 1))?;
    let other = t.create_with("other", &blocks(15, 1))?;
    for count in [128, 1000, 65535] {
        let mut targets = vec![FileDedupeRangeInfo::new(&other, 0); count];
        let result = dedupe_many(&source, 0, BLOCK64, &mut targets);
        expect_errno(result, libc::ENOMEM, format_args!("{count} destinations"))?;
    }
    other.expect_contents(&blocks(15, 1), "the destination")
}

fn unaligned_ranges_are_einval(t: &Test) -> Outcome {
    let data = vec![9; 4 * BLOCK];
    let one = t.create_with("one", &data)?;
    let other = t.create_with("other", &data)?;
    for (from, len, at) in [(1, BLOCK64, 0), (0, BLOCK64, 1), (512, 1024, 512)] {
        let what = format!("{len} bytes at {from} and {at}");
        expect_result(
            dedupe(&one, from, len, &other, at),
            failed(libc::EINVAL),
            &what,
        )?;
    }
    Ok(())
}

fn a_range_past_the_end_of_the_source_is_einval(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(17, 2))?;
    let other = t.create_with("other", &blocks(17, 4))?;
    for (from, len) in [(0, 3), (1, 2), (2, 1), (5, 1)] {
        let result = dedupe(&one, from * BLOCK64, len * BLOCK64, &other, 0);
        expect_errno(
            result,
            libc::EINVAL,
            format_args!("{len} blocks from block {from} of 2"),
        )?;
    }
    let result = dedupe(&one, 1 << 63, BLOCK64, &other, 0);
    expect_errno(result, libc::EINVAL, "from 2^63")
}

fn a_range_past_the_end_of_a_destination_is_its_einval(t: &Test) -> Outcome {
    let one = t.create_with("one", &vec![3; 4 * BLOCK])?;
    let other = t.create_with("other", &vec![3; 2 * BLOCK])?;
    for (len, at) in [(3, 0), (2, 1), (1, 2), (1, 9)] {
        let result = dedupe(&one, 0, len * BLOCK64, &other, at * BLOCK64);
        let what = format!("{len} blocks at block {at} of 2");
        expect_result(result, failed(libc::EINVAL), &what)?;
    }
    other.expect_contents(&vec![3; 2 * BLOCK], "the destination")
}

fn a_partial_last_block_is_not_deduplicated_into_the_middle(t: &Test) -> Outcome {
    let data = blocks(19, 4);
    let short = t.create_with("short", &data[..2 * BLOCK + 100])?;
    let long = t.create_with("long", &data)?;
    // The whole blocks may be shared; the bytes behind byte 100 of the last must stay.
    dedupe(&short, 0, 2 * BLOCK64 + 100, &long, 0).or_fail("FIDEDUPERANGE")?;
    long.expect_contents(&data, "the longer file")?;
    short.expect_contents(&data[..2 * BLOCK + 100], "the shorter file")?;
    dedupe(&long, 0, 2 * BLOCK64 + 100, &short, 0).or_fail("FIDEDUPERANGE the other way")?;
    long.expect_contents(&data, "the longer file")?;
    short.expect_contents(&data[..2 * BLOCK + 100], "the shorter file")?;
    short.truncate(3 * BLOCK64)?;
    let mut model = data[..2 * BLOCK + 100].to_vec();
    model.resize(3 * BLOCK, 0);
    short.expect_contents(&model, "the shorter file, extended")
}

fn another_filesystem_is_its_exdev(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(24, 1))?;
    let there = t.create_elsewhere("there", &blocks(24, 1))?;
    let result = dedupe(&here, 0, BLOCK64, &there, 0);
    expect_result(
        result,
        failed(libc::EXDEV),
        "a destination on another filesystem",
    )
}

fn directories_and_pipes_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(25, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    let (reader, writer) = pipe()?;
    let result = dedupe(&file, 0, BLOCK64, &dir, 0);
    expect_result(result, failed(libc::EISDIR), "a directory as destination")?;
    let result = dedupe(&dir, 0, BLOCK64, &file, 0);
    expect_errno(result, libc::EISDIR, "a directory as source")?;
    let mut targets = [FileDedupeRangeInfo::new(&writer, 0)];
    dedupe_many(&file, 0, BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    expect_eq(
        Deduped::from(targets[0]),
        failed(libc::EXDEV),
        "a pipe as destination",
    )?;
    let mut targets = [FileDedupeRangeInfo::new(&file, 0)];
    let result = dedupe_many(&reader, 0, BLOCK64, &mut targets);
    expect_errno(result, libc::EINVAL, "a pipe as source")
}

fn a_source_not_open_for_reading_is_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(26, 1))?;
    let other = t.create_with("other", &blocks(26, 1))?;
    let write_only = file.reopen(libc::O_WRONLY)?;
    let result = dedupe(&write_only, 0, BLOCK64, &other, 0);
    expect_errno(result, libc::EINVAL, "a source open for writing only")
}

fn a_destination_that_is_not_open_is_its_ebadf(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(27, 1))?;
    let mut targets = [FileDedupeRangeInfo::new(&9999, 0)];
    dedupe_many(&file, 0, BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    expect_eq(
        Deduped::from(targets[0]),
        failed(libc::EBADF),
        "a destination that is not open",
    )
}

fn reserved_fields_must_be_zero(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(28, 1))?;
    let other = t.create_with("other", &blocks(28, 1))?;
    let mut targets = [FileDedupeRangeInfo {
        reserved: 1,
        ..FileDedupeRangeInfo::new(&other, 0)
    }];
    dedupe_many(&file, 0, BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    expect_eq(
        Deduped::from(targets[0]),
        failed(libc::EINVAL),
        "a reserved field",
    )
}

fn root_may_deduplicate_a_file_open_for_reading(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(29, 2))?;
    let other = t
        .create_with("other", &blocks(29, 2))?
        .reopen(libc::O_RDONLY)?;
    let result = dedupe(&one, 0, 2 * BLOCK64, &other, 0);
    expect_result(result, same(2 * BLOCK), "a destination open for reading")
}

/// Creates two equal files; user 1000 owns the second, with this mode.
fn equal_files(t: &Test, mode: u32) -> Outcome {
    chmod(&t.dir, 0o755).or_fail("chmod")?;
    t.create_with("one", &blocks(30, 1))?;
    t.create_with("other", &blocks(30, 1))?;
    chown(t.path("other"), 1000, 1000).or_fail("chown")?;
    chmod(t.path("other"), mode).or_fail("chmod")
}

fn dedupe_read_only(t: &Test) -> Outcome<Deduped> {
    let one = File::open(t.path("one"), libc::O_RDONLY).or_fail("open")?;
    let other = File::open(t.path("other"), libc::O_RDONLY).or_fail("open")?;
    dedupe(&one, 0, BLOCK64, &other, 0).or_fail("FIDEDUPERANGE")
}

fn the_owner_may_deduplicate_a_file_open_for_reading(t: &Test) -> Outcome {
    equal_files(t, 0o444)?;
    as_user(1000, 1000, || {
        expect_eq(
            dedupe_read_only(t)?,
            same(BLOCK),
            "by the owner of a read-only file",
        )
    })
}

fn others_may_not_deduplicate_a_file_open_for_reading(t: &Test) -> Outcome {
    equal_files(t, 0o644)?;
    as_user(2000, 2000, || {
        expect_eq(
            dedupe_read_only(t)?,
            failed(libc::EPERM),
            "by a user with read permission only",
        )
    })
}

fn whoever_may_write_may_deduplicate_a_file_open_for_reading(t: &Test) -> Outcome {
    equal_files(t, 0o666)?;
    as_user(2000, 2000, || {
        expect_eq(
            dedupe_read_only(t)?,
            same(BLOCK),
            "by a user with write permission",
        )
    })
}

fn a_read_only_mount_is_its_erofs(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(31, 1))?;
    t.create_with("other", &blocks(31, 1))?;
    let view = t.read_only_view()?;
    let other = File::open(view.join("other"), libc::O_RDONLY).or_fail("open")?;
    let result = dedupe(&one, 0, BLOCK64, &other, 0);
    expect_result(
        result,
        failed(libc::EROFS),
        "a destination on a read-only mount",
    )
}
