// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The blocks that copy_file_range(2) shares, and those that it copies.

use crate::case::{case, Case, Test};
use crate::extents::{block_map, expect_letters, expect_nothing_shared, expect_shared, Block};
use crate::failure::{expect, expect_bytes, expect_eq, Outcome};
use crate::filesystem::{Feature, Tmpfs};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::copy_loop;

pub const CASES: &[Case] = &[
    case!(whole_blocks_are_shared_when_aligned).needs(&[Feature::Reflink, Feature::Fiemap]),
    case!(only_ragged_ends_are_copied_when_congruent).needs(&[
        Feature::Reflink,
        Feature::Fiemap,
        Feature::RaggedSharing,
    ]),
    case!(a_ragged_end_inside_the_source_is_copied).needs(&[
        Feature::Reflink,
        Feature::Fiemap,
        Feature::RaggedSharing,
    ]),
    case!(nothing_is_shared_when_offsets_are_not_congruent)
        .needs(&[Feature::Reflink, Feature::Fiemap]),
    case!(sharing_costs_no_space).needs(&[Feature::Reflink, Feature::Instance]),
    case!(holes_stay_holes).except(Tmpfs, "copies holes as zeros"),
    case!(holes_replace_data_in_the_destination),
];

fn whole_blocks_are_shared_when_aligned(t: &Test) -> Outcome {
    let data = pattern(16, 8 * BLOCK + 500);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    expect_eq(
        copy_loop(&source, 0, &to, 0, data.len())?,
        data.len(),
        "bytes copied",
    )?;
    to.expect_contents(&data, "the copy")?;
    expect_shared(&source, 0, &to, 0, 8)?;
    let to = t.create_with("other", &blocks(1, 2))?;
    copy_loop(&source, 2 * BLOCK64, &to, BLOCK64, 4 * BLOCK)?;
    expect_shared(&source, 2, &to, 1, 4)?;
    expect(
        matches!(block_map(&to)?[0], Block::Private(_)),
        "the block before is its own",
    )
}

fn only_ragged_ends_are_copied_when_congruent(t: &Test) -> Outcome {
    let data = blocks(17, 8);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    // From inside block 1 to inside block 6, to the same place one block further on.
    let (off_in, off_out, len) = (BLOCK + 100, 2 * BLOCK + 100, 5 * BLOCK);
    copy_loop(&source, off_in as u64, &to, off_out as u64, len)?;
    expect_bytes(
        &to.read_at(off_out as u64, len)?,
        &data[off_in..off_in + len],
        "the copy",
    )?;
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
        expect_bytes(
            &to.read_at(off_out as u64, len)?,
            &data[off_in..off_in + len],
            "the copy",
        )?;
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
    expect_eq(
        fs.used()?,
        before + 2,
        "blocks used after a congruent copy with ragged ends",
    )?;
    copy_loop(&source, 0, &to, 400 * BLOCK64 + 1, 10 * BLOCK)?;
    expect_eq(
        fs.used()?,
        before + 2 + 11,
        "blocks used after a copy that cannot share",
    )
}

fn holes_stay_holes(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(64 * BLOCK64)?;
    source.write_at(&blocks(22, 1), 10 * BLOCK64)?;
    source.write_at(&blocks(23, 2), 40 * BLOCK64)?;
    let to = t.create("to")?;
    expect_eq(
        copy_loop(&source, 0, &to, 0, 64 * BLOCK)?,
        64 * BLOCK,
        "bytes copied",
    )?;
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
        to.expect_contents(
            &model,
            &format!("holes copied onto data, {len} bytes at {off}"),
        )?;
    }
    Ok(())
}
