// SPDX-License-Identifier: GPL-2.0 OR MIT
//! `FALLOC_FL_COLLAPSE_RANGE` and `FALLOC_FL_INSERT_RANGE`.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use crate::case::{case, worker, Case, Test};
use crate::extents::{block_map, expect_letters, expect_shared};
use crate::failure::{expect, expect_eq, expect_errno, Context, Failure, Outcome, Sys};
use crate::filesystem::{Btrfs, Feature, Tmpfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::process::{limit_file_size, Child};
use crate::sys::{check, new_clone, sleep_ms, wait_for_the_clock, File};

/// Skips filesystems without these modes.
const fn moves(case: Case) -> Case {
    case.except(Tmpfs, CANNOT).except(Btrfs, CANNOT)
}

const CANNOT: &str = "neither collapses nor inserts";

pub const CASES: &[Case] = &[
    moves(case!(a_collapsed_range_is_gone_and_the_rest_moves_up)),
    moves(case!(an_inserted_range_is_zeros_and_the_rest_moves_down)),
    moves(case!(inserting_undoes_collapsing)),
    moves(case!(a_clone_is_left_alone)).needs(&[Feature::Reflink]),
    moves(case!(what_moves_stays_shared)).needs(&[Feature::Reflink, Feature::Fiemap]),
    moves(case!(holes_and_data_are_found_at_once)),
    moves(case!(blocks_are_counted_exactly)).needs(&[Feature::ExactBlocks]),
    moves(case!(room_behind_the_end_is_given_back_or_reads_as_zeros)),
    moves(case!(mappings_see_what_moved)),
    moves(case!(a_private_copy_stays_where_it_is)),
    moves(case!(a_private_copy_behind_the_new_end_is_cut_off)),
    moves(case!(what_makes_no_sense_is_refused)),
    moves(case!(the_largest_size_is_kept)),
    moves(case!(random_calls_agree_with_a_model)),
    moves(case!(random_calls_on_clones_agree_with_a_model)).needs(&[Feature::Reflink]),
    moves(case!(a_full_filesystem_can_do_both)).needs(&[Feature::Reflink, Feature::Instance]),
    moves(case!(times_change)),
    moves(case!(a_kill_in_the_middle_leaves_a_file_of_before_or_after)),
    moves(case!(readers_and_stores_race_with_moving)),
    moves(case!(stores_to_what_moves_are_kept)),
    moves(case!(a_reader_finds_no_hole_where_the_end_was)),
];

const COLLAPSE: i32 = libc::FALLOC_FL_COLLAPSE_RANGE;
const INSERT: i32 = libc::FALLOC_FL_INSERT_RANGE;

fn fallocate(file: &impl AsRawFd, mode: i32, offset: u64, len: u64) -> Sys {
    let (offset, len) = (offset as i64, len as i64);
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) }).map(|_| ())
}

/// Collapses or inserts, by blocks, in the file and in the model.
#[track_caller]
fn apply(file: &File, model: &mut Vec<u8>, mode: i32, at: usize, count: usize) -> Outcome {
    let (offset, len) = (at * BLOCK, count * BLOCK);
    let name = if mode == COLLAPSE {
        "collapsing"
    } else {
        "inserting"
    };
    let what = format!(
        "{name} {count} blocks at block {at} of {} bytes",
        model.len()
    );
    fallocate(file, mode, offset as u64, len as u64).or_fail(&what)?;
    if mode == COLLAPSE {
        model.drain(offset..offset + len);
    } else {
        model.splice(offset..offset, vec![0; len]);
    }
    file.expect_contents(model, &what)
}

/// Offsets at the edges of a tree's nodes, with 64 blocks to a leaf, and within them.
const PLACES: [(usize, usize); 10] = [
    (0, 1),
    (0, 64),
    (64, 64),
    (64, 128),
    (1, 1),
    (63, 2),
    (5, 64),
    (64, 3),
    (100, 37),
    (1, 150),
];

