// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_history`: random histories of several files against a model.

use crate::{
    rounds,
    support::model::{
        index_of,
        room,
        Model,
        PLACES, //
    },
    support::nodes::prealloc_of,
    support::random::Random,
    support::trees::{
        FANOUT,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// A history of `steps` steps of `files` files. All files are looked at after each `every` steps.
fn history(seed: u64, files: usize, steps: usize, every: usize) -> Result {
    let mut random = Random::new(seed);
    let mut model = Model::new(files)?;
    for step in 1..=steps {
        change(&mut model, &mut random, files)
            .and_then(|()| model.check_used())
            .and_then(|()| match step % every {
                0 => model.check(&mut random),
                _ => Ok(()),
            })
            .inspect_err(|_| pr_err!("seed {seed:#x}, step {step} of {steps}, {files} files\n"))?;
    }
    for file in 0..files {
        model.remove(file, 0, u64::MAX)?;
        model.check_used()?;
    }
    // No node is left, shared or not.
    check_eq!(model.pool().nodes(), 0);
    Ok(())
}

/// One step.
fn change(model: &mut Model, random: &mut Random, files: usize) -> Result {
    let (file, other) = (random.below(files), random.below(files));
    let place = random.below(PLACES);
    match random.below(16) {
        // Writes on from there, block by block or in runs.
        0..=2 => {
            let end = place + (1 + random.below(20)).min(room(place));
            (place..end).try_for_each(|place| model.write(file, place))
        }
        3 | 4 => model.write_contig(file, place, 1 + random.below(room(place))),
        5 | 6 => {
            let to = place + random.below(room(place) + 1);
            model.remove(file, index_of(place), index_of(place) + (to - place) as u64)
        }
        7 => {
            let end = random.below(PLACES);
            model.remove(file, index_of(place.min(end)), index_of(place.max(end)))
        }
        8 => match random.below(3) {
            0 => model.remove(file, 0, u64::MAX),
            1 => model.remove(file, index_of(place), u64::MAX),
            _ => model.remove(file, 0, index_of(place)),
        },
        9 => model.clone_file(file, other),
        10 => {
            let end = random.below(PLACES);
            let (start, end) = (index_of(place.min(end)), index_of(place.max(end)));
            // To the next leaf and to the next node, now and then.
            let unit = [1, 1, FANOUT, FANOUT * FANOUT][random.below(4)];
            let end = end.next_multiple_of(unit).min(LAST + 1);
            model.share_in_place(file, other, start - start % unit, end)
        }
        11..=13 => {
            let to = random.below(PLACES);
            // Congruent modulo a leaf, every other time.
            let to = match random.one_in(2) {
                true => congruent(place, to),
                false => to,
            };
            let most = room(place).min(room(to));
            model.share((file, place), (other, to), 1 + random.below(most))
        }
        14 => match random.below(3) {
            0 => {
                let end = place + (1 + random.below(40)).min(room(place));
                (place..end).try_for_each(|place| model.write_unwritten(file, place))
            }
            1 => model.set_written(file, place, 1 + random.below(room(place))),
            _ => {
                model.restore_owned(file, place);
                Ok(())
            }
        },
        _ => fail(model, random, file, other),
    }
}

/// A place near `to`, in the same stretch, whose index lies in its leaf where that of `place`
/// does in its own.
fn congruent(place: usize, to: usize) -> usize {
    (to..to + room(to))
        .find(|to| index_of(*to) % FANOUT == index_of(place) % FANOUT)
        .unwrap_or(place)
}

/// Changes a snapshot and drops it, with too few nodes or enough.
fn fail(model: &mut Model, random: &mut Random, file: usize, other: usize) -> Result {
    let (from, to) = (
        index_of(random.below(PLACES)),
        index_of(random.below(PLACES)),
    );
    let source = model.snapshot(other);
    let mut copy = model.edit(file);
    let pool = model.pool().clone();
    let mut prealloc = prealloc_of(&pool, random.below(8))?;
    let result = match random.below(3) {
        0 => copy.remove(from, to, &mut prealloc),
        1 => copy.share_range(to, &source, from, 200, &mut prealloc, || Ok(())),
        _ => copy.insert(to, pool.alloc_overcommit()?, &mut prealloc),
    };
    match result {
        Err(err) if err != ENOMEM => Err(err),
        _ => Ok(()),
    }
}

#[kunit_tests(reflinkfs_history)]
mod tests {
    use super::*;

    #[test]
    fn one_file() -> Result {
        for seed in 0..rounds(4) as u64 {
            history(seed, 1, 40, 1)?;
        }
        Ok(())
    }

    #[test]
    fn two_files() -> Result {
        for seed in 100..100 + rounds(6) as u64 {
            history(seed, 2, 40, 2)?;
        }
        Ok(())
    }

    #[test]
    fn several_files() -> Result {
        for seed in 200..200 + rounds(4) as u64 {
            history(seed, 5, 120, 20)?;
        }
        Ok(())
    }
}
