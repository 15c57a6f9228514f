// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Deduplicating equal files, and again when they share all blocks.

use std::fs::{remove_file, File};
use std::hint::black_box;
use std::path::Path;

use anyhow::{ensure, Result};
use measure::record::{Fs, Unit};

use super::{row, Phase::Each, Row};
use crate::bench::{median_times, time, Bench, MIB};
use crate::{data, sys};

pub const ROW: Row = Row {
    on: Fs::clones,
    ..row(11, "FIDEDUPERANGE", prepare, &[Each(round)])
};

fn size(bench: &Bench) -> u64 {
    bench.choose(1024, 128, 32) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} MiB; the second file's blocks lie elsewhere in their MiB of memory, if the filesystem \
         leaves that to the calls that write; placed alike: at the same place, for which an emulated \
         TLB may have one entry; memcmp() is the C library's",
        size(bench) / MIB
    ))?;
    data::write_file(&bench.path("one"), size(bench))?;
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let one = sys::open(&bench.path("one"))?;
    let other = dedupe(bench, "dedupe", &one, data::write_file_shifted)?;
    again(bench, &one, &other)?;
    dedupe(bench, "dedupe, placed alike", &one, data::write_file)?;
    if bench.fs == Fs::Reflinkfs {
        compare(bench)?;
    }
    Ok(())
}

/// Deduplicates into a new file, and returns it: a file without a name that shares all blocks of
/// `one`.
fn dedupe(
    bench: &Bench,
    metric: &str,
    one: &File,
    write: impl FnOnce(&Path, u64) -> Result<File>,
) -> Result<File> {
    let path = bench.path("other");
    let other = write(&path, size(bench))?;
    remove_file(path)?;
    let (spent, ()) = time(|| sys::dedupe(one, &other, size(bench)))?;
    bench.bandwidth(metric, size(bench), spent)?;
    Ok(other)
}

fn again(bench: &Bench, one: &File, other: &File) -> Result<()> {
    let sizes = [MIB, 8 * MIB, size(bench)];
    let spent = median_times(
        if bench.fs.on_disk() { 1 } else { 51 },
        &sizes,
        |_| Ok(()),
        |(), size| sys::dedupe(one, other, size),
        |(), _| Ok(()),
    )?;
    for (size, spent) in sizes.iter().zip(spent) {
        bench.point(
            "dedupe, shared already",
            *size,
            spent.as_secs_f64(),
            Unit::Seconds,
        )?;
    }
    Ok(())
}

/// Compares as many bytes as were deduplicated, so that no cache has them either.
fn compare(bench: &Bench) -> Result<()> {
    let one = data::bytes(MIB as usize, 4).repeat((size(bench) / MIB) as usize);
    let other = one.clone();
    let (spent, equal) = time(|| Ok(black_box(&one) == black_box(&other)))?;
    ensure!(equal, "memcmp finds a difference in equal memory");
    bench.reference_bandwidth("memcmp", size(bench), spent)
}
