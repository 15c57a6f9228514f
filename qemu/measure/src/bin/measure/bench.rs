// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What a row is given: a filesystem, a directory of its own on it, and where results go.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use measure::record::{Fs, Record, Unit};

use crate::sys;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

#[derive(Clone)]
pub struct Bench {
    pub fs: Fs,
    pub dir: PathBuf,
    pub row: u8,
    pub round: u32,
    /// How many rounds there are.
    pub rounds: u32,
    pub effort: Effort,
    /// Instructions are counted, on one processor.
    pub counted: bool,
}

/// How much is measured: what the issue asks for, what an emulated processor does in a quarter of an
/// hour, or what shows whether something is far off.
#[derive(Clone, Copy, PartialEq)]
pub enum Effort {
    Full,
    Emulated,
    Quick,
}

impl Bench {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What is done in this round, where so much is in all of them together.
    pub fn part_of(&self, all: u64) -> u64 {
        (all / u64::from(self.rounds)).max(1)
    }

    /// A tenth on filesystems on disks, where they are slower by much and nothing depends on them.
    pub fn tenth_on_disks(&self, all: u64) -> u64 {
        if self.fs.on_disk() {
            all / 10
        } else {
            all
        }
    }

    /// One of three values, by the effort.
    pub fn choose<T>(&self, full: T, emulated: T, quick: T) -> T {
        match self.effort {
            Effort::Full => full,
            Effort::Emulated => emulated,
            Effort::Quick => quick,
        }
    }

    pub fn sample(&self, metric: &str, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(self.fs, metric, None, value, unit)
    }

    /// A point of a curve.
    pub fn point(&self, metric: &str, at: u64, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(self.fs, metric, Some(at), value, unit)
    }

    /// What the processor does without a filesystem.
    pub fn reference(&self, metric: &str, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(Fs::Processor, metric, None, value, unit)
    }

    /// As [`Bench::bandwidth`], of no filesystem.
    pub fn reference_bandwidth(&self, metric: &str, bytes: u64, time: Duration) -> Result<()> {
        let speed = bytes as f64 / time.as_secs_f64();
        self.reference(metric, speed, Unit::BytesPerSecond)
    }

    fn sample_of(
        &self,
        fs: Fs,
        metric: &str,
        at: Option<u64>,
        value: f64,
        unit: Unit,
    ) -> Result<()> {
        let metric = metric.to_owned();
        print(&Record::Sample {
            row: self.row,
            metric,
            at,
            fs,
            round: self.round,
            value,
            unit,
        })
    }

    /// How long each of `count` operations took, on average.
    pub fn each(&self, metric: &str, count: u64, time: Duration) -> Result<()> {
        self.sample(metric, time.as_secs_f64() / count as f64, Unit::Seconds)
    }

    pub fn bandwidth(&self, metric: &str, bytes: u64, time: Duration) -> Result<()> {
        self.sample(
            metric,
            bytes as f64 / time.as_secs_f64(),
            Unit::BytesPerSecond,
        )
    }

    /// Said once for the row: what it was measured with.
    pub fn setting(&self, text: String) -> Result<()> {
        if self.fs != Fs::Reflinkfs {
            return Ok(());
        }
        print(&Record::Setting {
            row: self.row,
            text,
        })
    }

    /// Lets no work that was put off disturb what is measured next.
    pub fn settle(&self) -> Result<()> {
        sys::sync_filesystem(&self.dir)
    }
}

/// A line on stdout, at once.
pub fn print(record: &Record) -> Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let started = Instant::now();
    let value = work()?;
    Ok((started.elapsed(), value))
}

/// The median time of `count` calls of `work`, each given what `prepare` made; neither that nor
/// `after` is in the time.
pub fn median_time<T>(
    count: u32,
    mut prepare: impl FnMut() -> Result<T>,
    mut work: impl FnMut(&T) -> Result<()>,
    mut after: impl FnMut(T) -> Result<()>,
) -> Result<Duration> {
    let times = median_times(
        count,
        &[0],
        |_| prepare(),
        |value, _| work(value),
        |value, _| after(value),
    )?;
    Ok(times[0])
}

/// The same at several sizes, which take turns.
pub fn median_times<T>(
    count: u32,
    sizes: &[u64],
    mut prepare: impl FnMut(u64) -> Result<T>,
    mut work: impl FnMut(&T, u64) -> Result<()>,
    mut after: impl FnMut(T, u64) -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut times = vec![Vec::new(); sizes.len()];
    for _ in 0..count {
        for (size, times) in sizes.iter().zip(&mut times) {
            let value = prepare(*size)?;
            times.push(time(|| work(&value, *size))?.0);
            after(value, *size)?;
        }
    }
    for times in &mut times {
        times.sort();
    }
    Ok(times.iter().map(|times| times[times.len() / 2]).collect())
}
