// SPDX-License-Identifier: GPL-2.0 OR MIT
//! fallocate(2): allocating, freeing, zeroing, and unsharing ranges.

use std::os::fd::AsRawFd;

use crate::case::{case, worker, Case, Test};
use crate::extents::extents;
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Btrfs, Feature, Tmpfs, CLONES, CLONES_COUNTED, CLONES_SHOWN, INSTANCE};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::sys::{check, new_clone, File};

const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
pub const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
const UNSHARE: i32 = libc::FALLOC_FL_UNSHARE_RANGE;

const NO_ZERO: &str = "has no FALLOC_FL_ZERO_RANGE";
const NO_UNSHARE: &str = "has no FALLOC_FL_UNSHARE_RANGE";

pub const CASES: &[Case] = &[
    case!(allocated_room_reads_as_zeros_and_grows_the_file),
    case!(keep_size_keeps_the_size),
    case!(allocation_leaves_data_alone),
    case!(allocated_room_can_be_written_when_full).needs(INSTANCE),
    case!(allocation_beyond_the_room_is_enospc_and_takes_none).needs(INSTANCE),
    case!(allocation_counts_blocks_and_removal_gives_them_back).needs(INSTANCE),
    case!(room_behind_the_end_goes_with_truncation).needs(INSTANCE),
    case!(room_behind_the_end_reads_as_zeros_once_the_file_grows)
        .except(Tmpfs, "shows bytes stored behind the end"),
    case!(a_punched_hole_reads_as_zeros_and_the_rest_stays),
    case!(punching_gives_whole_blocks_back).needs(&[Feature::ExactBlocks]),
    case!(punching_works_on_a_full_filesystem).needs(CLONES_COUNTED),
    case!(punching_parts_of_shared_blocks_takes_room).needs(CLONES_COUNTED),
    case!(a_clone_leaves_the_room_behind_the_end_to_the_source).needs(CLONES_COUNTED),
    case!(punching_a_shared_block_keeps_the_other_file).needs(CLONES),
    case!(punching_behind_the_end_changes_nothing),
    case!(a_mapping_sees_a_punched_hole),
    case!(a_private_copy_survives_a_punch),
    case!(a_zeroed_range_reads_as_zeros_and_has_room).except(Tmpfs, NO_ZERO),
    case!(a_zeroed_range_can_grow_the_file).except(Tmpfs, NO_ZERO),
    case!(unsharing_makes_every_block_private_and_keeps_the_bytes)
        .needs(CLONES_SHOWN)
        .except(Btrfs, NO_UNSHARE),
    case!(unsharing_counts_what_it_takes).needs(CLONES_COUNTED),
    case!(unsharing_without_room_is_enospc_and_keeps_both_files).needs(CLONES_COUNTED),
    case!(what_makes_no_sense_is_refused),
    case!(random_calls_agree_with_a_model).except(Tmpfs, NO_ZERO),
    case!(stores_and_punches_race_without_resurrecting_bytes),
];

pub fn fallocate(file: &File, mode: i32, offset: u64, len: u64) -> Sys {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) }).map(|_| ())
}

#[track_caller]
pub fn apply(file: &File, mode: i32, offset: u64, len: u64) -> Outcome {
    fallocate(file, mode, offset, len)
        .or_fail(format_args!("fallocate({mode:#x}, {offset}, {len})"))
}

fn allocated_room_reads_as_zeros_and_grows_the_file(t: &Test) -> Outcome {
    let file = t.create("file")?;
    apply(&file, 0, 5000, 20_000)?;
    expect_eq(file.size()?, 25_000, "size")?;
    file.expect_contents(&[0; 25_000], "after allocation")
}

fn keep_size_keeps_the_size(t: &Test) -> Outcome {
    let file = t.create_with("file", b"abc")?;
    apply(&file, KEEP_SIZE, 0, 100_000)?;
    expect_eq(file.size()?, 3, "size")?;
    file.expect_contents(b"abc", "after allocation")
}

