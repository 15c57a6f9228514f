// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Holes seen through mappings.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::Feature;
use crate::mapping::Mapping;
use crate::pattern::{BLOCK, BLOCK64};

pub const CASES: &[Case] = &[
    case!(a_store_into_a_hole_is_read),
    case!(a_hole_read_through_a_mapping_takes_no_block).needs(&[Feature::Reflinkfs]),
    case!(a_hole_read_through_a_mapping_shows_a_later_write),
    case!(a_hole_read_through_a_mapping_takes_a_later_store),
    case!(a_hole_read_in_two_mappings_shows_a_store_through_one),
    case!(a_store_into_a_hole_takes_one_block).needs(&[Feature::Instance]),
    case!(zeros_of_a_hole_are_not_shared_with_other_files),
];

fn a_store_into_a_hole_is_read(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(2 * BLOCK + 9, b"stored");
    let mut model = vec![0; 4 * BLOCK];
    model[2 * BLOCK + 9..][..6].copy_from_slice(b"stored");
    let data = file.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
    expect_eq(data, 2 * BLOCK64, "SEEK_DATA")?;
    file.expect_contents(&model, "after a store into a hole")?;
    expect_bytes(&map.load_all(), &model, "the mapping")
}

fn a_hole_read_through_a_mapping_takes_no_block(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(100 * BLOCK64)?;
    let map = Mapping::shared(&file, 100 * BLOCK)?;
    expect(map.load_all().iter().all(|&b| b == 0), "the hole is zeros")?;
    expect_eq(
        file.data_blocks()?,
        0,
        "blocks after reading a hole through a mapping",
    )
}

fn a_hole_read_through_a_mapping_shows_a_later_write(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let reader = Mapping::shared_read(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    for map in [&shared, &reader, &private] {
        expect(map.load_all().iter().all(|&b| b == 0), "the hole is zeros")?;
    }
    file.write_at(b"written", BLOCK64 + 1)?;
    for map in [&shared, &reader, &private] {
        expect_bytes(
            &map.load(BLOCK, 9),
            b"\0written\0",
            "the mapping after the write",
        )?;
        expect(
            map.load(2 * BLOCK, BLOCK).iter().all(|&b| b == 0),
            "the neighbouring hole",
        )?;
    }
    Ok(())
}

fn a_hole_read_through_a_mapping_takes_a_later_store(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    expect_eq(map.load_byte(100), 0, "the hole")?;
    map.store(100, b"stored");
    expect_bytes(&map.load(100, 6), b"stored", "the mapping")?;
    expect_bytes(&file.read_at(100, 6)?, b"stored", "the file")
}

fn a_hole_read_in_two_mappings_shows_a_store_through_one(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let (one, other) = (
        Mapping::shared(&file, 2 * BLOCK)?,
        Mapping::shared_read(&file, 2 * BLOCK)?,
    );
    let private = Mapping::private(&file, 2 * BLOCK)?;
    expect_eq(
        (one.load_byte(0), other.load_byte(0), private.load_byte(0)),
        (0, 0, 0),
        "the hole",
    )?;
    one.store(0, b"s");
    expect_eq(other.load_byte(0), b's', "the other mapping")?;
    expect_eq(
        private.load_byte(0),
        b's',
        "the private mapping, not yet stored to",
    )
}

fn a_store_into_a_hole_takes_one_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create("file")?;
    file.truncate(64 * BLOCK64)?;
    let map = Mapping::shared(&file, 64 * BLOCK)?;
    let before = fs.used()?;
    map.store(10 * BLOCK, b"x");
    map.store(10 * BLOCK + 100, b"y");
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after stores to one page of a hole",
    )?;
    map.store(20 * BLOCK, b"z");
    expect_eq(
        fs.used()?,
        before + 2,
        "blocks used after a store to another page",
    )
}

fn zeros_of_a_hole_are_not_shared_with_other_files(t: &Test) -> Outcome {
    let (one, other) = (t.create("one")?, t.create("other")?);
    for file in [&one, &other] {
        file.truncate(BLOCK64)?;
    }
    let (map, other_map) = (
        Mapping::shared(&one, BLOCK)?,
        Mapping::shared(&other, BLOCK)?,
    );
    let private = Mapping::private(&other, BLOCK)?;
    expect_eq(
        (
            map.load_byte(0),
            other_map.load_byte(0),
            private.load_byte(0),
        ),
        (0, 0, 0),
        "holes",
    )?;
    map.store(0, b"one");
    private.store(0, b"private");
    expect_bytes(&other_map.load(0, 8), &[0; 8], "the hole of the other file")?;
    expect_bytes(&one.read_at(0, 4)?, b"one\0", "the first file")?;
    other.expect_contents(&[0; BLOCK], "the other file")
}
