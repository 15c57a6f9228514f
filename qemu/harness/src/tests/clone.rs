// SPDX-License-Identifier: GPL-2.0 OR MIT
//! FICLONE and FICLONERANGE.

use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_letters, expect_shared};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Need};
use crate::mapping::Mapping;
use crate::model::{History, Repertoire};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{
    clone_file, clone_range, clone_range_raw, new_clone, pipe, set_times, timespec, unlink, File,
};

const CLONES: &[Need] = &[Need::Reflink];
const CLONES_SHOWN: &[Need] = &[Need::Reflink, Need::Fiemap];
const CLONES_COUNTED: &[Need] = &[Need::Reflink, Need::Instance];

const WHOLE_EXTENTS: &str = "marks a whole extent shared when a part of it is";

pub const CASES: &[Case] = &[
    case!(a_clone_has_the_bytes_of_its_source).needs(CLONES),
    case!(a_clone_shares_every_block).needs(CLONES_SHOWN),
    case!(a_clone_costs_no_space).needs(CLONES_COUNTED),
    case!(st_blocks_of_a_clone_is_right_at_once).needs(&[Need::Reflink, Need::ExactBlocks]),
    case!(writes_to_either_side_stay_there).needs(CLONES),
    case!(a_write_makes_only_its_blocks_private)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(a_write_to_a_clone_takes_one_block).needs(CLONES_COUNTED),
    case!(the_last_owner_writes_in_place).needs(CLONES_COUNTED),
    case!(data_and_holes_are_found_right_after_a_clone).needs(CLONES),
    case!(dirty_data_is_in_the_clone).needs(CLONES),
    case!(a_shorter_destination_grows).needs(CLONES),
    case!(a_longer_destination_keeps_its_tail).needs(CLONES),
    case!(an_empty_source_clones_to_nothing).needs(CLONES),
    case!(holes_are_cloned_as_holes).needs(CLONES),
    case!(a_file_cloned_onto_itself_is_refused_or_harmless).needs(CLONES),
    case!(cloning_twice_is_harmless).needs(CLONES_COUNTED),
    case!(a_range_lands_where_it_should)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(a_range_of_a_file_can_be_cloned_within_it)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(length_zero_means_to_the_end_of_the_source).needs(CLONES),
    case!(length_zero_at_and_past_the_end).needs(CLONES),
    case!(a_range_past_the_end_of_the_source_is_einval).needs(CLONES),
    case!(unaligned_ranges_are_einval).needs(CLONES),
    case!(a_partial_last_block_lands_only_at_or_past_the_end).needs(CLONES),
    case!(a_cloned_last_block_shows_no_stale_bytes).needs(CLONES),
    case!(bytes_stored_behind_the_end_are_not_cloned).needs(CLONES),
    case!(overlapping_ranges_of_one_file_are_einval).needs(CLONES),
    case!(the_destination_grows_with_a_hole_before_the_range).needs(CLONES),
    case!(descriptors_that_do_not_fit_are_ebadf).needs(CLONES),
    case!(directories_are_eisdir).needs(CLONES),
    case!(other_files_cannot_be_cloned).needs(CLONES),
    case!(another_filesystem_is_exdev).needs(CLONES),
    case!(another_instance_is_exdev).needs(CLONES_COUNTED),
    case!(a_read_only_mount_cannot_be_cloned_to).needs(CLONES),
    case!(a_bad_pointer_is_efault).needs(CLONES),
    case!(offsets_that_overflow_are_refused).needs(CLONES),
    case!(the_size_limit_of_a_process_is_kept).needs(CLONES),
    case!(the_times_of_the_destination_change).needs(CLONES),
    case!(the_set_user_bit_of_the_destination_is_cleared).needs(CLONES),
    case!(a_clone_outlives_its_source).needs(CLONES),
    case!(an_unlinked_open_file_can_be_cloned).needs(CLONES),
    case!(a_chain_of_clones_keeps_every_version).needs(CLONES),
    case!(a_hundred_clones_of_one_file_are_independent).needs(CLONES),
    case!(a_deep_and_sparse_file_is_cloned).needs(CLONES),
    case!(ranges_share_across_every_alignment_of_subtrees).needs(CLONES_SHOWN),
    case!(truncating_one_side_leaves_the_other).needs(CLONES),
    case!(space_is_freed_when_the_last_clone_goes).needs(CLONES_COUNTED),
    case!(random_histories_match_the_model).needs(CLONES),
    case!(random_histories_leave_no_space_behind).needs(CLONES_COUNTED),
    case!(cp_reflink_always_works).needs(CLONES),
];

fn a_clone_has_the_bytes_of_its_source(t: &Test) -> Outcome {
    for size in [1, 100, 4095, 4096, 4097, 65 * BLOCK + 1, 4096 * 66] {
        let data = pattern(1, size);
        let source = t.create_with("source", &data)?;
        let clone = new_clone(&source, t.path("clone"))?;
        clone.expect_contents(&data, &format!("a clone of {size} bytes"))?;
        source.expect_contents(&data, "the source")?;
        unlink(&clone.path).or_fail("unlink")?;
    }
    Ok(())
}

