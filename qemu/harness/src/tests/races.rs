// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Everything against everything, with something that must hold all the time.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Errno, Failure, Outcome};
use crate::filesystem::{Btrfs, Need, Tmpfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, mix, Random, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{
    clone_file, clone_range, copy_loop, copy_once, dedupe, link, mkdir, new_clone, rename, rmdir,
    unlink, File,
};

const CLONES: &[Need] = &[Need::Reflink];

pub const CASES: &[Case] = &[
    case!(stores_through_a_mapping_never_reach_a_clone).needs(CLONES),
    case!(a_clone_is_one_moment_of_the_file).needs(&[Need::Reflinkfs]),
    case!(a_clone_is_one_write_or_the_next)
        .needs(CLONES)
        .except(Btrfs, "writes in pieces that a clone may come between"),
    case!(clones_in_both_directions_do_not_deadlock).needs(CLONES),
    case!(clones_over_a_mapped_destination_show_one_source_or_the_other).needs(CLONES),
    case!(stores_to_the_destination_of_a_clone_are_lost_or_kept_whole).needs(CLONES),
    case!(stores_are_never_lost_while_the_file_is_cloned).needs(CLONES),
    case!(writes_are_never_lost_while_the_file_is_cloned).needs(CLONES),
    case!(writes_are_never_lost_while_the_file_is_deduplicated).needs(CLONES),
    case!(private_mappings_never_change_under_clones).needs(CLONES),
    case!(direct_reads_into_a_mapping_are_not_lost_and_never_reach_a_clone)
        .needs(CLONES)
        .except(Btrfs, "checksums pages that a disk still writes to, and then refuses them"),
    case!(copies_in_both_directions_do_not_deadlock),
    case!(copies_within_a_file_race_with_stores),
    case!(reads_see_old_or_new_bytes),
    case!(mappings_and_reads_agree_during_truncation),
    case!(extending_never_shows_anything_but_zeros),
    case!(faults_race_with_truncation_and_unmapping),
    case!(a_hole_is_filled_once_by_racing_stores),
    case!(a_hole_is_filled_by_writes_while_it_is_read_through_mappings),
    case!(writing_from_mappings_of_each_other_does_not_deadlock),
    case!(dedupes_in_both_directions_do_not_deadlock).needs(CLONES),
    case!(clones_of_clones_are_made_and_removed_by_many).needs(CLONES),
    case!(names_race_with_names),
    case!(renames_of_directories_race_without_loops),
    case!(opening_races_with_unlinking_and_creating),
    case!(forks_race_with_stores_and_clones).needs(CLONES),
    case!(attributes_race_with_everything),
    case!(everything_at_once_by_many_processes),
    case!(mounting_races_with_use).needs(&[Need::Instance]),
];

fn stores_through_a_mapping_never_reach_a_clone(t: &Test) -> Outcome {
    const PAGES: usize = 4;
    let source = t.create_with("source", &[0; PAGES * BLOCK])?;
    let map = Mapping::shared(&source, PAGES * BLOCK)?;
    let counter = AtomicU64::new(0);
    let mut number = 0;
    t.race(vec![
        worker("stores an increasing number everywhere", || {
            let value = counter.load(SeqCst) + 1;
            for page in 0..PAGES {
                for slot in [0, 8, 2048, 4088] {
                    map.word(page * BLOCK + slot).store(value, SeqCst);
                }
            }
            counter.store(value, SeqCst);
            Ok(())
        }),
        worker("clones", || {
            number += 1;
            let from = counter.load(SeqCst);
            let clone = new_clone(&source, t.path(&format!("clone-{}", number % 4)))?;
            let to = counter.load(SeqCst) + 1;
            let seen = clone.contents()?;
            for page in 0..PAGES {
                for slot in [0, 8, 2048, 4088] {
                    let mut word = [0; 8];
                    word.copy_from_slice(&seen[page * BLOCK + slot..][..8]);
                    let value = u64::from_le_bytes(word);
                    expect(
                        (from..=to).contains(&value),
                        format_args!("a word of the clone is {value}, but {from} to {to} were stored"),
                    )?;
                }
            }
            // The stores go on; the clone must not move.
            let clone_map = Mapping::shared_read(&clone, PAGES * BLOCK)?;
            std::thread::yield_now();
            expect_bytes(&clone.contents()?, &seen, "the clone, read again")?;
            expect_bytes(&clone_map.load_all(), &seen, "the clone, mapped")
        }),
    ])
}

fn a_clone_is_one_moment_of_the_file(t: &Test) -> Outcome {
    const PAGES: usize = 6;
    let source = t.create_with("source", &[0; PAGES * BLOCK])?;
    let map = Mapping::shared(&source, PAGES * BLOCK)?;
    let mut value = 0;
    // An order that is neither up nor down, so that no order of unmapping hides a mistake.
    let order = [3, 0, 5, 1, 4, 2];
    t.race(vec![
        worker("stores in an order of its own", || {
            value += 1;
            for page in order {
                map.word(page * BLOCK).store(value, SeqCst);
            }
            Ok(())
        }),
        worker("clones", || {
            let clone = new_clone(&source, t.path("clone"))?;
            let word = |page: usize| -> Outcome<u64> {
                let bytes = clone.read_at(page as u64 * BLOCK64, 8)?;
                Ok(u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            };
            let values = order.iter().map(|&page| word(page)).collect::<Outcome<Vec<_>>>()?;
            let ordered = values.windows(2).all(|pair| pair[0] >= pair[1]);
            let (first, last) = (values[0], values[PAGES - 1]);
            expect(
                ordered && first - last <= 1,
                format_args!("in the order of the stores, the words are {values:?}: two moments"),
            )
        }),
    ])
}

fn a_clone_is_one_write_or_the_next(t: &Test) -> Outcome {
    const LEN: usize = 10 * BLOCK + 100;
    let source = t.create_with("source", &[1; LEN])?;
    let mut value = 1u8;
    t.race(vec![
        worker("writes the whole file at once", || {
            value = value % 250 + 1;
            source.write_at(&vec![value; LEN], 0)
        }),
        worker("clones", || {
            let clone = new_clone(&source, t.path("clone"))?;
            let seen = clone.contents()?;
            let other = seen.iter().position(|&b| b != seen[0]);
            expect(
                other.is_none() && seen.len() == LEN,
                format_args!("byte {other:?} of the clone is of another write"),
            )
        }),
    ])
}

fn clones_in_both_directions_do_not_deadlock(t: &Test) -> Outcome {
    let a = t.create_with("a", &[1; 8 * BLOCK])?;
    let b = t.create_with("b", &[2; 8 * BLOCK])?;
    let whole = |file: &File| -> Outcome {
        for block in file.contents()?.chunks(BLOCK) {
            let mixed = block.iter().any(|&x| x != block[0]);
            expect(!mixed && [1, 2].contains(&block[0]), "each block is one file's or the other's")?;
        }
        Ok(())
    };
    t.race(vec![
        worker("clones a to b", || clone_file(&a, &b).or_fail("FICLONE")),
        worker("clones b to a", || clone_file(&b, &a).or_fail("FICLONE")),
        worker("clones a range", || {
            clone_range(&a, 0, 4 * BLOCK64, &b, 4 * BLOCK64).or_fail("FICLONERANGE")
        }),
        worker("clones within", || {
            clone_range(&a, 0, 2 * BLOCK64, &a, 2 * BLOCK64).or_fail("FICLONERANGE")
        }),
        worker("reads", || whole(&a).and(whole(&b))),
    ])
}

fn clones_over_a_mapped_destination_show_one_source_or_the_other(t: &Test) -> Outcome {
    let sources = [t.create_with("one", &[1; 4 * BLOCK])?, t.create_with("two", &[2; 4 * BLOCK])?];
    let to = t.create_with("to", &[1; 4 * BLOCK])?;
    let map = Mapping::shared_read(&to, 4 * BLOCK)?;
    let mut turn = 0;
    t.race(vec![
        worker("clones one, then the other", || {
            turn += 1;
            clone_file(&sources[turn % 2], &to).or_fail("FICLONE")
        }),
        worker("loads", || {
            for page in 0..4 {
                let word = map.word(page * BLOCK + 8 * (turn_of(page) % 500)).load(SeqCst);
                let ones = u64::from_le_bytes([1; 8]);
                expect(
                    word == ones || word == 2 * ones,
                    format_args!("a word of the mapping is {word:#x}"),
                )?;
            }
            Ok(())
        }),
    ])?;
    expect_bytes(&map.load_all(), &to.contents()?, "mapping and file at the end")
}

fn turn_of(n: usize) -> usize {
    mix(n as u64) as usize
}

fn stores_to_the_destination_of_a_clone_are_lost_or_kept_whole(t: &Test) -> Outcome {
    let source = t.create_with("source", &[1; 2 * BLOCK])?;
    let to = t.create_with("to", &[1; 2 * BLOCK])?;
    let map = Mapping::shared(&to, 2 * BLOCK)?;
    let stored = u64::from_le_bytes([7; 8]);
    let source_word = u64::from_le_bytes([1; 8]);
    t.race(vec![
        worker("clones onto it", || clone_file(&source, &to).or_fail("FICLONE")),
        worker("stores", || {
            map.word(0).store(stored, SeqCst);
            map.word(BLOCK + 8).store(stored, SeqCst);
            for offset in [0, BLOCK + 8] {
                let seen = map.word(offset).load(SeqCst);
                expect(
                    seen == stored || seen == source_word,
                    format_args!("a word is {seen:#x}"),
                )?;
            }
            Ok(())
        }),
        worker("reads the source", || {
            let seen = source.contents()?;
            expect(seen.iter().all(|&b| b == 1), "no store reaches the source")
        }),
    ])
}

fn stores_are_never_lost_while_the_file_is_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    let maps = [Mapping::shared(&file, 2 * BLOCK)?, Mapping::shared(&file, 2 * BLOCK)?];
    let add = |map: &'static str, index: usize| {
        let (maps, mut own) = (&maps, 0u64);
        worker(map, move || {
            own += 1;
            // Both add to one word, and each to one of its own.
            maps[index].word(64).fetch_add(1, SeqCst);
            let before = maps[index].word(BLOCK + 8 * index).fetch_add(1, SeqCst);
            expect_eq(before + 1, own, "the own word, which nobody else changes")
        })
    };
    let mut turn = 0;
    t.race(vec![
        add("adds", 0),
        add("adds too", 1),
        worker("clones", || {
            turn += 1;
            new_clone(&file, t.path(&format!("clone-{}", turn % 3))).map(|_| ())
        }),
    ])?;
    let own = maps[0].word(BLOCK).load(SeqCst) + maps[0].word(BLOCK + 8).load(SeqCst);
    expect_eq(maps[1].word(64).load(SeqCst), own, "the sum that both added to")?;
    expect_eq(file.read_at(64, 8)?, own.to_le_bytes(), "the sum in the file")
}

