// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls by a 32-bit program (`qemu/harness/compat`), which enter the kernel by another function.

use libc::{EBADE, EINVAL, EOPNOTSUPP, EOVERFLOW};

use super::manual::{program, run};
use super::{apply, range, Range, COPY, DEDUP, PLAIN, REFLINK};
use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_nothing_shared, expect_shared};
use crate::failure::{expect, expect_eq, Context, Errno, Outcome, Sys};
use crate::filesystem::{Feature, Reflinkfs};
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::process::End;
use crate::sys::File;

const NEEDS: &[Feature] = &[Feature::Programs];

pub const CASES: &[Case] = &[
    case!(a_32_bit_program_copies_shares_and_deduplicates).needs(NEEDS),
    case!(a_32_bit_program_gets_the_same_errors).needs(NEEDS),
    case!(a_32_bit_program_gets_no_count_that_looks_like_an_error)
        .needs(&[Feature::Programs, Feature::Reflinkfs]),
];

/// The position of a file whose offset is given, in a program that has just opened it.
const UNMOVED: i64 = 0;

/// Makes one call, and checks the offsets against its result.
fn call32(
    from: &File,
    to: &File,
    place: Range,
    given: (bool, bool),
    flags: u32,
) -> Outcome<Sys<usize>> {
    let offset = |at: u64, given| format!("{}:{at}", if given { "off" } else { "pos" });
    let words = [
        from.path.to_string_lossy().into_owned(),
        to.path.to_string_lossy().into_owned(),
        offset(place.off_in, given.0),
        offset(place.off_out, given.1),
        place.len.to_string(),
        flags.to_string(),
    ];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let (end, said) = run(&program("copy_file_range32"), &words)?;
    expect_eq(end, End::Exited(0), format_args!("{words:?}: {said}"))?;
    let numbers = said.split_whitespace().map(str::parse::<i64>);
    let numbers: Vec<_> = numbers.collect::<Result<_, _>>().or_fail(&said)?;
    let result = numbers[0];
    let moved = result.max(0);
    let expected = |at: u64, given| {
        let (at, end) = (at as i64, at as i64 + moved);
        if given {
            [end, UNMOVED]
        } else {
            [at, end]
        }
    };
    expect_eq(
        &numbers[1..3],
        expected(place.off_in, given.0),
        "off_in and its position",
    )?;
    expect_eq(
        &numbers[3..5],
        expected(place.off_out, given.1),
        "off_out and its position",
    )?;
    Ok(if result < 0 {
        Err(Errno(-result as i32))
    } else {
        Ok(result as usize)
    })
}

const SIZE: usize = 6 * BLOCK + 123;

