// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The context of a row: a filesystem, a directory on it, and the output of results.

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
    /// The number of rounds.
    pub rounds: u32,
    pub scale: Scale,
    /// Whether instructions are counted, on one processor.
    pub counted: bool,
}

/// The amount of work: full, as much as an emulated processor does in a quarter of an hour, or just
/// enough to see large changes.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Full,
    Emulated,
    Quick,
}

impl Bench {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns the part of `all` for this round.
    pub fn part_of(&self, all: u64) -> u64 {
        (all / u64::from(self.rounds)).max(1)
    }

    /// Returns a tenth on disk filesystems, which are much slower and not the subject.
    pub fn tenth_on_disks(&self, all: u64) -> u64 {
        if self.fs.on_disk() {
            all / 10
        } else {
            all
        }
    }

    /// Returns one of three values, by the scale.
    pub fn choose<T>(&self, full: T, emulated: T, quick: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Emulated => emulated,
            Scale::Quick => quick,
        }
    }

    pub fn sample(&self, metric: &str, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(self.fs, metric, None, value, unit)
    }

    /// Prints a point of a curve.
    pub fn point(&self, metric: &str, at: u64, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(self.fs, metric, Some(at), value, unit)
    }

    /// Prints a bound of the processor, without a filesystem.
    pub fn reference(&self, metric: &str, value: f64, unit: Unit) -> Result<()> {
        self.sample_of(Fs::Processor, metric, None, value, unit)
    }

    /// As [`Bench::bandwidth`], without a filesystem.
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

    /// Prints the mean time of each of `count` operations.
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

    /// Prints the setup of the row, once.
    pub fn setting(&self, text: String) -> Result<()> {
        if self.fs != Fs::Reflinkfs {
            return Ok(());
        }
        print(&Record::Setting {
            row: self.row,
            text,
        })
    }

    /// Lets deferred work finish, so that it does not disturb the next measurement.
    pub fn settle(&self) -> Result<()> {
        sys::sync_filesystem(&self.dir)
    }
}

/// Prints a line on stdout, at once.
pub fn print(record: &Record) -> Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// Measures the time of `work`.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let started = Instant::now();
    let value = work()?;
    Ok((started.elapsed(), value))
}

/// Returns the median time of `count` calls of `work`, each with a value of `prepare`; `prepare`
/// and `after` are not timed.
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

/// As `median_time`, at several sizes, in turns.
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
