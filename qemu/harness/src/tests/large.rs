// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files of 2^61 bytes that take one block: a call with a step for each of their blocks would never
//! end, but can be killed.

use std::time::{Duration, Instant};

use super::fallocate::{fallocate, PUNCH};
use crate::case::{case, Case, Test};
use crate::extents::{fiemap, FiemapExtent};
use crate::failure::{expect, expect_eq, expect_errno, Context, Failure, Outcome, Sys};
use crate::filesystem::CLONES_COUNTED;
use crate::instance::Instance;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::process::{Child, End};
use crate::sys::{
    clone_range, copy_once, dedupe, pipe, read_all, sleep_ms, unlink, write_all, Deduped, File,
};

pub const CASES: &[Case] = &[
    case!(a_huge_file_is_made_read_and_removed_at_once).needs(CLONES_COUNTED),
    case!(a_hole_in_a_huge_file_is_found_at_once).needs(CLONES_COUNTED),
    case!(counting_the_extents_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(listing_the_extents_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(a_misaligned_clone_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(a_misaligned_copy_of_a_huge_file_ends_short).needs(CLONES_COUNTED),
    case!(what_takes_too_many_nodes_fails_at_once).needs(CLONES_COUNTED),
    case!(comparing_huge_files_can_be_killed).needs(CLONES_COUNTED),
    case!(the_source_is_read_while_it_is_cloned).needs(CLONES_COUNTED),
    case!(the_source_is_read_while_it_is_compared).needs(CLONES_COUNTED),
];

const HUGE: u64 = 1 << 61;

/// The bytes of a leaf.
const LEAF: u64 = 64 * BLOCK64;

/// The most bytes that one `FIDEDUPERANGE` compares, and one copy copies.
const COMPARED: u64 = 1 << 30;

/// The number of tries of a step that a busy machine can spoil.
const TRIES: usize = 5;

/// The limit for a call that should end at once: a slow machine takes long, and its clock may be
/// several times too fast. A call without a bound takes hours.
fn soon(t: &Test) -> Duration {
    Duration::from_secs(if t.settings.divisor > 1 { 90 } else { 30 })
}

/// Mounts an instance with room for so many nodes of trees that filling it takes a while.
fn roomy(t: &Test) -> Outcome<Instance> {
    let size = if t.settings.divisor > 1 { "8M" } else { "64M" };
    t.mount(&[("size", size)])
}

/// Creates a file of one block, cloned behind itself until it is huge.
fn huge(fs: &Instance, name: &str) -> Outcome<File> {
    doubled(fs, name, BLOCK64)
}

/// As [`huge`], with one block in each leaf: it is not seen beforehand how many nodes it takes to
/// move them.
fn sparse(fs: &Instance, name: &str) -> Outcome<File> {
    doubled(fs, name, LEAF)
}

fn doubled(fs: &Instance, name: &str, first: u64) -> Outcome<File> {
    let file = fs.create_with(name, &blocks(1, 1))?;
    file.truncate(first)?;
    let mut size = first;
    while size < HUGE {
        clone_range(&file, 0, size, &file, size).or_fail(format_args!(
            "FICLONERANGE of {size} bytes behind themselves"
        ))?;
        size *= 2;
    }
    expect_eq(file.size()?, HUGE, "size of the huge file")?;
    Ok(file)
}

/// Starts a call in a child process, and waits until it runs in the kernel.
fn start(call: impl FnOnce() -> Outcome) -> Outcome<Child> {
    let (output, input) = pipe()?;
    let child = Child::spawn(|| {
        write_all(&input, b"!")?;
        call()
    })?;
    drop(input);
    expect_eq(read_all(&output, 1)?, b"!", "its message before the call")?;
    // The first tick may be from before the call.
    let before = child.time_in_kernel()?;
    while child.time_in_kernel()? < before + 2 && !child.is_over() {
        sleep_ms(1);
    }
    Ok(child)
}

/// Kills the process, and returns how long it took to die; `None` if it had ended before.
fn kill(t: &Test, what: &str, child: Child) -> Outcome<Option<Duration>> {
    if child.is_over() {
        return child.join().map(|()| None);
    }
    let killed = Instant::now();
    child.kill(libc::SIGKILL);
    match child.wait_for(10 * soon(t))? {
        Some(End::Killed(libc::SIGKILL)) => Ok(Some(killed.elapsed())),
        // It ended just before that.
        Some(End::Exited(0)) => Ok(None),
        end => Err(Failure::new(format_args!(
            "{what}: how it ended, within {:?} after SIGKILL: {end:?} {}",
            10 * soon(t),
            child.said()
        ))),
    }
}

/// Expects an endless call to end soon after it is killed, and the filesystem to work afterwards.
fn expect_to_end_when_killed(
    t: &Test,
    what: &str,
    call: impl Fn(&File) -> Sys<(u32, Vec<FiemapExtent>)>,
) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = huge(&fs, "huge")?;
    let child = start(|| {
        let (count, _) = call(&file).or_fail(what)?;
        Err(Failure::new(format_args!("{what} ended with {count}")))
    })?;
    let took = kill(t, what, child)?;
    expect(
        took.is_some_and(|took| took < soon(t)),
        format_args!("{what}: dead {took:?} after SIGKILL"),
    )?;
    expect_removal(t, fs, file)
}

/// Expects a long call to end early when it is killed, without an effect: `unchanged` checks.
fn expect_to_stop_when_killed(
    t: &Test,
    what: &str,
    fs: &Instance,
    call: impl Fn() -> Outcome,
    unchanged: impl Fn() -> Outcome,
) -> Outcome {
    let used = fs.used()?;
    let started = Instant::now();
    call()?;
    let whole = started.elapsed();
    let mut quickest = None;
    for _ in 0..TRIES {
        let took = kill(t, what, start(&call)?)?;
        quickest = quickest.into_iter().chain(took).min();
        expect_eq(fs.used()?, used, format_args!("{what}: blocks afterwards"))?;
        unchanged()?;
    }
    expect(
        quickest.is_some_and(|quickest| quickest < whole / 4),
        format_args!("{what}: it takes {whole:?}, but to die {quickest:?}"),
    )
}

/// Expects reads of the huge file to go on during a long call: a read that had to wait for the call
/// would take as long.
fn expect_reads_to_go_on(t: &Test, what: &str, file: &File, call: impl Fn() -> Outcome) -> Outcome {
    const READS: usize = 50;
    let mut random = Random::new(t.settings.seed);
    let started = Instant::now();
    call()?;
    let whole = started.elapsed();
    let mut quickest = None;
    for _ in 0..TRIES {
        let child = start(&call)?;
        let started = Instant::now();
        for _ in 0..READS {
            let at = random.next() % (HUGE / LEAF) * LEAF;
            expect(
                file.read_at(at, BLOCK)? == blocks(1, 1),
                format_args!("{what}: the block at {at} meanwhile"),
            )?;
        }
        let took = started.elapsed();
        // If it has ended by now, the reads may have waited for it.
        let meanwhile = kill(t, what, child)?.map(|_| took);
        quickest = quickest.into_iter().chain(meanwhile).min();
    }
    expect(
        quickest.is_some_and(|quickest| quickest < whole / 4),
        format_args!("{what}: it takes {whole:?}, and {READS} reads meanwhile {quickest:?}"),
    )
}

/// Expects the file, and then the whole filesystem, to be removed soon.
fn expect_removal(t: &Test, fs: Instance, file: File) -> Outcome {
    let started = Instant::now();
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        unlink(entry.or_fail("readdir")?.path()).or_fail("unlink")?;
    }
    drop(file);
    expect_eq(fs.used()?, 0, "blocks used after everything was removed")?;
    fs.unmount()?;
    let took = started.elapsed();
    expect(
        took < soon(t),
        format_args!("removing the huge file and unmounting took {took:?}"),
    )
}

fn a_huge_file_is_made_read_and_removed_at_once(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let started = Instant::now();
    let file = huge(&fs, "huge")?;
    expect_eq(fs.used()?, 1, "blocks used by the huge file")?;
    let middle = HUGE / 2 + 5 * BLOCK64;
    for at in [0, middle, HUGE - BLOCK64] {
        expect(
            file.read_at(at, BLOCK)? == blocks(1, 1),
            format_args!("the block at {at} is the one that was cloned"),
        )?;
    }
    file.write_at(b"changed", middle)?;
    expect_eq(fs.used()?, 2, "blocks used after a write to the middle")?;
    expect_eq(file.read_at(middle, 7)?, b"changed", "the written bytes")?;
    expect(
        file.read_at(middle - BLOCK64, BLOCK)? == blocks(1, 1),
        "the block before it is as it was",
    )?;
    file.truncate(middle + 3)?;
    expect_eq(file.read_at(middle, 10)?, b"cha", "the new end")?;
    file.truncate(HUGE)?;
    expect_eq(file.read_at(middle, 5)?, b"cha\0\0", "the old end")?;
    let took = started.elapsed();
    expect(
        took < soon(t),
        format_args!("making and changing the huge file took {took:?}"),
    )?;
    expect_removal(t, fs, file)
}

fn a_hole_in_a_huge_file_is_found_at_once(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = huge(&fs, "huge")?;
    let started = Instant::now();
    let hole = |from: u64| file.seek(from as i64, libc::SEEK_HOLE).or_fail("SEEK_HOLE");
    expect_eq(hole(0)?, HUGE, "the first hole")?;
    let middle = HUGE / 2 + 5 * BLOCK64;
    fallocate(&file, PUNCH, middle, BLOCK64).or_fail("punching a hole")?;
    expect_eq(hole(BLOCK64)?, middle, "the first hole")?;
    expect_eq(hole(middle + BLOCK64)?, HUGE, "the next")?;
    let data = file.seek(middle as i64, libc::SEEK_DATA);
    expect_eq(data, Ok(middle + BLOCK64), "data behind it")?;
    let took = started.elapsed();
    expect(took < soon(t), format_args!("finding holes took {took:?}"))?;
    expect_removal(t, fs, file)
}

fn counting_the_extents_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FIEMAP with fm_extent_count = 0", |file| {
        fiemap(file, 0, u64::MAX, 0, 0)
    })
}

