// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The last block that a file can have: it ends, a byte short, at 2^63 - 1.

use crate::case::{case, Case, Test};
use crate::extents::{extents, fiemap, FiemapExtent};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, Tmpfs, CLONES, CLONES_SHOWN};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, copy_once, dedupe, new_clone, Deduped, File};

use super::fallocate::{fallocate, PUNCH};

pub const CASES: &[Case] = &[
    case!(it_is_written_read_and_cut),
    case!(data_and_holes_are_found).except(Btrfs, "gives a negative offset as the hole behind it"),
    case!(it_is_an_extent).needs(&[Feature::Fiemap]),
    case!(it_is_given_room).except(Tmpfs, "gives room to a block less"),
    case!(it_is_punched),
    case!(it_is_cloned_there_and_back).needs(CLONES),
    case!(it_is_deduplicated).needs(CLONES_SHOWN),
    case!(it_is_copied_there_and_back),
];

/// The largest size.
const END: u64 = i64::MAX as u64;

/// The offset of the last block, and its length.
const LAST: u64 = END / BLOCK64 * BLOCK64;
const LEN: usize = BLOCK - 1;

/// Returns the bytes of the last block.
fn bytes(tag: u8) -> Vec<u8> {
    pattern(tag, LEN)
}

/// Creates a file with only the last block.
fn subject(t: &Test, name: &str, tag: u8) -> Outcome<File> {
    let file = t.create(name)?;
    file.write_at(&bytes(tag), LAST)?;
    expect_eq(file.size()?, END, "the largest size")?;
    Ok(file)
}

/// Expects these bytes in the last block, and zeros before.
#[track_caller]
fn expect_last(file: &File, expected: &[u8], what: &str) -> Outcome {
    expect_eq(file.size()?, END, format_args!("{what}: size"))?;
    // No call may reach beyond the largest size.
    let seen = file.read_at(LAST - BLOCK64, BLOCK + LEN)?;
    let expected = [&[0; BLOCK], expected].concat();
    expect_bytes(
        &seen,
        &expected,
        format_args!("{what}: the last two blocks"),
    )
}

fn it_is_written_read_and_cut(t: &Test) -> Outcome {
    let file = subject(t, "file", 1)?;
    expect_last(&file, &bytes(1), "written")?;
    let mut model = bytes(1);
    file.write_at(b"x", END - 1)?;
    model[LEN - 1] = b'x';
    expect_last(&file, &model, "its last byte written again")?;
    // The kernel limits requests to the largest offset.
    for (at, len) in [(END, 1), (END - 1, 2), (LAST, BLOCK)] {
        let more = file.try_pwrite(&vec![b'x'; len], at);
        expect_errno(more, libc::EINVAL, format_args!("{len} bytes at {at}"))?;
    }
    expect_last(&file, &model, "after a refusal")?;
    file.truncate(LAST + 100)?;
    file.truncate(END)?;
    model[100..].fill(0);
    expect_last(&file, &model, "cut in the middle, and grown")?;
    file.truncate(LAST)?;
    file.truncate(END)?;
    expect_last(&file, &[0; LEN], "cut off, and grown")
}

fn data_and_holes_are_found(t: &Test) -> Outcome {
    let file = subject(t, "file", 1)?;
    file.sync()?;
    let data = |at: u64| file.seek(at as i64, libc::SEEK_DATA);
    let hole = |at: u64| file.seek(at as i64, libc::SEEK_HOLE);
    for (at, found) in [
        (0, LAST),
        (LAST, LAST),
        (LAST + 7, LAST + 7),
        (END - 1, END - 1),
    ] {
        expect_eq(data(at), Ok(found), format_args!("SEEK_DATA from {at}"))?;
    }
    for (at, found) in [(0, 0), (LAST - 1, LAST - 1), (LAST, END), (END - 1, END)] {
        expect_eq(hole(at), Ok(found), format_args!("SEEK_HOLE from {at}"))?;
    }
    expect_errno(data(END), libc::ENXIO, "SEEK_DATA from the end")?;
    expect_errno(hole(END), libc::ENXIO, "SEEK_HOLE from the end")?;
    expect_eq(file.data_ranges()?, vec![(LAST, END)], "all of it")
}