/// Creates a file of data, holes and a partial last block.
fn subject(t: &Test, name: &str, count: usize) -> Outcome<(File, Vec<u8>)> {
    let mut model = blocks(1, count);
    model.extend(pattern(2, 1234));
    let file = t.create_with(name, &model)?;
    for at in [10, 70, 71, 128] {
        let hole = at * BLOCK..(at + 1) * BLOCK;
        if hole.end <= model.len() {
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, punch, hole.start as u64, BLOCK64).or_fail("punching a hole")?;
            model[hole].fill(0);
        }
    }
    Ok((file, model))
}

fn a_collapsed_range_is_gone_and_the_rest_moves_up(t: &Test) -> Outcome {
    for (at, count) in PLACES {
        let (file, mut model) = subject(t, "file", 300)?;
        apply(&file, &mut model, COLLAPSE, at, count)?;
        file.write_at(b"more", model.len() as u64)?;
        model.extend(b"more");
        file.expect_contents(&model, "after appending")?;
    }
    Ok(())
}

fn an_inserted_range_is_zeros_and_the_rest_moves_down(t: &Test) -> Outcome {
    for (at, count) in PLACES {
        let (file, mut model) = subject(t, "file", 200)?;
        apply(&file, &mut model, INSERT, at, count)?;
        // The inserted range can be written.
        file.write_at(&pattern(3, 100), at as u64 * BLOCK64 + 50)?;
        model[at * BLOCK + 50..][..100].copy_from_slice(&pattern(3, 100));
        file.expect_contents(&model, "after writing to the new room")?;
    }
    Ok(())
}

fn inserting_undoes_collapsing(t: &Test) -> Outcome {
    let (file, model) = subject(t, "file", 200)?;
    for (at, count) in PLACES {
        let mut changed = model.clone();
        apply(&file, &mut changed, INSERT, at, count)?;
        apply(&file, &mut changed, COLLAPSE, at, count)?;
        file.expect_contents(&model, "as it was")?;
    }
    Ok(())
}

fn a_clone_is_left_alone(t: &Test) -> Outcome {
    for (i, (at, count)) in PLACES.into_iter().enumerate() {
        let (source, model) = subject(t, "source", 200)?;
        let clone = new_clone(&source, t.path("clone"))?;
        let (file, other) = if i % 2 == 0 {
            (&source, &clone)
        } else {
            (&clone, &source)
        };
        let mut changed = model.clone();
        apply(file, &mut changed, COLLAPSE, at, count.min(40))?;
        apply(file, &mut changed, INSERT, at, count)?;
        other.expect_contents(&model, "the other of the two")?;
        file.write_at(&pattern(9, changed.len()), 0)?;
        other.expect_contents(&model, "the other, after everything was written")?;
    }
    Ok(())
}

fn what_moves_stays_shared(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 200))?;
    let clone = new_clone(&source, t.path("clone"))?;
    fallocate(&clone, COLLAPSE, 30 * BLOCK64, 7 * BLOCK64).or_fail("collapse")?;
    expect_shared(&source, 0, &clone, 0, 30)?;
    expect_shared(&source, 37, &clone, 30, 163)?;
    fallocate(&clone, INSERT, 10 * BLOCK64, 64 * BLOCK64).or_fail("insert")?;
    expect_shared(&source, 0, &clone, 0, 10)?;
    expect_shared(&source, 10, &clone, 74, 20)?;
    expect_shared(&source, 37, &clone, 94, 163)?;
    let map = block_map(&clone)?;
    expect(
        map[10..74].iter().all(|block| block.physical().is_none()),
        "the inserted range is a hole",
    )?;
    // After the clone is removed nothing is shared.
    clone.truncate(0)?;
    fallocate(&source, COLLAPSE, 0, 190 * BLOCK64).or_fail("collapse")?;
    expect_letters(&source, "pppppppppp", "the source, alone")
}