fn allocation_leaves_data_alone(t: &Test) -> Outcome {
    let data = pattern(1, 3 * BLOCK + 77);
    let file = t.create_with("file", &data)?;
    file.write_at(b"far", 10 * BLOCK64)?;
    let mut model = data;
    model.resize(10 * BLOCK, 0);
    model.extend(b"far");
    apply(&file, 0, 100, 9 * BLOCK64)?;
    file.expect_contents(&model, "after allocation over data and holes")
}

fn allocated_room_can_be_written_when_full(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create("file")?;
    apply(&file, 0, 0, 8 * BLOCK64)?;
    fs.fill(0)?;
    let data = blocks(1, 8);
    file.write_at(&data, 0)?;
    file.expect_contents(&data, "written into allocated room")
}

fn allocation_beyond_the_room_is_enospc_and_takes_none(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    let before = fs.used()?;
    for len in [(1 << 20) + 1, 1 << 40, 1 << 60] {
        expect_errno(
            fallocate(&file, 0, BLOCK64, len),
            libc::ENOSPC,
            format_args!("{len} bytes"),
        )?;
        expect_eq(fs.used()?, before, "blocks used after a refusal")?;
    }
    file.expect_contents(b"data", "after refusals")
}

fn allocation_counts_blocks_and_removal_gives_them_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let before = fs.used()?;
    let file = fs.create_with("file", &blocks(1, 2))?;
    apply(&file, 0, BLOCK64, 100 * BLOCK64)?;
    expect_eq(fs.used()?, before + 101, "blocks used")?;
    expect_eq(file.data_blocks()?, 101, "st_blocks")?;
    apply(&file, 0, 0, 101 * BLOCK64)?;
    expect_eq(
        fs.used()?,
        before + 101,
        "blocks used after allocating existing blocks",
    )?;
    drop(file);
    crate::sys::unlink(fs.path("file")).or_fail("unlink")?;
    expect_eq(fs.used()?, before, "blocks used after removal")
}

fn room_behind_the_end_goes_with_truncation(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let before = fs.used()?;
    let file = fs.create_with("file", &blocks(1, 4))?;
    apply(&file, KEEP_SIZE, 4 * BLOCK64, 10 * BLOCK64)?;
    expect_eq(
        fs.used()?,
        before + 14,
        "blocks used with room behind the end",
    )?;
    file.truncate(2 * BLOCK64)?;
    expect_eq(fs.used()?, before + 2, "blocks used after truncation")
}

fn room_behind_the_end_reads_as_zeros_once_the_file_grows(t: &Test) -> Outcome {
    let file = t.create_with("file", b"x")?;
    apply(&file, KEEP_SIZE, 0, 5 * BLOCK64)?;
    let mapping = Mapping::shared(&file, BLOCK)?;
    // Beyond the end, where stores are possible, but must not show.
    mapping.store(100, b"hidden");
    file.truncate(3 * BLOCK64)?;
    let mut model = vec![0; 3 * BLOCK];
    model[0] = b'x';
    file.expect_contents(&model, "after growing")?;
    mapping.store(200, b"shown");
    model[200..205].copy_from_slice(b"shown");
    apply(&file, 0, 0, 6 * BLOCK64)?;
    model.resize(6 * BLOCK, 0);
    file.expect_contents(&model, "after growing by fallocate")
}

fn a_punched_hole_reads_as_zeros_and_the_rest_stays(t: &Test) -> Outcome {
    let whole = pattern(1, 5 * BLOCK + 99);
    for (offset, len) in [
        (0, 1),
        (0, BLOCK),
        (10, 20),
        (BLOCK - 1, 2),
        (1, 4 * BLOCK),
        (BLOCK, 2 * BLOCK),
        (BLOCK + 7, 3 * BLOCK),
        (5 * BLOCK, 1000),
        (0, 100 * BLOCK),
    ] {
        let file = t.create_with("file", &whole)?;
        apply(&file, PUNCH, offset as u64, len as u64)?;
        let mut model = whole.clone();
        let end = (offset + len).min(model.len());
        model[offset..end].fill(0);
        file.expect_contents(&model, &format!("after a hole of {len} at {offset}"))?;
    }
    Ok(())
}