fn a_clone_shares_every_block(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(2, 70 * BLOCK + 5))?;
    expect_letters(&source, &"p".repeat(71), "before the clone")?;
    let clone = new_clone(&source, t.path("clone"))?;
    expect_shared(&source, 0, &clone, 0, 71)
}

fn a_clone_costs_no_space(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M")])?;
    let source = fs.create_with("source", &blocks(3, 1000))?;
    let before = fs.space()?;
    let mut clones = Vec::new();
    for i in 0..10 {
        let to = fs.create(&format!("clone-{i}"))?;
        clone_file(&source, &to).or_fail("FICLONE")?;
        clones.push(to);
    }
    let after = fs.space()?;
    expect_eq(after.free, before.free, "free blocks after ten clones")?;
    expect_eq(after.available, before.available, "available blocks after ten clones")
}

fn st_blocks_of_a_clone_is_right_at_once(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(4, 130))?;
    let clone = new_clone(&source, t.path("clone"))?;
    expect_eq(clone.data_blocks()?, 130, "blocks of the clone")?;
    expect_eq(source.data_blocks()?, 130, "blocks of the source")?;
    let range = t.create("range")?;
    clone_range(&source, 0, 70 * BLOCK64, &range, 10 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(range.data_blocks()?, 70, "blocks of a cloned range")?;
    clone_range(&source, 0, 70 * BLOCK64, &range, 20 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(range.data_blocks()?, 80, "blocks after an overlapping range")?;
    let sparse = t.create("sparse")?;
    sparse.truncate(100 * BLOCK64)?;
    clone_range(&sparse, 0, 50 * BLOCK64, &range, 0).or_fail("FICLONERANGE of a hole")?;
    expect_eq(range.data_blocks()?, 40, "blocks after a hole was cloned over 40 of them")
}

fn writes_to_either_side_stay_there(t: &Test) -> Outcome {
    let data = blocks(5, 8);
    for (offset, len) in [(0, 1), (4095, 2), (BLOCK, BLOCK), (100, 5 * BLOCK), (8 * BLOCK - 1, 2)] {
        let source = t.create_with("source", &data)?;
        let clone = new_clone(&source, t.path("clone"))?;
        let what = format!("{len} bytes written at {offset}");
        let mut model = data.clone();
        model.resize(model.len().max(offset + len), 0);
        model[offset..offset + len].fill(0x77);
        source.write_at(&vec![0x77; len], offset as u64)?;
        clone.expect_contents(&data, &format!("the clone after {what} of the source"))?;
        source.expect_contents(&model, &format!("the source after {what}"))?;
        clone.write_at(&vec![0x88; len], offset as u64)?;
        source.expect_contents(&model, &format!("the source after {what} of the clone"))?;
        model[offset..offset + len].fill(0x88);
        clone.expect_contents(&model, &format!("the clone after {what}"))?;
    }
    Ok(())
}

fn a_write_makes_only_its_blocks_private(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(6, 10))?;
    let clone = new_clone(&source, t.path("clone"))?;
    clone.write_at(b"x", 3 * BLOCK64 + 7)?;
    clone.write_at(&blocks(7, 1), 6 * BLOCK64 + 5)?;
    // Disk filesystems break the sharing when they write back.
    clone.sync()?;
    for file in [&source, &clone] {
        expect_letters(file, "ssspssppss", "after writes to blocks 3, 6 and 7")?;
    }
    Ok(())
}

fn a_write_to_a_clone_takes_one_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M")])?;
    let source = fs.create_with("source", &blocks(8, 200))?;
    let clone = new_clone(&source, fs.path("clone"))?;
    let before = fs.used()?;
    clone.write_at(b"x", 100 * BLOCK64)?;
    expect_eq(fs.used()?, before + 1, "blocks used after one byte was written")?;
    clone.write_at(b"y", 100 * BLOCK64 + 1)?;
    expect_eq(fs.used()?, before + 1, "blocks used after a second byte in that block")?;
    clone.write_at(b"z", 101 * BLOCK64 - 1)?;
    source.write_at(b"s", 100 * BLOCK64 + 2)?;
    expect_eq(fs.used()?, before + 1, "blocks used after a write to the source's own block")?;
    source.write_at(&blocks(9, 2), 150 * BLOCK64)?;
    expect_eq(fs.used()?, before + 3, "blocks used after two more were written")
}

fn the_last_owner_writes_in_place(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let source = fs.create_with("source", &blocks(10, 150))?;
    let clone = new_clone(&source, fs.path("clone"))?;
    drop(source);
    unlink(fs.path("source")).or_fail("unlink")?;
    let before = fs.used()?;
    clone.write_at(&blocks(11, 150), 0)?;
    expect_eq(fs.used()?, before, "blocks used after the only owner wrote all blocks")?;
    clone.expect_contents(&blocks(11, 150), "the clone")
}

