// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Buffers that are invalid, half invalid, or mappings of the file itself.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::{Feature, Tmpfs, Xfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{new_clone, pread_to, pwrite_from, unlink};

pub const CASES: &[Case] = &[
    case!(a_bad_buffer_is_efault_and_writes_nothing),
    case!(a_bad_buffer_does_not_make_the_file_longer)
        .except(Tmpfs, "sets the size before it copies"),
    case!(a_half_bad_buffer_writes_the_good_half),
    case!(a_long_buffer_is_written_up_to_where_it_is_bad)
        .except(Tmpfs, "sets the size before it copies"),
    case!(a_half_bad_buffer_reads_the_good_half),
    case!(a_failed_write_into_a_hole_shows_no_foreign_bytes)
        .except(Xfs, "iomap leaves old bytes in the page"),
    case!(writing_a_file_from_its_own_mapping_works),
    case!(writing_a_page_from_itself_works),
    case!(reading_a_file_into_its_own_mapping_works),
];

fn a_bad_buffer_is_efault_and_writes_nothing(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let bad = 8 as *mut u8;
    expect_errno(pwrite_from(&file, bad, 10, 0), libc::EFAULT, "pwrite")?;
    expect_errno(pread_to(&file, bad, 4, 0), libc::EFAULT, "pread")?;
    file.expect_contents(b"data", "after the failed calls")
}

fn a_bad_buffer_does_not_make_the_file_longer(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    for offset in [4, 100, BLOCK as i64, 10 * BLOCK as i64 + 5] {
        let written = pwrite_from(&file, 8 as *const u8, 10, offset);
        expect_errno(written, libc::EFAULT, format_args!("pwrite at {offset}"))?;
        file.expect_contents(b"data", "after the failed write")?;
    }
    Ok(())
}

/// Maps two pages, and unmaps the second.
fn half_a_buffer() -> Outcome<Mapping> {
    let mut buffer = Mapping::anonymous(2 * BLOCK)?;
    buffer.store(0, &blocks(11, 1));
    buffer.forbid_from(BLOCK)?;
    Ok(buffer)
}

/// Returns the number of bytes that a call with a bad buffer took, 0 if it failed as it should.
fn count_or_efault(seen: Sys<usize>, what: &str) -> Outcome<usize> {
    match seen {
        Ok(n) => Ok(n),
        Err(error) => {
            expect_eq(error, Errno(libc::EFAULT), what)?;
            Ok(0)
        }
    }
}

/// Writes bytes to the model of a file; no bytes do not make it longer.
fn put_bytes(model: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        let end = offset + bytes.len();
        model.resize(model.len().max(end), 0);
        model[offset..end].copy_from_slice(bytes);
    }
}

fn a_half_bad_buffer_writes_the_good_half(t: &Test) -> Outcome {
    let buffer = half_a_buffer()?;
    for (good, offset) in [
        (4096, 0),
        (100, 0),
        (100, 50),
        (100, 4090),
        (4096, 100),
        (1, 4095),
    ] {
        for initial in [0, 3 * BLOCK] {
            let mut model = blocks(12, 3)[..initial].to_vec();
            let file = t.create_with("file", &model)?;
            let what = format!("{good} good bytes of {} at {offset}", good + 4000);
            let seen = pwrite_from(&file, buffer.at(BLOCK - good), good + 4000, offset as i64);
            let written = count_or_efault(seen, &what)?;
            expect(
                written <= good,
                format_args!("{what}: {written} bytes written"),
            )?;
            put_bytes(&mut model, offset, &buffer.load(BLOCK - good, written));
            file.expect_contents(&model, &what)?;
        }
    }
    Ok(())
}

/// The bytes of a file before a write.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Hole,
    Blocks,
    SharedBlocks,
    MappedHole,
    MappedBlocks,
}