fn listing_the_extents_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FIEMAP with room for millions", |file| {
        fiemap(file, 0, u64::MAX, 0, 16 << 20)
    })
}

/// The length of a range that is cloned or copied block by block, as its blocks get other places in
/// the leaves: until there is no room for nodes. Of a [`sparse`] file it has few enough blocks that
/// this is not seen beforehand.
const MISALIGNED: u64 = 1 << 37;

fn clone_without_end(file: &File, to: &File) -> Outcome {
    let cloned = clone_range(file, 0, MISALIGNED, to, BLOCK64);
    expect_errno(cloned, libc::ENOSPC, "FICLONERANGE of 2^37 bytes")
}

fn a_misaligned_clone_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    let fs = roomy(t)?;
    let (file, to) = (sparse(&fs, "huge")?, fs.create_with("to", &blocks(2, 3))?);
    expect_to_stop_when_killed(
        t,
        "FICLONERANGE",
        &fs,
        || clone_without_end(&file, &to),
        || to.expect_contents(&blocks(2, 3), "the destination of a clone that was killed"),
    )?;
    drop(to);
    expect_removal(t, fs, file)
}

/// Returns how long it takes to find that there is no room to move the blocks of a huge file.
fn time_to_find_no_room(t: &Test, size: &str) -> Outcome<Duration> {
    let fs = t.mount_at(size, &[("size", size)])?;
    let (file, to) = (huge(&fs, "huge")?, fs.create("to")?);
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        let started = Instant::now();
        for (mode, offset) in [
            (libc::FALLOC_FL_COLLAPSE_RANGE, 0),
            (libc::FALLOC_FL_INSERT_RANGE, LEAF),
        ] {
            let moved = fallocate(&file, mode, offset, LEAF);
            expect_errno(moved, libc::ENOSPC, "moving the blocks of a huge file")?;
        }
        let cloned = clone_range(&file, 0, HUGE, &to, BLOCK64);
        expect_errno(cloned, libc::ENOSPC, "FICLONERANGE a block later")?;
        least = least.min(started.elapsed());
    }
    drop(to);
    expect_removal(t, fs, file)?;
    Ok(least)
}

