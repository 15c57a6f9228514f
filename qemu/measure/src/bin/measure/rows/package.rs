// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A package manager's work: one small file in many places, and other ways to make it.

use std::fs::remove_file;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{ensure, Result};
use measure::record::{Fs, Unit};

use super::{fine_row, Phase::Each, Row};
use crate::bench::{time, Bench, KIB};
use crate::{data, sys};

pub const ROW: Row = fine_row(4, "clones of a 4 KiB file", prepare, &[Each(round)]);

/// The mount point of ramfs, with a path as long as those of the other filesystems.
const RAMFS: &str = "/mnt/ramfs____/row4";

/// Returns the number of files in all rounds together.
fn all(bench: &Bench) -> u64 {
    bench.choose(10_000, 10_000, 3_000)
}

/// Returns the number of files in one round.
fn count(bench: &Bench) -> u64 {
    bench.part_of(bench.tenth_on_disks(all(bench)))
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} files in all rounds together, {} at a time; a tenth on XFS and btrfs",
        all(bench),
        count(bench)
    ))?;
    data::write_file(&bench.path("source"), 4 * KIB)?;
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let source = sys::open(&bench.path("source"))?;
    many(bench, "create", |path| {
        sys::create(path)?;
        Ok(())
    })?;
    if bench.fs.clones() {
        many(bench, "clone", |path| {
            sys::clone(&source, &sys::create(path)?)
        })?;
    }
    if bench.fs == Fs::Reflinkfs {
        // The kernel's own part, whichever filesystem clones.
        let empty = sys::create(&bench.path("empty"))?;
        many(bench, "clone of an empty file", |path| {
            sys::clone(&empty, &sys::create(path)?)
        })?;
        drop(empty);
        remove_file(bench.path("empty"))?;
        refused(bench)?;
    }
    many(bench, "hard link", |path| {
        Ok(std::fs::hard_link(bench.path("source"), path)?)
    })?;
    many(bench, "copy", |path| {
        let mut block = [0; 4096];
        source.read_exact_at(&mut block, 0)?;
        Ok(sys::create(path)?.write_all_at(&block, 0)?)
    })
}

/// The same on ramfs, which has only names, and refuses to clone.
fn refused(bench: &Bench) -> Result<()> {
    let dir = Path::new(RAMFS);
    let source = sys::create(&dir.join("source"))?;
    let spent = in_a_directory(bench, dir, |path| {
        let refused = sys::try_clone(&source, &sys::create(path)?);
        ensure!(refused.is_err(), "ramfs clones");
        Ok(())
    })?;
    remove_file(dir.join("source"))?;
    let each = spent.as_secs_f64() / count(bench) as f64;
    bench.reference("names alone", each, Unit::Seconds)
}

/// Times `make` for many names in a new directory.
fn many(bench: &Bench, metric: &str, make: impl Fn(&PathBuf) -> Result<()>) -> Result<()> {
    let spent = in_a_directory(bench, &bench.dir, make)?;
    bench.each(metric, count(bench), spent)
}

fn in_a_directory(
    bench: &Bench,
    dir: &Path,
    make: impl Fn(&PathBuf) -> Result<()>,
) -> Result<Duration> {
    let dir = dir.join("many");
    let paths: Vec<_> = (0..count(bench)).map(|i| dir.join(i.to_string())).collect();
    std::fs::create_dir(&dir)?;
    let (spent, ()) = time(|| paths.iter().try_for_each(&make))?;
    bench.settle()?;
    std::fs::remove_dir_all(dir)?;
    Ok(spent)
}
