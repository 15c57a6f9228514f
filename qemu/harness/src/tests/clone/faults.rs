// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The page faults that a clone causes in mappings of its source.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, Context, Outcome};
use crate::filesystem::CLONES;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_range, dedupe, new_clone, Deduped};

pub const CASES: &[Case] = &[
    case!(who_reads_a_mapping_does_not_fault_again_after_a_clone).needs(CLONES),
    case!(what_was_stored_to_is_kept_apart_from_a_clone).needs(CLONES),
];

/// The number of blocks of the file.
const BLOCKS: usize = 1200;

fn faults() -> i64 {
    // SAFETY: a rusage of zeros is valid, and the kernel fills it in.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_minflt + usage.ru_majflt
    }
}

fn read_all(map: &Mapping) -> u64 {
    (0..BLOCKS)
        .map(|block| u64::from(map.load_byte(block * BLOCK)))
        .sum()
}

fn who_reads_a_mapping_does_not_fault_again_after_a_clone(t: &Test) -> Outcome {
    let data = blocks(1, BLOCKS);
    let source = t.create_with("source", &data)?;
    let mut differs = data.clone();
    differs[BLOCKS * BLOCK - 1] ^= 1;
    let other = t.create_with("other", &differs)?;
    source.sync()?;
    other.sync()?;
    let map = Mapping::shared(&source, BLOCKS * BLOCK)?;
    // The first store to each block faults; the others are only read.
    map.store(0, &data[..10]);
    let before = read_all(&map);
    let len = (BLOCKS * BLOCK) as u64;
    let faults_before = faults();
    for turn in 0..3 {
        new_clone(&source, t.path("clone"))?;
        let small = t.create("small")?;
        clone_range(&source, 8 * BLOCK64, BLOCK64 * 8, &small, 0).or_fail("FICLONERANGE")?;
        let result = dedupe(&source, 0, len, &other, 0).or_fail("FIDEDUPERANGE")?;
        expect(
            result == Deduped::Differs,
            format_args!("turn {turn}: files that differ at the end: {result:?}"),
        )?;
        expect(read_all(&map) == before, "the mapping shows the same")?;
    }
    let faults = faults() - faults_before;
    // Reading everything again would take 19 faults, nine times.
    expect(
        faults < 50,
        format_args!("{faults} faults for reading {BLOCKS} blocks again after clones"),
    )
}

fn what_was_stored_to_is_kept_apart_from_a_clone(t: &Test) -> Outcome {
    let mut data = blocks(1, BLOCKS);
    let source = t.create_with("source", &data)?;
    let map = Mapping::shared(&source, BLOCKS * BLOCK)?;
    // In both orders, and scattered.
    let places: Vec<usize> = (100..140)
        .chain((300..340).rev())
        .chain((0..BLOCKS).step_by(3))
        .collect();
    for turn in 0..3u8 {
        for &block in &places {
            let at = block * BLOCK + 5;
            map.store(at, &[turn]);
            data[at] = turn;
        }
        let clone = new_clone(&source, t.path("clone"))?;
        for &block in &places {
            map.store(block * BLOCK + 9, &[turn]);
        }
        expect_bytes(
            &clone.contents()?,
            &data,
            format_args!("the clone of turn {turn}"),
        )?;
        for &block in &places {
            data[block * BLOCK + 9] = turn;
        }
        expect_bytes(
            &source.contents()?,
            &data,
            format_args!("the source of turn {turn}"),
        )?;
    }
    Ok(())
}