fn a_long_buffer_is_written_up_to_where_it_is_bad(t: &Test) -> Outcome {
    use Before::*;
    // The buffer ends late in a batch of 1 MiB, the longest.
    const LONG: usize = 254 * BLOCK + 5;
    const MOST: usize = 260 * BLOCK;
    let good_bytes = pattern(15, MOST);
    let mut buffer = Mapping::anonymous(MOST + 10 * BLOCK)?;
    buffer.store(0, &good_bytes);
    buffer.forbid_from(MOST)?;
    let all_old = pattern(16, MOST + 10 * BLOCK);
    let clones = Feature::Reflink.unmet_by(t.filesystem).is_none();
    for before in [
        Nothing,
        Hole,
        Blocks,
        SharedBlocks,
        MappedHole,
        MappedBlocks,
    ] {
        if matches!(before, SharedBlocks) && !clones {
            continue;
        }
        for good in [
            0,
            1,
            BLOCK,
            3 * BLOCK,
            3 * BLOCK + 1000,
            64 * BLOCK - 1,
            70 * BLOCK + 5,
            LONG,
        ] {
            let (size, offsets) = match good {
                LONG => (all_old.len(), &[7 * BLOCK][..]),
                _ => (100 * BLOCK, &[0, 2 * BLOCK + 100, 7 * BLOCK][..]),
            };
            let old = &all_old[..size];
            for &offset in offsets {
                let what = format!("{good} good bytes at {offset}, {before:?}");
                let mut model = match before {
                    Nothing => Vec::new(),
                    Hole | MappedHole => vec![0; size],
                    Blocks | SharedBlocks | MappedBlocks => old.to_vec(),
                };
                let file = match before {
                    Hole | MappedHole => {
                        let file = t.create("file")?;
                        file.truncate(size as u64)?;
                        file
                    }
                    _ => t.create_with("file", &model)?,
                };
                let clone = match before {
                    SharedBlocks => Some(new_clone(&file, t.path("clone"))?),
                    _ => None,
                };
                let map = match before {
                    MappedHole | MappedBlocks => Some(Mapping::shared(&file, size)?),
                    _ => None,
                };
                if let Some(map) = &map {
                    expect_bytes(&map.load_all(), &model, "the mapping")?;
                }
                let from = buffer.at(MOST - good);
                let seen = pwrite_from(&file, from, good + 3 * BLOCK, offset as i64);
                let written = count_or_efault(seen, &what)?;
                expect(
                    written <= good && written + BLOCK > good,
                    format_args!("{what}: {written} bytes written"),
                )?;
                let start = good_bytes.len() - good;
                put_bytes(&mut model, offset, &good_bytes[start..start + written]);
                file.expect_contents(&model, &what)?;
                if let Some(map) = map {
                    expect_bytes(
                        &map.load_all(),
                        &model[..size],
                        format_args!("{what}: mapped"),
                    )?;
                }
                if let Some(clone) = clone {
                    clone.expect_contents(old, &format!("{what}: the clone"))?;
                    unlink(t.path("clone")).or_fail("unlink")?;
                }
                // The rest can be written afterwards.
                let rest = pattern(17, 80 * BLOCK);
                file.write_at(&rest, 3)?;
                expect_bytes(&file.read_at(3, rest.len())?, &rest, &what)?;
            }
        }
    }
    Ok(())
}

fn a_half_bad_buffer_reads_the_good_half(t: &Test) -> Outcome {
    let data = blocks(13, 3);
    let file = t.create_with("file", &data)?;
    for (good, offset) in [(4096, 0), (100, 50), (100, 4090), (4096, 100)] {
        let buffer = half_a_buffer()?;
        let what = format!("{good} good bytes of 6000 at {offset}");
        match pread_to(&file, buffer.at(BLOCK - good), 6000, offset as i64) {
            Ok(n) => {
                expect(n <= good, format_args!("{what}: {n} bytes read"))?;
                expect_bytes(
                    &buffer.load(BLOCK - good, n),
                    &data[offset..offset + n],
                    what,
                )?;
            }
            Err(error) => expect_eq(error, Errno(libc::EFAULT), what)?,
        }
    }
    Ok(())
}