fn a_32_bit_program_copies_shares_and_deduplicates(t: &Test) -> Outcome {
    let data = pattern(1, SIZE);
    let source = t.create_with("source", &data)?;
    let aligned = range(BLOCK64, 2 * BLOCK64, 3 * BLOCK);
    let tail = range(4 * BLOCK64, 6 * BLOCK64, SIZE - 4 * BLOCK);
    let ragged = range(100, 4 * BLOCK64 + 7, BLOCK);
    for (flags, place, given) in [
        (PLAIN, ragged, (false, true)),
        (COPY, aligned, (true, true)),
        (COPY, ragged, (false, false)),
        (COPY, tail, (true, false)),
        // Beyond 4 GiB: the offsets have 64 bits.
        (COPY, range(100, (5 << 30) + 1, 50), (true, true)),
        (REFLINK, aligned, (false, false)),
        (REFLINK, tail, (true, true)),
        (DEDUP, aligned, (false, true)),
    ] {
        let can_share = t.filesystem.can_share();
        let what = format!("flags {flags}, {place:?}");
        let mut model = if place.off_out < 1 << 32 {
            pattern(2, 5 * BLOCK)
        } else {
            Vec::new()
        };
        if flags == DEDUP {
            apply(&mut model, &data, place, place.len);
        }
        let to = t.create_with("to", &model)?;
        let result = call32(&source, &to, place, given, flags)?;
        if [REFLINK, DEDUP].contains(&flags) && !can_share {
            expect_eq(result, Err(Errno(EOPNOTSUPP)), &what)?;
            to.expect_contents(&model, &what)?;
            continue;
        }
        expect_eq(result.or_fail(&what)?, place.len, &what)?;
        if place.off_out >= 1 << 32 {
            let seen = to.read_at(place.off_out, place.len + 1)?;
            expect_eq(&seen[..], &data[100..150], &what)?;
            continue;
        }
        apply(&mut model, &data, place, place.len);
        to.expect_contents(&model, &what)?;
        let (first, count) = (
            (place.off_out / BLOCK64) as usize,
            place.len.div_ceil(BLOCK),
        );
        match flags {
            COPY if can_share => expect_nothing_shared(&source, &to)?,
            REFLINK | DEDUP => {
                expect_shared(
                    &source,
                    (place.off_in / BLOCK64) as usize,
                    &to,
                    first,
                    count,
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn a_32_bit_program_gets_the_same_errors(t: &Test) -> Outcome {
    let data = pattern(3, SIZE);
    let source = t.create_with("source", &data)?;
    let other = pattern(4, SIZE);
    let to = t.create_with("to", &other)?;
    let whole = range(0, 0, SIZE);
    let last = i64::MAX as u64;
    let mut cells = vec![
        (3, whole, EINVAL),
        (8, whole, EINVAL),
        (1 << 31, whole, EINVAL),
        (COPY, range(0, 0, SIZE + 1), EINVAL),
        (COPY, range(SIZE as u64, 0, 1), EINVAL),
        (COPY, range(0, last, 10), EOVERFLOW),
        (REFLINK, range(last - 3, 0, 10), EOVERFLOW),
        // The longest 32-bit length.
        (COPY, range(0, 0, u32::MAX as usize), EINVAL),
    ];
    if t.filesystem.can_share() {
        cells.extend([
            (DEDUP, whole, EBADE),
            (REFLINK, range(1, 0, BLOCK), EINVAL),
            (REFLINK, range(0, 1, BLOCK), EINVAL),
            (DEDUP, range(0, 4096, SIZE), EINVAL),
        ]);
    }
    let before = if t.filesystem.can_share() {
        block_map(&to)?
    } else {
        Vec::new()
    };
    for (flags, place, errno) in cells {
        // A file position has limits.
        let ways = if place.off_in.max(place.off_out) < 1 << 40 {
            2
        } else {
            1
        };
        for given in [(true, true), (false, false)].into_iter().take(ways) {
            let result = call32(&source, &to, place, given, flags)?;
            expect_eq(
                result,
                Err(Errno(errno)),
                format_args!("flags {flags:#x} of {place:?}"),
            )?;
        }
    }
    to.expect_contents(&other, "the destination of refused calls")?;
    if t.filesystem.can_share() {
        expect_eq(block_map(&to)?, before, "the blocks of the destination")?;
    }
    Ok(())
}

fn a_32_bit_program_gets_no_count_that_looks_like_an_error(t: &Test) -> Outcome {
    // As 32-bit numbers these lengths are not positive; the last ones look like an errno.
    let all = [(4 << 30) - BLOCK, (2 << 30) + BLOCK, 3 << 30];
    for len in all.into_iter().take(t.rounds(all.len())) {
        let source = t.create("source")?;
        source.truncate(len as u64)?;
        source.write_at(b"end", len as u64 - 3)?;
        for flags in [COPY, REFLINK, DEDUP] {
            let to = t.create("to")?;
            if flags == DEDUP {
                to.truncate(len as u64)?;
                to.write_at(b"end", len as u64 - 3)?;
            }
            let what = format!("flags {flags}, {len} bytes");
            let count = call32(&source, &to, range(0, 0, len), (true, true), flags)?;
            let count = count.or_fail(&what)?;
            expect(
                count > 0 && count < 2 << 30,
                format_args!("{what}: a count of {count}"),
            )?;
        }
    }
    expect_eq(t.filesystem, Reflinkfs, "the filesystem")
}
