// SPDX-License-Identifier: GPL-2.0 OR MIT
//! FIDEDUPERANGE: the blocks that become shared, and later changes of them.

use crate::case::{case, Case, Test};
use crate::extents::{expect_letters, expect_nothing_shared, expect_shared};
use crate::failure::{expect, expect_eq, Context, Errno, Outcome};
use crate::filesystem::{CLONES, CLONES_COUNTED, CLONES_SHOWN};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{dedupe, dedupe_many, set_times, timespec, Deduped, File, FileDedupeRangeInfo};

pub const CASES: &[Case] = &[
    case!(equal_ranges_become_shared).needs(CLONES_SHOWN),
    case!(equal_ranges_at_other_offsets_become_shared).needs(CLONES_SHOWN),
    case!(ranges_that_differ_anywhere_stay_as_they_are).needs(CLONES_SHOWN),
    case!(space_is_given_back).needs(CLONES_COUNTED),
    case!(ranges_already_shared_are_the_same).needs(CLONES_COUNTED),
    case!(each_destination_has_its_own_result).needs(CLONES_SHOWN),
    case!(a_destination_named_twice_is_fine).needs(CLONES),
    case!(two_ranges_of_one_file_can_be_deduplicated).needs(CLONES_SHOWN),
    case!(as_many_destinations_as_fit_work).needs(CLONES),
    case!(no_destinations_are_fine).needs(CLONES),
    case!(partial_last_blocks_of_both_files_are_deduplicated).needs(CLONES_SHOWN),
    case!(deduplicated_last_blocks_show_no_stale_bytes).needs(CLONES),
    case!(a_length_of_zero_does_nothing).needs(CLONES),
    case!(holes_and_zeros_are_equal).needs(CLONES),
    case!(the_times_do_not_change).needs(CLONES),
    case!(writes_after_it_stay_on_their_side).needs(CLONES),
    case!(stores_through_mappings_after_it_stay_on_their_side).needs(CLONES),
    case!(mappings_show_the_same_bytes_afterwards).needs(CLONES),
    case!(private_copies_in_mappings_survive).needs(CLONES),
    case!(a_destination_that_was_itself_cloned_is_deduplicated).needs(CLONES_SHOWN),
    case!(a_large_range_is_deduplicated).needs(CLONES_COUNTED),
    case!(bytes_behind_the_end_do_not_count).needs(CLONES),
];

pub(super) fn same(len: usize) -> Deduped {
    Deduped::Same(len as u64)
}

pub(super) fn failed(errno: i32) -> Deduped {
    Deduped::Failed(Errno(errno))
}

#[track_caller]
pub(super) fn expect_result(
    seen: crate::failure::Sys<Deduped>,
    expected: Deduped,
    what: &str,
) -> Outcome {
    expect_eq(seen.or_fail("FIDEDUPERANGE")?, expected, what)
}

/// Makes two files of these bytes.
fn twins(t: &Test, data: &[u8]) -> Outcome<(File, File)> {
    Ok((t.create_with("one", data)?, t.create_with("other", data)?))
}

/// Deduplicates the first `len` bytes of two files, which are equal.
#[track_caller]
fn expect_equal(one: &File, other: &File, len: usize, what: &str) -> Outcome {
    expect_result(dedupe(one, 0, len as u64, other, 0), same(len), what)
}

fn equal_ranges_become_shared(t: &Test) -> Outcome {
    let data = blocks(1, 70);
    let (one, other) = twins(t, &data)?;
    expect_nothing_shared(&one, &other)?;
    let len = 70 * BLOCK;
    expect_equal(&one, &other, len, "equal files")?;
    expect_shared(&one, 0, &other, 0, 70)?;
    one.expect_contents(&data, "the source")?;
    other.expect_contents(&data, "the destination")
}

fn equal_ranges_at_other_offsets_become_shared(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(2, 6))?;
    let mut data = blocks(3, 6);
    data[3 * BLOCK..5 * BLOCK].copy_from_slice(&blocks(2, 6)[BLOCK..3 * BLOCK]);
    let other = t.create_with("other", &data)?;
    let result = dedupe(&one, BLOCK64, 2 * BLOCK64, &other, 3 * BLOCK64);
    expect_result(result, same(2 * BLOCK), "equal blocks at other offsets")?;
    expect_shared(&one, 1, &other, 3, 2)?;
    expect_letters(&other, "pppssp", "the destination")?;
    other.expect_contents(&data, "the destination")
}