fn data_and_holes_are_found_right_after_a_clone(t: &Test) -> Outcome {
    for _ in 0..t.rounds(20) {
        let source = t.create("source")?;
        source.truncate(32 * BLOCK64)?;
        source.write_at(&blocks(12, 2), 4 * BLOCK64)?;
        source.write_at(b"x", 20 * BLOCK64 + 1)?;
        let clone = new_clone(&source, t.path("clone"))?;
        let ranges = clone.data_ranges()?;
        for block in [4, 5, 20] {
            let at = block * BLOCK64;
            expect(
                ranges.iter().any(|(start, end)| *start <= at && at < *end),
                format_args!("block {block} of the clone is data; SEEK_DATA finds {ranges:?}"),
            )?;
        }
        expect_eq(clone.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?, 4 * BLOCK64, "first data")?;
        clone.expect_contents(&source.contents()?, "the clone")?;
    }
    Ok(())
}

fn dirty_data_is_in_the_clone(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(13, 4))?;
    let map = Mapping::shared(&source, 4 * BLOCK)?;
    for i in 0..t.rounds(30) {
        source.write_at(&[i as u8], 10)?;
        map.store(2 * BLOCK, &[i as u8 ^ 0xff]);
        let clone = new_clone(&source, t.path("clone"))?;
        expect_eq(clone.read_at(10, 1)?, [i as u8], "a byte just written")?;
        expect_eq(clone.read_at(2 * BLOCK64, 1)?, [i as u8 ^ 0xff], "a byte just stored")?;
    }
    Ok(())
}

fn a_shorter_destination_grows(t: &Test) -> Outcome {
    let data = pattern(14, 3 * BLOCK + 9);
    let source = t.create_with("source", &data)?;
    for old in [1, 4096, 3 * BLOCK + 8] {
        let to = t.create_with("to", &pattern(15, old))?;
        clone_file(&source, &to).or_fail("FICLONE")?;
        to.expect_contents(&data, &format!("cloned onto {old} bytes"))?;
    }
    Ok(())
}

fn a_longer_destination_keeps_its_tail(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(16, 3))?;
    let mut model = blocks(17, 5);
    let to = t.create_with("to", &model)?;
    clone_file(&source, &to).or_fail("FICLONE onto a longer file")?;
    model[..3 * BLOCK].copy_from_slice(&blocks(16, 3));
    to.expect_contents(&model, "a longer destination")?;
    // With a partial last block, that would put it into the middle.
    let partial = t.create_with("partial", &pattern(18, BLOCK + 1))?;
    expect_errno(clone_file(&partial, &to), libc::EINVAL, "FICLONE of a partial block onto it")?;
    to.expect_contents(&model, "after the refusal")
}

fn an_empty_source_clones_to_nothing(t: &Test) -> Outcome {
    let empty = t.create("empty")?;
    let to = t.create_with("to", b"kept")?;
    clone_file(&empty, &to).or_fail("FICLONE of an empty file")?;
    to.expect_contents(b"kept", "after an empty file was cloned onto it")
}

fn holes_are_cloned_as_holes(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(16 * BLOCK64)?;
    source.write_at(&blocks(19, 1), 8 * BLOCK64)?;
    let to = t.create_with("to", &blocks(20, 16))?;
    clone_file(&source, &to).or_fail("FICLONE")?;
    to.expect_contents(&source.contents()?, "a clone with holes")?;
    expect_eq(to.data_ranges()?, [(8 * BLOCK64, 9 * BLOCK64)], "data of the clone")?;
    to.write_at(b"x", 0)?;
    expect_eq(source.read_at(0, 1)?, [0], "the hole in the source after a write to the clone")
}

fn a_file_cloned_onto_itself_is_refused_or_harmless(t: &Test) -> Outcome {
    let data = blocks(21, 2);
    let file = t.create_with("file", &data)?;
    expect_errno(clone_file(&file, &file), libc::EINVAL, "FICLONE onto itself")?;
    let same = clone_range(&file, 0, BLOCK64, &file, 0);
    expect_errno(same, libc::EINVAL, "FICLONERANGE onto the same range")?;
    file.expect_contents(&data, "after cloning onto itself")
}

fn cloning_twice_is_harmless(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let source = fs.create_with("source", &blocks(22, 100))?;
    let to = fs.create_with("to", &blocks(23, 100))?;
    let before = fs.used()?;
    for _ in 0..3 {
        clone_file(&source, &to).or_fail("FICLONE")?;
        expect_eq(fs.used()?, before - 100, "blocks used after a clone onto other data")?;
    }
    clone_file(&to, &source).or_fail("FICLONE back")?;
    expect_eq(fs.used()?, before - 100, "blocks used after cloning back")?;
    source.expect_contents(&blocks(22, 100), "the source")
}