fn it_is_an_extent(t: &Test) -> Outcome {
    let file = subject(t, "file", 1)?;
    let seen = extents(&file)?;
    let place = |e: &FiemapExtent| (e.logical, e.length, e.last(), e.shared());
    let expected = vec![(LAST, BLOCK64, true, false)];
    expect_eq(
        seen.iter().map(place).collect::<Vec<_>>(),
        expected.clone(),
        "extents: place, length, whether it is the last, or shared",
    )?;
    for (start, length) in [
        (LAST, u64::MAX),
        (LAST + 5, 1),
        (END - 1, 1),
        (LAST, BLOCK64 - 1),
    ] {
        let (count, seen) = fiemap(&file, start, length, 0, 4).or_fail("FIEMAP")?;
        let what = format!("{length} bytes from {start}");
        expect_eq(count, 1, format_args!("extents in {what}"))?;
        let (logical, end) = (seen[0].logical, seen[0].end());
        expect(
            logical <= start && end > start && seen[0].last(),
            format_args!("the extent in {what}: {seen:x?}"),
        )?;
    }
    let (count, _) = fiemap(&file, 0, LAST, 0, 0).or_fail("FIEMAP")?;
    expect_eq(count, 0, "extents before it")
}

fn it_is_given_room(t: &Test) -> Outcome {
    let file = t.create("file")?;
    fallocate(&file, 0, LAST, LEN as u64).or_fail("fallocate")?;
    expect_last(&file, &[0; LEN], "given room")?;
    file.write_at(&bytes(1), LAST)?;
    fallocate(&file, 0, LAST - BLOCK64, BLOCK64 + LEN as u64).or_fail("fallocate")?;
    expect_last(&file, &bytes(1), "allocated again")?;
    for (offset, len) in [(LAST, BLOCK64), (END, 1), (END - 1, 2)] {
        let refused = fallocate(&file, 0, offset, len);
        expect_errno(
            refused,
            libc::EFBIG,
            format_args!("{len} bytes at {offset}"),
        )?;
    }
    expect_last(&file, &bytes(1), "after a refusal")
}

fn it_is_punched(t: &Test) -> Outcome {
    let file = subject(t, "file", 1)?;
    let mut model = bytes(1);
    fallocate(&file, PUNCH, LAST + 10, 100).or_fail("punching a part")?;
    model[10..110].fill(0);
    expect_last(&file, &model, "after a part was punched")?;
    fallocate(&file, PUNCH, LAST + 200, END - LAST - 200).or_fail("punching the end")?;
    model[200..].fill(0);
    expect_last(&file, &model, "after its end was punched")?;
    fallocate(&file, PUNCH, LAST, LEN as u64).or_fail("punching all of it")?;
    expect_last(&file, &[0; LEN], "after all of it was punched")?;
    let beyond = fallocate(&file, PUNCH, LAST, BLOCK64);
    expect_errno(beyond, libc::EFBIG, "punching beyond the largest size")?;
    // The whole block before it is removed.
    file.write_at(&blocks(2, 1), LAST - BLOCK64)?;
    file.sync()?;
    fallocate(&file, PUNCH, 0, LAST).or_fail("punching all before it")?;
    expect_last(&file, &[0; LEN], "after all before it was punched")?;
    let data = file.seek(0, libc::SEEK_DATA);
    expect(
        data.is_err() || data == Ok(LAST),
        format_args!("no data is found before the last block: {data:?}"),
    )
}

