// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reads and writes, by fio.

use std::fs::remove_file;

use anyhow::Result;
use measure::record::Unit;

use super::{row, Row};
use crate::bench::{Bench, MIB};
use crate::data;
use crate::fio::{self, Job};

pub const NEW_FILE: Row = row(7, "sequential write of a new file", prepare_none, write_new);
pub const IN_PLACE: Row = row(8, "reads, and overwriting", prepare, read_and_overwrite);

/// The jobs on a file that exists; each of them by one and by two threads.
const JOBS: &[(&str, &[&str])] = &[
    ("sequential read", &["--rw=read", "--bs=1m"]),
    ("random read 4 KiB", &["--rw=randread", "--bs=4k"]),
    ("random overwrite 4 KiB", &["--rw=randwrite", "--bs=4k"]),
];

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 128, 64) * MIB
}

fn prepare_none(bench: &Bench) -> Result<()> {
    bench.setting(format!("{} MiB in calls of 1 MiB", size(bench) / MIB))
}

fn write_new(bench: &Bench) -> Result<()> {
    let path = bench.path("new");
    let file = format!("--filename={}", path.display());
    let size = format!("--size={}", size(bench));
    let options = ["--rw=write", "--bs=1m", &file, &size];
    let speed = fio::run(&[Job {
        name: "write",
        options: &options,
    }])?;
    bench.sample("sequential write", speed[0], Unit::BytesPerSecond)?;
    Ok(remove_file(path)?)
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!("a file of {} MiB, in memory", size(bench) / MIB))?;
    data::write_file(&bench.path("file"), size(bench))?;
    Ok(())
}

fn read_and_overwrite(bench: &Bench) -> Result<()> {
    let file = format!("--filename={}", bench.path("file").display());
    let size = format!("--size={}", size(bench));
    let runtime = format!("--runtime={}ms", bench.choose(500, 250, 150));
    let mut jobs = Vec::new();
    for (name, options) in JOBS {
        for (threads, suffix) in [("--numjobs=1", "1 thread"), ("--numjobs=2", "2 threads")] {
            let all = [*options, &[&file, &size, &runtime, "--time_based", threads]].concat();
            jobs.push((format!("{name}, {suffix}"), all));
        }
    }
    let jobs: Vec<_> = jobs
        .iter()
        .map(|(name, options)| Job { name, options })
        .collect();
    for (job, speed) in jobs.iter().zip(fio::run(&jobs)?) {
        bench.sample(job.name, speed, Unit::BytesPerSecond)?;
    }
    Ok(())
}
