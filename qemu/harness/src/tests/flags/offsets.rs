// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Invalid offsets and lengths: negative, past the end, overlapping.

use libc::{EINVAL, EOVERFLOW};

use super::{call, copy, copy_all, flag_name, range, Range, COPY, FLAGS, REFLINK, WAYS};
use crate::case::{case, Case, Test};
use crate::extents::expect_shared;
use crate::failure::{expect_eq, expect_errno, expect_one_of, Context, Outcome};
use crate::filesystem::{Feature, Filesystem};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::File;

pub const CASES: &[Case] = &[
    case!(a_length_of_zero_does_nothing),
    case!(a_range_beyond_the_source_is_einval_and_nothing_is_done),
    case!(an_empty_source_is_einval),
    case!(negative_offsets_are_einval),
    case!(offsets_that_overflow_are_eoverflow),
    case!(overlapping_ranges_of_one_file_are_einval),
    case!(a_file_is_copied_into_itself),
    case!(a_file_shares_with_itself).needs(&[Feature::Reflink, Feature::Fiemap]),
    case!(one_descriptor_with_one_position_can_be_both_sides),
];

/// Expects a refusal for each way to give the offsets, and both files unchanged.
pub fn expect_refused(from: &File, to: &File, range: Range, flags: u32, errno: i32) -> Outcome {
    let before = (from.contents()?, to.contents()?);
    for way in WAYS {
        let what = format!("{} of {range:?}, {way:?}", flag_name(flags));
        let result = call(way, from, to, range, flags).or_fail(&what)?;
        expect_errno(result, errno, &what)?;
    }
    from.expect_contents(&before.0, "the source of a refused call")?;
    to.expect_contents(&before.1, "the destination of a refused call")
}

/// Returns the errno for a range that the filesystem could not share anyway.
fn or_unsupported(filesystem: Filesystem, flags: u32, errno: i32) -> i32 {
    if flags == COPY || filesystem.can_share() {
        errno
    } else {
        libc::EOPNOTSUPP
    }
}

fn a_length_of_zero_does_nothing(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 2))?;
    let to = t.create_with("to", b"kept")?;
    for flags in FLAGS {
        for (off_in, off_out) in [
            (0, 0),
            (BLOCK64, 0),
            (2 * BLOCK64, 3 * BLOCK64),
            (7, 9),
            (1 << 40, 1),
        ] {
            for way in WAYS {
                let what = format!("{} of nothing at {off_in}, {off_out}", flag_name(flags));
                let result = call(way, &source, &to, range(off_in, off_out, 0), flags)?;
                expect_eq(result.or_fail(&what)?, 0, what)?;
            }
        }
        let same = copy(&source, &source, range(0, 0, 0), flags);
        expect_eq(
            same.or_fail("nothing onto itself")?,
            0,
            "nothing onto itself",
        )?;
    }
    to.expect_contents(b"kept", "after nothing was copied")
}

fn a_range_beyond_the_source_is_einval_and_nothing_is_done(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(2, 3 * BLOCK + 100))?;
    let to = t.create_with("to", &blocks(3, 5))?;
    for flags in FLAGS {
        for (off_in, len) in [
            (0, 3 * BLOCK + 101),
            (0, 4 * BLOCK),
            (2 * BLOCK64, 2 * BLOCK),
            (3 * BLOCK64, BLOCK),
            (3 * BLOCK64 + 100, 1),
            (4 * BLOCK64, BLOCK),
            (1 << 40, BLOCK),
            (0, i64::MAX as usize),
        ] {
            let errno = or_unsupported(t.filesystem, flags, EINVAL);
            let what = format!("{} of {len} bytes at {off_in}", flag_name(flags));
            let result = copy(&source, &to, range(off_in, 0, len), flags);
            // Both errnos are right on a filesystem that cannot share.
            expect_one_of(result, &[EINVAL, errno], what)?;
        }
        expect_refused(&source, &to, range(0, 0, 4 * BLOCK), COPY, EINVAL)?;
    }
    Ok(())
}

fn an_empty_source_is_einval(t: &Test) -> Outcome {
    let source = t.create("source")?;
    let to = t.create_with("to", b"kept")?;
    for flags in FLAGS {
        let errno = or_unsupported(t.filesystem, flags, EINVAL);
        for len in [1, BLOCK] {
            let result = copy(&source, &to, range(0, 0, len), flags);
            expect_one_of(result, &[EINVAL, errno], flag_name(flags))?;
        }
    }
    to.expect_contents(b"kept", "after refusals")
}

fn negative_offsets_are_einval(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(4, 2))?;
    let to = t.create_with("to", &blocks(5, 2))?;
    for flags in FLAGS {
        for at in [-1, -10, -4096, -(1 << 40), i64::MIN, i64::MIN + 4096] {
            for bad in [
                range(at as u64, 0, BLOCK),
                range(0, at as u64, BLOCK),
                range(at as u64, at as u64, BLOCK),
            ] {
                let what = format!("{} of {bad:x?}", flag_name(flags));
                expect_errno(copy(&source, &to, bad, flags), EINVAL, what)?;
            }
        }
    }
    source.expect_contents(&blocks(4, 2), "the source")?;
    to.expect_contents(&blocks(5, 2), "the destination")
}