fn ranges_that_differ_anywhere_stay_as_they_are(t: &Test) -> Outcome {
    let data = blocks(4, 66);
    let one = t.create_with("one", &data)?;
    for at in [0, 1, 4095, 4096, 20_000, 64 * BLOCK, 66 * BLOCK - 1] {
        let mut different = data.clone();
        different[at] ^= 1;
        let other = t.create_with("other", &different)?;
        let what = format!("files that differ at {at}");
        let len = 66 * BLOCK64;
        expect_result(dedupe(&one, 0, len, &other, 0), Deduped::Differs, &what)?;
        other.expect_contents(&different, &what)?;
        expect_nothing_shared(&one, &other)?;
    }
    one.expect_contents(&data, "the source")
}

fn space_is_given_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let one = fs.create_with("one", &blocks(5, 100))?;
    let other = fs.create_with("other", &blocks(5, 100))?;
    let before = fs.used()?;
    let len = 100 * BLOCK;
    expect_equal(&one, &other, len, "equal files")?;
    expect_eq(fs.used()?, before - 100, "blocks used")?;
    expect_eq(
        other.data_blocks()?,
        100,
        "st_blocks of the destination, in blocks",
    )
}

fn ranges_already_shared_are_the_same(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let one = fs.create_with("one", &blocks(6, 100))?;
    let clone = crate::sys::new_clone(&one, fs.path("clone"))?;
    let before = fs.used()?;
    let len = 100 * BLOCK;
    for _ in 0..2 {
        expect_equal(&one, &clone, len, "a clone")?;
    }
    clone.write_at(b"different", 50 * BLOCK64)?;
    expect_result(
        dedupe(&one, 0, len as u64, &clone, 0),
        Deduped::Differs,
        "a changed clone",
    )?;
    clone.write_at(&one.read_at(50 * BLOCK64, 9)?, 50 * BLOCK64)?;
    expect_equal(&one, &clone, len, "a clone changed back")?;
    expect_eq(fs.used()?, before, "blocks used at the end")
}

fn each_destination_has_its_own_result(t: &Test) -> Outcome {
    let data = blocks(7, 3);
    let source = t.create_with("source", &data)?;
    let equal = t.create_with("equal", &data)?;
    let different = t.create_with("different", &blocks(8, 3))?;
    let short = t.create_with("short", &data[..BLOCK])?;
    let shifted = t.create_with("shifted", &[blocks(9, 1), data.clone()].concat())?;
    let mut targets = [
        FileDedupeRangeInfo::new(&equal, 0),
        FileDedupeRangeInfo::new(&different, 0),
        FileDedupeRangeInfo::new(&short, 0),
        FileDedupeRangeInfo::new(&shifted, BLOCK64),
    ];
    dedupe_many(&source, 0, 3 * BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    let results = targets.map(Deduped::from);
    let expected = [
        same(3 * BLOCK),
        Deduped::Differs,
        failed(libc::EINVAL),
        same(3 * BLOCK),
    ];
    expect_eq(results, expected, "results of four destinations")?;
    expect_shared(&source, 0, &equal, 0, 3)?;
    expect_shared(&source, 0, &shifted, 1, 3)?;
    expect_nothing_shared(&source, &different)?;
    different.expect_contents(&blocks(8, 3), "the different file")
}

fn a_destination_named_twice_is_fine(t: &Test) -> Outcome {
    let data = blocks(11, 2);
    let source = t.create_with("source", &data)?;
    let other = t.create_with("other", &data)?;
    let mut targets = [FileDedupeRangeInfo::new(&other, 0); 3];
    dedupe_many(&source, 0, 2 * BLOCK64, &mut targets).or_fail("FIDEDUPERANGE")?;
    expect_eq(targets.map(Deduped::from), [same(2 * BLOCK); 3], "results")?;
    other.expect_contents(&data, "the destination")
}

fn two_ranges_of_one_file_can_be_deduplicated(t: &Test) -> Outcome {
    let data = [blocks(13, 3), blocks(13, 3)].concat();
    let file = t.create_with("file", &data)?;
    let result = dedupe(&file, 0, 3 * BLOCK64, &file, 3 * BLOCK64);
    expect_result(result, same(3 * BLOCK), "two halves of one file")?;
    expect_shared(&file, 0, &file, 3, 3)?;
    file.write_at(b"x", 0)?;
    expect_eq(
        file.read_at(3 * BLOCK64, 1)?,
        &data[..1],
        "the second half after a write",
    )
}

fn as_many_destinations_as_fit_work(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(14, 1))?;
    let data = vec![blocks(14, 1); 127].concat();
    let other = t.create_with("other", &data)?;
    let mut targets: Vec<_> = (0..127)
        .map(|i| FileDedupeRangeInfo::new(&other, i * BLOCK64))
        .collect();
    dedupe_many(&source, 0, BLOCK64, &mut targets).or_fail("FIDEDUPERANGE of 127")?;
    for (i, target) in targets.iter().enumerate() {
        expect_eq(
            Deduped::from(*target),
            same(BLOCK),
            format_args!("destination {i}"),
        )?;
    }
    other.expect_contents(&data, "the destination")
}