fn holes_and_data_are_found_at_once(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 100))?;
    let at = |block: u64| block * BLOCK64;
    fallocate(&file, INSERT, at(20), at(70)).or_fail("insert")?;
    expect_eq(
        file.data_ranges()?,
        vec![(0, at(20)), (at(90), at(170))],
        "data after inserting",
    )?;
    fallocate(&file, COLLAPSE, at(10), at(30)).or_fail("collapse")?;
    expect_eq(
        file.data_ranges()?,
        vec![(0, at(10)), (at(60), at(140))],
        "data after collapsing the hole's beginning",
    )?;
    fallocate(&file, COLLAPSE, at(10), at(50)).or_fail("collapse")?;
    expect_eq(
        file.data_ranges()?,
        vec![(0, at(90))],
        "data after collapsing the hole",
    )
}

fn blocks_are_counted_exactly(t: &Test) -> Outcome {
    let (file, mut model) = subject(t, "file", 200)?;
    let before = file.data_blocks()?;
    expect_eq(before, 201 - 4, "blocks: all but the holes")?;
    apply(&file, &mut model, INSERT, 3, 77)?;
    expect_eq(file.data_blocks()?, before, "blocks after inserting a hole")?;
    // Blocks 0..3 of data, 7 of the hole.
    apply(&file, &mut model, COLLAPSE, 0, 10)?;
    expect_eq(
        file.data_blocks()?,
        before - 3,
        "blocks after collapsing three and a hole",
    )?;
    apply(&file, &mut model, COLLAPSE, 1, 250)?;
    let data = model
        .chunks(BLOCK)
        .filter(|b| b.iter().any(|&b| b != 0))
        .count() as u64;
    expect_eq(
        file.data_blocks()?,
        data,
        "blocks after collapsing most of it",
    )
}

fn room_behind_the_end_is_given_back_or_reads_as_zeros(t: &Test) -> Outcome {
    for mode in [COLLAPSE, INSERT] {
        let (file, mut model) = subject(t, "file", 20)?;
        fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 100 * BLOCK64).or_fail("fallocate")?;
        apply(&file, &mut model, mode, 2, 5)?;
        file.truncate(200 * BLOCK64)?;
        model.resize(200 * BLOCK, 0);
        file.expect_contents(&model, "grown over the bytes behind the end")?;
        // The bytes behind the old end show nowhere.
        let map = Mapping::shared_read(&file, model.len())?;
        expect(map.load_all() == model, "a mapping of it")?;
    }
    Ok(())
}

fn mappings_see_what_moved(t: &Test) -> Outcome {
    let (file, mut model) = subject(t, "file", 100)?;
    let size = |model: &Vec<u8>| model.len().next_multiple_of(BLOCK);
    let shared = Mapping::shared(&file, 200 * BLOCK)?;
    let private = Mapping::private(&file, 200 * BLOCK)?;
    for (mode, at, count) in [
        (COLLAPSE, 5, 3),
        (INSERT, 64, 1),
        (INSERT, 0, 64),
        (COLLAPSE, 64, 64),
        (INSERT, 7, 9),
    ] {
        // All pages are mapped before.
        let mapped = size(&model);
        shared.load(0, mapped);
        private.load(0, mapped);
        apply(&file, &mut model, mode, at, count)?;
        for (map, what) in [(&shared, "shared"), (&private, "private")] {
            expect(
                map.load(0, model.len()) == model,
                format_args!("a {what} mapping shows the file as it is"),
            )?;
            let rest = map.load(model.len(), size(&model) - model.len());
            expect(rest.iter().all(|&b| b == 0), "zeros behind the end")?;
        }
        // A store lands at its offset in the mapping.
        shared.store(33 * BLOCK + 5, b"stored");
        model[33 * BLOCK + 5..][..6].copy_from_slice(b"stored");
        file.expect_contents(&model, "after a store")?;
    }
    Ok(())
}