fn writes_are_never_lost_while_the_file_is_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let mut random = Random::new(t.effort.seed);
    let mut turn = 0;
    t.race(vec![
        worker("writes and reads back", || {
            let offset = random.below(4 * BLOCK - 64) as u64;
            let data = random.bytes(64);
            file.write_at(&data, offset)?;
            expect_bytes(&file.read_at(offset, 64)?, &data, "what was just written")
        }),
        worker("clones", || {
            turn += 1;
            new_clone(&file, t.path(&format!("clone-{}", turn % 3))).map(|_| ())
        }),
    ])
}

fn writes_are_never_lost_while_the_file_is_deduplicated(t: &Test) -> Outcome {
    let data = [5; 4 * BLOCK];
    let file = t.create_with("file", &data)?;
    let other = t.create_with("other", &data)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    let mut value = 0;
    let dedupe_ways = |from: &File, to: &File| -> Outcome {
        dedupe(from, 0, 4 * BLOCK64, to, 0).map(|_| ()).or_fail("FIDEDUPERANGE")
    };
    t.race(vec![
        worker("changes and restores", || {
            value += 1;
            for page in 0..4u64 {
                let (at, word) = (page * BLOCK64 + 8, (value * 4 + page).to_le_bytes());
                file.write_at(&word, at)?;
                expect_eq(file.read_at(at, 8)?, word, "a word just written")?;
                map.word(at as usize).store(value, SeqCst);
                expect_eq(map.word(at as usize).load(SeqCst), value, "a word just stored")?;
                map.store(at as usize, &[5; 8]);
            }
            Ok(())
        }),
        worker("deduplicates", || dedupe_ways(&other, &file)),
        worker("deduplicates the other way", || dedupe_ways(&file, &other)),
        worker("reads the other", || {
            expect(other.contents()? == data, "the other file never changes")
        }),
    ])?;
    file.expect_contents(&data, "the file, restored")
}

