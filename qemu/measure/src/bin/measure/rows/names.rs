// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Names: creating, looking up, listing, renaming and removing many files in one directory.

use std::fs::{create_dir, metadata, read_dir, remove_file, rename};
use std::path::PathBuf;

use anyhow::{ensure, Result};

use super::{fine_row, Phase::Each, Row};
use crate::bench::{time, Bench};
use crate::sys;

pub const ROW: Row = fine_row(
    10,
    "names",
    prepare,
    &[
        Each(create),
        Each(stat),
        Each(list),
        Each(rename_all),
        Each(unlink),
    ],
);

fn all(bench: &Bench) -> u64 {
    bench.tenth_on_disks(bench.choose(100_000, 100_000, 15_000))
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} files in one directory, a part of them in each round; a tenth on XFS and btrfs",
        all(bench)
    ))?;
    Ok(create_dir(bench.path("names"))?)
}

/// Returns the names of this round.
fn names(bench: &Bench, prefix: char) -> Vec<PathBuf> {
    let (dir, count) = (bench.path("names"), bench.part_of(all(bench)));
    let first = u64::from(bench.round) * count;
    (first..first + count)
        .map(|i| dir.join(format!("{prefix}{i}")))
        .collect()
}

/// Returns whether the files of this round were not created.
fn left_out(names: &[PathBuf]) -> bool {
    names.first().is_none_or(|name| !name.exists())
}

fn timed(
    bench: &Bench,
    metric: &str,
    count: usize,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (spent, ()) = time(work)?;
    bench.each(metric, count as u64, spent)
}

fn create(bench: &Bench) -> Result<()> {
    let names = names(bench, 'a');
    timed(bench, "create", names.len(), || {
        names
            .iter()
            .try_for_each(|name| sys::create(name).map(drop))
    })
}

fn stat(bench: &Bench) -> Result<()> {
    let names = names(bench, 'a');
    if left_out(&names) {
        return Ok(());
    }
    timed(bench, "stat", names.len(), || {
        names
            .iter()
            .try_for_each(|name| Ok(metadata(name).map(drop)?))
    })
}

/// Lists the whole directory in each round.
fn list(bench: &Bench) -> Result<()> {
    let (spent, seen) = time(|| Ok(read_dir(bench.path("names"))?.count()))?;
    ensure!(seen > 0, "no names");
    bench.each("readdir", seen as u64, spent)
}

fn rename_all(bench: &Bench) -> Result<()> {
    let (old, new) = (names(bench, 'a'), names(bench, 'b'));
    if left_out(&old) {
        return Ok(());
    }
    timed(bench, "rename", old.len(), || {
        old.iter()
            .zip(&new)
            .try_for_each(|(old, new)| Ok(rename(old, new)?))
    })
}

fn unlink(bench: &Bench) -> Result<()> {
    let names = names(bench, 'b');
    if left_out(&names) {
        return Ok(());
    }
    timed(bench, "unlink", names.len(), || {
        names.iter().try_for_each(|name| Ok(remove_file(name)?))
    })
}
