// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A process that may only read a file compares a part of it with a file of its own, again and again:
//! the rest of the file is as if it did not.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::case::{case, worker, Case, Test, Worker};
use crate::failure::{expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::CLONES;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_range, dedupe, pipe, read_all, Deduped, File};
use crate::tests::splice::splice;

pub const CASES: &[Case] = &[
    case!(stores_through_a_mapping_are_kept).needs(CLONES),
    case!(what_was_stored_beyond_the_end_does_not_come_back).needs(CLONES),
    case!(what_is_in_a_pipe_stays_as_it_is).needs(CLONES),
];

/// How many blocks are compared: so few that the rest of the file stays its own.
const COMPARED: u64 = 1000;
/// How many the file has.
const ALL: u64 = 2048;

/// Makes a file, and returns it with one that differs in the last of the blocks that are compared.
fn files(t: &Test) -> Outcome<(File, File)> {
    let mut bytes = blocks(1, ALL as usize);
    let file = t.create_with("file", &bytes)?;
    bytes.truncate((COMPARED * BLOCK64) as usize);
    bytes[COMPARED as usize * BLOCK - 1] ^= 1;
    Ok((file, t.create_with("other", &bytes)?))
}

/// Compares, at varying distances.
fn compares(file: &File, other: &File) -> Outcome<Worker<'static>> {
    let (reader, other) = (file.reopen(libc::O_RDONLY)?, other.reopen(libc::O_RDWR)?);
    let mut turns = 0;
    Ok(worker("compares", move || {
        turns += 1;
        std::thread::sleep(std::time::Duration::from_micros(turns % 7 * 300));
        let result = dedupe(&reader, 0, COMPARED * BLOCK64, &other, 0).or_fail("FIDEDUPERANGE")?;
        expect_eq(result, Deduped::Differs, "the result")
    }))
}

fn stores_through_a_mapping_are_kept(t: &Test) -> Outcome {
    const AT: u64 = 1500 * BLOCK64;

    let (file, other) = files(t)?;
    let map = Mapping::shared(&file, ALL as usize * BLOCK)?;
    let word = map.word(AT as usize + BLOCK / 2);
    word.store(0, SeqCst);
    let mut value = 0;
    t.race(vec![
        compares(&file, &other)?,
        worker("writes to the same block", || file.write_at(b"b", AT)),
        worker("stores", || {
            for _ in 0..100 {
                expect_eq(word.load(SeqCst), value, "the word stored last")?;
                value += 1;
                word.store(value, SeqCst);
            }
            Ok(())
        }),
    ])
}

fn what_was_stored_beyond_the_end_does_not_come_back(t: &Test) -> Outcome {
    let (file, other) = files(t)?;
    let map = Mapping::shared(&file, ALL as usize * BLOCK)?;
    let end = (ALL - 1) * BLOCK64 + 100;
    t.race(vec![
        compares(&file, &other)?,
        worker("stores beyond the end, and moves it", || {
            file.truncate(end)?;
            map.store(end as usize - 1, b"e");
            map.store(end as usize + 10, b"S");
            std::thread::sleep(std::time::Duration::from_micros(500));
            map.store(end as usize + 10, b"S");
            file.truncate(end + 1000)?;
            expect_bytes(&file.read_at(end, 20)?, &[0; 20], "beyond the old end")
        }),
    ])
}

fn what_is_in_a_pipe_stays_as_it_is(t: &Test) -> Outcome {
    let (file, other) = files(t)?;
    let copy = t.create("copy")?;
    let turns = AtomicU64::new(0);
    t.race(vec![
        compares(&file, &other)?,
        worker("clones a block, splices it and writes", || {
            let at = (COMPARED + 24 + turns.fetch_add(4, SeqCst) % 1000) * BLOCK64;
            file.write_at(&[b'1'; BLOCK], at)?;
            std::thread::sleep(std::time::Duration::from_micros(500));
            clone_range(&file, at, BLOCK64, &copy, 0).or_fail("FICLONERANGE")?;
            let (read, write) = pipe()?;
            let spliced = splice(&copy, Some(&mut 0), &write, None, BLOCK).or_fail("splice")?;
            expect_eq(spliced, BLOCK, "bytes spliced")?;
            copy.truncate(0)?;
            std::thread::sleep(std::time::Duration::from_micros(1500));
            file.write_at(&[b'2'; BLOCK], at)?;
            expect_bytes(&read_all(&read, BLOCK)?, &[b'1'; BLOCK], "the pipe")
        }),
    ])
}
