// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The ends of ranges and files: growing destinations, partial last blocks, holes.

use libc::{EBADE, EINVAL};

use super::{apply, copy, copy_all, flag_name, range, COPY, DEDUP, FLAGS, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Outcome};
use crate::filesystem::Feature;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};

pub const CASES: &[Case] = &[
    case!(the_destination_grows_with_a_hole_before_the_copy),
    case!(a_shared_last_block_shows_nothing_behind_the_end).needs(&[Feature::Reflink]),
    case!(a_file_of_a_few_bytes_is_copied_and_shared),
    case!(deduplication_never_makes_a_file_longer).needs(&[Feature::Reflink]),
    case!(bytes_behind_a_ragged_end_do_not_count_as_different).needs(&[Feature::Reflink]),
    case!(holes_are_copied_over_data),
    case!(holes_and_zeros_are_equal).needs(&[Feature::Reflink]),
    case!(one_different_byte_anywhere_is_ebade).needs(&[Feature::Reflink]),
];

fn the_destination_grows_with_a_hole_before_the_copy(t: &Test) -> Outcome {
    let data = pattern(1, 2 * BLOCK + 77);
    let source = t.create_with("source", &data)?;
    for flags in [COPY, REFLINK] {
        if flags == REFLINK && !t.filesystem.can_share() {
            continue;
        }
        for off_out in [3 * BLOCK64, 3 * BLOCK64 + 5] {
            if flags == REFLINK && off_out % BLOCK64 != 0 {
                continue;
            }
            // The old last block has bytes behind the end that must not show again.
            let to = t.create_with("to", &blocks(2, 2))?;
            to.truncate(BLOCK64 + 5)?;
            let mut model = blocks(2, 2)[..BLOCK + 5].to_vec();
            let place = range(0, off_out, data.len());
            copy_all(&source, &to, place, flags)?;
            apply(&mut model, &data, place, data.len());
            to.expect_contents(&model, &format!("{} to {off_out}", flag_name(flags)))?;
            to.truncate(model.len() as u64 + 100)?;
            model.resize(model.len() + 100, 0);
            to.expect_contents(&model, "after it grew once more")?;
        }
    }
    Ok(())
}

fn a_shared_last_block_shows_nothing_behind_the_end(t: &Test) -> Outcome {
    let mut data = blocks(3, 3);
    let source = t.create_with("source", &data)?;
    data.truncate(2 * BLOCK + 9);
    source.truncate(data.len() as u64)?;
    let to = t.create("to")?;
    copy_all(&source, &to, range(0, 0, data.len()), REFLINK)?;
    data.resize(3 * BLOCK + 1, 0);
    to.truncate(data.len() as u64)?;
    to.expect_contents(&data, "a clone that grew")?;
    // Not into the middle: bytes behind the source's end would show.
    let old = blocks(4, 6);
    let middle = t.create_with("middle", &old)?;
    let tail = range(2 * BLOCK64, BLOCK64, 9);
    expect_errno(
        copy(&source, &middle, tail, REFLINK),
        EINVAL,
        "a tail into the middle",
    )?;
    let rounded = range(2 * BLOCK64, BLOCK64, BLOCK);
    expect_errno(
        copy(&source, &middle, rounded, REFLINK),
        EINVAL,
        "a whole last block",
    )?;
    middle.expect_contents(&old, "the middle after the refusals")
}

fn a_file_of_a_few_bytes_is_copied_and_shared(t: &Test) -> Outcome {
    for len in [1, 2, 100, 511, 4095] {
        let data = pattern(5, len);
        let source = t.create_with("source", &data)?;
        for flags in FLAGS {
            if flags != COPY && !t.filesystem.can_share() {
                continue;
            }
            let old: &[u8] = if flags == DEDUP { &data } else { b"" };
            let to = t.create_with("to", old)?;
            copy_all(&source, &to, range(0, 0, len), flags)?;
            to.expect_contents(&data, &format!("{} of {len} bytes", flag_name(flags)))?;
            source.write_at(b"!", 0)?;
            to.expect_contents(&data, "after a write to the source")?;
            source.write_at(&data[..1], 0)?;
        }
    }
    Ok(())
}