fn no_destinations_are_fine(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(16, 1))?;
    dedupe_many(&source, 0, BLOCK64, &mut []).or_fail("FIDEDUPERANGE without destinations")
}

fn partial_last_blocks_of_both_files_are_deduplicated(t: &Test) -> Outcome {
    let data = pattern(18, 2 * BLOCK + 100);
    let (one, other) = twins(t, &data)?;
    let len = data.len();
    expect_equal(&one, &other, len, "equal files")?;
    expect_shared(&one, 0, &other, 0, 3)?;
    other.expect_contents(&data, "the destination")
}

fn deduplicated_last_blocks_show_no_stale_bytes(t: &Test) -> Outcome {
    let data = pattern(20, BLOCK + 50);
    let one = t.create_with("one", &vec![0xee; 2 * BLOCK])?;
    one.write_at(&data, 0)?;
    one.truncate(BLOCK64 + 50)?;
    let other = t.create_with("other", &data)?;
    let len = data.len();
    expect_equal(&one, &other, len, "equal files")?;
    let mut model = data;
    model.resize(2 * BLOCK, 0);
    for file in [&other, &one] {
        file.truncate(2 * BLOCK64)?;
        file.expect_contents(&model, "extended after deduplication")?;
    }
    Ok(())
}

fn a_length_of_zero_does_nothing(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(21, 1))?;
    let other = t.create_with("other", &blocks(22, 1))?;
    expect_result(dedupe(&one, 0, 0, &other, 0), same(0), "length 0")?;
    other.expect_contents(&blocks(22, 1), "the destination")
}

fn holes_and_zeros_are_equal(t: &Test) -> Outcome {
    let zeros = t.create_with("zeros", &vec![0; 4 * BLOCK])?;
    let hole = t.create("hole")?;
    hole.truncate(4 * BLOCK64)?;
    let len = 4 * BLOCK;
    expect_equal(&hole, &zeros, len, "a hole and zeros")?;
    zeros.expect_contents(&vec![0; len], "the destination")?;
    let zeros = t.create_with("zeros", &vec![0; 4 * BLOCK])?;
    expect_equal(&zeros, &hole, len, "zeros and a hole")?;
    hole.expect_contents(&vec![0; len], "the destination")?;
    let data = t.create_with("data", &blocks(23, 4))?;
    expect_result(
        dedupe(&hole, 0, len as u64, &data, 0),
        Deduped::Differs,
        "a hole and data",
    )?;
    data.expect_contents(&blocks(23, 4), "the data")
}

fn the_times_do_not_change(t: &Test) -> Outcome {
    let (one, other) = twins(t, &blocks(32, 2))?;
    let old = timespec(1_000_000_000, 0);
    set_times(&other.path, [old, old]).or_fail("utimensat")?;
    let before = other.times()?.modified;
    expect_equal(&one, &other, 2 * BLOCK, "equal files")?;
    expect_eq(other.times()?.modified, before, "mtime of the destination")
}

fn writes_after_it_stay_on_their_side(t: &Test) -> Outcome {
    let data = blocks(33, 4);
    let (one, other) = twins(t, &data)?;
    expect_equal(&one, &other, 4 * BLOCK, "equal files")?;
    one.write_at(b"one", 100)?;
    other.expect_contents(&data, "the destination after a write to the source")?;
    other.write_at(b"other", BLOCK64)?;
    let mut model = data;
    model[100..103].copy_from_slice(b"one");
    one.expect_contents(&model, "the source after a write to the destination")
}