fn a_private_copy_stays_where_it_is(t: &Test) -> Outcome {
    let (file, mut model) = subject(t, "file", 50)?;
    let private = Mapping::private(&file, 40 * BLOCK)?;
    private.store(20 * BLOCK, b"mine");
    let copy = private.load(20 * BLOCK, BLOCK);
    apply(&file, &mut model, COLLAPSE, 5, 10)?;
    expect(
        private.load(20 * BLOCK, BLOCK) == copy,
        "the private copy is kept",
    )?;
    let shown = private.load(0, 20 * BLOCK);
    expect(
        shown == model[..20 * BLOCK],
        "the bytes before it are the file's",
    )
}

fn a_private_copy_behind_the_new_end_is_cut_off(t: &Test) -> Outcome {
    let (file, mut model) = subject(t, "file", 4)?;
    let private = Mapping::private(&file, 5 * BLOCK)?;
    private.store(4 * BLOCK, b"mine");
    apply(&file, &mut model, COLLAPSE, 0, 1)?;
    file.truncate(5 * BLOCK64)?;
    expect(
        private.load(4 * BLOCK, BLOCK) == [0; BLOCK],
        "zeros where the file grew back",
    )
}

fn what_makes_no_sense_is_refused(t: &Test) -> Outcome {
    let (file, model) = subject(t, "file", 10)?;
    let blocks_and_a_bit = model.len() as u64;
    let end = blocks_and_a_bit.next_multiple_of(BLOCK64);
    for (mode, offset, len, errno, what) in [
        (
            COLLAPSE,
            1,
            BLOCK64,
            libc::EINVAL,
            "an offset that is no block's",
        ),
        (
            COLLAPSE,
            0,
            100,
            libc::EINVAL,
            "a length that is no block's",
        ),
        (
            INSERT,
            512,
            BLOCK64,
            libc::EINVAL,
            "an offset that is no block's",
        ),
        (
            INSERT,
            0,
            BLOCK64 + 1,
            libc::EINVAL,
            "a length that is no block's",
        ),
        (COLLAPSE, 0, 0, libc::EINVAL, "nothing"),
        (INSERT, 0, 0, libc::EINVAL, "nothing"),
        (
            COLLAPSE,
            9 * BLOCK64,
            2 * BLOCK64,
            libc::EINVAL,
            "up to the end",
        ),
        (COLLAPSE, 0, 100 * BLOCK64, libc::EINVAL, "across the end"),
        (COLLAPSE, end, BLOCK64, libc::EINVAL, "behind the end"),
        (INSERT, end, BLOCK64, libc::EINVAL, "behind the end"),
        (INSERT, 1 << 40, BLOCK64, libc::EINVAL, "far behind the end"),
        (
            COLLAPSE,
            i64::MAX as u64 & !4095,
            BLOCK64,
            libc::EFBIG,
            "behind all files",
        ),
        (
            INSERT,
            0,
            i64::MAX as u64 & !4095,
            libc::EFBIG,
            "more than a file can hold",
        ),
    ] {
        let name = if mode == COLLAPSE {
            "collapsing"
        } else {
            "inserting"
        };
        let refused = fallocate(&file, mode, offset, len);
        expect_errno(refused, errno, format_args!("{name} {what}"))?;
    }
    for mode in [COLLAPSE, INSERT] {
        for with in [
            libc::FALLOC_FL_KEEP_SIZE,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            COLLAPSE ^ INSERT ^ mode,
        ] {
            let refused = fallocate(&file, mode | with, 0, BLOCK64);
            expect_errno(
                refused,
                libc::EOPNOTSUPP,
                format_args!("{mode:#x} with {with:#x}"),
            )?;
        }
        let reader = file.reopen(libc::O_RDONLY)?;
        expect_errno(
            fallocate(&reader, mode, 0, BLOCK64),
            libc::EBADF,
            "without O_RDWR",
        )?;
        // chattr.rs tests append-only files.
    }
    // The end of the file is no place to insert, aligned or not.
    let whole = t.create_with("whole", &blocks(1, 2))?;
    expect_errno(
        fallocate(&whole, INSERT, 2 * BLOCK64, BLOCK64),
        libc::EINVAL,
        "at the end",
    )?;
    let empty = t.create("empty")?;
    for mode in [COLLAPSE, INSERT] {
        let refused = fallocate(&empty, mode, 0, BLOCK64);
        expect_errno(refused, libc::EINVAL, "an empty file")?;
    }
    file.expect_contents(&model, "after all that was refused")
}