fn deduplication_never_makes_a_file_longer(t: &Test) -> Outcome {
    let data = blocks(6, 4);
    let source = t.create_with("source", &data)?;
    for size in [0, 1, BLOCK, 3 * BLOCK, 4 * BLOCK - 1] {
        let to = t.create_with("to", &data[..size])?;
        let result = copy(&source, &to, range(0, 0, 4 * BLOCK), DEDUP);
        expect_errno(result, EINVAL, format_args!("onto {size} bytes"))?;
        to.expect_contents(&data[..size], "the shorter file")?;
    }
    let to = t.create_with("to", &data)?;
    copy_all(&source, &to, range(0, 0, 4 * BLOCK), DEDUP)?;
    to.expect_contents(&data, "the file of the same length")
}

fn bytes_behind_a_ragged_end_do_not_count_as_different(t: &Test) -> Outcome {
    let mut data = blocks(7, 2);
    let source = t.create_with("source", &data)?;
    let mut other = data.clone();
    other[BLOCK + 50..].fill(b'!');
    let to = t.create_with("to", &other)?;
    data.truncate(BLOCK + 50);
    for file in [&source, &to] {
        file.truncate(data.len() as u64)?;
    }
    copy_all(&source, &to, range(0, 0, data.len()), DEDUP)?;
    for file in [&source, &to] {
        file.expect_contents(&data, "afterwards")?;
        file.truncate(2 * BLOCK64)?;
    }
    data.resize(2 * BLOCK, 0);
    source.expect_contents(&data, "the source, once it grew")?;
    to.expect_contents(&data, "the destination, once it grew")
}

fn holes_are_copied_over_data(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(6 * BLOCK64)?;
    source.write_at(&blocks(8, 1), 2 * BLOCK64)?;
    source.write_at(b"x", 5 * BLOCK64 - 1)?;
    let data = source.contents()?;
    for flags in [COPY, REFLINK] {
        for (off, len) in [
            (0, 6 * BLOCK),
            (BLOCK64, 3 * BLOCK),
            (100, 5 * BLOCK),
            (0, BLOCK),
        ] {
            if flags == REFLINK && (off % BLOCK64 != 0 || !t.filesystem.can_share()) {
                continue;
            }
            let mut model = blocks(9, 7);
            let to = t.create_with("to", &model)?;
            let place = range(off, off, len);
            copy_all(&source, &to, place, flags)?;
            apply(&mut model, &data, place, len);
            to.expect_contents(&model, &format!("{} of {place:?}", flag_name(flags)))?;
        }
    }
    Ok(())
}

fn holes_and_zeros_are_equal(t: &Test) -> Outcome {
    let mut data = blocks(10, 6);
    data[BLOCK..3 * BLOCK].fill(0);
    let zeros = t.create_with("zeros", &data)?;
    let holes = t.create("holes")?;
    holes.truncate(6 * BLOCK64)?;
    holes.write_at(&data[..BLOCK], 0)?;
    holes.write_at(&data[3 * BLOCK..], 3 * BLOCK64)?;
    copy_all(&zeros, &holes, range(0, 0, 6 * BLOCK), DEDUP)?;
    holes.expect_contents(&data, "the file with holes")?;
    let empty = t.create("empty")?;
    empty.truncate(6 * BLOCK64)?;
    copy_all(
        &empty,
        &holes,
        range(4 * BLOCK64, BLOCK64, 2 * BLOCK),
        DEDUP,
    )?;
    holes.expect_contents(&data, "with holes from another file")?;
    zeros.expect_contents(&data, "the file with zeros")
}

fn one_different_byte_anywhere_is_ebade(t: &Test) -> Outcome {
    let data = pattern(11, 70 * BLOCK + 9);
    let source = t.create_with("source", &data)?;
    for at in [
        0,
        1,
        BLOCK - 1,
        BLOCK,
        64 * BLOCK + 5,
        70 * BLOCK,
        70 * BLOCK + 8,
    ] {
        let mut other = data.clone();
        other[at] ^= 0x80;
        let to = t.create_with("to", &other)?;
        let before = crate::extents::block_map(&to)?;
        let whole = range(0, 0, data.len());
        super::offsets::expect_refused(&source, &to, whole, DEDUP, EBADE)?;
        to.expect_contents(&other, "a file that differs")?;
        expect_eq(
            crate::extents::block_map(&to)?,
            before,
            "the blocks of a file that differs",
        )?;
    }
    Ok(())
}
