// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Copies, reads, writes, truncation and faults of one file.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::case::{case, worker, Case, Test, Worker};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Errno, Outcome};
use crate::filesystem::Tmpfs;
use crate::mapping::Mapping;
use crate::pattern::{Random, BLOCK, BLOCK64};
use crate::sys::{clone_file, copy_once, pread_to, File};

pub const CASES: &[Case] = &[
    case!(copies_in_both_directions_do_not_deadlock),
    case!(copies_within_a_file_race_with_stores),
    case!(reads_see_old_or_new_bytes),
    case!(reads_of_a_file_that_grows_see_what_was_written),
    case!(mappings_and_reads_agree_during_truncation),
    case!(extending_never_shows_anything_but_zeros),
    case!(faults_race_with_truncation_and_unmapping),
    case!(private_copies_go_with_what_is_cut_off),
    case!(a_hole_is_filled_once_by_racing_stores),
    case!(a_hole_is_filled_by_writes_while_it_is_read_through_mappings),
    case!(writing_from_mappings_of_each_other_does_not_deadlock),
];

fn copies_in_both_directions_do_not_deadlock(t: &Test) -> Outcome {
    let a = t.create_with("a", &[1; 8 * BLOCK])?;
    let b = t.create_with("b", &[2; 8 * BLOCK])?;
    let copy = |from: &File, off_in: u64, to: &File, off_out: u64| -> Outcome {
        copy_once(from, off_in, to, off_out, 5 * BLOCK)
            .or_fail("copy_file_range")
            .map(|_| ())
    };
    t.race(vec![
        worker("copies a to b, aligned", || copy(&a, 0, &b, 0)),
        worker("copies b to a, aligned", || copy(&b, 0, &a, 0)),
        worker("copies a to b, ragged", || copy(&a, 100, &b, 100)),
        worker("copies b to a, not congruent", || copy(&b, 1, &a, 2)),
        worker("reads", || {
            for file in [&a, &b] {
                let seen = file.contents()?;
                expect(
                    seen.iter().all(|x| [1, 2].contains(x)),
                    "bytes of one file or the other",
                )?;
            }
            Ok(())
        }),
    ])
}

fn copies_within_a_file_race_with_stores(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 8 * BLOCK])?;
    let map = Mapping::shared(&file, 8 * BLOCK)?;
    let mut value = 0u8;
    t.race(vec![
        worker("copies the first half over the second", || {
            copy_once(&file, 0, &file, 4 * BLOCK64, 4 * BLOCK)
                .or_fail("copy")
                .map(|_| ())
        }),
        worker("copies within the first half, ragged", || {
            copy_once(&file, 10, &file, 2 * BLOCK64 + 10, BLOCK)
                .or_fail("copy")
                .map(|_| ())
        }),
        worker("stores to the first half", || {
            value = value % 9 + 1;
            map.word(0).store(u64::from_le_bytes([value; 8]), SeqCst);
            let seen = map.word(0).load(SeqCst);
            expect_eq(seen, u64::from_le_bytes([value; 8]), "a word just stored")
        }),
        worker("reads the second half", || {
            let seen = file.read_at(4 * BLOCK64, 4 * BLOCK)?;
            expect(
                seen.iter().all(|b| (1..=9).contains(b)),
                "bytes that were in the first half",
            )
        }),
    ])
}

fn reads_see_old_or_new_bytes(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 4 * BLOCK])?;
    let map = Mapping::shared_read(&file, 4 * BLOCK)?;
    let mut value = 1u8;
    // Bytes, not words: a processor may copy byte by byte (QEMU's does).
    t.race(vec![
        worker("writes", || {
            value = 3 - value;
            file.write_at(&[value; 4 * BLOCK], 0)
        }),
        worker("reads", || {
            let seen = file.contents()?;
            let foreign = seen.iter().position(|b| ![1, 2].contains(b));
            expect(
                foreign.is_none(),
                format_args!("byte {foreign:?} was never written"),
            )
        }),
        worker("loads", || {
            let foreign = map.load_all().iter().position(|b| ![1, 2].contains(b));
            expect(
                foreign.is_none(),
                format_args!("byte {foreign:?} was never written"),
            )
        }),
    ])
}

/// Returns a worker that makes a file of this size longer, a part of a block at a time, with no
/// zero in it.
pub(in super::super) fn appends(file: &File, mut size: u64) -> Worker<'_> {
    worker("appends", move || {
        if size < 1 << 24 {
            file.write_at(&[1; 333], size)?;
            size += 333;
        }
        Ok(())
    })
}