fn punching_gives_whole_blocks_back(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 100))?;
    apply(&file, PUNCH, 10 * BLOCK64 + 1, 50 * BLOCK64)?;
    expect_eq(
        file.data_blocks()?,
        51,
        "blocks after 49 whole ones were punched",
    )?;
    expect_eq(
        file.data_ranges()?,
        vec![(0, 11 * BLOCK64), (60 * BLOCK64, 100 * BLOCK64)],
        "data",
    )
}

fn punching_works_on_a_full_filesystem(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", &blocks(1, 10))?;
    new_clone(&file, fs.path("clone"))?;
    fs.fill(0)?;
    let used = fs.used()?;
    apply(&file, PUNCH, 2 * BLOCK64, 3 * BLOCK64)?;
    expect_eq(fs.used()?, used, "blocks used: the clone still has them")?;
    crate::sys::unlink(fs.path("clone")).or_fail("unlink")?;
    expect_eq(fs.used()?, used - 3, "blocks used without the clone")?;
    apply(&file, PUNCH, 7 * BLOCK64, BLOCK64)?;
    expect_eq(fs.used()?, used - 4, "blocks used after another hole")
}

fn punching_parts_of_shared_blocks_takes_room(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "1000")])?;
    let data = blocks(1, 1);
    let file = fs.create_with("file", &data)?;
    let clones = (0..10).map(|i| new_clone(&file, fs.path(&format!("clone-{i}"))));
    let clones = clones.collect::<Outcome<Vec<_>>>()?;
    fs.fill(3)?;
    for (i, clone) in clones.iter().enumerate() {
        let punched = fallocate(clone, PUNCH, 100, 1);
        if i < 3 {
            punched.or_fail(format_args!("hole {i}, with room"))?;
        } else {
            expect_errno(punched, libc::ENOSPC, format_args!("hole {i}, without"))?;
            clone.expect_contents(&data, "after a refusal")?;
        }
    }
    expect_eq(fs.space()?.free, 0, "free blocks")
}

fn a_clone_leaves_the_room_behind_the_end_to_the_source(t: &Test) -> Outcome {
    // Of the larger file a clone takes more than its range at first.
    for len in [1, 1100] {
        let fs = t.mount_at(&format!("fs-{len}"), &[("size", "8M")])?;
        let file = fs.create_with("file", &blocks(1, len))?;
        let end = file.size()?;
        apply(&file, KEEP_SIZE, 0, end + 9 * BLOCK64)?;
        let clone = new_clone(&file, fs.path("clone"))?;
        expect_eq(clone.data_blocks()?, len as u64, "blocks of the clone")?;
        fs.fill(0)?;
        let data = blocks(2, 9);
        file.write_at(&data, end)?;
        expect(
            file.read_at(end, 9 * BLOCK)? == data,
            "written into the room",
        )?;
        clone.expect_contents(&blocks(1, len), "the clone")?;
    }
    Ok(())
}

fn punching_a_shared_block_keeps_the_other_file(t: &Test) -> Outcome {
    let data = blocks(1, 200);
    for (offset, len) in [
        (100, 50),
        (0, BLOCK),
        (BLOCK - 5, 150 * BLOCK),
        (64 * BLOCK, 64 * BLOCK),
    ] {
        let file = t.create_with("file", &data)?;
        let clone = new_clone(&file, t.path("clone"))?;
        apply(&file, PUNCH, offset as u64, len as u64)?;
        let mut model = data.clone();
        model[offset..offset + len].fill(0);
        file.expect_contents(&model, "the file with the hole")?;
        clone.expect_contents(&data, "its clone")?;
        crate::sys::unlink(t.path("clone")).or_fail("unlink")?;
    }
    Ok(())
}