fn private_mappings_never_change_under_clones(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 3 * BLOCK])?;
    let sources = [t.create_with("one", &[1; 3 * BLOCK])?, t.create_with("two", &[2; 3 * BLOCK])?];
    let map = Mapping::private(&file, 3 * BLOCK)?;
    map.store(0, &[9; BLOCK]);
    let mut turn = 0;
    t.race(vec![
        worker("clones onto the file", || {
            turn += 1;
            clone_file(&sources[turn % 2], &file).or_fail("FICLONE")
        }),
        worker("checks its own page", || {
            expect(map.load(0, BLOCK).iter().all(|&b| b == 9), "the private page is as it was")
        }),
        worker("makes private pages and drops them", || {
            let map = Mapping::private(&file, 3 * BLOCK)?;
            map.store(BLOCK, b"mine");
            let page = map.load(BLOCK, BLOCK);
            expect(
                &page[..4] == b"mine" && page[4..].iter().all(|b| [1, 2].contains(b)),
                "a new private page is a page of the file with the store in it",
            )?;
            expect(
                page[4..].windows(2).all(|pair| pair[0] == pair[1]),
                "a private page is of one moment",
            )
        }),
    ])
}

/// A disk to read from past every cache: the pages that the data lands in are pinned meanwhile.
fn disk() -> Outcome<File> {
    let table = std::fs::read_to_string("/proc/partitions").or_fail("read /proc/partitions")?;
    table
        .lines()
        .skip(2)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            let kib: u64 = words.next()?.parse().ok()?;
            let name = words.next().filter(|_| kib >= 4096)?;
            File::open(format!("/dev/{name}"), libc::O_RDONLY | libc::O_DIRECT).ok()
        })
        .next()
        .ok_or("none in /proc/partitions can be opened")
        .or_fail("a disk to read from")
}

