// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Page faults in shared mappings of a file, and of a clone that was just made.

use std::fs::{remove_file, File};

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{row, Row};
use crate::bench::{time, Bench, MIB};
use crate::{data, sys};

pub const ROW: Row = row(9, "page faults", prepare, round);

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 64, 32) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "a file of {} MiB, a byte of each page",
        size(bench) / MIB
    ))?;
    data::write_file(&bench.path("file"), size(bench))?;
    if bench.fs.clones() {
        data::write_file(&bench.path("source"), size(bench))?;
    }
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let file = sys::open(&bench.path("file"))?;
    faults(bench, "read faults", &file, false)?;
    faults(bench, "write faults", &file, true)?;
    if !bench.fs.clones() {
        return Ok(());
    }
    // Not the same one: a file that had clones may be slower, even after they are gone.
    let file = sys::open(&bench.path("source"))?;
    for (metric, write) in [("read faults, clone", false), ("write faults, clone", true)] {
        let clone = sys::create(&bench.path("clone"))?;
        sys::clone(&file, &clone)?;
        faults(bench, metric, &clone, write)?;
        remove_file(bench.path("clone"))?;
    }
    if bench.fs == Fs::Reflinkfs {
        memory_of_no_file(bench)?;
    }
    Ok(())
}

/// What the kernel takes for a fault itself, and to clear a page.
fn memory_of_no_file(bench: &Bench) -> Result<()> {
    let memory = sys::Mapping::memory(size(bench))?;
    let (spent, ()) = time(|| {
        memory.dirty();
        Ok(())
    })?;
    bench.reference(
        "write faults, memory of no file",
        spent.as_secs_f64() / (size(bench) / 4096) as f64,
        Unit::Seconds,
    )
}

fn faults(bench: &Bench, metric: &str, file: &File, write: bool) -> Result<()> {
    let mapping = sys::Mapping::of_file(file, size(bench), write)?;
    let (spent, ()) = time(|| {
        if write {
            mapping.dirty();
        } else {
            mapping.touch();
        }
        Ok(())
    })?;
    bench.each(metric, size(bench) / 4096, spent)?;
    drop(mapping);
    bench.settle()
}
