// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Private mappings: they show the file until they are stored to, and then a private copy.

use crate::case::{case, Case, Test};
use crate::failure::{expect_bytes, expect_eq, Context, Errno, Outcome};
use crate::filesystem::Tmpfs;
use crate::mapping::{Mapping, READ};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_file, copy_loop, new_clone, File};

pub const CASES: &[Case] = &[
    case!(a_private_mapping_shows_writes_until_it_stores),
    case!(a_private_store_stays_private),
    case!(a_private_store_into_a_hole_stays_private),
    case!(a_private_copy_survives_writes_clones_and_copies),
    case!(private_mappings_of_a_read_only_file_can_be_stored_to),
    case!(a_debugger_can_write_into_a_private_mapping),
];

fn a_private_mapping_shows_writes_until_it_stores(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(6, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.load_all();
    file.write_at(b"first", 0)?;
    expect_bytes(&map.load(0, 5), b"first", "before any store")?;
    map.store(BLOCK, b"mine");
    file.write_at(b"second", 0)?;
    expect_bytes(&map.load(0, 6), b"second", "a page that was not stored to")?;
    file.write_at(b"theirs", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 4), b"mine", "the page that was stored to")
}

fn a_private_store_stays_private(t: &Test) -> Outcome {
    let data = blocks(7, 3);
    let file = t.create_with("file", &data)?;
    let (one, other) = (
        Mapping::private(&file, 3 * BLOCK)?,
        Mapping::private(&file, 3 * BLOCK)?,
    );
    let shared = Mapping::shared(&file, 3 * BLOCK)?;
    other.load_all();
    one.store(BLOCK + 10, b"private");
    // Once without and once with the page mapped before.
    other.store(BLOCK + 10, b"PRIVATE");
    expect_bytes(&one.load(BLOCK + 10, 7), b"private", "the first mapping")?;
    expect_bytes(&other.load(BLOCK + 10, 7), b"PRIVATE", "the second mapping")?;
    expect_bytes(
        &one.load(BLOCK, 10),
        &data[BLOCK..BLOCK + 10],
        "the rest of the page",
    )?;
    expect_bytes(&shared.load_all(), &data, "a shared mapping")?;
    file.expect_contents(&data, "the file")
}

fn a_private_store_into_a_hole_stays_private(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(2 * BLOCK64)?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(10, b"private");
    expect_eq(map.load_byte(BLOCK), 0, "the second page of the hole")?;
    map.store(BLOCK, b"after reading");
    expect_bytes(&map.load(10, 7), b"private", "the mapping")?;
    expect_bytes(&map.load(BLOCK, 13), b"after reading", "the mapping")?;
    file.expect_contents(&[0; 2 * BLOCK], "the file")?;
    file.write_at(b"written", 0)?;
    expect_bytes(
        &map.load(0, 7),
        &[0; 7],
        "the private copy after a write to the file",
    )
}

fn a_private_copy_survives_writes_clones_and_copies(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(8, 2))?;
    let source = t.create_with("source", &blocks(9, 2))?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(0, b"mine");
    file.write_at(&blocks(10, 2), 0)?;
    expect_bytes(&map.load(0, 4), b"mine", "after a write")?;
    copy_loop(&source, 0, &file, 0, 2 * BLOCK)?;
    expect_bytes(&map.load(0, 4), b"mine", "after a copy onto the file")?;
    expect_bytes(
        &map.load(BLOCK, BLOCK),
        &blocks(9, 2)[BLOCK..],
        "the page not stored to",
    )?;
    if t.filesystem != Tmpfs {
        new_clone(&file, t.path("clone"))?;
        expect_bytes(&map.load(0, 4), b"mine", "after the file was cloned")?;
        clone_file(&source, &file).or_fail("FICLONE")?;
        expect_bytes(&map.load(0, 4), b"mine", "after a clone onto the file")?;
    }
    Ok(())
}

fn private_mappings_of_a_read_only_file_can_be_stored_to(t: &Test) -> Outcome {
    let data = blocks(11, 2);
    let file = t.create_with("file", &data)?.reopen(libc::O_RDONLY)?;
    let map = Mapping::private(&file, 2 * BLOCK)?;
    map.store(0, b"private");
    expect_bytes(&map.load(0, 7), b"private", "the mapping")?;
    file.expect_contents(&data, "the file")
}

fn a_debugger_can_write_into_a_private_mapping(t: &Test) -> Outcome {
    let data = blocks(33, 2);
    let file = t.create_with("file", &data)?.reopen(libc::O_RDONLY)?;
    let map = Mapping::try_new(&file, 0, 2 * BLOCK, READ, libc::MAP_PRIVATE).or_fail("mmap")?;
    let memory = File::open("/proc/self/mem", libc::O_RDWR).or_fail("open /proc/self/mem")?;
    // Once with the page not mapped yet, once with it mapped.
    map.load_byte(BLOCK);
    for offset in [5, BLOCK + 5] {
        let place = map.at(offset) as u64;
        match memory.try_pwrite(b"breakpoint", place) {
            Ok(n) => expect_eq(n, 10, "bytes written to /proc/self/mem")?,
            // Some kernels refuse it by configuration.
            Err(Errno(libc::EIO | libc::EACCES | libc::EPERM)) => return Ok(()),
            Err(error) => return Err(error).or_fail("write to /proc/self/mem"),
        }
        expect_bytes(&map.load(offset, 10), b"breakpoint", "the mapping")?;
        expect_bytes(&memory.read_at(place, 10)?, b"breakpoint", "/proc/self/mem")?;
    }
    file.expect_contents(&data, "the file")
}