fn direct_reads_into_a_mapping_are_not_lost_and_never_reach_a_clone(t: &Test) -> Outcome {
    const LEN: usize = 16 * BLOCK;
    let disk = disk()?;
    let buffer = Mapping::anonymous(LEN)?;
    let stretch = |at: usize| -> Outcome<Vec<u8>> {
        let n = crate::sys::pread_to(&disk, buffer.at(0), LEN, at as i64).or_fail("direct read")?;
        expect_eq(n, LEN, "bytes of a direct read")?;
        Ok(buffer.load_all())
    };
    // What two stretches of the disk hold; they differ, or nothing could be seen.
    let one = stretch(0)?;
    let two = (1..64)
        .map(|i| Ok((i * LEN, stretch(i * LEN)?)))
        .find(|found: &Outcome<_>| !matches!(found, Ok((_, bytes)) if *bytes == one))
        .ok_or("the start of the disk is all alike")
        .or_fail("two stretches of a disk")??;
    let stretches = [(0, one), two];
    let file = t.create_with("file", &[0; LEN])?;
    let map = Mapping::shared(&file, LEN)?;
    let mut turn = 0;
    let mut number = 0;
    t.race(vec![
        worker("reads from the disk into the mapping", || {
            turn += 1;
            let (at, expected) = &stretches[turn % 2];
            let n = crate::sys::pread_to(&disk, map.at(0), LEN, *at as i64)
                .or_fail("direct read into a mapping")?;
            expect_bytes(&file.read_at(0, n)?, &expected[..n], "what was read from the disk")
        }),
        worker("clones", || {
            number += 1;
            let clone = new_clone(&file, t.path(&format!("clone-{}", number % 4)))?;
            let seen = clone.contents()?;
            crate::sys::sleep_ms(1);
            clone.expect_contents(&seen, "the clone, read again")
        }),
    ])
}

fn copies_in_both_directions_do_not_deadlock(t: &Test) -> Outcome {
    let a = t.create_with("a", &[1; 8 * BLOCK])?;
    let b = t.create_with("b", &[2; 8 * BLOCK])?;
    let copy = |from: &File, off_in: u64, to: &File, off_out: u64| -> Outcome {
        copy_once(from, off_in, to, off_out, 5 * BLOCK).or_fail("copy_file_range").map(|_| ())
    };
    t.race(vec![
        worker("copies a to b, aligned", || copy(&a, 0, &b, 0)),
        worker("copies b to a, aligned", || copy(&b, 0, &a, 0)),
        worker("copies a to b, ragged", || copy(&a, 100, &b, 100)),
        worker("copies b to a, not congruent", || copy(&b, 1, &a, 2)),
        worker("reads", || {
            for file in [&a, &b] {
                let seen = file.contents()?;
                expect(seen.iter().all(|x| [1, 2].contains(x)), "bytes of one file or the other")?;
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
            copy_once(&file, 0, &file, 4 * BLOCK64, 4 * BLOCK).or_fail("copy").map(|_| ())
        }),
        worker("copies within the first half, ragged", || {
            copy_once(&file, 10, &file, 2 * BLOCK64 + 10, BLOCK).or_fail("copy").map(|_| ())
        }),
        worker("stores to the first half", || {
            value = value % 9 + 1;
            map.word(0).store(u64::from_le_bytes([value; 8]), SeqCst);
            let seen = map.word(0).load(SeqCst);
            expect_eq(seen, u64::from_le_bytes([value; 8]), "a word just stored")
        }),
        worker("reads the second half", || {
            let seen = file.read_at(4 * BLOCK64, 4 * BLOCK)?;
            expect(seen.iter().all(|b| (1..=9).contains(b)), "bytes that were in the first half")
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
            expect(foreign.is_none(), format_args!("byte {foreign:?} was never written"))
        }),
        worker("loads", || {
            let foreign = map.load_all().iter().position(|b| ![1, 2].contains(b));
            expect(foreign.is_none(), format_args!("byte {foreign:?} was never written"))
        }),
    ])
}

fn mappings_and_reads_agree_during_truncation(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 8 * BLOCK])?;
    let map = Mapping::shared(&file, 8 * BLOCK)?;
    let mut random = Random::new(t.effort.seed);
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
            expect(seen.iter().all(|&b| b <= 1), "bytes that were written, or zeros")
        }),
    ])?;
    file.truncate(8 * BLOCK64)?;
    expect_bytes(&map.load_all(), &file.contents()?, "mapping and file at the end")
}