fn a_range_lands_where_it_should(t: &Test) -> Outcome {
    let data = blocks(24, 10);
    let source = t.create_with("source", &data)?;
    let mut model = blocks(25, 10);
    let to = t.create_with("to", &model)?;
    clone_range(&source, 2 * BLOCK64, 3 * BLOCK64, &to, 5 * BLOCK64).or_fail("FICLONERANGE")?;
    model[5 * BLOCK..8 * BLOCK].copy_from_slice(&data[2 * BLOCK..5 * BLOCK]);
    to.expect_contents(&model, "the destination")?;
    expect_letters(&to, "pppppssspp", "the destination")?;
    expect_letters(&source, "ppsssppppp", "the source")?;
    expect_shared(&source, 2, &to, 5, 3)
}

fn a_range_of_a_file_can_be_cloned_within_it(t: &Test) -> Outcome {
    let mut model = blocks(26, 6);
    let file = t.create_with("file", &model)?;
    clone_range(&file, 0, 2 * BLOCK64, &file, 4 * BLOCK64).or_fail("FICLONERANGE within")?;
    model.copy_within(0..2 * BLOCK, 4 * BLOCK);
    file.expect_contents(&model, "after cloning two blocks within")?;
    expect_shared(&file, 0, &file, 4, 2)?;
    file.write_at(b"changed", 0)?;
    model[..7].copy_from_slice(b"changed");
    file.expect_contents(&model, "after a write to one of the two places")?;
    expect_letters(&file, "psppps", "after the write")?;
    // Adjacent, just not overlapping.
    clone_range(&file, 0, 3 * BLOCK64, &file, 3 * BLOCK64).or_fail("FICLONERANGE, adjacent")?;
    model.copy_within(0..3 * BLOCK, 3 * BLOCK);
    file.expect_contents(&model, "after cloning the first half over the second")
}

fn length_zero_means_to_the_end_of_the_source(t: &Test) -> Outcome {
    let data = pattern(27, 5 * BLOCK + 50);
    let source = t.create_with("source", &data)?;
    for from in [0, 2, 5] {
        let to = t.create("to")?;
        let offset = from * BLOCK64;
        clone_range(&source, offset, 0, &to, 0).or_fail("FICLONERANGE of length 0")?;
        to.expect_contents(&data[offset as usize..], &format!("from block {from} to the end"))?;
    }
    Ok(())
}

fn length_zero_at_and_past_the_end(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(28, 2))?;
    let to = t.create_with("to", b"kept")?;
    clone_range(&source, 2 * BLOCK64, 0, &to, 0).or_fail("length 0 at the end of the source")?;
    to.expect_contents(b"kept", "after cloning nothing")?;
    let past = clone_range(&source, 3 * BLOCK64, 0, &to, 0);
    expect_errno(past, libc::EINVAL, "length 0 past the end of the source")?;
    to.expect_contents(b"kept", "after the refusal")
}

fn a_range_past_the_end_of_the_source_is_einval(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(29, 2 * BLOCK + 10))?;
    let to = t.create_with("to", &blocks(30, 1))?;
    for (offset, len) in [(0, 4 * BLOCK64), (BLOCK64, 3 * BLOCK64), (3 * BLOCK64, BLOCK64), (0, 3 * BLOCK64)] {
        let cloned = clone_range(&source, offset, len, &to, 0);
        expect_errno(cloned, libc::EINVAL, format_args!("{len} bytes from {offset}"))?;
    }
    to.expect_contents(&blocks(30, 1), "after the refusals")
}

fn unaligned_ranges_are_einval(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(31, 4))?;
    let to = t.create_with("to", &blocks(32, 4))?;
    for (from, len, at) in [
        (1, BLOCK64, 0),
        (0, BLOCK64, 1),
        (512, BLOCK64, 0),
        (0, BLOCK64, 2048),
        (0, 100, 0),
        (0, BLOCK64 + 1, 0),
        (BLOCK64, BLOCK64 - 1, BLOCK64),
    ] {
        let cloned = clone_range(&source, from, len, &to, at);
        expect_errno(cloned, libc::EINVAL, format_args!("{len} bytes from {from} to {at}"))?;
    }
    to.expect_contents(&blocks(32, 4), "after the refusals")
}

