// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Forks in a race with changes of bytes: each shows the base as of one moment.

use std::sync::atomic::Ordering::SeqCst;

use super::contents::fork;
use crate::case::{case, worker, Case, Test, Worker};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{pattern, Random, BLOCK, BLOCK64};
use crate::sys::{chmod, clone_file, copy_loop, dedupe, Deduped, File};

pub const CASES: &[Case] = &[
    case!(blocks_are_whole_and_in_order).needs(FORKS),
    case!(stores_are_of_one_moment).needs(FORKS),
    case!(size_and_content_agree_beside_appends).needs(FORKS),
    case!(size_and_content_agree_beside_truncation).needs(FORKS),
    case!(clones_are_whole).needs(FORKS),
    case!(deduplication_changes_no_bytes).needs(FORKS),
    case!(a_copy_is_not_ahead_of_its_source).needs(FORKS),
];

/// Makes forks, checks each twice, as it must not change, and unmounts it.
pub(super) fn forker<'a>(
    t: &'a Test,
    base: &'a Instance,
    name: &'static str,
    mut check: impl FnMut(&Instance) -> Outcome + Send + 'a,
) -> Worker<'a> {
    let mut turn = 0;
    worker(name, move || {
        turn += 1;
        let copy = fork(t, base, &format!("{name} {turn}"))?;
        check(&copy)?;
        check(&copy).or_fail("looked at again")?;
        copy.unmount()
    })
}

/// Returns a block that is full of a number.
pub(super) fn block_of(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(BLOCK / 8)
}

/// Returns the number that bytes are full of.
#[track_caller]
pub(super) fn value_of(bytes: &[u8]) -> Outcome<u64> {
    let mut values = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let first = values.next().unwrap_or_default();
    let other = values.find(|&value| value != first);
    expect(
        other.is_none(),
        format_args!("{first:#x} and {other:x?} are in one whole"),
    )?;
    Ok(first)
}

/// Checks numbers that are written in this order, again and again, each time one more.
#[track_caller]
pub(super) fn expect_one_moment(values: &[u64]) -> Outcome {
    let ordered = values.windows(2).all(|pair| pair[0] >= pair[1]);
    let (first, last) = (values[0], values[values.len() - 1]);
    expect(
        ordered && first - last <= 1,
        format_args!("in the order in which they were written they are {values:?}: two moments"),
    )
}

pub(super) fn read(fs: &Instance, name: &str) -> Outcome<Vec<u8>> {
    let file = File::open(fs.path(name), libc::O_RDONLY).or_fail(name)?;
    file.contents()
}

fn blocks_are_whole_and_in_order(t: &Test) -> Outcome {
    const BLOCKS: usize = 70;
    let base = t.mount(&[])?;
    let ordered = base.create_with("ordered", &[0; 3 * BLOCK])?;
    let other = base.create_with("other", &[0; 2 * BLOCK])?;
    let large = base.create_with("large", &[0; BLOCKS * BLOCK])?;
    let (mut value, mut random, mut many) = (0, Random::new(t.settings.seed), 0);
    t.race(vec![
        worker("writes in order", || {
            value += 1;
            let block = block_of(value);
            ordered.write_at(&block, 2 * BLOCK64)?;
            other.write_at(&block, 0)?;
            ordered.write_at(&block, 0)?;
            other.write_at(&block, BLOCK64)
        }),
        worker("writes several blocks", || {
            many += 1;
            let count = 1 + random.below(9);
            let at = random.below(BLOCKS - count);
            large.write_at(&block_of(many).repeat(count), at as u64 * BLOCK64)
        }),
        forker(t, &base, "forks", |copy| {
            let (ordered, other) = (read(copy, "ordered")?, read(copy, "other")?);
            let values = [&ordered[2 * BLOCK..], &other[..BLOCK], &ordered[..BLOCK]]
                .into_iter()
                .chain([&other[BLOCK..]])
                .map(value_of)
                .collect::<Outcome<Vec<_>>>()?;
            expect_one_moment(&values)?;
            let large = read(copy, "large")?;
            large.chunks(BLOCK).try_for_each(|b| value_of(b).map(drop))
        }),
        changer(t, &base, "changes forks", "large"),
    ])
}