fn extending_never_shows_anything_but_zeros(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let map_file = t.create_with("marks", &[0xee; 16 * BLOCK])?;
    let mut random = Random::new(t.effort.seed);
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
            // The kernel touches the pages: EFAULT where they are cut off, never a signal.
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
    let (map_a, map_b) = (Mapping::shared(&a, 8 * BLOCK)?, Mapping::shared(&b, 8 * BLOCK)?);
    let write = |to: &File, from: &Mapping| -> Outcome {
        // Dropped pages, so that the write must fault them in.
        let _ = from.advise(libc::MADV_DONTNEED);
        crate::sys::pwrite_from(to, from.at(0), 8 * BLOCK, 0).or_fail("pwrite").map(|_| ())
    };
    t.race(vec![
        worker("writes a from b", || write(&a, &map_b)),
        worker("writes b from a", || write(&b, &map_a)),
        worker("writes a from itself", || write(&a, &map_a)),
        worker("reads b into a", || {
            crate::sys::pread_to(&b, map_a.at(0), 8 * BLOCK, 0).or_fail("pread").map(|_| ())
        }),
        worker("clones between them", || {
            if t.filesystem == Tmpfs {
                return Ok(());
            }
            clone_file(&a, &b).or_fail("FICLONE")
        }),
    ])?;
    for file in [&a, &b] {
        expect(file.contents()?.iter().all(|x| [1, 2].contains(x)), "bytes of one or the other")?;
    }
    Ok(())
}

fn dedupes_in_both_directions_do_not_deadlock(t: &Test) -> Outcome {
    let data = blocks(3, 6);
    let files = ["a", "b", "c"].map(|name| t.create_with(name, &data));
    let [a, b, c] = files;
    let (a, b, c) = (a?, b?, c?);
    let both = |from: &File, to: &File| -> Outcome {
        dedupe(from, 0, 6 * BLOCK64, to, 0).or_fail("FIDEDUPERANGE").map(|_| ())
    };
    t.race(vec![
        worker("a to b", || both(&a, &b)),
        worker("b to a", || both(&b, &a)),
        worker("c to a", || both(&c, &a)),
        worker("b to c", || both(&b, &c)),
        worker("rewrites the same", || b.write_at(&data, 0)),
    ])?;
    for file in [&a, &b, &c] {
        file.expect_contents(&data, "at the end")?;
    }
    Ok(())
}

fn clones_of_clones_are_made_and_removed_by_many(t: &Test) -> Outcome {
    // A word says which file first held it and which block it is; clones keep both.
    let root = t.create_with("root", &blocks(4, 70))?;
    let expected = root.contents()?;
    let churn = |who: usize| {
        let mut random = Random::new(t.effort.seed + who as u64);
        let (root, expected) = (&root, &expected);
        move || {
            let path = t.path(&format!("clone-{who}-{}", random.below(5)));
            let clone = new_clone(root, &path)?;
            let second = new_clone(&clone, t.path(&format!("second-{who}")))?;
            let mut model = expected.clone();
            for _ in 0..4 {
                let at = random.below(69 * BLOCK);
                let data = random.bytes(300);
                clone.write_at(&data, at as u64)?;
                model[at..at + 300].copy_from_slice(&data);
            }
            expect(clone.contents()? == model, "the clone has its own writes and no others")?;
            expect(second.contents()? == *expected, "its clone is as the root")?;
            if random.one_in(2) {
                unlink(&path).or_fail("unlink")?;
            }
            Ok(())
        }
    };
    t.race(vec![
        worker("one", churn(1)),
        worker("two", churn(2)),
        worker("three", churn(3)),
    ])?;
    root.expect_contents(&expected, "the root")
}

