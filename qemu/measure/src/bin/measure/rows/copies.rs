// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Copies in the kernel that share no blocks.

use std::fs::remove_file;

use anyhow::Result;
use measure::record::Fs;

use super::{row, Phase::Each, Row};
use crate::bench::{time, Bench, MIB};
use crate::floor::Floor;
use crate::{data, sys};

pub const ROW: Row = row(12, "copies that share nothing", prepare, &[Each(round)]);

/// The flag of `copy_file_range(2)` of the module copy_fr.
pub const COPY_FR_COPY: u32 = 1;

fn size(bench: &Bench) -> u64 {
    bench.choose(1024, 256, 32) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} MiB, written as the second file in row 11, into a new file, all of it, and from byte 1 on \
         without a flag; memory copy: pages that a module allocates and copies",
        size(bench) / MIB
    ))?;
    data::write_file_shifted(&bench.path("from"), size(bench))?;
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    copy(bench, "COPY_FR_COPY", 0, COPY_FR_COPY)?;
    copy(bench, "unaligned", 1, 0)?;
    if bench.fs == Fs::Reflinkfs {
        Floor::new(size(bench))?.copy(bench, "memory copy")?;
    }
    Ok(())
}

fn copy(bench: &Bench, metric: &str, from_offset: i64, flags: u32) -> Result<()> {
    let (from, to) = (
        sys::open(&bench.path("from"))?,
        sys::create(&bench.path("to"))?,
    );
    let len = size(bench) - from_offset as u64;
    let (spent, ()) = time(|| sys::copy_range(&from, from_offset, &to, 0, len, flags))?;
    bench.bandwidth(metric, len, spent)?;
    drop(to);
    remove_file(bench.path("to"))?;
    bench.settle()
}
