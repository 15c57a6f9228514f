// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files of 2^61 bytes that take one block: what looks at each of their blocks would never end,
//! and can be killed.

use std::time::{Duration, Instant};

use crate::case::{case, Case, Test};
use crate::extents::fiemap;
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::CLONES_COUNTED;
use crate::instance::Instance;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{clone_range, copy_once, dedupe, sleep_ms, unlink, File};

pub const CASES: &[Case] = &[
    case!(a_huge_file_is_made_read_and_removed_at_once).needs(CLONES_COUNTED),
    case!(counting_the_extents_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(listing_the_extents_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(a_misaligned_clone_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(a_misaligned_copy_of_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
    case!(comparing_huge_files_can_be_killed).needs(CLONES_COUNTED),
    case!(finding_a_hole_in_a_huge_file_can_be_killed).needs(CLONES_COUNTED),
];

const HUGE: u64 = 1 << 61;

/// Within what time something ends that takes no time but for the machine's being slow.
fn soon(t: &Test) -> Duration {
    Duration::from_secs(if t.effort.divisor > 1 { 15 } else { 4 })
}

/// A file of one block, cloned behind itself until it is huge.
fn huge(fs: &Instance, name: &str) -> Outcome<File> {
    let file = fs.create_with(name, &blocks(1, 1))?;
    let mut size = BLOCK64;
    while size < HUGE {
        clone_range(&file, 0, size, &file, size).or_fail(format_args!(
            "FICLONERANGE of {size} bytes behind themselves"
        ))?;
        size *= 2;
    }
    expect_eq(file.size()?, HUGE, "size of the huge file")?;
    Ok(file)
}

/// Starts a step in a process of its own, kills it, and expects it to be gone soon, and the
/// filesystem to be as good as new.
fn expect_to_end_when_killed(
    t: &Test,
    what: &str,
    step: impl FnOnce(&Instance, &File) -> Outcome,
) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = huge(&fs, "huge")?;
    let child = Child::spawn(|| step(&fs, &file))?;
    sleep_ms(100);
    child.kill(libc::SIGKILL);
    let end = child.wait_for(soon(t))?;
    expect(
        end.is_some(),
        format_args!("{what}: not dead {:?} after SIGKILL", soon(t)),
    )?;
    expect_removal(t, fs, file)
}

/// Expects the file, and then the whole filesystem, to go away soon.
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
    expect_eq(file.read_at(middle, 7)?, b"changed", "what was written")?;
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

fn counting_the_extents_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FIEMAP with fm_extent_count = 0", |_, file| {
        fiemap(file, 0, u64::MAX, 0, 0)
            .map(|_| ())
            .or_fail("FIEMAP")
    })
}

fn listing_the_extents_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FIEMAP with room for millions", |_, file| {
        fiemap(file, 0, u64::MAX, 0, 2 << 20)
            .map(|_| ())
            .or_fail("FIEMAP")
    })
}

fn a_misaligned_clone_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FICLONERANGE of 2^46 bytes", |fs, file| {
        let to = fs.create("to")?;
        clone_range(file, 0, 1 << 46, &to, BLOCK64).or_fail("FICLONERANGE")
    })
}

fn a_misaligned_copy_of_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "copy_file_range of 2^46 bytes", |fs, file| {
        let to = fs.create("to")?;
        let copied = copy_once(file, 0, &to, BLOCK64, 1 << 46);
        copied.map(|_| ()).or_fail("copy_file_range")
    })
}

fn comparing_huge_files_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "FIDEDUPERANGE of 2^60 bytes", |fs, file| {
        // The same bytes in a block of its own.
        let other = huge(fs, "other")?;
        dedupe(file, 0, HUGE / 2, &other, BLOCK64)
            .map(|_| ())
            .or_fail("FIDEDUPERANGE")
    })
}

fn finding_a_hole_in_a_huge_file_can_be_killed(t: &Test) -> Outcome {
    expect_to_end_when_killed(t, "SEEK_HOLE", |_, file| {
        let hole = file.seek(0, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?;
        expect_eq(hole, HUGE, "the first hole")
    })
}