fn names_race_with_names(t: &Test) -> Outcome {
    let (a, b) = (t.mkdir("a")?, t.mkdir("b")?);
    let act = |seed: u64| {
        let mut random = Random::new(t.effort.seed + seed);
        let dirs = [a.clone(), b.clone()];
        move || {
            let mut pick = || dirs[random.below(2)].join(format!("n{}", random.below(6)));
            let (one, other) = (pick(), pick());
            let what = random.below(7);
            let result = match what {
                0 => File::open(&one, libc::O_RDWR | libc::O_CREAT).map(|_| ()),
                1 => unlink(&one),
                2 => rename(&one, &other),
                3 => link(&one, &other),
                4 => mkdir(&one, 0o755),
                5 => rmdir(&one),
                _ => crate::sys::symlink("n0", &one),
            };
            // Others come in between: what may be said is known, all else is a mistake.
            let allowed = [
                libc::ENOENT, libc::EEXIST, libc::EISDIR, libc::ENOTDIR, libc::ENOTEMPTY,
                libc::EPERM, libc::ELOOP, libc::EINVAL,
            ];
            match result {
                Ok(()) => Ok(()),
                Err(Errno(errno)) if allowed.contains(&errno) => Ok(()),
                Err(error) => Err(error).or_fail(format_args!("step {what}")),
            }
        }
    };
    t.race(vec![
        worker("one", act(1)),
        worker("two", act(2)),
        worker("three", act(3)),
        worker("lists", || {
            for dir in [&a, &b] {
                std::fs::read_dir(dir).or_fail("read_dir")?.count();
            }
            Ok(())
        }),
    ])?;
    // What is listed is there, and what is there can be removed.
    for dir in [&a, &b] {
        for entry in std::fs::read_dir(dir).or_fail("read_dir")? {
            let path = entry.or_fail("entry")?.path();
            let stat = crate::sys::lstat(&path).or_fail("lstat of what is listed")?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                rmdir(&path).or_fail("rmdir")?;
            } else {
                unlink(&path).or_fail("unlink")?;
            }
        }
        if t.filesystem != Btrfs {
            expect_eq(crate::sys::lstat(dir).or_fail("lstat")?.st_nlink, 2, "links at the end")?;
        }
        rmdir(dir).or_fail("rmdir of the emptied directory")?;
    }
    Ok(())
}

fn renames_of_directories_race_without_loops(t: &Test) -> Outcome {
    for name in ["a", "b", "a/c", "b/d"] {
        t.mkdir(name)?;
    }
    let shuffle = |seed: u64| {
        let mut random = Random::new(t.effort.seed + seed);
        move || {
            const PLACES: [&str; 8] = ["a", "b", "a/c", "b/d", "a/b", "b/a", "a/c/b", "b/d/a"];
            let (from, to) = (PLACES[random.below(8)], PLACES[random.below(8)]);
            let _ = rename(t.path(from), t.path(to));
            Ok(())
        }
    };
    t.race(vec![
        worker("one", shuffle(1)),
        worker("two", shuffle(2)),
        worker("puts back", || {
            for name in ["a", "b", "a/c", "b/d"] {
                let _ = mkdir(t.path(name), 0o755);
            }
            Ok(())
        }),
    ])
    // That the directory can be removed afterwards shows that nothing is lost in a loop.
}

fn opening_races_with_unlinking_and_creating(t: &Test) -> Outcome {
    let path = t.path("file");
    let create = || -> Outcome {
        match File::open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) {
            Ok(file) => file.write_at(b"whole", 0),
            Err(Errno(libc::EEXIST)) => Ok(()),
            Err(error) => Err(error).or_fail("create"),
        }
    };
    t.race(vec![
        worker("creates", create),
        worker("creates too", create),
        worker("unlinks", || match unlink(&path) {
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
            Err(error) => Err(error).or_fail("unlink"),
        }),
        worker("opens and reads", || match File::open(&path, libc::O_RDONLY) {
            Ok(file) => {
                let seen = file.contents()?;
                expect(b"whole".starts_with(&seen), format_args!("the file holds {seen:?}"))
            }
            Err(Errno(libc::ENOENT)) => Ok(()),
            Err(error) => Err(error).or_fail("open"),
        }),
    ])
}

