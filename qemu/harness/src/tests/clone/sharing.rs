// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The blocks that a clone shares, and the blocks that writes to either file take.

use crate::case::{case, Case, Test};
use crate::extents::{expect_letters, expect_shared};
use crate::failure::{expect_eq, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, CLONES, CLONES_COUNTED, CLONES_SHOWN, WHOLE_EXTENTS};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, new_clone, unlink};

pub const CASES: &[Case] = &[
    case!(a_clone_shares_every_block).needs(CLONES_SHOWN),
    case!(a_clone_costs_no_space).needs(CLONES_COUNTED),
    case!(st_blocks_of_a_clone_is_right_at_once).needs(&[Feature::Reflink, Feature::ExactBlocks]),
    case!(writes_to_either_side_stay_there).needs(CLONES),
    case!(a_write_makes_only_its_blocks_private)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(a_write_to_a_clone_takes_one_block).needs(CLONES_COUNTED),
    case!(the_last_owner_writes_in_place).needs(CLONES_COUNTED),
    case!(truncating_one_side_leaves_the_other).needs(CLONES),
    case!(space_is_freed_when_the_last_clone_goes).needs(CLONES_COUNTED),
];

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
    expect_eq(
        after.available,
        before.available,
        "available blocks after ten clones",
    )
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
    expect_eq(
        range.data_blocks()?,
        80,
        "blocks after an overlapping range",
    )?;
    let sparse = t.create("sparse")?;
    sparse.truncate(100 * BLOCK64)?;
    clone_range(&sparse, 0, 50 * BLOCK64, &range, 0).or_fail("FICLONERANGE of a hole")?;
    expect_eq(
        range.data_blocks()?,
        40,
        "blocks after a hole was cloned over 40 of them",
    )
}

fn writes_to_either_side_stay_there(t: &Test) -> Outcome {
    let data = blocks(5, 8);
    for (offset, len) in [
        (0, 1),
        (4095, 2),
        (BLOCK, BLOCK),
        (100, 5 * BLOCK),
        (8 * BLOCK - 1, 2),
    ] {
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
    // Disk filesystems end the sharing at write-back.
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
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after one byte was written",
    )?;
    clone.write_at(b"y", 100 * BLOCK64 + 1)?;
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after a second byte in that block",
    )?;
    clone.write_at(b"z", 101 * BLOCK64 - 1)?;
    source.write_at(b"s", 100 * BLOCK64 + 2)?;
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after a write to the source's own block",
    )?;
    source.write_at(&blocks(9, 2), 150 * BLOCK64)?;
    expect_eq(
        fs.used()?,
        before + 3,
        "blocks used after two more were written",
    )
}

fn the_last_owner_writes_in_place(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let source = fs.create_with("source", &blocks(10, 150))?;
    let clone = new_clone(&source, fs.path("clone"))?;
    drop(source);
    unlink(fs.path("source")).or_fail("unlink")?;
    let before = fs.used()?;
    clone.write_at(&blocks(11, 150), 0)?;
    expect_eq(
        fs.used()?,
        before,
        "blocks used after the only owner wrote all blocks",
    )?;
    clone.expect_contents(&blocks(11, 150), "the clone")
}

fn truncating_one_side_leaves_the_other(t: &Test) -> Outcome {
    let data = blocks(56, 130);
    for size in [
        0,
        1,
        BLOCK64,
        64 * BLOCK64,
        100 * BLOCK64 + 7,
        129 * BLOCK64 + 1,
    ] {
        let source = t.create_with("source", &data)?;
        let clone = new_clone(&source, t.path("clone"))?;
        source.truncate(size)?;
        clone.expect_contents(
            &data,
            &format!("the clone after the source was cut to {size}"),
        )?;
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
