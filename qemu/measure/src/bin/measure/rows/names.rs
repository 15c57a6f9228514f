// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Names: many files made, looked at, listed, renamed and removed in one directory.

use std::fs::{metadata, read_dir, remove_dir, remove_file, rename};
use std::path::PathBuf;

use anyhow::{ensure, Result};

use super::{row, Row};
use crate::bench::{time, Bench};
use crate::sys;

pub const ROW: Row = row(10, "names", prepare, round);

/// Of the filesystems on disks, which are slower by much, nothing depends.
fn count(bench: &Bench) -> u64 {
    let count = bench.choose(100_000, 20_000, 5_000);
    if bench.fs.on_disk() {
        count / 10
    } else {
        count
    }
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} files in one directory; a tenth on XFS and btrfs",
        count(bench)
    ))
}

fn round(bench: &Bench) -> Result<()> {
    let count = count(bench);
    let dir = bench.path("names");
    std::fs::create_dir(&dir)?;
    let paths = |prefix: char| -> Vec<PathBuf> {
        (0..count)
            .map(|i| dir.join(format!("{prefix}{i}")))
            .collect()
    };
    let (old, new) = (paths('a'), paths('b'));
    let all = |metric: &str, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let (spent, ()) = time(work)?;
        bench.each(metric, count, spent)?;
        bench.settle()
    };
    all("create", &|| {
        old.iter().try_for_each(|path| sys::create(path).map(drop))
    })?;
    all("stat", &|| {
        old.iter()
            .try_for_each(|path| Ok(metadata(path).map(drop)?))
    })?;
    all("readdir", &|| {
        let seen = read_dir(&dir)?.count() as u64;
        ensure!(seen == count, "{seen} names of {count}");
        Ok(())
    })?;
    all("rename", &|| {
        old.iter()
            .zip(&new)
            .try_for_each(|(old, new)| Ok(rename(old, new)?))
    })?;
    all("unlink", &|| {
        new.iter().try_for_each(|path| Ok(remove_file(path)?))
    })?;
    Ok(remove_dir(dir)?)
}