fn stores_through_mappings_after_it_stay_on_their_side(t: &Test) -> Outcome {
    let data = blocks(34, 4);
    let (one, other) = twins(t, &data)?;
    let maps = [
        Mapping::shared(&one, 4 * BLOCK)?,
        Mapping::shared(&other, 4 * BLOCK)?,
    ];
    // Both are mapped for writing before they become one.
    for map in &maps {
        map.store(0, &data[..1]);
        map.store(3 * BLOCK, &data[3 * BLOCK..3 * BLOCK + 1]);
    }
    expect_equal(&one, &other, 4 * BLOCK, "equal files")?;
    maps[0].store(10, b"one");
    other.expect_contents(&data, "the destination after a store to the source")?;
    maps[1].store(3 * BLOCK + 10, b"other");
    let mut model = data;
    model[10..13].copy_from_slice(b"one");
    one.expect_contents(&model, "the source after a store to the destination")
}

fn mappings_show_the_same_bytes_afterwards(t: &Test) -> Outcome {
    let data = blocks(35, 3);
    let (one, other) = twins(t, &data)?;
    let map = Mapping::shared(&other, 3 * BLOCK)?;
    map.load_all();
    expect_equal(&one, &other, 3 * BLOCK, "equal files")?;
    expect(map.load_all() == data, "the mapping shows the same bytes")?;
    one.write_at(b"changed", 0)?;
    expect(
        map.load_all() == data,
        "the mapping after the source changed",
    )?;
    other.write_at(b"own", BLOCK64)?;
    expect_eq(
        map.load(BLOCK, 3),
        b"own",
        "the mapping after the destination changed",
    )
}

fn private_copies_in_mappings_survive(t: &Test) -> Outcome {
    let data = blocks(36, 2);
    let (one, other) = twins(t, &data)?;
    let map = Mapping::private(&other, 2 * BLOCK)?;
    map.store(5, b"mine");
    expect_equal(&one, &other, 2 * BLOCK, "equal files")?;
    expect_eq(
        map.load(5, 4),
        b"mine",
        "a private store before deduplication",
    )?;
    other.expect_contents(&data, "the file")
}

fn a_destination_that_was_itself_cloned_is_deduplicated(t: &Test) -> Outcome {
    let data = blocks(37, 4);
    let (one, other) = twins(t, &data)?;
    let clone = crate::sys::new_clone(&other, t.path("clone"))?;
    expect_equal(&one, &other, 4 * BLOCK, "equal files")?;
    expect_shared(&one, 0, &other, 0, 4)?;
    expect_nothing_shared(&one, &clone)?;
    expect_letters(&clone, "pppp", "the clone that was left alone")?;
    clone.expect_contents(&data, "the clone")
}

fn a_large_range_is_deduplicated(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64M")])?;
    let count = 4200 / t.settings.divisor.min(4);
    let data: Vec<u8> = blocks(38, 8)
        .into_iter()
        .cycle()
        .take(count * BLOCK)
        .collect();
    let one = fs.create_with("one", &data)?;
    let other = fs.create_with("other", &data)?;
    let before = fs.used()?;
    let len = count * BLOCK;
    expect_equal(&one, &other, len, "equal files")?;
    expect_eq(fs.used()?, before - count as u64, "blocks used")
}

fn bytes_behind_the_end_do_not_count(t: &Test) -> Outcome {
    let data = pattern(39, 100);
    let (one, other) = twins(t, &data)?;
    let map = Mapping::shared(&other, BLOCK)?;
    map.store(2000, b"behind the end");
    let result = dedupe(&one, 0, 100, &other, 0).or_fail("FIDEDUPERANGE")?;
    // Two blocks that differ behind the end may be called equal or not, but the bytes never show.
    expect(
        result == same(100) || result == Deduped::Differs,
        format_args!("equal files with other bytes behind the end: {result:?}"),
    )?;
    for file in [&one, &other] {
        file.truncate(BLOCK64)?;
        let mut model = data.clone();
        model.resize(BLOCK, 0);
        if std::ptr::eq(file, &one) || t.is_reflinkfs() {
            file.expect_contents(&model, "extended afterwards")?;
        }
    }
    Ok(())
}