/// Also into memory that is not mapped yet.
fn reads_of_a_file_that_grows_see_what_was_written(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 100])?;
    t.race(vec![
        appends(&file, 100),
        worker("reads the end", || {
            let end = file.stat()?.st_size;
            let at = (end - 1) / BLOCK as i64 * BLOCK as i64;
            let memory = Mapping::anonymous(3 * BLOCK)?;
            let len = pread_to(&file, memory.at(0), 3 * BLOCK, at).or_fail("pread")?;
            let seen = memory.load(0, len);
            expect(!seen.contains(&0), "bytes that were never zeros")
        }),
    ])
}

fn mappings_and_reads_agree_during_truncation(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 8 * BLOCK])?;
    let map = Mapping::shared(&file, 8 * BLOCK)?;
    let mut random = Random::new(t.settings.seed);
    t.race(vec![
        worker("cuts and extends", || {
            file.truncate(random.below(8 * BLOCK) as u64)?;
            file.truncate(8 * BLOCK64)
        }),
        worker("writes", || file.write_at(&[1; BLOCK], 5 * BLOCK64 + 77)),
        worker("asks the kernel to read the mapping", || {
            for page in 0..8 {
                match map.kernel_can_read(page * BLOCK + 99)? {
                    Ok(byte) => expect(byte <= 1, format_args!("byte {byte} of page {page}"))?,
                    Err(Errno(libc::EFAULT)) => {}
                    Err(error) => return Err(error).or_fail("write from the mapping"),
                }
            }
            Ok(())
        }),
        worker("asks the kernel to store to the mapping", || {
            for page in [3, 7] {
                match map.kernel_store(page * BLOCK + 5, 1)? {
                    Ok(()) | Err(Errno(libc::EFAULT)) => {}
                    Err(error) => return Err(error).or_fail("read into the mapping"),
                }
            }
            Ok(())
        }),
        worker("reads", || {
            let seen = file.contents()?;
            expect(
                seen.iter().all(|&b| b <= 1),
                "bytes that were written, or zeros",
            )
        }),
    ])?;
    file.truncate(8 * BLOCK64)?;
    expect_bytes(
        &map.load_all(),
        &file.contents()?,
        "mapping and file at the end",
    )
}

fn extending_never_shows_anything_but_zeros(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let map_file = t.create_with("marks", &[0xee; 16 * BLOCK])?;
    let mut random = Random::new(t.settings.seed);
    let mut turn = 0u32;
    t.race(vec![
        worker("frees marked blocks", || {
            turn += 1;
            map_file.truncate(0)?;
            map_file.write_at(&[0xee; 16 * BLOCK], 0)
        }),
        worker("writes, cuts inside a block and extends", || {
            let cut = random.below(4 * BLOCK);
            file.write_at(&[1; 4 * BLOCK], 0)?;
            file.truncate(cut as u64)?;
            file.truncate(6 * BLOCK64)?;
            let map = Mapping::shared_read(&file, 6 * BLOCK)?;
            let mut model = vec![1; cut];
            model.resize(6 * BLOCK, 0);
            expect_bytes(&map.load_all(), &model, "the mapping after extending")?;
            expect_bytes(&file.contents()?, &model, "the file after extending")
        }),
    ])
}

fn faults_race_with_truncation_and_unmapping(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 16 * BLOCK])?;
    let touch = |flags: i32| {
        let file = &file;
        move || {
            let protection = crate::mapping::READ | crate::mapping::WRITE;
            let map = Mapping::try_new(file, 0, 16 * BLOCK, protection, flags).or_fail("mmap")?;
            // The kernel touches the pages: EFAULT behind the new end, never a signal.
            let _ = map.advise(libc::MADV_POPULATE_READ);
            let _ = map.advise(libc::MADV_POPULATE_WRITE);
            let _ = map.advise(libc::MADV_DONTNEED);
            Ok(())
        }
    };
    t.race(vec![
        worker("cuts and extends", || {
            file.truncate(3 * BLOCK64 + 7)?;
            file.truncate(16 * BLOCK64)
        }),
        worker("maps, faults and unmaps", touch(libc::MAP_SHARED)),
        worker("maps privately", touch(libc::MAP_PRIVATE)),
        worker("writes", || file.write_at(&[1; 5 * BLOCK], 2 * BLOCK64)),
    ])
}

