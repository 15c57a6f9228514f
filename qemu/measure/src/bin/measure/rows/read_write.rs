// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reads and writes, by fio.

use std::fs::remove_file;

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{row, Phase::All, Row};
use crate::bench::{Bench, MIB};
use crate::data;
use crate::fio::{self, Job};
use crate::floor::Floor;

pub const NEW_FILE: Row = row(
    7,
    "sequential write of a new file",
    prepare_none,
    &[All(write_new)],
);
pub const IN_PLACE: Row = row(
    8,
    "reads, and overwriting",
    prepare,
    // Overwriting comes last, as later write-back would disturb reads.
    &[
        All(|benches| on_file(benches, &SEQUENTIAL, 1)),
        All(|benches| on_file(benches, &SEQUENTIAL, 2)),
        All(|benches| on_file(benches, &RANDOM, 1)),
        All(|benches| on_file(benches, &RANDOM, 2)),
        All(|benches| on_file(benches, &OVERWRITE, 1)),
        All(|benches| on_file(benches, &OVERWRITE, 2)),
    ],
);

/// The work of a job on an existing file.
struct Work {
    name: &'static str,
    options: [&'static str; 2],
}

const SEQUENTIAL: Work = Work {
    name: "sequential read",
    options: ["--rw=read", "--bs=1m"],
};
const RANDOM: Work = Work {
    name: "random read 4 KiB",
    options: ["--rw=randread", "--bs=4k"],
};
const OVERWRITE: Work = Work {
    name: "random overwrite 4 KiB",
    options: ["--rw=randwrite", "--bs=4k"],
};

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 128, 64) * MIB
}

fn new_size(bench: &Bench) -> u64 {
    bench.choose(512, 512, 256) * MIB
}

/// Returns the run time of a job on an existing file, in milliseconds: fio reports whole ones, each
/// of which is a million instructions.
fn runtime(bench: &Bench) -> u64 {
    match bench.counted {
        true => 400,
        false => bench.choose(250, 150, 100),
    }
}

fn prepare_none(bench: &Bench) -> Result<()> {
    bench.setting(format!("{} MiB in calls of 1 MiB", new_size(bench) / MIB))
}

fn write_new(benches: &[Bench]) -> Result<()> {
    let size = benches.iter().map(new_size).max().unwrap_or(0);
    let options = ["--rw=write", "--bs=1m", &format!("--size={size}")];
    run(benches, "new", "sequential write", &options)?;
    for bench in benches {
        remove_file(bench.path("new"))?;
        if bench.fs == Fs::Reflinkfs {
            Floor::new(new_size(bench))?.write(bench, "sequential write, new pages only", MIB)?;
        }
    }
    Ok(())
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!("a file of {} MiB, in memory", size(bench) / MIB))?;
    data::write_file(&bench.path("file"), size(bench))?;
    Ok(())
}

/// Runs the work on the file, with some threads.
fn on_file(benches: &[Bench], work: &Work, threads: u32) -> Result<()> {
    let plural = if threads > 1 { "s" } else { "" };
    let metric = format!("{}, {threads} thread{plural}", work.name);
    let runtime = benches.iter().map(runtime).max().unwrap_or(0);
    let size = benches.iter().map(size).max().unwrap_or(0);
    let options = [
        "--gtod_reduce=1",
        "--time_based",
        &format!("--runtime={runtime}ms"),
        &format!("--size={size}"),
        &format!("--numjobs={threads}"),
    ];
    let options = [&work.options[..], &options].concat();
    run(benches, "file", &metric, &options)
}

/// Runs fio on a file of each filesystem in turn, all in one run.
fn run(benches: &[Bench], file: &str, metric: &str, options: &[&str]) -> Result<()> {
    let jobs: Vec<_> = benches
        .iter()
        .map(|bench| Job {
            name: bench.fs.name().to_owned(),
            file: bench.path(file),
        })
        .collect();
    let speeds = fio::run(&jobs, options)?;
    for (bench, speed) in benches.iter().zip(speeds) {
        bench.sample(metric, speed, Unit::BytesPerSecond)?;
    }
    Ok(())
}
