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
    /// What it cannot be better than.
    limit: Option<Limit>,
}

/// Something measured in the same row that no filesystem like this one can be better than. Where that
/// misses a goal, too, the goal cannot be met.
#[derive(Clone, Copy)]
struct Limit {
    metric: &'static str,
    fs: Fs,
    /// What it is, and why nothing is better.
    why: &'static str,
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
        limit: None,
    }
}

const fn goal_at(row: u8, metric: &'static str, at: u64, wants: Wants) -> Goal {
    Goal {
        row,
        metric,
        at: Some(at),
        wants,
        limit: None,
    }
}

impl Goal {
    const fn limited(mut self, metric: &'static str, fs: Fs, why: &'static str) -> Self {
        self.limit = Some(Limit { metric, fs, why });
        self
    }
}

const WRITE: &str =
    "a module's device takes the same calls: it allocates pages and copies what is \
    written to them, and has no file, no lock of one, and nothing to find or let go of";
const NAMES: &str =
    "ramfs, which has nothing but names, creates a file, refuses to clone it, and closes \
    it: what the kernel itself takes on the way";
const INSERT: &str = "a module whose blocks are single pages has all of them at hand and maps a page \
    table full at each fault, with vm_insert_pages(): an entry and a count for each, where others map a \
    large folio of their page cache at once (set_pte_range: not exported). Blocks that are shared, copied \
    and freed each by itself cannot be one folio: outside of a page cache none can be split \
    (folio_check_splittable), so 2 MiB would stay for the last block of it that somebody shares";
const COPY: &str = "a module copies the page that is stored to into a new one at each fault, as those \
    beside it are to stay shared, and maps it, while XFS maps what is in its page cache, a large folio at \
    once, and puts the copy off until it writes back";

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
    goal(4, "clone", Wants::AtMost(0.5, "copy", &[Tmpfs])).limited("names alone", Processor, NAMES),
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
    .limited("4 KiB random, new pages only", Processor, WRITE),
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
    .limited("1 MiB sequential, new pages only", Processor, WRITE),
    goal(
        6,
        "1 MiB sequential",
        Wants::AtMost(2.0, "1 MiB sequential", &[Tmpfs]),
    ),
    best(7, "sequential write").limited("sequential write, new pages only", Processor, WRITE),
    best(8, "sequential read, 1 thread"),
    best(8, "sequential read, 2 threads"),
    best(8, "random read 4 KiB, 1 thread"),
    best(8, "random read 4 KiB, 2 threads"),
    best(8, "random overwrite 4 KiB, 1 thread"),
    best(8, "random overwrite 4 KiB, 2 threads"),
    best(9, "read faults").limited("read faults, pages at hand", Processor, INSERT),
    best(9, "write faults").limited("write faults, pages at hand", Processor, INSERT),
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
    .limited("write faults, pages copied", Processor, COPY),
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
    as_tmpfs(14, "each of two readers beside a writer"),
    as_tmpfs(14, "writer beside two readers"),
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
    pub limit: Option<Limited>,
    /// The same where instructions were counted, which no other work on the machine disturbs.
    pub counted: Option<Counted>,
}

/// What is measured, in instructions.
pub struct Counted {
    pub measured: f64,
    pub met: bool,
    /// Of threads that take turns on one processor, so that none waits for another.
    pub in_turns: bool,
    pub limit: Option<Limited>,
}

impl Verdict {
    /// Missed, and nothing could do better.
    pub fn cannot_be_met(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.holds)
    }

    /// The same by instructions.
    pub fn cannot_be_met_in_instructions(&self) -> bool {
        let counted = self.counted.as_ref();
        let limit = counted.and_then(|counted| counted.limit.as_ref());
        limit.is_some_and(|limit| limit.holds)
    }
}

/// What a limit has where reflinkfs misses a goal.
pub struct Limited {
    pub measured: f64,
    /// Whether it misses the goal, too.
    pub holds: bool,
    pub why: &'static str,
}