fn a_partial_last_block_lands_only_at_or_past_the_end(t: &Test) -> Outcome {
    let data = pattern(33, BLOCK + 100);
    let source = t.create_with("source", &data)?;
    let len = data.len() as u64;
    let old = blocks(34, 4);
    // Into the middle: refused, and nothing changes.
    let to = t.create_with("to", &old)?;
    for at in [0, BLOCK64, 2 * BLOCK64] {
        let cloned = clone_range(&source, 0, len, &to, at);
        expect_errno(cloned, libc::EINVAL, format_args!("a partial block at {at} of 4 blocks"))?;
        to.expect_contents(&old, "after the refusal")?;
    }
    // Over the end and past it: fine.
    for at in [3, 4, 6] {
        let to = t.create_with("to", &old)?;
        clone_range(&source, 0, len, &to, at * BLOCK64).or_fail("FICLONERANGE at the end")?;
        let mut model = old.clone();
        let start = at as usize * BLOCK;
        model.resize(start + data.len(), 0);
        model[start..].copy_from_slice(&data);
        to.expect_contents(&model, &format!("a partial block at block {at}"))?;
    }
    // Exactly as long as the destination: the block ends where the file ends.
    let to = t.create_with("to", &pattern(35, data.len()))?;
    clone_file(&source, &to).or_fail("FICLONE onto a file of the same size")?;
    to.expect_contents(&data, "a destination of the same size")
}

fn a_cloned_last_block_shows_no_stale_bytes(t: &Test) -> Outcome {
    // The source had more bytes once; neither file may ever show them again.
    let source = t.create_with("source", &vec![0xee; 2 * BLOCK])?;
    source.truncate(BLOCK64 + 100)?;
    let to = t.create_with("to", &vec![0xdd; 2 * BLOCK])?;
    to.truncate(10)?;
    clone_file(&source, &to).or_fail("FICLONE")?;
    to.truncate(3 * BLOCK64)?;
    source.truncate(3 * BLOCK64)?;
    let mut model = vec![0xee; BLOCK + 100];
    model.resize(3 * BLOCK, 0);
    to.expect_contents(&model, "the clone, extended")?;
    source.expect_contents(&model, "the source, extended")?;
    // Extending one by a write must not show in the other.
    let to = t.create("second")?;
    source.truncate(BLOCK64 + 100)?;
    clone_file(&source, &to).or_fail("FICLONE")?;
    source.write_at(b"grown", BLOCK64 + 200)?;
    to.truncate(2 * BLOCK64)?;
    to.expect_contents(&model[..2 * BLOCK], "the clone after its source grew")
}

fn bytes_stored_behind_the_end_are_not_cloned(t: &Test) -> Outcome {
    let source = t.create_with("source", b"short")?;
    let map = Mapping::shared(&source, BLOCK)?;
    map.store(100, b"behind the end");
    let clone = new_clone(&source, t.path("clone"))?;
    clone.truncate(BLOCK64)?;
    let mut model = b"short".to_vec();
    model.resize(BLOCK, 0);
    clone.expect_contents(&model, "the clone, extended")
}

fn overlapping_ranges_of_one_file_are_einval(t: &Test) -> Outcome {
    let data = pattern(36, 6 * BLOCK + 10);
    let file = t.create_with("file", &data)?;
    let again = file.reopen(libc::O_RDWR)?;
    for (from, len, to) in [(0, 2, 1), (1, 2, 0), (0, 6, 5), (3, 3, 2)] {
        for other in [&file, &again] {
            let cloned = clone_range(
                &file, from * BLOCK64, len * BLOCK64, other, to * BLOCK64,
            );
            expect_errno(cloned, libc::EINVAL, format_args!("{len} blocks from {from} to {to}"))?;
        }
    }
    let cloned = clone_range(&file, 0, 0, &file, 2 * BLOCK64);
    expect_errno(cloned, libc::EINVAL, "all of a file to its own middle")?;
    file.expect_contents(&data, "after the refusals")
}

fn the_destination_grows_with_a_hole_before_the_range(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(37, 2))?;
    let to = t.create_with("to", b"start")?;
    clone_range(&source, 0, 2 * BLOCK64, &to, 10 * BLOCK64).or_fail("FICLONERANGE")?;
    let mut model = b"start".to_vec();
    model.resize(10 * BLOCK, 0);
    model.extend(blocks(37, 2));
    to.expect_contents(&model, "the destination")?;
    let ranges = to.data_ranges()?;
    expect_eq(ranges, [(0, BLOCK64), (10 * BLOCK64, 12 * BLOCK64)], "its data")?;
    // Old bytes behind the former end stay hidden.
    let to = t.create_with("old", &vec![0xee; BLOCK])?;
    to.truncate(5)?;
    clone_range(&source, 0, BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(to.read_at(5, 3)?, [0, 0, 0], "bytes behind the former end")
}

fn descriptors_that_do_not_fit_are_ebadf(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(38, 1))?;
    let to = t.create("to")?;
    expect_errno(clone_file(&-1, &to), libc::EBADF, "a source that is not open")?;
    let write_only = source.reopen(libc::O_WRONLY)?;
    expect_errno(clone_file(&write_only, &to), libc::EBADF, "a source open for writing only")?;
    let read_only = to.reopen(libc::O_RDONLY)?;
    expect_errno(clone_file(&source, &read_only), libc::EBADF, "a destination open for reading")?;
    let append = to.reopen(libc::O_RDWR | libc::O_APPEND)?;
    expect_errno(clone_file(&source, &append), libc::EBADF, "a destination with O_APPEND")?;
    let range = clone_range(&source, 0, BLOCK64, &append, 0);
    expect_errno(range, libc::EBADF, "a range to a destination with O_APPEND")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn directories_are_eisdir(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(39, 1))?;
    let dir = File::open(t.mkdir("dir")?, libc::O_RDONLY).or_fail("open")?;
    expect_errno(clone_file(&dir, &file), libc::EISDIR, "a directory as source")?;
    expect_errno(clone_file(&file, &dir), libc::EISDIR, "a directory as destination")
}