fn forks_race_with_stores_and_clones(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 4 * BLOCK])?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    private.store(3 * BLOCK, b"private");
    let mut children = 0u64;
    let mut clones = 0;
    let deadline = Instant::now() + t.effort.race;
    while Instant::now() < deadline {
        let child = Child::spawn(|| {
            shared.word(0).fetch_add(1, SeqCst);
            private.store(3 * BLOCK, b"childs!");
            private.store(BLOCK, b"childs!");
            Ok(())
        })?;
        clones += 1;
        let clone = new_clone(&file, t.path(&format!("clone-{}", clones % 3)))?;
        let before = clone.contents()?;
        shared.word(2 * BLOCK).fetch_add(1, SeqCst);
        child.join()?;
        children += 1;
        clone.expect_contents(&before, "the clone")?;
        expect_eq(private.load(3 * BLOCK, 7), b"private", "the parent's private page")?;
        expect_eq(shared.word(0).load(SeqCst), children, "additions of the children")?;
        expect_eq(shared.word(2 * BLOCK).load(SeqCst), children, "additions of the parent")?;
    }
    Ok(())
}

fn attributes_race_with_everything(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(5, 4))?;
    let other = t.create("other")?;
    t.race(vec![
        worker("writes", || file.write_at(&[1; BLOCK], 100)),
        worker("cuts and extends", || {
            file.truncate(BLOCK64)?;
            file.truncate(4 * BLOCK64)
        }),
        worker("changes modes", || {
            crate::sys::chmod(&file.path, 0o600).or_fail("chmod")?;
            crate::sys::chmod(&file.path, 0o644).or_fail("chmod")
        }),
        worker("copies", || copy_loop(&file, 0, &other, 0, 4 * BLOCK).map(|_| ())),
        worker("looks", || {
            let stat = file.stat()?;
            expect([0o600, 0o644].contains(&(stat.st_mode & 0o777)), "a mode that was set")?;
            expect(
                [BLOCK64, 4 * BLOCK64].contains(&(stat.st_size as u64)) || stat.st_size as u64 == BLOCK64 + 100,
                format_args!("a size that was set: {}", stat.st_size),
            )?;
            expect((0..=4 * 8 + 128 * 8).contains(&stat.st_blocks), format_args!("{} blocks", stat.st_blocks))
        }),
    ])
}

/// A byte that shows whether it belongs where it is: six bits say the place, two the version.
/// Bytes, since a longer word may be torn by whoever copies it while it is stored.
fn sealed(offset: u64, version: u8) -> u8 {
    (1 + mix(offset) % 63) as u8 * 4 + version % 4
}

/// The bytes for a stretch of a file.
fn sealed_bytes(from: u64, len: usize, version: u8) -> Vec<u8> {
    (from..from + len as u64)
        .map(|offset| sealed(offset, version))
        .collect()
}

/// Expects every byte to be zero or sealed for its place.
fn expect_sealed(bytes: &[u8], start: u64, what: &str) -> Outcome {
    let wrong = (start..)
        .zip(bytes)
        .find(|(offset, byte)| **byte != 0 && **byte / 4 != sealed(*offset, 0) / 4);
    match wrong {
        None => Ok(()),
        Some((offset, byte)) => Err(Failure::new(format_args!(
            "{what}: the byte at {offset} is {byte:#x}, which was never written there"
        ))),
    }
}

