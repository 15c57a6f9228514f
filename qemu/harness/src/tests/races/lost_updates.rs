// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Stores, writes and direct reads that a clone or a deduplication must not lose.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{Btrfs, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::process::Child;
use crate::sys::{dedupe, new_clone, File};

pub const CASES: &[Case] = &[
    case!(stores_are_never_lost_while_the_file_is_cloned).needs(CLONES),
    case!(writes_are_never_lost_while_the_file_is_cloned).needs(CLONES),
    case!(writes_are_never_lost_while_the_file_is_deduplicated).needs(CLONES),
    case!(direct_reads_into_a_mapping_are_not_lost_and_never_reach_a_clone)
        .needs(CLONES)
        .except(
            Btrfs,
            "checksums pages that a disk still writes to, and then refuses them",
        ),
    case!(forks_race_with_stores_and_clones).needs(CLONES),
];

fn stores_are_never_lost_while_the_file_is_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 2 * BLOCK])?;
    let maps = [
        Mapping::shared(&file, 2 * BLOCK)?,
        Mapping::shared(&file, 2 * BLOCK)?,
    ];
    let add = |map: &'static str, index: usize| {
        let (maps, mut own) = (&maps, 0u64);
        worker(map, move || {
            own += 1;
            // Both add to one word, and each to a word of its own.
            maps[index].word(64).fetch_add(1, SeqCst);
            let before = maps[index].word(BLOCK + 8 * index).fetch_add(1, SeqCst);
            expect_eq(before + 1, own, "the worker's own word")
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
    expect_eq(
        maps[1].word(64).load(SeqCst),
        own,
        "the sum that both added to",
    )?;
    expect_eq(
        file.read_at(64, 8)?,
        own.to_le_bytes(),
        "the sum in the file",
    )
}

fn writes_are_never_lost_while_the_file_is_cloned(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let mut random = Random::new(t.settings.seed);
    let mut turn = 0;
    t.race(vec![
        worker("writes and reads back", || {
            let offset = random.below(4 * BLOCK - 64) as u64;
            let data = random.bytes(64);
            file.write_at(&data, offset)?;
            expect_bytes(&file.read_at(offset, 64)?, &data, "the bytes just written")
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
        dedupe(from, 0, 4 * BLOCK64, to, 0)
            .map(|_| ())
            .or_fail("FIDEDUPERANGE")
    };
    t.race(vec![
        worker("changes and restores", || {
            value += 1;
            for page in 0..4u64 {
                let (at, word) = (page * BLOCK64 + 8, (value * 4 + page).to_le_bytes());
                file.write_at(&word, at)?;
                expect_eq(file.read_at(at, 8)?, word, "a word just written")?;
                map.word(at as usize).store(value, SeqCst);
                expect_eq(
                    map.word(at as usize).load(SeqCst),
                    value,
                    "a word just stored",
                )?;
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

/// Makes a disk for direct reads, which pin the pages of their buffer meanwhile.
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
    // The contents of two ranges of the disk; they must differ.
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
            expect_bytes(
                &file.read_at(0, n)?,
                &expected[..n],
                "the bytes read from the disk",
            )
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

fn forks_race_with_stores_and_clones(t: &Test) -> Outcome {
    let file = t.create_with("file", &[0; 4 * BLOCK])?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    private.store(3 * BLOCK, b"private");
    let mut children = 0u64;
    let mut clones = 0;
    let deadline = Instant::now() + t.settings.race;
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
        expect_eq(
            private.load(3 * BLOCK, 7),
            b"private",
            "the parent's private page",
        )?;
        expect_eq(
            shared.word(0).load(SeqCst),
            children,
            "additions of the children",
        )?;
        expect_eq(
            shared.word(2 * BLOCK).load(SeqCst),
            children,
            "additions of the parent",
        )?;
    }
    Ok(())
}
