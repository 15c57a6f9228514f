// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Removing clones of files of any size, and the last owner of their blocks.

use std::fs::remove_file;

use anyhow::Result;
use measure::record::Unit;

use super::{row, Phase::Each, Row};
use crate::bench::{median_times, time, Bench, GIB, KIB, MIB};
use crate::{data, sys};

pub const ROW: Row = row(5, "unlink", prepare, &[Each(round)]);

const SIZES: [u64; 4] = [4 * KIB, MIB, 64 * MIB, GIB];

fn sizes(bench: &Bench) -> &'static [u64] {
    bench.choose(&SIZES, &SIZES, &SIZES[..3])
}

fn owned(bench: &Bench) -> u64 {
    bench.choose(1024, 128, 64) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "the last owner has {} MiB, and had a clone",
        owned(bench) / MIB
    ))?;
    if bench.fs.clones() {
        for size in sizes(bench) {
            data::write_file(&bench.path(&size.to_string()), *size)?;
        }
    }
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let path = bench.path("removed");
    if bench.fs.clones() {
        let spent = median_times(
            bench.choose(51, 51, 15),
            sizes(bench),
            |size| {
                sys::clone(
                    &sys::open(&bench.path(&size.to_string()))?,
                    &sys::create(&path)?,
                )
            },
            |(), _| Ok(remove_file(&path)?),
            |(), _| Ok(()),
        )?;
        for (size, spent) in sizes(bench).iter().zip(spent) {
            bench.point(
                "unlink of a clone",
                *size,
                spent.as_secs_f64(),
                Unit::Seconds,
            )?;
        }
    }
    let owner = data::write_file(&path, owned(bench))?;
    if bench.fs.clones() {
        let clone = bench.path("clone");
        sys::clone(&owner, &sys::create(&clone)?)?;
        remove_file(clone)?;
        bench.settle()?;
    }
    drop(owner);
    let (spent, ()) = time(|| Ok(remove_file(&path)?))?;
    bench.each("unlink of the last owner", 1, spent)
}
