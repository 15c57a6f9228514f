// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Clones of a file with very many extents.

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{clones::clone_time, row, Phase::Each, Row};
use crate::bench::{time, Bench};
use crate::data::{self, BLOCK};
use crate::sys;

pub const ROW: Row = Row {
    on: Fs::clones,
    // On XFS and btrfs this takes minutes, and so does removing the files.
    keep: true,
    ..row(2, "FICLONE of a fragmented file", prepare, &[Each(round)])
};

fn extents(bench: &Bench) -> u64 {
    bench.choose(100_000, 20_000, 2_000)
}

fn prepare(bench: &Bench) -> Result<()> {
    let extents = extents(bench);
    bench.setting(format!(
        "{extents} blocks of {} were rewritten after a clone",
        2 * extents
    ))?;
    data::write_file(&bench.path("unfragmented"), 2 * extents * BLOCK)?;
    let file = data::fragment_file(&bench.path("fragmented"), extents)?;
    bench.sample("extents", sys::extents(&file)? as f64, Unit::Count)
}

fn round(bench: &Bench) -> Result<()> {
    let unfragmented = clone_time(bench, &sys::open(&bench.path("unfragmented"))?)?;
    bench.sample("clone, unfragmented", unfragmented, Unit::Seconds)?;
    let fragmented = sys::open(&bench.path("fragmented"))?;
    if bench.fs.on_disk() {
        // Only once, and without removing the clone.
        let clone = sys::create(&bench.path(&format!("clone{}", bench.round)))?;
        let (spent, ()) = time(|| sys::clone(&fragmented, &clone))?;
        return bench.each("clone, fragmented", 1, spent);
    }
    bench.sample(
        "clone, fragmented",
        clone_time(bench, &fragmented)?,
        Unit::Seconds,
    )
}