fn the_largest_size_is_kept(t: &Test) -> Outcome {
    let (file, model) = subject(t, "file", 10)?;
    limit_file_size(20 * BLOCK64)?;
    // SAFETY: plain call; a larger file would send the signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let refused = fallocate(&file, INSERT, 0, 64 * BLOCK64);
    expect_errno(refused, libc::EFBIG, "above the process's limit")?;
    file.expect_contents(&model, "after EFBIG")?;
    fallocate(&file, INSERT, 0, BLOCK64).or_fail("below it")
}

fn random_history(t: &Test, clones: bool) -> Outcome {
    for round in 0..t.rounds(10) as u64 {
        let seed = t.settings.seed + round;
        let mut random = Random::new(seed);
        let mut model = pattern(1, 100 * BLOCK + random.below(BLOCK));
        let file = t.create_with("file", &model)?;
        let mut kept: Vec<(File, Vec<u8>)> = Vec::new();
        for step in 0..30 {
            let done = (|| {
                let size = model.len() / BLOCK;
                let at = random.below(size.max(2) - 1);
                let most = [3, 70][random.below(2)];
                let count = 1 + random.below(most);
                match random.below(5) {
                    0 | 1 if at + count < size => apply(&file, &mut model, COLLAPSE, at, count)?,
                    0..=2 if size < 400 => apply(&file, &mut model, INSERT, at, count)?,
                    3 if clones => {
                        kept.truncate(2);
                        let path = t.path(&format!("clone-{}", random.below(3)));
                        let clone = new_clone(&file, path)?;
                        kept.retain(|(kept, _)| kept.path != clone.path);
                        kept.insert(0, (clone, model.clone()));
                        kept[0].0.truncate(model.len() as u64)?;
                    }
                    _ => {
                        let offset = random.below(model.len());
                        let len = 1 + random.below(2 * BLOCK);
                        let data = random.bytes(len);
                        file.write_at(&data, offset as u64)?;
                        let end = offset + data.len();
                        model.resize(model.len().max(end), 0);
                        model[offset..end].copy_from_slice(&data);
                    }
                }
                kept.iter()
                    .try_for_each(|(clone, model)| clone.expect_contents(model, "a clone"))
            })();
            done.map_err(|Failure(text)| Failure(format!("seed {seed}, step {step}: {text}")))?;
        }
        file.expect_contents(&model, "in the end")?;
    }
    Ok(())
}

fn random_calls_agree_with_a_model(t: &Test) -> Outcome {
    random_history(t, false)
}

fn random_calls_on_clones_agree_with_a_model(t: &Test) -> Outcome {
    random_history(t, true)
}

