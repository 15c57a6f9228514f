// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The measurements by metric; medians, and ratios of two filesystems.

use std::collections::BTreeMap;

use anyhow::{bail, Context, Result};
use measure::record::{Fs, Record, Unit};

/// A metric: its row, its name, and for a point of a curve its size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub row: u8,
    pub metric: String,
    pub at: Option<u64>,
}

impl Key {
    pub fn new(row: u8, metric: &str, at: Option<u64>) -> Self {
        Self {
            row,
            metric: metric.to_owned(),
            at,
        }
    }
}

/// One value for each round.
#[derive(Clone, Debug)]
pub struct Series {
    pub unit: Unit,
    pub rounds: BTreeMap<u32, f64>,
}

impl Series {
    pub fn values(&self) -> Vec<f64> {
        self.rounds.values().copied().collect()
    }

    pub fn median(&self) -> f64 {
        quantile(self.values(), 0.5)
    }

    /// Returns the median absolute deviation from the median, as a part of the median.
    pub fn spread(&self) -> f64 {
        let median = self.median();
        if median == 0.0 {
            return 0.0;
        }
        quantile(
            self.values()
                .iter()
                .map(|value| (value - median).abs())
                .collect(),
            0.5,
        ) / median.abs()
    }
}

/// How many times as good as another a filesystem is: the median of all rounds, and the quartiles.
/// Compares the values of the same round, so that a busy machine affects both.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

pub struct Summary {
    pub machine: Option<Record>,
    pub settings: BTreeMap<u8, Vec<String>>,
    /// In the order of the first measurement of each.
    pub keys: Vec<Key>,
    pub series: BTreeMap<(Key, Fs), Series>,
    pub failures: Vec<(u8, Fs, String)>,
    /// The duration of the run; none if it was cut off.
    pub seconds: Option<f64>,
}

impl Summary {
    pub fn read(text: &str) -> Result<Self> {
        let mut summary = Self {
            machine: None,
            settings: BTreeMap::new(),
            keys: Vec::new(),
            series: BTreeMap::new(),
            failures: Vec::new(),
            seconds: None,
        };
        for line in text.lines() {
            summary
                .add(serde_json::from_str(line).with_context(|| format!("not a record: {line}"))?);
        }
        if summary.machine.is_none() {
            bail!("nothing was measured");
        }
        Ok(summary)
    }

    fn add(&mut self, record: Record) {
        match record {
            Record::Machine { .. } => self.machine = Some(record),
            Record::Setting { row, text } => self.settings.entry(row).or_default().push(text),
            Record::Sample {
                row,
                metric,
                at,
                fs,
                round,
                value,
                unit,
            } => {
                let key = Key { row, metric, at };
                if !self.keys.contains(&key) {
                    self.keys.push(key.clone());
                }
                let series = self.series.entry((key, fs));
                let series = series.or_insert(Series {
                    unit,
                    rounds: BTreeMap::new(),
                });
                series.rounds.insert(round, value);
            }
            Record::Failed { row, fs, error } => self.failures.push((row, fs, error)),
            Record::End { seconds } => self.seconds = Some(seconds),
        }
    }

    pub fn get(&self, key: &Key, fs: Fs) -> Option<&Series> {
        self.series.get(&(key.clone(), fs))
    }

    pub fn failed(&self, row: u8, fs: Fs) -> bool {
        self.failures
            .iter()
            .any(|failure| (failure.0, failure.1) == (row, fs))
    }

    /// Returns how many times as good as `theirs` `ours` is.
    pub fn ratio(&self, ours: (&Key, Fs), theirs: (&Key, Fs)) -> Option<Ratio> {
        let (ours, theirs) = (self.get(ours.0, ours.1)?, self.get(theirs.0, theirs.1)?);
        let mut ratios = Vec::new();
        for (round, value) in &ours.rounds {
            let Some(other) = theirs.rounds.get(round) else {
                continue;
            };
            ratios.push(if ours.unit.more_is_better() {
                value / other
            } else {
                other / value
            });
        }
        if ratios.is_empty() {
            return None;
        }
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| quantile(ratios.clone(), part));
        Some(Ratio { low, median, high })
    }

    /// The same against the best of several.
    pub fn ratio_to_best(&self, ours: (&Key, Fs), theirs: &Key, among: &[Fs]) -> Option<Ratio> {
        let ratios = among
            .iter()
            .filter_map(|&fs| self.ratio(ours, (theirs, fs)));
        ratios.min_by(|one, other| one.median.total_cmp(&other.median))
    }

    /// Returns all sizes at which a metric was measured, ascending.
    pub fn sizes(&self, row: u8, metric: &str) -> Vec<u64> {
        let keys = self
            .keys
            .iter()
            .filter(|key| key.row == row && key.metric == metric);
        let mut sizes: Vec<u64> = keys.filter_map(|key| key.at).collect();
        sizes.sort_unstable();
        sizes
    }
}

/// Returns the value below which `part` of `values` are, which must not be empty.
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = part * (values.len() - 1) as f64;
    let (below, above) = (
        values[place.floor() as usize],
        values[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}
