// SPDX-License-Identifier: GPL-2.0 OR MIT
//! FICLONERANGE: ranges of the source, and their place in the destination.

use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_letters, expect_shared};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, CLONES, CLONES_SHOWN, WHOLE_EXTENTS};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, new_clone, File};

pub const CASES: &[Case] = &[
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
    case!(ranges_share_across_every_alignment_of_subtrees).needs(CLONES_SHOWN),
];

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
        to.expect_contents(
            &data[offset as usize..],
            &format!("from block {from} to the end"),
        )?;
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
    for (offset, len) in [
        (0, 4 * BLOCK64),
        (BLOCK64, 3 * BLOCK64),
        (3 * BLOCK64, BLOCK64),
        (0, 3 * BLOCK64),
    ] {
        let cloned = clone_range(&source, offset, len, &to, 0);
        expect_errno(
            cloned,
            libc::EINVAL,
            format_args!("{len} bytes from {offset}"),
        )?;
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
        expect_errno(
            cloned,
            libc::EINVAL,
            format_args!("{len} bytes from {from} to {at}"),
        )?;
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
        expect_errno(
            cloned,
            libc::EINVAL,
            format_args!("a partial block at {at} of 4 blocks"),
        )?;
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
    // The source was longer once; neither file may show the old bytes again.
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
    // A write that extends one file must not show in the other.
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
            let cloned = clone_range(&file, from * BLOCK64, len * BLOCK64, other, to * BLOCK64);
            expect_errno(
                cloned,
                libc::EINVAL,
                format_args!("{len} blocks from {from} to {to}"),
            )?;
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
    expect_eq(
        ranges,
        [(0, BLOCK64), (10 * BLOCK64, 12 * BLOCK64)],
        "its data",
    )?;
    // Old bytes behind the former end stay hidden.
    let to = t.create_with("old", &vec![0xee; BLOCK])?;
    to.truncate(5)?;
    clone_range(&source, 0, BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(to.read_at(5, 3)?, [0, 0, 0], "bytes behind the former end")
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
            &source,
            from as u64 * BLOCK64,
            len as u64 * BLOCK64,
            &to,
            at as u64 * BLOCK64,
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