fn private_copies_go_with_what_is_cut_off(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 16 * BLOCK])?;
    let map = Mapping::private(&file, 16 * BLOCK)?;
    t.race(vec![
        worker("cuts off and grows", || {
            file.truncate(0)?;
            file.truncate(16 * BLOCK64)?;
            for page in 0..16 {
                expect_eq(
                    map.load_byte(page * BLOCK),
                    0,
                    format_args!("page {page}, cut off and grown"),
                )?;
            }
            file.write_at(&[1; 16 * BLOCK], 0)?;
            map.advise(libc::MADV_DONTNEED).or_fail("MADV_DONTNEED")
        }),
        worker("makes copies", || {
            // EFAULT behind the new end.
            let _ = map.advise(libc::MADV_POPULATE_WRITE);
            Ok(())
        }),
    ])
}

fn a_hole_is_filled_once_by_racing_stores(t: &Test) -> Outcome {
    const PAGES: usize = 32;
    for round in 0..t.rounds(20) {
        let file = t.create("file")?;
        file.truncate((PAGES * BLOCK) as u64)?;
        let map = Mapping::shared(&file, PAGES * BLOCK)?;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (map, file) = (&map, &file);
                scope.spawn(move || {
                    for page in 0..PAGES {
                        let at = page * BLOCK + thread * 8;
                        if thread == 3 {
                            // One of them by write(2).
                            let _ = file.try_pwrite(&(page as u64 + 1).to_le_bytes(), at as u64);
                        } else {
                            map.word(at).store(page as u64 + 1, SeqCst);
                        }
                    }
                });
            }
        });
        let seen = file.contents()?;
        for page in 0..PAGES {
            let expected = [(page as u64 + 1).to_le_bytes(); 4].concat();
            let what = format!("round {round}, page {page}: the words of four threads");
            expect_bytes(&seen[page * BLOCK..][..32], &expected, what)?;
        }
    }
    Ok(())
}

fn a_hole_is_filled_by_writes_while_it_is_read_through_mappings(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let number = AtomicU64::new(0);
    t.race(vec![
        worker("makes holes and fills them", || {
            file.truncate(0)?;
            file.truncate(8 * BLOCK64)?;
            for page in 0..8 {
                let value = number.fetch_add(1, SeqCst) + 1;
                let map = Mapping::shared_read(&file, 8 * BLOCK)?;
                expect_eq(map.word(page * BLOCK).load(SeqCst), 0, "a hole")?;
                file.write_at(&value.to_le_bytes(), page as u64 * BLOCK64)?;
                let seen = map.word(page * BLOCK).load(SeqCst);
                expect_eq(seen, value, "the hole's mapping right after it was written")?;
            }
            Ok(())
        }),
        worker("faults holes in", || {
            let map = Mapping::shared_read(&file, 8 * BLOCK)?;
            let _ = map.advise(libc::MADV_POPULATE_READ);
            Ok(())
        }),
    ])
}

fn writing_from_mappings_of_each_other_does_not_deadlock(t: &Test) -> Outcome {
    let a = t.create_with("a", &[1; 8 * BLOCK])?;
    let b = t.create_with("b", &[2; 8 * BLOCK])?;
    let (map_a, map_b) = (
        Mapping::shared(&a, 8 * BLOCK)?,
        Mapping::shared(&b, 8 * BLOCK)?,
    );
    let write = |to: &File, from: &Mapping| -> Outcome {
        // Dropped pages, so that the write must fault them in.
        let _ = from.advise(libc::MADV_DONTNEED);
        crate::sys::pwrite_from(to, from.at(0), 8 * BLOCK, 0)
            .or_fail("pwrite")
            .map(|_| ())
    };
    t.race(vec![
        worker("writes a from b", || write(&a, &map_b)),
        worker("writes b from a", || write(&b, &map_a)),
        worker("writes a from itself", || write(&a, &map_a)),
        worker("reads b into a", || {
            crate::sys::pread_to(&b, map_a.at(0), 8 * BLOCK, 0)
                .or_fail("pread")
                .map(|_| ())
        }),
        worker("clones between them", || {
            if t.filesystem == Tmpfs {
                return Ok(());
            }
            clone_file(&a, &b).or_fail("FICLONE")
        }),
    ])?;
    for file in [&a, &b] {
        expect(
            file.contents()?.iter().all(|x| [1, 2].contains(x)),
            "bytes of one or the other",
        )?;
    }
    Ok(())
}