/// It holds locks and freeze protection, so that it must not make as many nodes as there is room
/// for first.
fn what_takes_too_many_nodes_fails_at_once(t: &Test) -> Outcome {
    let small = time_to_find_no_room(t, "1M")?;
    let large = time_to_find_no_room(t, "64M")?;
    expect(
        large < 8 * small + Duration::from_millis(5),
        format_args!("{small:?} with room of 1 MiB, {large:?} with 64 MiB"),
    )
}

fn a_misaligned_copy_of_a_huge_file_ends_short(t: &Test) -> Outcome {
    let fs = roomy(t)?;
    let (file, to) = (huge(&fs, "huge")?, fs.create_with("to", &blocks(2, 3))?);
    let copied = copy_once(&file, 0, &to, BLOCK64, MISALIGNED as usize).or_fail("copy")?;
    expect(
        copied > 0 && copied as u64 <= COMPARED,
        format_args!("bytes copied by one call: {copied}"),
    )?;
    expect(
        to.read_at(BLOCK64, BLOCK)? == blocks(1, 1),
        "the first block that was copied",
    )?;
    drop(to);
    expect_removal(t, fs, file)
}

/// Creates another huge file, of the same bytes in another block, except the last of the blocks
/// that are compared from its second block on.
fn nearly_the_same(fs: &Instance) -> Outcome<File> {
    let other = huge(fs, "other")?;
    other.write_at(b"x", COMPARED + 7)?;
    Ok(other)
}

