// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The first write to a clone; on tmpfs, which has none, the same writes to a file of its own.

use std::fs::{remove_file, File};
use std::os::unix::fs::FileExt;

use anyhow::Result;

use super::{row, Row};
use crate::bench::{time, Bench, KIB, MIB};
use crate::data::{self, Random};
use crate::sys;

pub const ROW: Row = row(6, "first write to a clone", prepare, round);

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 32, 16) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} MiB; half of its blocks, and all of it in calls of 1 MiB",
        size(bench) / MIB
    ))?;
    data::write_file(&bench.path("source"), size(bench))?;
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let order = Random::new(bench.round.into()).order(size(bench) / (4 * KIB));
    let random: Vec<_> = order
        .iter()
        .take(order.len() / 2)
        .map(|block| block * 4 * KIB)
        .collect();
    writes(bench, "4 KiB random", 4 * KIB, &random)?;
    let sequential: Vec<_> = (0..size(bench)).step_by(MIB as usize).collect();
    writes(bench, "1 MiB sequential", MIB, &sequential)
}

fn writes(bench: &Bench, metric: &str, size: u64, offsets: &[u64]) -> Result<()> {
    let buffer = data::bytes(size as usize, 2);
    let file = target(bench)?;
    let bytes = size * offsets.len() as u64;
    let (spent, ()) = time(|| {
        for offset in offsets {
            file.write_all_at(&buffer, *offset)?;
        }
        Ok(())
    })?;
    bench.bandwidth(metric, bytes, spent)?;
    // What was put off until then is part of the work.
    let (synced, ()) = time(|| Ok(file.sync_all()?))?;
    bench.bandwidth(&format!("{metric}, fsync"), bytes, spent + synced)?;
    if bench.fs.clones() {
        remove_file(bench.path("clone"))?;
    }
    bench.settle()
}

fn target(bench: &Bench) -> Result<File> {
    let source = sys::open(&bench.path("source"))?;
    if !bench.fs.clones() {
        return Ok(source);
    }
    let clone = sys::create(&bench.path("clone"))?;
    sys::clone(&source, &clone)?;
    Ok(clone)
}
