// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reads and writes, by fio.

use std::fs::remove_file;
use std::path::PathBuf;

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
    &[All(read_and_overwrite)],
);

/// The jobs on a file that exists; each of them by one and by two threads.
const JOBS: &[(&str, &[&str])] = &[
    ("sequential read", &["--rw=read", "--bs=1m"]),
    ("random read 4 KiB", &["--rw=randread", "--bs=4k"]),
    ("random overwrite 4 KiB", &["--rw=randwrite", "--bs=4k"]),
];

fn size(bench: &Bench) -> u64 {
    bench.choose(256, 128, 64) * MIB
}

fn new_size(bench: &Bench) -> u64 {
    bench.choose(512, 512, 256) * MIB
}

/// For how many milliseconds a job on a file that exists goes on: fio tells whole ones, each of which is
/// a million instructions.
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
    let path = |bench: &Bench| bench.path("new");
    let size = benches.iter().map(new_size).max();
    let size = format!("--size={}", size.unwrap_or(0));
    let options = ["--rw=write", "--bs=1m", &size];
    run(benches, path, &[("sequential write", &options)])?;
    for bench in benches {
        remove_file(path(bench))?;
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

fn read_and_overwrite(benches: &[Bench]) -> Result<()> {
    let runtime = benches.iter().map(runtime).max().unwrap_or(0);
    let runtime = format!("--runtime={runtime}ms");
    let threads: &[_] = match benches {
        // Two take turns on the one processor.
        [Bench { counted: true, .. }, ..] => &[("--numjobs=1", "1 thread")],
        _ => &[("--numjobs=1", "1 thread"), ("--numjobs=2", "2 threads")],
    };
    let size = format!("--size={}", benches.iter().map(size).max().unwrap_or(0));
    let mut jobs = Vec::new();
    for (name, options) in JOBS {
        for (jobs_option, suffix) in threads {
            let all = [
                *options,
                &[
                    "--gtod_reduce=1",
                    "--time_based",
                    &runtime,
                    &size,
                    jobs_option,
                ],
            ]
            .concat();
            jobs.push((format!("{name}, {suffix}"), all));
        }
    }
    let jobs: Vec<_> = jobs.iter().map(|(name, all)| (&**name, &**all)).collect();
    run(benches, |bench| bench.path("file"), &jobs)
}

/// Has fio do each of the jobs on a file of each filesystem in turn, all in one run.
fn run(
    benches: &[Bench],
    path: impl Fn(&Bench) -> PathBuf,
    jobs: &[(&str, &[&str])],
) -> Result<()> {
    let mut all = Vec::new();
    for (metric, options) in jobs {
        for bench in benches {
            let file = format!("--filename={}", path(bench).display());
            let mut options: Vec<_> = options.iter().map(|option| option.to_string()).collect();
            options.push(file);
            let name = format!("{metric}, {}", bench.fs.name());
            all.push((bench, metric, Job { name, options }));
        }
    }
    let speeds = fio::run(all.iter().map(|(.., job)| job))?;
    for ((bench, metric, _), speed) in all.iter().zip(speeds) {
        bench.sample(metric, speed, Unit::BytesPerSecond)?;
    }
    Ok(())
}