fn punching_behind_the_end_changes_nothing(t: &Test) -> Outcome {
    let data = pattern(1, 1000);
    let file = t.create_with("file", &data)?;
    apply(&file, PUNCH, 1000, 100_000)?;
    apply(&file, PUNCH, 1 << 40, 1 << 40)?;
    expect_eq(file.size()?, 1000, "size")?;
    file.expect_contents(&data, "after holes behind the end")
}

fn a_mapping_sees_a_punched_hole(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let mapping = Mapping::shared(&file, 4 * BLOCK)?;
    mapping.store(BLOCK, b"stored");
    apply(&file, PUNCH, 100, 3 * BLOCK64)?;
    expect(
        mapping.load(100, 3 * BLOCK).iter().all(|&b| b == 0),
        "zeros in the mapping",
    )?;
    expect(
        mapping.load_byte(99) != 0 && mapping.load_byte(3 * BLOCK + 100) != 0,
        "the rest stays",
    )?;
    mapping.store(2 * BLOCK, b"again");
    expect_eq(
        file.read_at(2 * BLOCK64, 5)?,
        b"again".to_vec(),
        "a store into the hole",
    )
}

fn a_private_copy_survives_a_punch(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 3))?;
    let mapping = Mapping::private(&file, 3 * BLOCK)?;
    mapping.store(BLOCK, b"mine");
    mapping.load_byte(2 * BLOCK);
    apply(&file, PUNCH, 0, 3 * BLOCK64)?;
    expect_eq(mapping.load(BLOCK, 4), b"mine".to_vec(), "the copy")?;
    expect_eq(
        mapping.load_byte(2 * BLOCK),
        0,
        "a page that was not copied",
    )
}

fn a_zeroed_range_reads_as_zeros_and_has_room(t: &Test) -> Outcome {
    let data = blocks(1, 6);
    let file = t.create_with("file", &data)?;
    apply(&file, ZERO | KEEP_SIZE, 1000, 4 * BLOCK64)?;
    let mut model = data;
    model[1000..1000 + 4 * BLOCK].fill(0);
    file.expect_contents(&model, "after zeroing")?;
    file.sync()?;
    expect_eq(file.data_blocks()?, 6, "blocks: all have room")
}

fn a_zeroed_range_can_grow_the_file(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(1, 5000))?;
    apply(&file, ZERO, 4000, 6000)?;
    let mut model = pattern(1, 5000);
    model.truncate(4000);
    model.resize(10_000, 0);
    file.expect_contents(&model, "after zeroing over the end")
}

fn unsharing_makes_every_block_private_and_keeps_the_bytes(t: &Test) -> Outcome {
    let data = blocks(1, 150);
    let file = t.create_with("file", &data)?;
    let clone = new_clone(&file, t.path("clone"))?;
    apply(&clone, UNSHARE, 10 * BLOCK64, 100 * BLOCK64)?;
    clone.expect_contents(&data, "the clone")?;
    file.expect_contents(&data, "the file")?;
    for extent in extents(&clone)? {
        let inside = extent.logical >= 10 * BLOCK64 && extent.logical < 110 * BLOCK64;
        expect(
            extent.shared() != inside,
            format_args!("{extent:?} is shared or not"),
        )?;
    }
    clone.write_at(b"!", 50 * BLOCK64)?;
    file.expect_contents(&data, "the file after a write to the clone")
}

fn unsharing_counts_what_it_takes(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let file = fs.create_with("file", &blocks(1, 20))?;
    let before = fs.used()?;
    let clone = new_clone(&file, fs.path("clone"))?;
    apply(&clone, UNSHARE, 0, 20 * BLOCK64)?;
    expect_eq(fs.used()?, before + 20, "blocks used")?;
    apply(&file, UNSHARE, 0, 20 * BLOCK64)?;
    expect_eq(
        fs.used()?,
        before + 20,
        "blocks used: nothing is shared any more",
    )
}

