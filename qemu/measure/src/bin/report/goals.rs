// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What must come of each row, and whether it does.

use measure::record::Fs::{self, Btrfs, Processor, Reflinkfs, Tmpfs, Xfs};

use crate::summary::{Key, Ratio, Summary};

const DISKS: &[Fs] = &[Xfs, Btrfs];
const OTHERS: &[Fs] = &[Tmpfs, Xfs, Btrfs];

const KIB: u64 = 1 << 10;

pub struct Goal {
    pub row: u8,
    /// What reflinkfs is judged by.
    metric: &'static str,
    at: Option<u64>,
    wants: Wants,
    /// Why it cannot be met, where that was shown.
    why: Option<&'static str>,
}

enum Wants {
    /// So many times as good as the best of these are at a metric.
    AtLeast(f64, &'static str, &'static [Fs]),
    /// Time or memory at most so many times that of the best of these.
    AtMost(f64, &'static str, &'static [Fs]),
    /// At all sizes: the largest at most so many times the smallest.
    Flat(f64),
    /// A number.
    Below(f64),
}

const fn goal(row: u8, metric: &'static str, wants: Wants) -> Goal {
    Goal {
        row,
        metric,
        at: None,
        wants,
        why: None,
    }
}

const fn goal_at(row: u8, metric: &'static str, at: u64, wants: Wants) -> Goal {
    Goal {
        row,
        metric,
        at: Some(at),
        wants,
        why: None,
    }
}

impl Goal {
    const fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }
}

const NO_FASTER_WRITE: &str =
    "three times theirs is more than tmpfs has here, which overwrites in \
    place and allocates nothing; and XFS copies what is shared only when it writes back: see the \
    same with fsync";
const ONE_BY_ONE: &str = "a module has vm_insert_pages, which makes and counts an entry for \
    each page, where XFS and btrfs map a large folio at once (set_pte_range: not exported)";
const NO_FASTER_FAULT: &str =
    "half of what XFS takes is less than a fault of memory of no file, which \
    copies nothing: measured here, too";
const NO_FASTER_FILL: &str =
    "it is as fast as the fastest new file of all (row 7); what an emulated \
    processor takes to clear pages and to fill them from a program's memory is less with --words";

/// As good as the best of all others at the same.
const fn best(row: u8, metric: &'static str) -> Goal {
    goal(row, metric, Wants::AtLeast(1.0, metric, OTHERS))
}

const fn as_tmpfs(row: u8, metric: &'static str) -> Goal {
    goal(row, metric, Wants::AtLeast(1.0, metric, &[Tmpfs]))
}

pub const GOALS: &[Goal] = &[
    goal(1, "clone", Wants::Flat(1.5)),
    goal_at(1, "clone", 4 * KIB, Wants::AtMost(1.0, "clone", DISKS)),
    goal(
        2,
        "clone, fragmented",
        Wants::AtMost(1.5, "clone, unfragmented", &[Reflinkfs]),
    ),
    goal(
        2,
        "clone, fragmented",
        Wants::AtLeast(10_000.0, "clone, fragmented", DISKS),
    ),
    goal(3, "clone range", Wants::AtLeast(10.0, "copy", &[Reflinkfs])),
    goal(4, "clone", Wants::AtMost(1.3, "create", &[Tmpfs])),
    goal(4, "clone", Wants::AtMost(0.5, "copy", &[Tmpfs])),
    goal(5, "unlink of a clone", Wants::Flat(1.5)),
    goal(
        5,
        "unlink of the last owner",
        Wants::AtMost(1.0, "unlink of the last owner", &[Tmpfs]),
    ),
    goal(
        6,
        "4 KiB random",
        Wants::AtLeast(3.0, "4 KiB random", DISKS),
    )
    .because(NO_FASTER_WRITE),
    goal(
        6,
        "4 KiB random, fsync",
        Wants::AtLeast(3.0, "4 KiB random, fsync", DISKS),
    ),
    goal(
        6,
        "4 KiB random",
        Wants::AtMost(2.0, "4 KiB random", &[Tmpfs]),
    ),
    goal(
        6,
        "1 MiB sequential",
        Wants::AtLeast(3.0, "1 MiB sequential", DISKS),
    )
    .because(NO_FASTER_WRITE),
    goal(
        6,
        "1 MiB sequential, fsync",
        Wants::AtLeast(3.0, "1 MiB sequential, fsync", DISKS),
    )
    .because(NO_FASTER_FILL),
    goal(
        6,
        "1 MiB sequential",
        Wants::AtMost(2.0, "1 MiB sequential", &[Tmpfs]),
    ),
    best(7, "sequential write"),
    best(8, "sequential read, 1 thread"),
    best(8, "sequential read, 2 threads"),
    best(8, "random read 4 KiB, 1 thread"),
    best(8, "random read 4 KiB, 2 threads"),
    best(8, "random overwrite 4 KiB, 1 thread"),
    best(8, "random overwrite 4 KiB, 2 threads"),
    best(9, "read faults").because(ONE_BY_ONE),
    best(9, "write faults").because(ONE_BY_ONE),
    goal(
        9,
        "read faults, clone",
        Wants::AtLeast(2.0, "read faults, clone", &[Xfs]),
    ),
    goal(
        9,
        "write faults, clone",
        Wants::AtLeast(2.0, "write faults, clone", &[Xfs]),
    )
    .because(NO_FASTER_FAULT),
    as_tmpfs(10, "create"),
    as_tmpfs(10, "stat"),
    as_tmpfs(10, "readdir"),
    as_tmpfs(10, "rename"),
    as_tmpfs(10, "unlink"),
    goal(11, "dedupe", Wants::AtLeast(0.8, "memcmp", &[Processor])),
    goal(11, "dedupe, shared already", Wants::Flat(1.5)),
    goal(
        12,
        "COPY_FR_COPY",
        Wants::AtLeast(0.9, "memory copy", &[Processor]),
    ),
    goal(
        12,
        "COPY_FR_COPY",
        Wants::AtLeast(1.5, "COPY_FR_COPY", &[Tmpfs]),
    ),
    goal(
        12,
        "unaligned",
        Wants::AtLeast(0.9, "memory copy", &[Processor]),
    ),
    goal(12, "unaligned", Wants::AtLeast(1.5, "unaligned", &[Tmpfs])),
    goal(13, "memory of a clone", Wants::Below(2048.0)),
    goal(13, "memory of a byte", Wants::Below(1.005)),
    goal(13, "100 mapped clones", Wants::Below(1.05)),
    as_tmpfs(14, "reader beside a writer"),
    as_tmpfs(14, "writer beside a reader"),
    goal(
        14,
        "clones by two threads",
        Wants::AtLeast(1.5, "clones by one thread", &[Reflinkfs]),
    ),
];