/// Makes forks, and changes a file in them.
fn changer<'a>(
    t: &'a Test,
    base: &'a Instance,
    name: &'static str,
    path: &'static str,
) -> Worker<'a> {
    let mut turn = 0;
    worker(name, move || {
        turn += 1;
        let copy = fork(t, base, &format!("{name} {turn}"))?;
        let file = File::open(copy.path(path), libc::O_RDWR).or_fail("open")?;
        file.write_at(b"of the fork", 5)?;
        let mut model = file.contents()?;
        file.write_at(b"again", BLOCK64 - 2)?;
        model[BLOCK - 2..][..5].copy_from_slice(b"again");
        chmod(copy.path(path), 0o600).or_fail("chmod")?;
        file.expect_contents(&model, "in a fork")?;
        drop(file);
        copy.unmount()
    })
}

fn stores_are_of_one_moment(t: &Test) -> Outcome {
    // In a page, between pages, and between files, neither up nor down.
    const PLACES: [(usize, usize); 6] = [
        (0, 2 * BLOCK + 2048),
        (0, 2 * BLOCK),
        (1, BLOCK),
        (0, 0),
        (1, 8),
        (0, BLOCK + 4088),
    ];
    let base = t.mount(&[])?;
    let mut maps = Vec::new();
    for name in ["0", "1"] {
        let file = base.create_with(name, &[0; 3 * BLOCK])?;
        maps.push(Mapping::shared(&file, 3 * BLOCK)?);
    }
    let mut value = 0;
    t.race(vec![
        worker("stores in order", || {
            value += 1;
            for (file, at) in PLACES {
                maps[file].word(at).store(value, SeqCst);
            }
            Ok(())
        }),
        forker(t, &base, "forks", |copy| {
            let bytes = [read(copy, "0")?, read(copy, "1")?];
            let values = PLACES.map(|(file, at)| value_of(&bytes[file][at..][..8]));
            let values = values.into_iter().collect::<Outcome<Vec<_>>>()?;
            expect_one_moment(&values)?;
            let file = File::open(copy.path("0"), libc::O_RDWR).or_fail("open")?;
            let map = Mapping::shared(&file, 3 * BLOCK)?;
            expect_bytes(&map.load_all(), &bytes[0], "the fork, mapped")?;
            map.store(100, b"of the fork");
            Ok(())
        }),
        worker("looks", || {
            let seen = maps[0].load(96, 24);
            expect_bytes(&seen, &[0; 24], "what only forks store to")
        }),
    ])
}

fn size_and_content_agree_beside_appends(t: &Test) -> Outcome {
    let data = pattern(1, 50 * BLOCK);
    let base = t.mount(&[])?;
    base.create("file")?;
    let append = libc::O_WRONLY | libc::O_APPEND;
    let file = File::open(base.path("file"), append).or_fail("open")?;
    let (mut random, mut end) = (Random::new(t.settings.seed), 0);
    t.race(vec![
        worker("appends", || {
            let len = 1 + random.below(2 * BLOCK);
            if end + len > data.len() {
                file.truncate(0)?;
                end = 0;
            }
            file.write_at(&data[end..][..len], 0)?;
            end += len;
            Ok(())
        }),
        forker(t, &base, "forks", |copy| {
            let file = File::open(copy.path("file"), libc::O_RDONLY).or_fail("open")?;
            let (size, blocks) = (file.size()? as usize, file.data_blocks()?);
            expect_bytes(&file.contents()?, &data[..size], "what was appended")?;
            expect_eq(blocks, size.div_ceil(BLOCK) as u64, "blocks")
        }),
    ])
}

