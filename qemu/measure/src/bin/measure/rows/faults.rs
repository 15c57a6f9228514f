// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Page faults in shared mappings of a file, and of a clone that was just made.

use std::fs::{remove_file, File};

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{row, Phase::Each, Row};
use crate::bench::{time, Bench, MIB};
use crate::floor::Floor;
use crate::{data, sys};

pub const ROW: Row = row(
    9,
    "page faults",
    prepare,
    &[Each(in_a_file), Each(in_a_clone), Each(without_a_file)],
);

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 256, 32) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "a file of {} MiB, a byte of each page; existing pages: a module maps 512 at each fault",
        size(bench) / MIB
    ))?;
    data::write_file(&bench.path("file"), size(bench))?;
    if bench.fs.clones() {
        data::write_file(&bench.path("source"), size(bench))?;
    }
    Ok(())
}

fn in_a_file(bench: &Bench) -> Result<()> {
    let file = sys::open(&bench.path("file"))?;
    faults(bench, "read faults", &file, false)?;
    faults(bench, "write faults", &file, true)
}

fn in_a_clone(bench: &Bench) -> Result<()> {
    if !bench.fs.clones() {
        return Ok(());
    }
    // Another file: one that had clones may be slower, even after they are gone.
    let file = sys::open(&bench.path("source"))?;
    for (metric, write) in [("read faults, clone", false), ("write faults, clone", true)] {
        let clone = sys::create(&bench.path("clone"))?;
        sys::clone(&file, &clone)?;
        faults(bench, metric, &clone, write)?;
        remove_file(bench.path("clone"))?;
    }
    Ok(())
}

/// Measures what the kernel takes for a fault, and to clear a page; and a module, to map existing
/// pages, or copies of them.
fn without_a_file(bench: &Bench) -> Result<()> {
    if bench.fs != Fs::Reflinkfs {
        return Ok(());
    }
    let memory = sys::Mapping::memory(size(bench))?;
    let (spent, ()) = time(|| {
        memory.use_each_page(true);
        Ok(())
    })?;
    bench.reference(
        "write faults, memory of no file",
        spent.as_secs_f64() / (size(bench) / 4096) as f64,
        Unit::Seconds,
    )?;
    drop(memory);
    let floor = Floor::new(size(bench))?;
    floor.map(bench, "read faults, existing pages", false)?;
    floor.map(bench, "write faults, existing pages", true)?;
    floor.map_copies(bench, "write faults, pages copied")
}

fn faults(bench: &Bench, metric: &str, file: &File, write: bool) -> Result<()> {
    let mapping = sys::Mapping::of_file(file, size(bench), write)?;
    let (spent, ()) = time(|| {
        mapping.use_each_page(write);
        Ok(())
    })?;
    bench.each(metric, size(bench) / 4096, spent)?;
    drop(mapping);
    bench.settle()
}