fn everything_at_once_by_many_processes(t: &Test) -> Outcome {
    const FILES: usize = 5;
    const PAGES: usize = 80;
    const SIZE: u64 = (PAGES * BLOCK) as u64;
    let names = |i: usize| t.path(&format!("file-{i}"));
    for i in 0..FILES {
        File::create(names(i))?.truncate(SIZE)?;
    }
    let deadline = Instant::now() + t.effort.soak;
    let play = |who: u64| -> Outcome {
        let mut random = Random::new(t.effort.seed * 1000 + who);
        // One mapping stays for long, as in real programs; the others come and go.
        let file = File::open(names(who as usize % FILES), libc::O_RDWR).or_fail("open")?;
        let lasting = Mapping::shared(&file, PAGES * BLOCK)?;
        let mut steps = 0u64;
        while Instant::now() < deadline || steps == 0 {
            steps += 1;
            let version = (steps + who) as u8;
            let (i, j) = (random.below(FILES), random.below(FILES));
            let one = File::open(names(i), libc::O_RDWR).or_fail("open")?;
            let other = File::open(names(j), libc::O_RDWR).or_fail("open")?;
            let page = random.below(PAGES);
            let count = 1 + random.below(PAGES - page);
            let (offset, len) = ((page * BLOCK) as u64, (count * BLOCK) as u64);
            // The page may be cut off meanwhile: the kernel stores, which is no signal then.
            let store = |map: &Mapping, at: usize, len: usize| -> Outcome {
                let len = len.min(PAGES * BLOCK - at);
                let (output, input) = crate::sys::pipe()?;
                crate::sys::write_all(&input, &sealed_bytes(at as u64, len, version))?;
                let _ = crate::sys::read_to(&output, map.at(at), len);
                Ok(())
            };
            match random.below(14) {
                0 | 1 => {
                    let from = offset + random.below(BLOCK) as u64;
                    let len = (1 + random.below(12_000)).min((SIZE - from) as usize);
                    one.write_at(&sealed_bytes(from, len, version), from)?;
                }
                2 => {
                    let map = Mapping::shared(&one, PAGES * BLOCK)?;
                    for _ in 0..10 {
                        store(&map, random.below(PAGES * BLOCK), 1 + random.below(100))?;
                    }
                }
                3 => store(&lasting, random.below(PAGES * BLOCK), 1 + random.below(5000))?,
                4 | 5 if t.filesystem != Tmpfs && i != j => {
                    let cloned = clone_range(&one, offset, len, &other, offset);
                    match cloned {
                        Ok(()) | Err(Errno(libc::EINVAL)) => {}
                        Err(error) => return Err(error).or_fail("FICLONERANGE"),
                    }
                }
                6 if t.filesystem != Tmpfs && i != j => match clone_file(&one, &other) {
                    Ok(()) | Err(Errno(libc::EINVAL)) => {}
                    Err(error) => return Err(error).or_fail("FICLONE"),
                },
                7 if t.filesystem != Tmpfs => {
                    match dedupe(&one, offset, len, &other, offset) {
                        Ok(_) | Err(Errno(libc::EINVAL)) => {}
                        Err(error) => return Err(error).or_fail("FIDEDUPERANGE"),
                    }
                }
                8 | 9 if i != j => {
                    // Ragged, to the same place.
                    let at = offset + random.below(BLOCK) as u64;
                    copy_once(&one, at, &other, at, len as usize / 2).or_fail("copy_file_range")?;
                }
                10 => {
                    one.truncate(random.below(PAGES * BLOCK) as u64)?;
                    one.truncate(SIZE)?;
                }
                11 => {
                    let new = t.path(&format!("new-{who}"));
                    File::create(&new)?.truncate(SIZE)?;
                    rename(&new, names(i)).or_fail("rename")?;
                }
                _ => {
                    let seen = one.read_at(offset, len as usize)?;
                    expect_sealed(&seen, offset, "read")?;
                }
            }
        }
        Ok(())
    };
    let children = (0..4)
        .map(|who| Child::spawn(move || play(who)))
        .collect::<Outcome<Vec<_>>>()?;
    children.into_iter().try_for_each(|child| child.join())?;
    for i in 0..FILES {
        let file = File::open(names(i), libc::O_RDONLY).or_fail("open")?;
        let seen = file.contents()?;
        expect_sealed(&seen, 0, "at the end")?;
        let map = Mapping::shared_read(&file, seen.len().max(1))?;
        expect(map.load(0, seen.len()) == seen, "file and mapping agree at the end")?;
    }
    Ok(())
}

fn mounting_races_with_use(t: &Test) -> Outcome {
    let mount_and_use = |name: &'static str| {
        let mut turn = 0;
        move || {
            turn += 1;
            let fs = t.mount_at(&format!("{name}-{turn}"), &[("size", "1M")])?;
            let file = fs.create_with("file", &blocks(6, 20))?;
            let map = Mapping::shared(&file, 20 * BLOCK)?;
            map.store(5, b"stored");
            // Half of the time the filesystem outlives its mount.
            if turn % 2 == 0 {
                drop(fs);
                expect_eq(map.load(5, 6), b"stored", "the mapping after a lazy umount")?;
            } else {
                drop(map);
                drop(file);
                fs.unmount()?;
            }
            Ok(())
        }
    };
    t.race(vec![
        worker("mounts", mount_and_use("a")),
        worker("mounts too", mount_and_use("b")),
        worker("uses statfs", || {
            crate::sys::statfs(&t.dir).or_fail("statfs")?;
            let _ = std::fs::read_to_string("/proc/self/mountinfo");
            Ok(())
        }),
    ])
}
