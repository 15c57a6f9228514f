// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The end of mappings: behind the end of the file, truncated, no space left.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs, CLONES_COUNTED};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::expect_killed;
use crate::sys::new_clone;

pub const CASES: &[Case] = &[
    case!(the_part_behind_the_end_in_the_last_page_is_zeros),
    case!(stores_behind_the_end_do_not_come_back)
        .except(Tmpfs, "older kernels show them when the file grows"),
    case!(behind_the_last_page_is_sigbus),
    case!(a_page_that_is_cut_off_becomes_sigbus),
    case!(a_page_that_grows_back_reads_as_zeros),
    case!(a_private_copy_is_cut_off_too),
    case!(the_kernel_gets_efault_where_a_program_gets_sigbus),
    case!(truncating_inside_a_page_zeroes_its_end_in_the_mapping),
    case!(a_full_filesystem_is_sigbus_in_a_hole).needs(&[Feature::Instance]),
    case!(a_full_filesystem_is_sigbus_in_a_shared_block).needs(CLONES_COUNTED),
    case!(a_full_filesystem_is_efault_for_the_kernel).needs(CLONES_COUNTED),
];

fn the_part_behind_the_end_in_the_last_page_is_zeros(t: &Test) -> Outcome {
    // Fill blocks first, so that a block that is not cleared would show.
    t.create_with("marked", &vec![0xee; 16 * BLOCK])?
        .truncate(0)?;
    for size in [1, 100, 4095, 4097, 8000] {
        let file = t.create_with("file", &pattern(16, size))?;
        let len = size.next_multiple_of(BLOCK);
        let map = Mapping::shared(&file, len)?;
        let mut model = pattern(16, size);
        model.resize(len, 0);
        expect_bytes(&map.load_all(), &model, format!("a file of {size} bytes"))?;
    }
    Ok(())
}

fn stores_behind_the_end_do_not_come_back(t: &Test) -> Outcome {
    for by_write in [false, true] {
        let file = t.create_with("file", b"short")?;
        let map = Mapping::shared(&file, BLOCK)?;
        map.store(100, b"behind the end");
        file.expect_contents(b"short", "the file")?;
        let mut model = b"short".to_vec();
        if by_write {
            file.write_at(b"end", 3000)?;
            model.resize(3000, 0);
            model.extend(b"end");
        } else {
            file.truncate(3000)?;
            model.resize(3000, 0);
        }
        file.expect_contents(&model, "grown after a store behind the end")?;
    }
    Ok(())
}

fn behind_the_last_page_is_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(17, BLOCK + 1))?;
    for map in [
        Mapping::shared(&file, 4 * BLOCK)?,
        Mapping::private(&file, 4 * BLOCK)?,
    ] {
        expect_eq(map.load_byte(2 * BLOCK - 1), 0, "the end of the last page")?;
        expect_killed(libc::SIGBUS, "a load behind the last page", || {
            map.load_byte(2 * BLOCK);
        })?;
        expect_killed(libc::SIGBUS, "a store behind the last page", || {
            map.store(3 * BLOCK, b"x");
        })?;
    }
    let empty = t.create("empty")?;
    let map = Mapping::shared(&empty, BLOCK)?;
    expect_killed(libc::SIGBUS, "a load from an empty file", || {
        map.load_byte(0);
    })
}

fn a_page_that_is_cut_off_becomes_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(18, 4))?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.load_all();
    map.store(3 * BLOCK, b"x");
    file.truncate(2 * BLOCK64)?;
    expect_killed(libc::SIGBUS, "a load from a page cut off", || {
        map.load_byte(3 * BLOCK);
    })?;
    expect_killed(libc::SIGBUS, "a store to a page cut off", || {
        map.store(2 * BLOCK, b"x")
    })?;
    expect_bytes(
        &map.load(0, 2 * BLOCK),
        &blocks(18, 4)[..2 * BLOCK],
        "the pages that stay",
    )
}