fn compare(file: &File, other: &File) -> Outcome {
    let result = dedupe(file, 0, HUGE / 2, other, BLOCK64).or_fail("FIDEDUPERANGE")?;
    expect_eq(result, Deduped::Differs, "FIDEDUPERANGE of what differs")
}

fn comparing_huge_files_can_be_killed(t: &Test) -> Outcome {
    let fs = roomy(t)?;
    let (file, other) = (huge(&fs, "huge")?, nearly_the_same(&fs)?);
    expect_to_stop_when_killed(
        t,
        "FIDEDUPERANGE",
        &fs,
        || compare(&file, &other),
        || expect(!have_a_block_in_common(&file, &other)?, "nothing is shared"),
    )?;
    drop(other);
    expect_removal(t, fs, file)
}

/// Returns whether one of the first blocks of one file is the first of the other.
fn have_a_block_in_common(file: &File, other: &File) -> Outcome<bool> {
    let first = |file, len| fiemap(file, 0, len, 0, 8).or_fail("FIEMAP");
    let (_, one) = first(file, BLOCK64)?;
    let (_, others) = first(other, 8 * BLOCK64)?;
    Ok(others.iter().any(|e| e.physical == one[0].physical))
}

fn the_source_is_read_while_it_is_cloned(t: &Test) -> Outcome {
    let fs = roomy(t)?;
    let (file, to) = (sparse(&fs, "huge")?, fs.create("to")?);
    expect_reads_to_go_on(t, "FICLONERANGE", &file, || clone_without_end(&file, &to))?;
    drop(to);
    expect_removal(t, fs, file)
}

fn the_source_is_read_while_it_is_compared(t: &Test) -> Outcome {
    let fs = roomy(t)?;
    let (file, other) = (huge(&fs, "huge")?, nearly_the_same(&fs)?);
    expect_reads_to_go_on(t, "FIDEDUPERANGE", &file, || compare(&file, &other))?;
    drop(other);
    expect_removal(t, fs, file)
}
