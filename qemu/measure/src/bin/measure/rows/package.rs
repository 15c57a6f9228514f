// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A package manager's work: one small file put in many places, and other ways of doing that.

use std::fs::remove_file;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;
use measure::record::Fs;

use super::{fine_row, Phase::Each, Row};
use crate::bench::{time, Bench, KIB};
use crate::{data, sys};

pub const ROW: Row = fine_row(4, "clones of a 4 KiB file", prepare, &[Each(round)]);

/// In all rounds together.
fn all(bench: &Bench) -> u64 {
    bench.choose(10_000, 10_000, 3_000)
}

/// In one round.
fn count(bench: &Bench) -> u64 {
    bench.part_of(bench.tenth_on_disks(all(bench)))
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} files in all rounds together; a tenth on XFS and btrfs",
        all(bench)
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
        // What the kernel takes on the way, whoever clones.
        let empty = sys::create(&bench.path("empty"))?;
        many(bench, "clone of an empty file", |path| {
            sys::clone(&empty, &sys::create(path)?)
        })?;
        drop(empty);
        remove_file(bench.path("empty"))?;
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

/// Times `make` for many names in a directory of their own.
fn many(bench: &Bench, metric: &str, make: impl Fn(&PathBuf) -> Result<()>) -> Result<()> {
    let dir = bench.path("many");
    let paths: Vec<_> = (0..count(bench)).map(|i| dir.join(i.to_string())).collect();
    std::fs::create_dir(&dir)?;
    let (spent, ()) = time(|| paths.iter().try_for_each(&make))?;
    bench.each(metric, count(bench), spent)?;
    bench.settle()?;
    Ok(std::fs::remove_dir_all(dir)?)
}