fn other_files_cannot_be_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(40, 1))?;
    let (reader, _writer) = pipe()?;
    let from_pipe = clone_file(&reader, &file);
    crate::failure::expect_one_of(from_pipe, &[libc::EXDEV, libc::EINVAL], "from a pipe")?;
    let zero = File::open("/dev/zero", libc::O_RDWR).or_fail("open /dev/zero")?;
    let from_device = clone_file(&zero, &file);
    crate::failure::expect_one_of(from_device, &[libc::EXDEV, libc::EINVAL], "from a device")?;
    file.expect_contents(&blocks(40, 1), "after the refusals")
}

fn another_filesystem_is_exdev(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(41, 1))?;
    let there = t.create_elsewhere("there", &blocks(42, 1))?;
    expect_errno(clone_file(&there, &here), libc::EXDEV, "from another filesystem")?;
    expect_errno(clone_range(&there, 0, BLOCK64, &here, 0), libc::EXDEV, "a range of it")?;
    expect_errno(clone_file(&here, &there), libc::EXDEV, "to another filesystem")?;
    here.expect_contents(&blocks(41, 1), "after the refusals")
}

fn another_instance_is_exdev(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    let from = one.create_with("file", &blocks(43, 1))?;
    let to = other.create("file")?;
    expect_errno(clone_file(&from, &to), libc::EXDEV, "FICLONE to another instance")?;
    expect_eq(to.size()?, 0, "size of the destination")
}

fn a_read_only_mount_cannot_be_cloned_to(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(44, 1))?;
    t.create_with("to", b"kept")?;
    let view = t.read_only_view()?;
    let opened = File::open(view.join("to"), libc::O_RDWR);
    expect_errno(opened, libc::EROFS, "opening it for writing")?;
    let to = File::open(view.join("to"), libc::O_RDONLY).or_fail("open")?;
    expect_errno(clone_file(&source, &to), libc::EBADF, "a destination open for reading")?;
    // As a source it is fine, and it is one filesystem.
    let from = File::open(view.join("source"), libc::O_RDONLY).or_fail("open")?;
    let clone = new_clone(&from, t.path("clone"))?;
    clone.expect_contents(&blocks(44, 1), "a clone of a read-only file")
}

fn a_bad_pointer_is_efault(t: &Test) -> Outcome {
    let to = t.create("to")?;
    expect_errno(clone_range_raw(&to, 8 as *const u8), libc::EFAULT, "FICLONERANGE")
}

fn offsets_that_overflow_are_refused(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(45, 2))?;
    let to = t.create("to")?;
    let top = 1u64 << 63;
    for (from, len, at) in [
        (top, BLOCK64, 0),
        (0, BLOCK64, top),
        (0, top, 0),
        (top - BLOCK64, 2 * BLOCK64, 0),
        (0, 2 * BLOCK64, top - BLOCK64),
        (u64::MAX - 4095, BLOCK64, 0),
    ] {
        let cloned = clone_range(&source, from, len, &to, at);
        expect_errno(cloned, libc::EINVAL, format_args!("{len:#x} from {from:#x} to {at:#x}"))?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(46, 4))?;
    let to = t.create("to")?;
    limit_file_size(2 * BLOCK64)?;
    count_signals(libc::SIGXFSZ);
    let cloned = clone_file(&source, &to);
    expect_errno(cloned, libc::EINVAL, "a clone across the limit, which cannot be shortened")?;
    let cloned = clone_range(&source, 0, BLOCK64, &to, 2 * BLOCK64);
    expect_errno(cloned, libc::EFBIG, "a clone at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a clone at the limit")?;
    expect_eq(to.size()?, 0, "size of the destination")?;
    clone_range(&source, 0, 2 * BLOCK64, &to, 0).or_fail("a clone up to the limit")
}

fn the_times_of_the_destination_change(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(47, 2))?;
    let to = t.create("to")?;
    let old = timespec(1_000_000_000, 0);
    for path in [&source.path, &to.path] {
        set_times(path, [old, old]).or_fail("utimensat")?;
    }
    let before = (source.times()?, to.times()?);
    crate::sys::sleep_ms(20);
    clone_file(&source, &to).or_fail("FICLONE")?;
    let after = to.times()?;
    expect(after.modified > before.1.modified, "mtime of the destination is new")?;
    expect(after.changed > before.1.changed, "ctime of the destination is new")?;
    let source_after = source.times()?;
    expect_eq(source_after.modified, before.0.modified, "mtime of the source")?;
    expect_eq(source_after.changed, before.0.changed, "ctime of the source")
}

