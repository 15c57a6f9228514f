// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Clones in a race with all other changes of source and destination.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_bytes, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, mix, Random, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, dedupe, new_clone, unlink, File};

pub const CASES: &[Case] = &[
    case!(stores_through_a_mapping_never_reach_a_clone).needs(CLONES),
    case!(a_clone_is_one_moment_of_the_file).needs(&[Feature::Reflinkfs]),
    case!(a_clone_is_one_write_or_the_next)
        .needs(CLONES)
        .except(Btrfs, "writes in pieces that a clone may come between"),
    case!(clones_in_both_directions_do_not_deadlock).needs(CLONES),
    case!(clones_over_a_mapped_destination_show_one_source_or_the_other).needs(CLONES),
    case!(stores_to_the_destination_of_a_clone_are_lost_or_kept_whole).needs(CLONES),
    case!(private_mappings_never_change_under_clones).needs(CLONES),
    case!(dedupes_in_both_directions_do_not_deadlock).needs(CLONES),
    case!(clones_of_clones_are_made_and_removed_by_many).needs(CLONES),
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
                        format_args!(
                            "a word of the clone is {value}, but {from} to {to} were stored"
                        ),
                    )?;
                }
            }
            // The stores continue; the clone must not change.
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
            let values = order
                .iter()
                .map(|&page| word(page))
                .collect::<Outcome<Vec<_>>>()?;
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
            expect(
                !mixed && [1, 2].contains(&block[0]),
                "each block is one file's or the other's",
            )?;
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
    let sources = [
        t.create_with("one", &[1; 4 * BLOCK])?,
        t.create_with("two", &[2; 4 * BLOCK])?,
    ];
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
                let word = map
                    .word(page * BLOCK + 8 * (turn_of(page) % 500))
                    .load(SeqCst);
                let ones = u64::from_le_bytes([1; 8]);
                expect(
                    word == ones || word == 2 * ones,
                    format_args!("a word of the mapping is {word:#x}"),
                )?;
            }
            Ok(())
        }),
    ])?;
    expect_bytes(
        &map.load_all(),
        &to.contents()?,
        "mapping and file at the end",
    )
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
        worker("clones onto it", || {
            clone_file(&source, &to).or_fail("FICLONE")
        }),
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

fn private_mappings_never_change_under_clones(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 3 * BLOCK])?;
    let sources = [
        t.create_with("one", &[1; 3 * BLOCK])?,
        t.create_with("two", &[2; 3 * BLOCK])?,
    ];
    let map = Mapping::private(&file, 3 * BLOCK)?;
    map.store(0, &[9; BLOCK]);
    let mut turn = 0;
    t.race(vec![
        worker("clones onto the file", || {
            turn += 1;
            clone_file(&sources[turn % 2], &file).or_fail("FICLONE")
        }),
        worker("checks its own page", || {
            expect(
                map.load(0, BLOCK).iter().all(|&b| b == 9),
                "the private page is as it was",
            )
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

fn dedupes_in_both_directions_do_not_deadlock(t: &Test) -> Outcome {
    let data = blocks(3, 6);
    let files = ["a", "b", "c"].map(|name| t.create_with(name, &data));
    let [a, b, c] = files;
    let (a, b, c) = (a?, b?, c?);
    let both = |from: &File, to: &File| -> Outcome {
        dedupe(from, 0, 6 * BLOCK64, to, 0)
            .or_fail("FIDEDUPERANGE")
            .map(|_| ())
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
    // A word identifies its first file and its block; clones keep both.
    let root = t.create_with("root", &blocks(4, 70))?;
    let expected = root.contents()?;
    let churn = |worker: usize| {
        let mut random = Random::new(t.settings.seed + worker as u64);
        let (root, expected) = (&root, &expected);
        move || {
            let path = t.path(&format!("clone-{worker}-{}", random.below(5)));
            let clone = new_clone(root, &path)?;
            let second = new_clone(&clone, t.path(&format!("second-{worker}")))?;
            let mut model = expected.clone();
            for _ in 0..4 {
                let at = random.below(69 * BLOCK);
                let data = random.bytes(300);
                clone.write_at(&data, at as u64)?;
                model[at..at + 300].copy_from_slice(&data);
            }
            expect(
                clone.contents()? == model,
                "the clone has its own writes and no others",
            )?;
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
