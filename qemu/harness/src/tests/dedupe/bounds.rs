// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A deduplication that compares much takes long, but other processes do not wait for it, and their
//! changes stay.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::case::{case, race_for, worker, Case, Test};
use crate::failure::{expect, expect_bytes, Context, Errno, Failure, Outcome};
use crate::filesystem::{Btrfs, Feature, Xfs, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{pattern, Random, BLOCK, BLOCK64};
use crate::sys::{clone_range, dedupe, Deduped, File};

pub const CASES: &[Case] = &[
    case!(faults_go_on_while_a_long_range_is_compared).needs(&[Feature::Reflinkfs]),
    case!(a_long_range_that_differs_at_its_end_stays_unshared).needs(CLONES),
    case!(writes_meanwhile_stay_what_they_are).needs(CLONES),
    case!(stores_meanwhile_stay_what_they_are)
        .needs(CLONES)
        .except(Xfs, "writes back each page first, which takes minutes")
        .except(Btrfs, "writes back each page first, which takes minutes"),
];

/// Creates a file of so many bytes that repeats one block.
fn doubled(t: &Test, name: &str, size: u64) -> Outcome<File> {
    let file = t.create_with(name, &pattern(7, BLOCK))?;
    let mut have = BLOCK64;
    while have < size {
        clone_range(&file, 0, have, &file, have).or_fail("FICLONERANGE")?;
        have *= 2;
    }
    Ok(file)
}

/// No fault could end during the call if the locks were held all the time.
fn faults_go_on_while_a_long_range_is_compared(t: &Test) -> Outcome {
    let size = 1 << 30;
    let one = doubled(t, "one", size)?;
    let other = doubled(t, "other", size)?;
    other.write_at(b"different", size - 9)?;
    let map = Mapping::shared_read(&one, BLOCK)?;
    let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let (result, faults) = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            begun.store(true, Ordering::SeqCst);
            let result = dedupe(&one, 0, size, &other, 0);
            ended.store(true, Ordering::SeqCst);
            result
        });
        let mut faults = 0;
        while !ended.load(Ordering::SeqCst) {
            let counts = begun.load(Ordering::SeqCst);
            let advised = map.advise(libc::MADV_DONTNEED);
            map.load_byte(0);
            if counts && advised.is_ok() && !ended.load(Ordering::SeqCst) {
                faults += 1;
            }
        }
        (call.join(), faults)
    });
    let result = result.map_err(|_| Failure::new("the call panicked"))?;
    expect(
        result == Ok(Deduped::Differs),
        format_args!("files that differ at the end: {result:?}"),
    )?;
    expect(
        faults > 50,
        format_args!("{faults} faults were served while 1 GiB was compared"),
    )
}

fn a_long_range_that_differs_at_its_end_stays_unshared(t: &Test) -> Outcome {
    let data = pattern(3, 400 * BLOCK);
    let one = t.create_with("one", &data)?;
    let mut differs = data.clone();
    differs[400 * BLOCK - 1] ^= 1;
    let other = t.create_with("other", &differs)?;
    let result = dedupe(&one, 0, data.len() as u64, &other, 0).or_fail("FIDEDUPERANGE")?;
    expect(
        result == Deduped::Differs,
        format_args!("files that differ at the end: {result:?}"),
    )?;
    crate::extents::expect_nothing_shared(&one, &other)?;
    other.expect_contents(&differs, "what differs")
}

/// More blocks than are compared under one hold of the locks.
const BLOCKS: usize = 1500;

/// Deduplicates again and again while `change` changes either file, and `models` with it.
fn expect_unchanged(
    t: &Test,
    files: [&File; 2],
    mut change: impl FnMut(usize, usize, &[u8]) -> Outcome + Send,
) -> Outcome {
    let data = pattern(5, BLOCKS * BLOCK);
    let mut models = [data.clone(), data];
    for (file, model) in files.iter().zip(&models) {
        file.write_at(model, 0)?;
    }
    let mut random = Random::new(t.settings.seed);
    let changes = worker("changes", || {
        // Now and then both are equal again.
        let (which, block) = (random.below(2), random.below(BLOCKS));
        let at = block * BLOCK;
        let bytes = if random.one_in(3) {
            models[1 - which][at..at + BLOCK].to_vec()
        } else {
            random.bytes(BLOCK)
        };
        models[which][at..at + BLOCK].copy_from_slice(&bytes);
        change(which, block, &bytes)?;
        for which in 0..2 {
            for at in [at, random.below(BLOCKS) * BLOCK] {
                let seen = files[which].read_at(at as u64, BLOCK)?;
                let model = &models[which][at..at + BLOCK];
                expect_bytes(&seen, model, format_args!("file {which} at {at}"))?;
            }
        }
        if random.one_in(20) {
            for at in (0..BLOCKS * BLOCK).step_by(BLOCK) {
                let bytes = models[0][at..at + BLOCK].to_vec();
                if models[1][at..at + BLOCK] != bytes {
                    models[1][at..at + BLOCK].copy_from_slice(&bytes);
                    change(1, at / BLOCK, &bytes)?;
                }
            }
        }
        Ok(())
    });
    let dedupes = worker("dedupes", || {
        for (from, to) in [(0, 1), (1, 0)] {
            let len = (BLOCKS * BLOCK) as u64;
            match dedupe(files[from], 0, len, files[to], 0).or_fail("FIDEDUPERANGE")? {
                Deduped::Failed(Errno(libc::EBUSY)) | Deduped::Differs | Deduped::Same(_) => (),
                failed => return Err(Failure::new(format_args!("{failed:?}"))),
            }
        }
        Ok(())
    });
    race_for(t.settings.race, vec![changes, dedupes])?;
    for (which, (file, model)) in files.iter().zip(&models).enumerate() {
        let what = format!("file {which} in the end");
        expect_bytes(&file.contents()?, model, what)?;
    }
    Ok(())
}

fn writes_meanwhile_stay_what_they_are(t: &Test) -> Outcome {
    let files = [t.create("one")?, t.create("other")?];
    expect_unchanged(t, [&files[0], &files[1]], |which, block, bytes| {
        files[which].write_at(bytes, (block * BLOCK) as u64)
    })
}

fn stores_meanwhile_stay_what_they_are(t: &Test) -> Outcome {
    let files = [t.create("one")?, t.create("other")?];
    let mut maps = Vec::new();
    for file in &files {
        file.truncate((BLOCKS * BLOCK) as u64)?;
        maps.push(Mapping::shared(file, BLOCKS * BLOCK)?);
    }
    expect_unchanged(t, [&files[0], &files[1]], |which, block, bytes| {
        maps[which].store(block * BLOCK, bytes);
        Ok(())
    })
}