fn it_is_cloned_there_and_back(t: &Test) -> Outcome {
    let small = t.create_with("small", &bytes(1))?;
    let file = t.create("file")?;
    clone_range(&small, 0, 0, &file, LAST).or_fail("FICLONERANGE to the last block")?;
    expect_last(&file, &bytes(1), "the destination")?;
    for len in [0, LEN as u64] {
        let back = t.create("back")?;
        clone_range(&file, LAST, len, &back, 0).or_fail("FICLONERANGE of the last block")?;
        back.expect_contents(&bytes(1), "the clone of the last block")?;
    }
    let whole = new_clone(&file, t.path("whole"))?;
    expect_last(&whole, &bytes(1), "the clone of the whole")?;
    // Over existing blocks, and between the last blocks of both.
    let other = subject(t, "other", 2)?;
    clone_range(&file, LAST, LEN as u64, &other, LAST).or_fail("FICLONERANGE over another")?;
    expect_last(&other, &bytes(1), "the block cloned over")?;
    let two = t.create_with("two", &[&[0; BLOCK], &bytes(3)[..]].concat())?;
    clone_range(&two, 0, 0, &other, LAST - BLOCK64).or_fail("FICLONERANGE of two blocks")?;
    expect_last(&other, &bytes(3), "two blocks cloned")?;
    clone_file(&file, &other).or_fail("FICLONE over another")?;
    expect_last(&other, &bytes(1), "the file cloned over")?;
    other.write_at(b"changed", LAST)?;
    expect_last(&file, &bytes(1), "the source, when a clone was changed")?;
    // One byte longer than a file may be.
    let full = t.create_with("full", &blocks(4, 1))?;
    let beyond = clone_range(&full, 0, BLOCK64, &file, LAST);
    crate::failure::expect_one_of(
        beyond,
        &[libc::EINVAL, libc::EFBIG],
        "FICLONERANGE beyond the largest size",
    )?;
    expect_last(&file, &bytes(1), "after a refusal")
}

fn it_is_deduplicated(t: &Test) -> Outcome {
    let (source, to) = (subject(t, "source", 1)?, subject(t, "to", 1)?);
    let different = subject(t, "different", 2)?;
    let call = |to: &File| dedupe(&source, LAST, LEN as u64, to, LAST).or_fail("FIDEDUPERANGE");
    expect_eq(call(&different)?, Deduped::Differs, "what differs")?;
    expect_eq(call(&to)?, Deduped::Same(LEN as u64), "the equal range")?;
    let (one, other) = (extents(&source)?, extents(&to)?);
    expect(
        one.len() == 1 && one[0].shared() && one == other,
        format_args!("the one extent of both is one: {one:x?}, {other:x?}"),
    )?;
    expect_last(&to, &bytes(1), "the destination")?;
    to.write_at(b"changed", LAST)?;
    expect_last(&source, &bytes(1), "the source, when the other was changed")?;
    expect_last(&different, &bytes(2), "what differs")
}

fn it_is_copied_there_and_back(t: &Test) -> Outcome {
    let small = t.create_with("small", &bytes(1))?;
    let file = t.create("file")?;
    let copy = |from: &File, off_in: u64, to: &File, off_out: u64, len: usize| {
        let copied = copy_once(from, off_in, to, off_out, len).or_fail("copy_file_range")?;
        expect_eq(copied, len, "bytes copied")
    };
    copy(&small, 0, &file, LAST, LEN)?;
    expect_last(&file, &bytes(1), "the destination")?;
    let back = t.create("back")?;
    copy(&file, LAST, &back, 0, LEN)?;
    back.expect_contents(&bytes(1), "the range copied back")?;
    // At other offsets in the block.
    let mut model = bytes(1);
    copy(&small, 3, &file, END - 20, 20)?;
    model.copy_within(3..23, LEN - 20);
    expect_last(&file, &model, "with other bytes at the end")?;
    let at = back.size()? + 7;
    copy(&file, LAST + 5, &back, at, LEN - 5)?;
    let seen = back.read_at(at, BLOCK)?;
    expect_bytes(&seen, &model[5..], "the range copied from its middle")?;
    // As much as there is room for; nothing if there is none.
    let full = t.create_with("full", &blocks(2, 2))?;
    let copied = copy_once(&full, 0, &file, LAST + 1, BLOCK - 2).or_fail("copy_file_range")?;
    expect_eq(copied, BLOCK - 2, "bytes copied up to the largest size")?;
    model[1..].copy_from_slice(&blocks(2, 1)[..LEN - 1]);
    expect_last(&file, &model, "filled up")?;
    let beyond = copy_once(&full, 0, &file, END, 1);
    crate::failure::expect_one_of(
        beyond,
        &[libc::EFBIG, libc::EOVERFLOW],
        "copy_file_range beyond the largest size",
    )
}