fn offsets_that_overflow_are_eoverflow(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(6, 2))?;
    let to = t.create_with("to", &blocks(7, 2))?;
    let last = i64::MAX as u64;
    for flags in FLAGS {
        for bad in [
            range(last, 0, 10),
            range(0, last, 10),
            range(last - 4095, 0, BLOCK + 4096),
            range(0, last - 4095, 2 * BLOCK),
            range(BLOCK64, 0, i64::MAX as usize),
            range(0, BLOCK64, i64::MAX as usize),
            range(0, 0, usize::MAX),
            range(BLOCK64, BLOCK64, usize::MAX),
            range(0, 0, 1 << 63),
        ] {
            let what = format!("{} of {bad:x?}", flag_name(flags));
            expect_errno(copy(&source, &to, bad, flags), EOVERFLOW, what)?;
        }
    }
    to.expect_contents(&blocks(7, 2), "the destination")
}

fn overlapping_ranges_of_one_file_are_einval(t: &Test) -> Outcome {
    let data = blocks(8, 4);
    let file = t.create_with("file", &data)?;
    let again = file.reopen(libc::O_RDWR)?;
    for flags in FLAGS {
        for (off_in, off_out, len) in [
            (0, 0, BLOCK),
            (0, 0, 4 * BLOCK),
            (0, BLOCK64, 2 * BLOCK),
            (BLOCK64, 0, 2 * BLOCK),
            (2 * BLOCK64, BLOCK64, 2 * BLOCK),
        ] {
            for other in [&file, &again] {
                let errno = or_unsupported(t.filesystem, flags, EINVAL);
                let result = copy(&file, other, range(off_in, off_out, len), flags);
                let what = format!("{}, {len} bytes, {off_in} to {off_out}", flag_name(flags));
                expect_one_of(result, &[EINVAL, errno], what)?;
            }
        }
    }
    for (off_in, off_out, len) in [(0, 1, 2), (1, 0, 2), (0, 0, 1), (100, 4095, 4000)] {
        expect_refused(&file, &again, range(off_in, off_out, len), COPY, EINVAL)?;
    }
    file.expect_contents(&data, "after the refusals")
}

fn a_file_is_copied_into_itself(t: &Test) -> Outcome {
    for (off_in, off_out, len) in [
        (0, 4 * BLOCK64, 4 * BLOCK),
        (4 * BLOCK64, 0, 4 * BLOCK),
        (0, BLOCK64, BLOCK),
        (0, 100, 100),
        (100, 0, 100),
        (10, BLOCK64 + 10, BLOCK),
        (0, 20 * BLOCK64, 3 * BLOCK),
    ] {
        let mut model = blocks(9, 8);
        let file = t.create_with("file", &model)?;
        let again = file.reopen(libc::O_RDWR)?;
        let place = range(off_in, off_out, len);
        copy_all(&file, &again, place, COPY)?;
        let source = model.clone();
        super::apply(&mut model, &source, place, len);
        file.expect_contents(&model, &format!("{place:?} of one file"))?;
    }
    Ok(())
}

fn a_file_shares_with_itself(t: &Test) -> Outcome {
    let mut model = blocks(10, 4);
    let file = t.create_with("file", &model)?;
    copy_all(&file, &file, range(0, 2 * BLOCK64, 2 * BLOCK), REFLINK)?;
    model.copy_within(0..2 * BLOCK, 2 * BLOCK);
    file.expect_contents(&model, "the second half from the first")?;
    expect_shared(&file, 0, &file, 2, 2)?;
    let equal = t.create_with("equal", &blocks(11, 2).repeat(2))?;
    copy_all(
        &equal,
        &equal,
        range(0, 2 * BLOCK64, 2 * BLOCK),
        super::DEDUP,
    )?;
    equal.expect_contents(&blocks(11, 2).repeat(2), "two equal halves")?;
    expect_shared(&equal, 0, &equal, 2, 2)
}

fn one_descriptor_with_one_position_can_be_both_sides(t: &Test) -> Outcome {
    let mut model = blocks(12, 2);
    let file = t.create_with("file", &model)?;
    file.seek(2 * BLOCK as i64, libc::SEEK_SET)
        .or_fail("lseek")?;
    let mut off_in = 0;
    let copied = crate::sys::copy_file_range(&file, Some(&mut off_in), &file, None, BLOCK, COPY);
    expect_eq(copied.or_fail("the copy")?, BLOCK, "bytes copied")?;
    expect_eq(
        (off_in as u64, file.position()?),
        (BLOCK64, 3 * BLOCK64),
        "offset and position",
    )?;
    model.extend_from_within(..BLOCK);
    file.expect_contents(&model, "a file that copied from itself")?;
    // Both at the one position: the ranges are the same.
    file.seek(0, libc::SEEK_SET).or_fail("lseek")?;
    let copied = crate::sys::copy_file_range(&file, None, &file, None, BLOCK, COPY);
    expect_errno(copied, EINVAL, "a range onto itself")?;
    expect_eq(file.position()?, 0, "position after a refusal")
}
