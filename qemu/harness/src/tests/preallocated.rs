// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Blocks that fallocate(2) allocated and that were never written: they count as a hole for
//! SEEK_DATA.

use crate::case::{case, Case, Test};
use crate::extents::extents;
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Btrfs, Feature, Tmpfs, Xfs, CLONES, CLONES_COUNTED};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_range, new_clone, File};

use super::fallocate::fallocate;

pub const CASES: &[Case] = &[
    case!(allocated_room_is_no_data),
    case!(room_behind_the_end_is_no_data_when_the_file_has_grown)
        .except(Tmpfs, "takes room behind the end for data"),
    case!(a_zeroed_range_is_no_data).except(Tmpfs, "has no FALLOC_FL_ZERO_RANGE"),
    case!(what_is_written_is_data).except(Tmpfs, NO_EXTENTS),
    case!(what_is_stored_is_data).except(Xfs, "takes a large folio for stored to as a whole"),
    case!(what_is_read_is_no_data),
    case!(a_clone_of_room_is_no_data_until_it_is_written)
        .needs(CLONES)
        .except(Btrfs, "takes cloned room behind data for data"),
    case!(extents_show_what_is_unwritten).except(Tmpfs, NO_EXTENTS),
    case!(seeks_over_room_without_end_are_right).needs(&[Feature::Reflinkfs]),
    case!(seeks_over_data_with_some_room_are_right).needs(&[Feature::Reflinkfs]),
    case!(a_failed_write_leaves_nothing_in_the_room_behind_the_end).needs(CLONES_COUNTED),
];

const NO_EXTENTS: &str = "has no FIEMAP";
const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
const UNSHARE: i32 = libc::FALLOC_FL_UNSHARE_RANGE;

/// Creates a file with so many allocated blocks and no data.
fn room(t: &Test, name: &str, blocks: u64) -> Outcome<File> {
    let file = t.create(name)?;
    fallocate(&file, 0, 0, blocks * BLOCK64).or_fail("fallocate")?;
    Ok(file)
}

#[track_caller]
fn expect_data(file: &File, wanted: &[(u64, u64)], what: &str) -> Outcome {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(from, to)| (from * BLOCK64, to * BLOCK64))
        .collect();
    expect_eq(file.data_ranges()?, wanted, what)
}

fn allocated_room_is_no_data(t: &Test) -> Outcome {
    let file = room(t, "file", 200)?;
    expect_errno(file.seek(0, libc::SEEK_DATA), libc::ENXIO, "SEEK_DATA")?;
    expect_eq(
        file.seek(0, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?,
        0,
        "SEEK_HOLE",
    )?;
    let file = t.create_with("some", &blocks(1, 3))?;
    fallocate(&file, 0, BLOCK64, 100 * BLOCK64).or_fail("fallocate over data")?;
    expect_data(&file, &[(0, 3)], "data, with room behind it")
}

fn room_behind_the_end_is_no_data_when_the_file_has_grown(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 3))?;
    fallocate(&file, KEEP_SIZE, 50 * BLOCK64, 100 * BLOCK64).or_fail("KEEP_SIZE")?;
    expect_data(&file, &[(0, 3)], "data, with room behind the end")?;
    file.truncate(140 * BLOCK64)?;
    expect_data(&file, &[(0, 3)], "data, when the file has grown")
}

fn a_zeroed_range_is_no_data(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 100))?;
    fallocate(&file, ZERO, 10 * BLOCK64, 70 * BLOCK64).or_fail("ZERO_RANGE")?;
    file.sync()?;
    expect_data(&file, &[(0, 10), (80, 100)], "data around a zeroed range")
}