fn a_full_filesystem_can_do_both(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M")])?;
    let mut model = blocks(1, 1000);
    let file = fs.create_with("file", &model)?;
    fs.fill(0)?;
    // Only references move if nothing is shared, or if spare nodes suffice.
    apply(&file, &mut model, INSERT, 64, 640)?;
    apply(&file, &mut model, COLLAPSE, 0, 64)?;
    apply(&file, &mut model, INSERT, 3, 5)?;
    apply(&file, &mut model, COLLAPSE, 7, 100)?;
    let after = fs.space()?.free;
    expect(after > 0, "collapsing freed blocks")?;
    // Shared or not, the other file is unchanged.
    let clone = fs.create("clone")?;
    crate::sys::clone_file(&file, &clone).or_fail("FICLONE")?;
    let before = model.clone();
    apply(&clone, &mut model, COLLAPSE, 3, 70)?;
    apply(&clone, &mut model, INSERT, 9, 70)?;
    file.expect_contents(&before, "the source")?;
    drop(clone);
    drop(file);
    for name in ["file", "clone", "filler"] {
        crate::sys::unlink(fs.path(name)).or_fail("unlink")?;
    }
    expect_eq(fs.used()?, 0, "blocks used after everything was removed")
}

fn times_change(t: &Test) -> Outcome {
    let (file, _) = subject(t, "file", 10)?;
    for mode in [COLLAPSE, INSERT] {
        let before = file.times()?;
        wait_for_the_clock();
        fallocate(&file, mode, 0, BLOCK64).or_fail("fallocate")?;
        let after = file.times()?;
        expect(after.modified > before.modified, "mtime is new")?;
        expect(after.changed > before.changed, "ctime is new")?;
    }
    Ok(())
}

fn a_kill_in_the_middle_leaves_a_file_of_before_or_after(t: &Test) -> Outcome {
    // Each block has a number in it; blocks that move keep their order.
    let count = 4096u64;
    for round in 0..t.rounds(10) {
        let file = t.create("file")?;
        let numbers: Vec<u8> = (1..=count)
            .flat_map(|number| number.to_le_bytes().repeat(BLOCK / 8))
            .collect();
        file.write_at(&numbers, 0)?;
        let mode = [COLLAPSE, INSERT][round % 2];
        let child = Child::spawn(|| {
            (0..100)
                .try_for_each(|_| fallocate(&file, mode, BLOCK64, 3 * BLOCK64).or_fail("fallocate"))
        })?;
        sleep_ms(round as u64 / 2);
        child.kill(libc::SIGKILL);
        child.end()?;
        let seen = file.contents()?;
        expect_eq(seen.len() % BLOCK, 0, "bytes of no whole block")?;
        let numbers: Vec<u64> = seen
            .chunks(BLOCK)
            .map(|block| u64::from_le_bytes(block[..8].try_into().expect("8 bytes")))
            .filter(|&number| number != 0)
            .collect();
        expect(
            numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers[0] == 1,
            "blocks are in order",
        )?;
        let size = seen.len() as u64 / BLOCK64;
        if mode == INSERT {
            expect_eq(numbers.len() as u64, count, "blocks: none is lost")?;
            expect(
                (size - count) % 3 == 0 && size >= count,
                "whole ranges were inserted",
            )?;
        } else {
            let gone = count - numbers.len() as u64;
            expect(
                gone % 3 == 0,
                format_args!("{gone} blocks are gone, not whole ranges"),
            )?;
            expect_eq(size, count - gone, "the size, in blocks")?;
        }
        for block in seen.chunks(BLOCK) {
            let repeated = block[..8].repeat(BLOCK / 8);
            expect(block == repeated, "a block is all one number")?;
        }
    }
    Ok(())
}