pub fn judge(summary: &Summary, counted: Option<&Summary>) -> Vec<Verdict> {
    let measured_rows: Vec<u8> = summary.keys.iter().map(|key| key.row).collect();
    let goals = GOALS.iter().filter(|goal| {
        measured_rows.contains(&goal.row)
            || summary.failures.iter().any(|(row, ..)| *row == goal.row)
    });
    goals.map(|goal| goal.judge(summary, counted)).collect()
}

impl Goal {
    fn judge(&self, summary: &Summary, counted: Option<&Summary>) -> Verdict {
        let measured = self.measured(summary, (self.metric, Reflinkfs));
        let met = measured.is_some_and(|measured| self.wants.are_met(measured.median));
        let close = measured.is_some_and(|measured| {
            self.wants.are_met(measured.low) || self.wants.are_met(measured.high)
        });
        let ours = measured.map(|measured| measured.median);
        let limit = self.beside_limit(summary, ours);
        // What several do at the same time is another matter on the one processor that counts.
        let counted = counted.filter(|_| !met && self.row != 14);
        let counted = counted.and_then(|counted| {
            let measured = self.measured(counted, (self.metric, Reflinkfs))?.median;
            Some(Counted {
                measured,
                met: self.wants.are_met(measured),
                in_turns: self.metric.ends_with(" threads"),
                limit: self.beside_limit(counted, Some(measured)),
            })
        });
        Verdict {
            row: self.row,
            metric: self.metric,
            at: self.at,
            text: self.text(),
            measured,
            met,
            close: close && !met,
            limit,
            counted,
        }
    }

    /// What the limit has, where the goal is missed.
    fn beside_limit(&self, summary: &Summary, ours: Option<f64>) -> Option<Limited> {
        if ours.is_some_and(|ours| self.wants.are_met(ours)) {
            return None;
        }
        let limit = self.limit?;
        let theirs = self.measured(summary, (limit.metric, limit.fs))?.median;
        // What reflinkfs does better than is no limit.
        let is_limit = ours.is_some_and(|ours| self.wants.is_better(theirs, ours));
        Some(Limited {
            measured: theirs,
            holds: is_limit && !self.wants.are_met(theirs),
            why: limit.why,
        })
    }

    /// What must be compared with the goal, of something measured on a filesystem.
    fn measured(&self, summary: &Summary, (metric, fs): (&str, Fs)) -> Option<Ratio> {
        let key = |metric| Key::new(self.row, metric, self.at);
        let against = |their, among| summary.ratio_to_best((&key(metric), fs), &key(their), among);
        match self.wants {
            Wants::AtLeast(_, their, among) => against(their, among),
            Wants::AtMost(_, their, among) => against(their, among).map(Ratio::inverse),
            Wants::Flat(_) => self.largest_to_smallest(summary),
            Wants::Below(_) => summary
                .get(&key(metric), fs)
                .map(|series| Ratio::one(series.median())),
        }
    }

    fn text(&self) -> String {
        match self.wants {
            Wants::AtLeast(times, metric, among) => {
                format!("at least {times} × {}", self.describe(metric, among))
            }
            Wants::AtMost(times, metric, among) => {
                format!("at most {times} × {}", self.describe(metric, among))
            }
            Wants::Flat(times) => format!("at every size, within {times} ×"),
            Wants::Below(limit) => format!("at most {limit}"),
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
        Some(Ratio::one(ratio))
    }
}

impl Wants {
    fn is_better(&self, one: f64, other: f64) -> bool {
        match self {
            Self::AtLeast(..) => one > other,
            Self::AtMost(..) | Self::Flat(..) | Self::Below(..) => one < other,
        }
    }

    fn are_met(&self, measured: f64) -> bool {
        match self {
            Self::AtLeast(limit, ..) => measured >= *limit,
            Self::AtMost(limit, ..) | Self::Flat(limit) | Self::Below(limit) => measured <= *limit,
        }
    }
}