fn what_is_written_is_data(t: &Test) -> Outcome {
    let file = room(t, "file", 100)?;
    let first = extents(&file)?;
    file.write_at(b"x", 20 * BLOCK64 + 7)?;
    file.write_at(&blocks(1, 10), 60 * BLOCK64)?;
    file.sync()?;
    expect_data(&file, &[(20, 21), (60, 70)], "the written range")?;
    if t.is_reflinkfs() {
        let starts = |list: &[crate::extents::FiemapExtent]| list.first().map(|e| e.physical);
        expect_eq(
            starts(&extents(&file)?),
            starts(&first),
            "the allocated blocks",
        )?;
        expect_eq(file.data_blocks()?, 100, "blocks of the file")?;
    }
    fallocate(&file, 0, 0, 100 * BLOCK64).or_fail("fallocate again")?;
    expect_data(&file, &[(20, 21), (60, 70)], "after a second fallocate")?;
    file.write_at(&vec![0; 100 * BLOCK], 0)?;
    file.sync()?;
    expect_data(&file, &[(0, 100)], "zeros that were written")
}

fn what_is_stored_is_data(t: &Test) -> Outcome {
    let file = room(t, "file", 50)?;
    let map = Mapping::shared(&file, 50 * BLOCK)?;
    map.store(30 * BLOCK + 5, b"x");
    let found = file.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
    expect_eq(found, 30 * BLOCK64, "where the data is")?;
    file.sync()?;
    let found = file.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
    expect_eq(found, 30 * BLOCK64, "where the data is, after fsync")
}

fn what_is_read_is_no_data(t: &Test) -> Outcome {
    let file = room(t, "file", 10)?;
    file.expect_contents(&[0; 10 * BLOCK], "room")?;
    if !t.is_reflinkfs() {
        // Reads fill the page cache, and some filesystems check it.
        return Ok(());
    }
    let map = Mapping::shared_read(&file, 10 * BLOCK)?;
    expect(map.load_all().iter().all(|&b| b == 0), "room, mapped")?;
    expect_errno(file.seek(0, libc::SEEK_DATA), libc::ENXIO, "SEEK_DATA")
}

