// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A package manager's work: one small file put in many places, and other ways of doing that.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;

use super::{row, Row};
use crate::bench::{time, Bench, KIB};
use crate::{data, sys};

pub const ROW: Row = row(4, "clones of a 4 KiB file", prepare, round);

fn count(bench: &Bench) -> u64 {
    let count = bench.choose(10_000, 4_000, 1_000);
    if bench.fs.on_disk() {
        count / 10
    } else {
        count
    }
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!("{} files; a tenth on XFS and btrfs", count(bench)))?;
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