fn a_failed_write_into_a_hole_shows_no_foreign_bytes(t: &Test) -> Outcome {
    // Blocks that were used before would show old bytes.
    t.create_with("file", &[0xee; 64 * BLOCK])?.truncate(0)?;
    let buffer = half_a_buffer()?;
    let file = t.create("file")?;
    file.truncate(8 * BLOCK64)?;
    for block in 0..8 {
        let at = block * BLOCK as i64 + 1000;
        let _ = pwrite_from(&file, buffer.at(BLOCK - 10), 3000, at);
    }
    for (i, block) in file.contents()?.chunks(BLOCK).enumerate() {
        let foreign = block.iter().filter(|&&b| b == 0xee).count();
        let outside = block[..1000].iter().chain(&block[1010..]).any(|&b| b != 0);
        expect(
            !outside,
            format_args!(
                "block {i} is zeros around the failed write; {foreign} bytes are old ones"
            ),
        )?;
    }
    Ok(())
}

fn writing_a_file_from_its_own_mapping_works(t: &Test) -> Outcome {
    let data = blocks(14, 8);
    for touched in [false, true] {
        let file = t.create_with("file", &data)?;
        file.truncate(16 * BLOCK64)?;
        let map = Mapping::shared(&file, 16 * BLOCK)?;
        if touched {
            map.load_all();
        }
        // From data into a hole, from a hole onto data, and shifted by odd amounts.
        let mut model = data.clone();
        model.resize(16 * BLOCK, 0);
        for (from, to, len) in [
            (0, 8 * BLOCK, 8 * BLOCK),
            (100, 4196, 4000),
            (8192, 20000, 9000),
            (12 * BLOCK, 0, BLOCK),
        ] {
            let n = pwrite_from(&file, map.at(from), len, to as i64)
                .or_fail("pwrite from a mapping of the same file")?;
            expect_eq(n, len, "bytes written from the own mapping")?;
            model.copy_within(from..from + len, to);
            file.expect_contents(&model, &format!("{len} bytes from {from} to {to}"))?;
        }
        expect_bytes(&map.load_all(), &model, "the mapping")?;
        let hole = t.create("hole")?;
        hole.truncate(4 * BLOCK64)?;
        let map = Mapping::shared(&hole, 4 * BLOCK)?;
        let n =
            pwrite_from(&hole, map.at(2 * BLOCK), 2 * BLOCK, 0).or_fail("pwrite from a hole")?;
        expect_eq(n, 2 * BLOCK, "bytes written from a hole of the same file")?;
        hole.expect_contents(&vec![0; 4 * BLOCK], "a hole copied onto a hole")?;
    }
    Ok(())
}

fn writing_a_page_from_itself_works(t: &Test) -> Outcome {
    let data = blocks(15, 4);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    for _ in 0..2 {
        // Once with the pages not yet mapped, once with them mapped.
        let n = pwrite_from(&file, map.at(0), 4 * BLOCK, 0).or_fail("pwrite onto itself")?;
        expect_eq(n, 4 * BLOCK, "bytes written onto themselves")?;
        file.expect_contents(&data, "written onto itself")?;
        map.load_all();
    }
    map.advise(libc::MADV_DONTNEED).or_fail("madvise")?;
    // Overlapping: every byte is the source's, from before or from during the write.
    let n = pwrite_from(&file, map.at(0), BLOCK, 100).or_fail("pwrite onto its own page")?;
    expect_eq(n, BLOCK, "bytes written")?;
    expect_bytes(&file.read_at(0, 100)?, &data[..100], "before the overlap")
}

fn reading_a_file_into_its_own_mapping_works(t: &Test) -> Outcome {
    let data = blocks(16, 4);
    let file = t.create_with("file", &data)?;
    file.truncate(8 * BLOCK64)?;
    let map = Mapping::shared(&file, 8 * BLOCK)?;
    let n =
        pread_to(&file, map.at(4 * BLOCK), 4 * BLOCK, 0).or_fail("pread into the own mapping")?;
    expect_eq(n, 4 * BLOCK, "bytes read into a hole of the same file")?;
    let mut model = data.clone();
    model.extend(&data);
    file.expect_contents(&model, "read into its own mapping")?;
    let n = pread_to(&file, map.at(0), 4 * BLOCK, 0).or_fail("pread onto itself")?;
    expect_eq(n, 4 * BLOCK, "bytes read onto themselves")?;
    file.expect_contents(&model, "read onto itself")
}