fn size_and_content_agree_beside_truncation(t: &Test) -> Outcome {
    const SIZE: usize = 3 * BLOCK;
    const SHORT: usize = BLOCK + 100;
    let data = pattern(1, SIZE);
    let base = t.mount(&[])?;
    let file = base.create_with("file", &data)?;
    t.race(vec![
        worker("cuts, extends, writes", || {
            file.truncate(SHORT as u64)?;
            file.truncate(SIZE as u64)?;
            file.write_at(&data[BLOCK..2 * BLOCK], BLOCK64)?;
            file.write_at(&data[2 * BLOCK..], 2 * BLOCK64)
        }),
        forker(t, &base, "forks", |copy| {
            let seen = read(copy, "file")?;
            if seen.len() == SHORT {
                return expect_bytes(&seen, &data[..SHORT], "a file that was cut");
            }
            let mut expected = data.clone();
            for from in [SHORT, 2 * BLOCK] {
                if seen[SIZE - 1] == 0 && (from > SHORT || seen[2 * BLOCK - 1] == 0) {
                    expected[from..].fill(0);
                }
            }
            expect_bytes(&seen, &expected, "a file that was cut and extended")
        }),
    ])
}

fn clones_are_whole(t: &Test) -> Outcome {
    const SIZE: usize = 8 * BLOCK;
    let base = t.mount(&[])?;
    let one = base.create_with("one", &[1; SIZE])?;
    let two = base.create_with("two", &[2; SIZE])?;
    let to = base.create_with("to", &[1; SIZE])?;
    let map = Mapping::shared_read(&to, SIZE)?;
    t.race(vec![
        worker("clones one, then the other", || {
            clone_file(&two, &to).or_fail("FICLONE")?;
            clone_file(&one, &to).or_fail("FICLONE")
        }),
        worker("loads", || {
            let byte = map.load_byte(SIZE - 1);
            expect([1, 2].contains(&byte), format_args!("it is {byte}"))
        }),
        forker(t, &base, "forks", |copy| {
            value_of(&read(copy, "to")?)?;
            expect_bytes(&read(copy, "one")?, &[1; SIZE], "one source")?;
            expect_bytes(&read(copy, "two")?, &[2; SIZE], "the other source")
        }),
        changer(t, &base, "changes forks", "to"),
    ])
}

fn deduplication_changes_no_bytes(t: &Test) -> Outcome {
    const SIZE: usize = 20 * BLOCK;
    let base = t.mount(&[])?;
    let data = pattern(1, SIZE);
    let one = base.create_with("one", &data)?;
    let two = base.create_with("two", &data)?;
    t.race(vec![
        worker("deduplicates", || {
            let result = dedupe(&one, 0, SIZE as u64, &two, 0).or_fail("FIDEDUPERANGE")?;
            expect_eq(result, Deduped::Same(SIZE as u64), "the result")
        }),
        worker("writes the same", || {
            two.write_at(&data[..3 * BLOCK], 0)?;
            one.write_at(&data[BLOCK / 2..][..BLOCK], BLOCK64 / 2)
        }),
        forker(t, &base, "forks", |copy| {
            expect_bytes(&read(copy, "one")?, &data, "one")?;
            expect_bytes(&read(copy, "two")?, &data, "two")
        }),
        changer(t, &base, "changes forks", "two"),
    ])
}

fn a_copy_is_not_ahead_of_its_source(t: &Test) -> Outcome {
    const SIZE: usize = 6 * BLOCK;
    let base = t.mount(&[])?;
    let source = base.create_with("source", &[0; SIZE])?;
    let to = base.create_with("to", &[0; SIZE])?;
    let mut value = 0;
    t.race(vec![
        worker("writes", || {
            value += 1;
            let at = value % (SIZE / BLOCK) as u64;
            source.write_at(&block_of(value), at * BLOCK64)
        }),
        worker("copies", || {
            copy_loop(&source, 0, &to, 0, SIZE)?;
            // Bytes, not blocks.
            copy_loop(&source, 8, &to, 8, BLOCK - 16).map(drop)
        }),
        forker(t, &base, "forks", |copy| {
            let (source, to) = (read(copy, "source")?, read(copy, "to")?);
            for (i, (source, to)) in source.chunks(BLOCK).zip(to.chunks(BLOCK)).enumerate() {
                // The ends of the first block are not of the same copy as its middle.
                let inside = if i == 0 { 8..BLOCK - 8 } else { 0..BLOCK };
                let (first, copied) = (value_of(source)?, value_of(&to[inside])?);
                expect(
                    copied <= first,
                    format_args!("block {i}: {copied} was copied, {first} is in the source"),
                )?;
            }
            Ok(())
        }),
    ])
}