fn readers_and_stores_race_with_moving(t: &Test) -> Outcome {
    // Each block repeats its number, and has a counter at its end. Blocks below `fixed`, in the
    // same leaf as blocks that move, stay.
    let (count, fixed) = (200usize, 70usize);
    let file = t.create("file")?;
    let fresh: Vec<u8> = (1..=count as u64)
        .flat_map(|number| [number.to_le_bytes().repeat(BLOCK / 8 - 1), vec![0; 8]].concat())
        .collect();
    file.write_at(&fresh, 0)?;
    let map = Mapping::shared(&file, count * BLOCK)?;
    let (file, map) = (&file, &map);
    let (mut moving, mut storing) = (
        Random::new(t.settings.seed),
        Random::new(t.settings.seed + 1),
    );
    let added = std::sync::atomic::AtomicU64::new(0);
    t.race(vec![
        worker("inserting and collapsing", move || {
            let at = (fixed + moving.below(count - fixed)) as u64 * BLOCK64;
            let len = (1 + moving.below(70)) as u64 * BLOCK64;
            fallocate(file, INSERT, at, len).or_fail("insert")?;
            fallocate(file, COLLAPSE, at, len).or_fail("collapse")
        }),
        worker("reading", move || {
            for block in file.read_at(0, count * BLOCK)?.chunks_exact(BLOCK) {
                let repeated = block[..8].repeat(BLOCK / 8 - 1);
                expect(block[..BLOCK - 8] == repeated, "a block is all one number")?;
            }
            Ok(())
        }),
        worker("counting", || {
            for _ in 0..10 {
                let at = storing.below(fixed) * BLOCK;
                expect_eq(
                    map.load(at, 8),
                    &fresh[at..at + 8],
                    "the number of a block that stays",
                )?;
                map.word(at + BLOCK - 8).fetch_add(1, Ordering::Relaxed);
                added.fetch_add(1, Ordering::Relaxed);
                // A block that moves: its number, or none in an inserted range.
                let moves = (fixed + storing.below(count - fixed)) * BLOCK;
                let number = map.word(moves).load(Ordering::Relaxed);
                expect(number <= count as u64, format_args!("a number {number:#x}"))?;
            }
            Ok(())
        }),
    ])?;
    let mut seen = file.contents()?;
    let mut counted = 0;
    for block in seen.chunks_exact_mut(BLOCK) {
        let counter = &mut block[BLOCK - 8..];
        counted += u64::from_le_bytes((&*counter).try_into().expect("8 bytes"));
        counter.fill(0);
    }
    expect(
        seen == fresh,
        "after as many insertions as collapses, the same blocks",
    )?;
    expect_eq(counted, added.into_inner(), "all that was counted")
}

/// A store that faults while its block is about to move lands in that block.
fn stores_to_what_moves_are_kept(t: &Test) -> Outcome {
    const COUNT: usize = 4096;
    const AT: usize = COUNT - 2;
    let file = t.create_with("file", &vec![0; COUNT * BLOCK])?;
    let map = Mapping::shared(&file, COUNT * BLOCK)?;
    let added = std::sync::atomic::AtomicU64::new(0);
    t.race(vec![
        worker("collapsing and inserting", || {
            fallocate(&file, COLLAPSE, 0, BLOCK64).or_fail("collapse")?;
            fallocate(&file, INSERT, 0, BLOCK64).or_fail("insert")
        }),
        worker("counting", || {
            map.word(AT * BLOCK).fetch_add(1, Ordering::Relaxed);
            added.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }),
    ])?;
    let counted: u64 = (AT..COUNT)
        .map(|block| map.word(block * BLOCK).load(Ordering::Relaxed))
        .sum();
    expect_eq(counted, added.into_inner(), "all that was counted")
}

fn a_reader_finds_no_hole_where_the_end_was(t: &Test) -> Outcome {
    const COUNT: usize = 512;
    let data = vec![0xaa; COUNT * BLOCK];
    let file = t.create_with("file", &data)?;
    let last = (COUNT - 1) as u64 * BLOCK64;
    t.race(vec![
        worker("collapses half of it, and writes that again", || {
            let half = last / 2 / BLOCK64 * BLOCK64;
            fallocate(&file, COLLAPSE, 0, half).or_fail("collapsing")?;
            file.write_at(&data[..half as usize], data.len() as u64 - half)
        }),
        worker("reads the last block", || {
            let seen = file.read_at(last, BLOCK)?;
            expect(
                seen.iter().all(|&byte| byte == 0xaa),
                "the last block, or the end of the file",
            )
        }),
    ])
}
