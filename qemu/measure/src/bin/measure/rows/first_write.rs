// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The first write to a clone; on tmpfs, which has no clones, the same writes to an ordinary file.

use std::fs::{remove_file, File};
use std::os::unix::fs::FileExt;

use anyhow::Result;
use measure::record::Fs;

use super::{fine_row, Phase::Each, Row};
use crate::bench::{time, Bench, KIB, MIB};
use crate::data::{self, Random};
use crate::floor::Floor;
use crate::sys;

pub const ROW: Row = fine_row(
    6,
    "first write to a clone",
    prepare,
    &[Each(write_random), Each(write_sequential)],
);

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

fn write_random(bench: &Bench) -> Result<()> {
    let order = Random::new(bench.round.into()).order(size(bench) / (4 * KIB));
    let offsets = order[..order.len() / 2].iter().map(|block| block * 4 * KIB);
    writes(bench, "4 KiB random", 4 * KIB, &offsets.collect::<Vec<_>>())
}

fn write_sequential(bench: &Bench) -> Result<()> {
    let offsets: Vec<_> = (0..size(bench)).step_by(MIB as usize).collect();
    writes(bench, "1 MiB sequential", MIB, &offsets)
}

fn writes(bench: &Bench, metric: &str, size: u64, offsets: &[u64]) -> Result<()> {
    let path = bench.path("written");
    let file = if bench.fs.clones() {
        let clone = sys::create(&path)?;
        sys::clone(&sys::open(&bench.path("source"))?, &clone)?;
        clone
    } else {
        sys::open(&bench.path("source"))?
    };
    write(bench, metric, &file, size, offsets)?;
    drop(file);
    if bench.fs.clones() {
        remove_file(&path)?;
    }
    bench.settle()?;
    // The same where each block has to be allocated, and none was shared.
    let holes = sys::create(&path)?;
    holes.set_len(self::size(bench))?;
    write(
        bench,
        &format!("{metric}, into a hole"),
        &holes,
        size,
        offsets,
    )?;
    remove_file(&path)?;
    bench.settle()?;
    if bench.fs == Fs::Reflinkfs {
        let floor = Floor::new(self::size(bench) / 2)?;
        floor.write(bench, &format!("{metric}, new pages only"), size)?;
    }
    Ok(())
}

/// Writes `size` bytes at each of the offsets.
fn write(bench: &Bench, metric: &str, file: &File, size: u64, offsets: &[u64]) -> Result<()> {
    let buffer = data::bytes(size as usize, 2);
    let bytes = size * offsets.len() as u64;
    let (spent, ()) = time(|| {
        for offset in offsets {
            file.write_all_at(&buffer, *offset)?;
        }
        Ok(())
    })?;
    bench.bandwidth(metric, bytes, spent)?;
    // Deferred work is part of it.
    let (synced, ()) = time(|| Ok(file.sync_all()?))?;
    bench.bandwidth(&format!("{metric}, fsync"), bytes, spent + synced)
}