fn the_set_user_bit_of_the_destination_is_cleared(t: &Test) -> Outcome {
    crate::sys::chmod(&t.dir, 0o777).or_fail("chmod")?;
    t.create_with("source", &blocks(48, 1))?;
    crate::process::as_user(1000, 1000, || {
        let source = File::open(t.path("source"), libc::O_RDONLY).or_fail("open")?;
        let to = t.create("to")?;
        crate::sys::chmod(&to.path, 0o6755).or_fail("chmod")?;
        clone_file(&source, &to).or_fail("FICLONE")?;
        expect_eq(to.stat()?.st_mode & 0o7777, 0o755, "mode after a clone by its owner")
    })
}

fn a_clone_outlives_its_source(t: &Test) -> Outcome {
    let data = blocks(49, 70);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    drop(source);
    unlink(t.path("source")).or_fail("unlink")?;
    for i in 0..4 {
        t.create_with(&format!("other-{i}"), &blocks(50 + i, 70))?;
    }
    clone.expect_contents(&data, "the clone after its source went and blocks were reused")
}

fn an_unlinked_open_file_can_be_cloned(t: &Test) -> Outcome {
    let data = pattern(51, 10_000);
    let source = t.create_with("source", &data)?;
    unlink(&source.path).or_fail("unlink")?;
    let clone = new_clone(&source, t.path("clone"))?;
    drop(source);
    clone.expect_contents(&data, "a clone of an unlinked file")
}

fn a_chain_of_clones_keeps_every_version(t: &Test) -> Outcome {
    let mut random = Random::new(t.effort.seed);
    let mut model = blocks(52, 20);
    let mut newest = t.create_with("version-0", &model)?;
    let mut versions = Vec::new();
    for i in 1..=t.rounds(40) {
        let clone = new_clone(&newest, t.path(&format!("version-{i}")))?;
        versions.push((newest, model.clone()));
        let offset = random.below(19 * BLOCK);
        let len = 1 + random.below(BLOCK);
        let data = random.bytes(len);
        clone.write_at(&data, offset as u64)?;
        model[offset..offset + data.len()].copy_from_slice(&data);
        newest = clone;
    }
    versions.push((newest, model));
    for (i, (file, model)) in versions.iter().enumerate() {
        file.expect_contents(model, &format!("version {i}"))?;
    }
    // Drop every second one; the others stay.
    for (i, (file, _)) in versions.iter().enumerate().skip(1).step_by(2) {
        unlink(&file.path).or_fail(format_args!("unlink version {i}"))?;
        file.truncate(0)?;
    }
    for (i, (file, model)) in versions.iter().enumerate().step_by(2) {
        file.expect_contents(model, &format!("version {i} after others went"))?;
    }
    Ok(())
}

fn a_hundred_clones_of_one_file_are_independent(t: &Test) -> Outcome {
    let data = blocks(53, 8);
    let source = t.create_with("source", &data)?;
    let count = t.rounds(100);
    let clones = (0..count)
        .map(|i| {
            let clone = new_clone(&source, t.path(&format!("clone-{i}")))?;
            clone.write_at(&(i as u64).to_le_bytes(), (i % 8) as u64 * BLOCK64)?;
            Ok(clone)
        })
        .collect::<Outcome<Vec<_>>>()?;
    for (i, clone) in clones.iter().enumerate() {
        let mut model = data.clone();
        model[(i % 8) * BLOCK..][..8].copy_from_slice(&(i as u64).to_le_bytes());
        clone.expect_contents(&model, &format!("clone {i}"))?;
    }
    source.expect_contents(&data, "the source")
}

fn a_deep_and_sparse_file_is_cloned(t: &Test) -> Outcome {
    let source = t.create("source")?;
    let places: Vec<u64> = (12..43).step_by(3).map(|bit| 1u64 << bit).collect();
    for &at in &places {
        source.write_at(&at.to_le_bytes(), at)?;
    }
    let clone = new_clone(&source, t.path("clone"))?;
    let range = t.create("range")?;
    clone_range(&source, 0, 1 << 42, &range, 1 << 20).or_fail("FICLONERANGE of 4 TiB")?;
    for &at in &places {
        source.write_at(b"changed!", at)?;
        expect_eq(clone.read_at(at, 8)?, at.to_le_bytes(), format_args!("the clone at {at}"))?;
        if at < 1 << 42 {
            let seen = range.read_at(at + (1 << 20), 8)?;
            expect_eq(seen, at.to_le_bytes(), format_args!("the cloned range at {at}"))?;
        }
    }
    expect_eq(clone.size()?, source.size()?, "size of the clone")
}