fn unsharing_without_room_is_enospc_and_keeps_both_files(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let data = blocks(1, 20);
    let file = fs.create_with("file", &data)?;
    let clone = new_clone(&file, fs.path("clone"))?;
    fs.fill(19)?;
    let before = fs.used()?;
    expect_errno(
        fallocate(&clone, UNSHARE, 0, 20 * BLOCK64),
        libc::ENOSPC,
        "20 blocks, 19 free",
    )?;
    expect_errno(
        fallocate(&clone, ZERO, 0, 20 * BLOCK64),
        libc::ENOSPC,
        "zeroing 20 shared blocks",
    )?;
    expect_eq(fs.used()?, before, "blocks used after refusals")?;
    file.expect_contents(&data, "the file")?;
    clone.expect_contents(&data, "the clone")?;
    apply(&clone, UNSHARE, 0, 19 * BLOCK64)?;
    expect_eq(fs.space()?.free, 0, "free blocks")
}

fn what_makes_no_sense_is_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    expect_errno(fallocate(&file, 0, 0, 0), libc::EINVAL, "length 0")?;
    expect_errno(fallocate(&file, 0, u64::MAX, 1), libc::EINVAL, "offset -1")?;
    expect_errno(
        fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE, 0, 10),
        libc::EOPNOTSUPP,
        "a hole without KEEP_SIZE",
    )?;
    expect_errno(
        fallocate(&file, 1 << 20, 0, 10),
        libc::EOPNOTSUPP,
        "an unknown bit",
    )?;
    expect_errno(
        fallocate(&file, 0, i64::MAX as u64, 1),
        libc::EFBIG,
        "beyond the largest file",
    )?;
    let reader = File::open(t.path("file"), libc::O_RDONLY).or_fail("open")?;
    expect_errno(
        fallocate(&reader, 0, 0, 10),
        libc::EBADF,
        "a descriptor for reading",
    )?;
    file.expect_contents(&blocks(1, 2), "after refusals")
}

fn random_calls_agree_with_a_model(t: &Test) -> Outcome {
    const SIZE: usize = 130 * BLOCK;
    let mut random = Random::new(t.settings.seed);
    let file = t.create("file")?;
    let mut model = Vec::new();
    for step in 0..t.rounds(400) {
        let offset = random.below(SIZE);
        let len = 1 + random.below(SIZE - offset);
        let end = offset + len;
        let (start64, len64) = (offset as u64, len as u64);
        match random.below(7) {
            0 | 1 => {
                let len = len.min(5 * BLOCK);
                let data = random.bytes(len);
                file.write_at(&data, start64)?;
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&data);
            }
            2 => {
                apply(&file, 0, start64, len64)?;
                model.resize(model.len().max(end), 0);
            }
            3 => apply(&file, KEEP_SIZE, start64, len64)?,
            4 => {
                apply(&file, ZERO, start64, len64)?;
                model.resize(model.len().max(end), 0);
                model[offset..end].fill(0);
            }
            5 => {
                apply(&file, PUNCH, start64, len64)?;
                let end = end.min(model.len());
                model[offset.min(end)..end].fill(0);
            }
            _ => {
                file.truncate(start64)?;
                model.resize(offset, 0);
            }
        }
        file.expect_contents(&model, &format!("after step {step}"))?;
    }
    Ok(())
}

fn stores_and_punches_race_without_resurrecting_bytes(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 8))?;
    let mapping = Mapping::shared(&file, 8 * BLOCK)?;
    let mut punches = 0;
    let mut stores = 0u8;
    t.race(vec![
        worker("punch", || {
            punches += 1;
            apply(&file, PUNCH, (punches % 7) * BLOCK64, 2 * BLOCK64)
        }),
        worker("store", || {
            stores = stores.wrapping_add(1);
            mapping.store(usize::from(stores % 8) * BLOCK + 10, &[stores | 1]);
            Ok(())
        }),
    ])?;
    apply(&file, PUNCH, 0, 8 * BLOCK64)?;
    file.expect_contents(&[0; 8 * BLOCK], "after a last hole over everything")?;
    expect(
        mapping.load_all().iter().all(|&b| b == 0),
        "zeros in the mapping",
    )
}
