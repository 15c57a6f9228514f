// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Clones of whole files of any size, and of ranges.

use std::fs::{remove_file, File};
use std::io::{Read, Write};

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{copies::COPY_FR_COPY, row, Phase::Each, Row};
use crate::bench::{median_time, median_times, time, Bench, GIB, KIB, MIB};
use crate::data::{self, BLOCK};
use crate::sys;

pub const WHOLE: Row = Row {
    on: Fs::clones,
    ..row(
        1,
        "FICLONE of a whole file",
        prepare_whole,
        &[Each(clone_whole)],
    )
};
pub const RANGE: Row = row(3, "FICLONERANGE", prepare_range, &[Each(clone_range)]);

const SIZES: [u64; 6] = [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, 2 * GIB];

fn sizes(bench: &Bench) -> &'static [u64] {
    bench.choose(&SIZES, &SIZES, &SIZES[..5])
}

fn prepare_whole(bench: &Bench) -> Result<()> {
    for &size in sizes(bench) {
        data::write_file(&bench.path(&size.to_string()), size)?;
    }
    Ok(())
}

fn clone_whole(bench: &Bench) -> Result<()> {
    let path = bench.path("clone");
    let spent = median_times(
        bench.choose(101, 51, 25),
        sizes(bench),
        |size| {
            Ok((
                sys::open(&bench.path(&size.to_string()))?,
                sys::create(&path)?,
            ))
        },
        |(source, clone), _| sys::clone(source, clone),
        |_, _| Ok(remove_file(&path)?),
    )?;
    for (size, spent) in sizes(bench).iter().zip(spent) {
        bench.point("clone", *size, spent.as_secs_f64(), Unit::Seconds)?;
    }
    Ok(())
}

/// Returns the median time of some clones, in seconds.
pub fn clone_time(bench: &Bench, source: &File) -> Result<f64> {
    let path = bench.path("clone");
    let spent = median_time(
        if bench.fs.on_disk() { 3 } else { 51 },
        || sys::create(&path),
        |clone| sys::clone(source, clone),
        |_| Ok(remove_file(&path)?),
    )?;
    Ok(spent.as_secs_f64())
}

/// Returns the length of a cloned range.
fn range(bench: &Bench) -> u64 {
    bench.choose(GIB, GIB, 256 * MIB)
}

/// Returns the length of a copied range, for comparison.
fn copied(bench: &Bench) -> u64 {
    bench.choose(GIB, 64 * MIB, 64 * MIB)
}

fn prepare_range(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} MiB from block 1 to block 6; {} MiB copied, by the kernel (COPY_FR_COPY), or read and written",
        range(bench) / MIB,
        copied(bench) / MIB
    ))?;
    if bench.fs.clones() {
        data::write_file(&bench.path("source"), BLOCK + range(bench))?;
    }
    data::write_file_shifted(&bench.path("written"), copied(bench))?;
    Ok(())
}

fn clone_range(bench: &Bench) -> Result<()> {
    let path = bench.path("to");
    if bench.fs.clones() {
        let (from, to) = (sys::open(&bench.path("source"))?, sys::create(&path)?);
        let (spent, ()) = time(|| sys::clone_range(&from, BLOCK, range(bench), &to, 6 * BLOCK))?;
        bench.bandwidth("clone range", range(bench), spent)?;
        remove_file(&path)?;
        bench.settle()?;
    }
    let len = copied(bench);
    let (mut from, to) = (sys::open(&bench.path("written"))?, sys::create(&path)?);
    let (spent, ()) = time(|| sys::copy_range(&from, 0, &to, 0, len, COPY_FR_COPY))?;
    bench.bandwidth("copy", len, spent)?;
    drop(to);
    remove_file(&path)?;
    bench.settle()?;
    let mut to = sys::create(&path)?;
    let (spent, ()) = time(|| read_and_write(&mut from, &mut to))?;
    bench.bandwidth("copy by read and write", len, spent)?;
    Ok(remove_file(&path)?)
}

/// As programs copied before there were other calls.
fn read_and_write(from: &mut File, to: &mut File) -> Result<()> {
    let mut buffer = vec![0; MIB as usize];
    loop {
        let len = from.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..len])?;
    }
}