fn ranges_share_across_every_alignment_of_subtrees(t: &Test) -> Outcome {
    // Sixty-four blocks make a subtree: ranges that start and end around its edges.
    let data = blocks(54, 200);
    let source = t.create_with("source", &data)?;
    for (from, len, at) in [
        (0usize, 64, 0usize),
        (64, 64, 64),
        (64, 64, 0),
        (63, 66, 63),
        (63, 66, 127),
        (1, 128, 65),
        (0, 200, 7),
        (10, 150, 74),
        (128, 72, 64),
    ] {
        let mut model = blocks(55, 100);
        let to = t.create_with("to", &model)?;
        clone_range(
            &source, from as u64 * BLOCK64, len as u64 * BLOCK64, &to, at as u64 * BLOCK64,
        )
        .or_fail("FICLONERANGE")?;
        let end = (at + len) * BLOCK;
        model.resize(model.len().max(end), 0);
        model[at * BLOCK..end].copy_from_slice(&data[from * BLOCK..(from + len) * BLOCK]);
        to.expect_contents(&model, &format!("{len} blocks from {from} to {at}"))?;
        expect_shared(&source, from, &to, at, len)?;
        to.write_at(b"own", (at * BLOCK) as u64)?;
        to.write_at(b"own", (end - BLOCK) as u64)?;
        source.expect_contents(&data, "the source after writes to both ends of the range")?;
        expect_nothing_shared_at(&source, from, &to, at)?;
    }
    Ok(())
}

fn expect_nothing_shared_at(source: &File, from: usize, to: &File, at: usize) -> Outcome {
    let (a, b) = (block_map(source)?, block_map(to)?);
    expect(
        a[from].physical() != b[at].physical(),
        format_args!("block {from} and its rewritten copy {at} are two blocks"),
    )
}

fn truncating_one_side_leaves_the_other(t: &Test) -> Outcome {
    let data = blocks(56, 130);
    for size in [0, 1, BLOCK64, 64 * BLOCK64, 100 * BLOCK64 + 7, 129 * BLOCK64 + 1] {
        let source = t.create_with("source", &data)?;
        let clone = new_clone(&source, t.path("clone"))?;
        source.truncate(size)?;
        clone.expect_contents(&data, &format!("the clone after the source was cut to {size}"))?;
        source.truncate(130 * BLOCK64)?;
        let mut model = data.clone();
        model[size as usize..].fill(0);
        source.expect_contents(&model, "the source, extended again")?;
        clone.expect_contents(&data, "the clone after that")?;
        unlink(&clone.path).or_fail("unlink")?;
    }
    Ok(())
}

fn space_is_freed_when_the_last_clone_goes(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let empty = fs.used()?;
    let source = fs.create_with("source", &blocks(57, 300))?;
    let clone = new_clone(&source, fs.path("clone"))?;
    clone.write_at(&blocks(58, 10), 0)?;
    expect_eq(fs.used()?, empty + 310, "blocks used by both")?;
    drop(source);
    unlink(fs.path("source")).or_fail("unlink")?;
    expect_eq(fs.used()?, empty + 300, "blocks used by the clone")?;
    clone.truncate(5 * BLOCK64)?;
    expect_eq(fs.used()?, empty + 5, "blocks used after truncation")?;
    drop(clone);
    unlink(fs.path("clone")).or_fail("unlink")?;
    expect_eq(fs.used()?, empty, "blocks used after both went")
}

fn random_histories_match_the_model(t: &Test) -> Outcome {
    let repertoire = Repertoire {
        reflink: true,
        mappings: true,
    };
    for (round, max_blocks) in [(0, 12), (1, 30), (2, 150)] {
        let seed = t.effort.seed + round;
        let mut history = History::new(&t.dir, seed, 4, max_blocks, repertoire)?;
        history.run(t.rounds(250))?;
    }
    Ok(())
}

fn random_histories_leave_no_space_behind(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M"), ("nr_inodes", "1000")])?;
    let before = fs.space()?;
    let repertoire = Repertoire {
        reflink: true,
        mappings: true,
    };
    for round in 0..4 {
        let seed = t.effort.seed + 100 + round;
        let mut history = History::new(&fs.root, seed, 4, 80, repertoire)?;
        history.run(t.rounds(150))?;
        drop(history);
        for i in 0..4 {
            unlink(fs.path(&format!("history-{i}"))).or_fail("unlink")?;
        }
        expect_eq(fs.space()?, before, format_args!("space after the history of seed {seed}"))?;
    }
    Ok(())
}

fn cp_reflink_always_works(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let data = pattern(59, 100_000);
    let source = t.create_with("source", &data)?;
    let to = t.path("to");
    let arguments = ["--reflink=always", &source.path.to_string_lossy(), &to.to_string_lossy()];
    let (end, said) = run_program("/bin/cp".as_ref(), &arguments)?;
    expect_eq(end, End::Exited(0), format_args!("cp --reflink=always: {said}"))?;
    let copy = File::open(&to, libc::O_RDONLY).or_fail("open")?;
    copy.expect_contents(&data, "cp --reflink=always")
}