fn a_clone_of_room_is_no_data_until_it_is_written(t: &Test) -> Outcome {
    let file = room(t, "file", 100)?;
    file.write_at(&blocks(1, 5), 40 * BLOCK64)?;
    file.sync()?;
    let clone = new_clone(&file, t.path("clone"))?;
    expect_data(&clone, &[(40, 45)], "data of the clone")?;
    clone.write_at(b"x", 10 * BLOCK64)?;
    clone.sync()?;
    expect_data(
        &clone,
        &[(10, 11), (40, 45)],
        "data of the clone, written to",
    )?;
    expect_data(&file, &[(40, 45)], "data of the source")?;
    file.expect_contents(&clone_free_of_x(&clone)?, "the source")?;
    let part = t.create("part")?;
    clone_range(&file, 35 * BLOCK64, 30 * BLOCK64, &part, 3 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_data(&part, &[(8, 13)], "data of a part")?;
    if t.is_reflinkfs() {
        // XFS writes the blocks that it unshares.
        fallocate(&clone, UNSHARE, 0, 100 * BLOCK64).or_fail("UNSHARE_RANGE")?;
        expect_data(&clone, &[(10, 11), (40, 45)], "data after unsharing")?;
    }
    Ok(())
}

fn clone_free_of_x(clone: &File) -> Outcome<Vec<u8>> {
    let mut bytes = clone.contents()?;
    bytes[10 * BLOCK] = 0;
    Ok(bytes)
}

fn extents_show_what_is_unwritten(t: &Test) -> Outcome {
    let file = room(t, "file", 64)?;
    file.write_at(&blocks(1, 4), 16 * BLOCK64)?;
    let mut unwritten = [false; 64];
    for extent in extents(&file)? {
        for block in extent.logical / BLOCK64..extent.end().min(64 * BLOCK64) / BLOCK64 {
            unwritten[block as usize] = extent.unwritten();
        }
    }
    let wanted: [bool; 64] = std::array::from_fn(|i| !(16..20).contains(&i));
    expect_eq(unwritten, wanted, "which blocks are unwritten")
}

/// Makes a file as long as `size`, by cloning its contents behind itself.
fn double(file: &File, size: u64) -> Outcome {
    let mut len = file.size()?;
    while len < size {
        clone_range(file, 0, len, file, len).or_fail("FICLONERANGE onto itself")?;
        len *= 2;
    }
    expect_eq(file.size()?, size, "size")
}

/// Sizes of files, as powers of two, made of a few blocks: a walk of each block would take years.
const SIZES: [u32; 4] = [38, 45, 53, 62];

fn seeks_over_room_without_end_are_right(t: &Test) -> Outcome {
    for exponent in SIZES {
        let file = room(t, "file", 1)?;
        double(&file, 1 << exponent)?;
        expect_data(&file, &[], "room")?;
        // At the end of a leaf, in the middle of the file, in the last block.
        let middle = (1 << (exponent - 1)) / BLOCK64;
        let data = [
            (63, 64),
            (middle + 7, middle + 9),
            (2 * middle - 1, 2 * middle),
        ];
        for (from, to) in data {
            let bytes = vec![b'd'; ((to - from) * BLOCK64) as usize];
            file.write_at(&bytes, from * BLOCK64)?;
        }
        expect_data(&file, &data, "room with some data")?;
        let clone = new_clone(&file, t.path("clone"))?;
        clone.write_at(b"x", (middle + 3) * BLOCK64)?;
        let in_clone = [data[0], (middle + 3, middle + 4), data[1], data[2]];
        expect_data(&clone, &in_clone, "the clone")?;
        expect_data(&file, &data, "the source")?;
        fallocate(&file, ZERO, data[1].0 * BLOCK64, 2 * BLOCK64).or_fail("ZERO_RANGE")?;
        expect_data(&file, &[data[0], data[2]], "room where data was zeroed")?;
    }
    Ok(())
}

fn seeks_over_data_with_some_room_are_right(t: &Test) -> Outcome {
    for exponent in SIZES {
        let file = t.create_with("file", &blocks(1, 1))?;
        double(&file, 1 << exponent)?;
        let end = (1 << exponent) / BLOCK64;
        expect_data(&file, &[(0, end)], "data")?;
        let at = end / 2 + 70;
        fallocate(&file, ZERO, at * BLOCK64, 3 * BLOCK64).or_fail("ZERO_RANGE")?;
        expect_data(&file, &[(0, at), (at + 3, end)], "data with some room")?;
        file.write_at(b"x", (at + 1) * BLOCK64)?;
        let data = [(0, at), (at + 1, at + 2), (at + 3, end)];
        expect_data(&file, &data, "room that was written to")?;
        // The allocated blocks are gone.
        file.write_at(&[b'w'; 3 * BLOCK], at * BLOCK64)?;
        expect_data(&file, &[(0, end)], "data again")?;
    }
    Ok(())
}

/// Some of the write goes to allocated blocks, in place, and some needs blocks that there are none
/// of.
fn a_failed_write_leaves_nothing_in_the_room_behind_the_end(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create("file")?;
    fallocate(&file, KEEP_SIZE, 64 * BLOCK64, BLOCK64).or_fail("fallocate")?;
    // Each of these takes a node of a tree and no block, until there is no room for nodes.
    let one = fs.create_with("one", &[b'o'; BLOCK])?;
    let many = fs.create("many")?;
    let mut shared = 0;
    let refused = loop {
        let at = (2 * shared + 1) * 64 * BLOCK64;
        match clone_range(&one, 0, BLOCK64, &many, at) {
            Ok(()) => shared += 1,
            refused => break refused,
        }
        expect(shared < 100_000, "nodes have a limit")?;
    };
    expect_errno(refused, libc::ENOSPC, "FICLONERANGE")?;
    // A clone takes more than one for a moment: the last ones go to files of two blocks.
    let refused = (0..10).find_map(|i| {
        let other = fs.create(&format!("other{i}")).ok()?;
        other.try_pwrite(b"x", BLOCK64).err()
    });
    expect_eq(
        refused,
        Some(Errno(libc::ENOSPC)),
        "the last nodes are taken",
    )?;
    let refused = file
        .try_pwrite(&[b'w'; 2 * BLOCK], 63 * BLOCK64)
        .map(|_| ());
    expect_errno(refused, libc::ENOSPC, "a write that needs a node")?;
    expect_eq(file.size()?, 0, "size")?;
    file.truncate(66 * BLOCK64)?;
    file.expect_contents(&[0; 66 * BLOCK], "the file, when it has grown")
}