fn a_page_that_grows_back_reads_as_zeros(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(19, 3))?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    map.store(2 * BLOCK, b"gone");
    file.truncate(BLOCK64 + 10)?;
    file.truncate(3 * BLOCK64)?;
    let mut model = blocks(19, 3);
    model[BLOCK + 10..].fill(0);
    expect_bytes(
        &map.load_all(),
        &model,
        "the mapping after the file grew back",
    )?;
    map.store(2 * BLOCK, b"new");
    expect_bytes(
        &file.read_at(2 * BLOCK64, 4)?,
        b"new\0",
        "a store after that",
    )
}

fn a_private_copy_is_cut_off_too(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(20, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(BLOCK, b"private");
    file.truncate(BLOCK64)?;
    expect_killed(
        libc::SIGBUS,
        "a load of a private copy behind the end",
        || {
            map.load_byte(BLOCK);
        },
    )?;
    file.truncate(2 * BLOCK64)?;
    expect_bytes(
        &map.load(BLOCK, 7),
        &[0; 7],
        "the page after the file grew back",
    )
}

fn the_kernel_gets_efault_where_a_program_gets_sigbus(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(21, 1))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    expect(
        map.kernel_can_read(0)?.is_ok(),
        "the kernel reads the first page",
    )?;
    expect_errno(
        map.kernel_can_read(BLOCK)?,
        libc::EFAULT,
        "the kernel reads behind the end",
    )?;
    expect_errno(
        map.kernel_store(BLOCK, 1)?,
        libc::EFAULT,
        "the kernel stores behind the end",
    )
}

fn truncating_inside_a_page_zeroes_its_end_in_the_mapping(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(22, 1))?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.load_all();
    file.truncate(1000)?;
    expect(
        map.load(1000, BLOCK - 1000).iter().all(|&b| b == 0),
        "zeros behind the new end",
    )?;
    expect_bytes(
        &map.load(0, 1000),
        &blocks(22, 1)[..1000],
        "the bytes before it",
    )?;
    file.write_at(b"x", 2000)?;
    expect_bytes(&map.load(1999, 3), b"\0x\0", "a later write in that page")
}

fn a_full_filesystem_is_sigbus_in_a_hole(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let file = fs.create("file")?;
    file.truncate(4 * BLOCK64)?;
    let filler = fs.fill(1)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(0, b"the last block");
    expect_killed(libc::SIGBUS, "a store with no block free", || {
        map.store(BLOCK, b"x")
    })?;
    filler.truncate(0)?;
    map.store(BLOCK, b"x");
    expect_bytes(&file.read_at(0, 14)?, b"the last block", "the first page")?;
    expect_bytes(
        &file.read_at(BLOCK64, 1)?,
        b"x",
        "the second page, once there was room",
    )
}

fn a_full_filesystem_is_sigbus_in_a_shared_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let data = blocks(23, 4);
    let file = fs.create_with("file", &data)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    map.store(0, &data[..1]);
    let clone = new_clone(&file, fs.path("clone"))?;
    let filler = fs.fill(0)?;
    expect_killed(libc::SIGBUS, "a store to a shared block", || {
        map.store(0, b"x")
    })?;
    file.expect_contents(&data, "the file")?;
    clone.expect_contents(&data, "the clone")?;
    expect_bytes(&map.load_all(), &data, "the mapping can still be read")?;
    filler.truncate(0)?;
    map.store(0, b"x");
    expect_bytes(&file.read_at(0, 1)?, b"x", "the file, once there was room")?;
    clone.expect_contents(&data, "the clone")
}

fn a_full_filesystem_is_efault_for_the_kernel(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let data = blocks(24, 2);
    let file = fs.create_with("file", &data)?;
    let clone = new_clone(&file, fs.path("clone"))?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    let filler = fs.fill(0)?;
    expect_errno(
        map.kernel_store(10, 1)?,
        libc::EFAULT,
        "read(2) into a shared block",
    )?;
    filler.truncate(0)?;
    map.kernel_store(10, 1)?
        .or_fail("read(2) into the block once there is room")?;
    clone.expect_contents(&data, "the clone")
}