pub struct Verdict {
    pub row: u8,
    pub metric: &'static str,
    pub at: Option<u64>,
    /// The goal in words.
    pub text: String,
    /// What must be compared with the goal; nothing where something was not measured.
    pub measured: Option<Ratio>,
    pub met: bool,
    /// Missed, but by less than the rounds differ.
    pub close: bool,
    pub why: Option<&'static str>,
}

pub fn judge(summary: &Summary) -> Vec<Verdict> {
    let measured_rows: Vec<u8> = summary.keys.iter().map(|key| key.row).collect();
    let goals = GOALS.iter().filter(|goal| {
        measured_rows.contains(&goal.row)
            || summary.failures.iter().any(|(row, ..)| *row == goal.row)
    });
    goals.map(|goal| goal.judge(summary)).collect()
}

impl Goal {
    fn judge(&self, summary: &Summary) -> Verdict {
        let key = Key::new(self.row, self.metric, self.at);
        let against = |metric, among| {
            summary.ratio_to_best(
                (&key, Reflinkfs),
                &Key::new(self.row, metric, self.at),
                among,
            )
        };
        let (text, measured, met, close): (_, _, fn(f64, f64) -> bool, _) = match self.wants {
            Wants::AtLeast(times, metric, among) => {
                let measured = against(metric, among);
                let text = format!("at least {times} × {}", self.describe(metric, among));
                (
                    text,
                    measured,
                    |ratio, goal| ratio >= goal,
                    measured.map(|ratio| ratio.high),
                )
            }
            Wants::AtMost(times, metric, among) => {
                let measured = against(metric, among).map(Ratio::inverse);
                let text = format!("at most {times} × {}", self.describe(metric, among));
                (
                    text,
                    measured,
                    |ratio, goal| ratio <= goal,
                    measured.map(|ratio| ratio.low),
                )
            }
            Wants::Flat(times) => {
                let measured = self.largest_to_smallest(summary);
                let text = format!("at every size, within {times} ×");
                (
                    text,
                    measured,
                    |ratio, goal| ratio <= goal,
                    measured.map(|ratio| ratio.low),
                )
            }
            Wants::Below(limit) => {
                let value = summary.get(&key, Reflinkfs).map(|series| series.median());
                let measured = value.map(|value| Ratio {
                    low: value,
                    median: value,
                    high: value,
                });
                (
                    format!("at most {limit}"),
                    measured,
                    |value, goal| value <= goal,
                    value,
                )
            }
        };
        let limit = self.wants.limit();
        let is_met = measured.is_some_and(|measured| met(measured.median, limit));
        let close = !is_met && close.is_some_and(|close| met(close, limit));
        Verdict {
            row: self.row,
            metric: self.metric,
            at: self.at,
            text,
            measured,
            met: is_met,
            close,
            why: self.why,
        }
    }

    fn describe(&self, metric: &str, among: &[Fs]) -> String {
        let who = match among {
            [Processor] => return metric.to_owned(),
            [Reflinkfs] => return format!("its own {metric}"),
            [one] => one.name().to_owned(),
            [Xfs, Btrfs] => "the best of XFS and btrfs".to_owned(),
            _ => "the best of all".to_owned(),
        };
        if metric == self.metric {
            who
        } else {
            format!("{who}'s {metric}")
        }
    }

    fn largest_to_smallest(&self, summary: &Summary) -> Option<Ratio> {
        let sizes = summary.sizes(self.row, self.metric);
        let key = |size| Key::new(self.row, self.metric, Some(size));
        let series = sizes
            .iter()
            .filter_map(|&size| summary.get(&key(size), Reflinkfs));
        let medians: Vec<f64> = series.map(|series| series.median()).collect();
        let largest = medians.iter().copied().reduce(f64::max)?;
        let ratio = largest / medians.iter().copied().reduce(f64::min)?;
        Some(Ratio {
            low: ratio,
            median: ratio,
            high: ratio,
        })
    }
}

impl Wants {
    fn limit(&self) -> f64 {
        match self {
            Self::AtLeast(limit, ..)
            | Self::AtMost(limit, ..)
            | Self::Flat(limit)
            | Self::Below(limit) => *limit,
        }
    }
}
