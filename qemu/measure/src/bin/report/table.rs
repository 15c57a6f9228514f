// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The table on the terminal.

use measure::record::{Fs, Record, Unit};

use crate::goals::{Limited, Verdict};
use crate::summary::{Key, Ratio, Series, Summary};

const COLUMNS: [Fs; 4] = [Fs::Reflinkfs, Fs::Tmpfs, Fs::Xfs, Fs::Btrfs];

pub const TITLES: [&str; 16] = [
    "whole files",
    "fragmented file",
    "FICLONERANGE that does not fit the tree",
    "many small files",
    "unlink",
    "first write to a clone",
    "new file",
    "file in memory",
    "page faults",
    "names",
    "FIDEDUPERANGE",
    "copying",
    "memory",
    "two CPUs",
    "kernel's sources",
    "curves",
];

pub fn print(summary: &Summary, verdicts: &[Verdict]) {
    print_machine(summary);
    println!(
        "{:44}{:>16}{:>16}{:>16}{:>16}{:>9}{:>9}",
        "", "reflinkfs", "tmpfs", "xfs", "btrfs", "× tmpfs", "× disks"
    );
    for (row, title) in (1..).zip(TITLES) {
        let keys: Vec<_> = summary.keys.iter().filter(|key| key.row == row).collect();
        if keys.is_empty() && !summary.failures.iter().any(|failure| failure.0 == row) {
            continue;
        }
        let settings = summary
            .settings
            .get(&row)
            .map_or(String::new(), |all| format!(" ({})", all.join("; ")));
        println!("{row:2}  {title}{settings}");
        for key in keys {
            print_line(summary, key);
        }
        print_rounds(summary, row);
        for verdict in verdicts.iter().filter(|verdict| verdict.row == row) {
            print_verdict(verdict);
        }
        for (_, fs, error) in summary.failures.iter().filter(|failure| failure.0 == row) {
            println!("    FAILED on {}: {error}", fs.name());
        }
    }
    print_worse(summary);
    print_totals(verdicts, summary.failures.len());
    if summary.seconds.is_none() {
        println!("CUT OFF: the guest ended before the end of the measurements");
    }
}

fn print_totals(verdicts: &[Verdict], failures: usize) {
    // Where threads take turns, waiting is not counted, which may be what a goal was missed by.
    let of = |verdict: &Verdict| match verdict {
        _ if verdict.met => 0,
        _ if verdict.measured.is_none() => 6,
        _ if verdict.cannot_be_met() => 1,
        _ if verdict.cannot_be_met_in_instructions() => 2,
        Verdict {
            counted: Some(counted),
            ..
        } if counted.met && !counted.in_turns => 3,
        _ if verdict.close => 4,
        _ => 5,
    };
    let count = |kind| {
        verdicts
            .iter()
            .filter(|verdict| of(verdict) == kind)
            .count()
    };
    println!("\n{} of {} goals met; missed:", count(0), verdicts.len());
    for (kind, text) in [
        (1, "that cannot be met, as the table shows"),
        (
            2,
            "that cannot be met in instructions, which nothing disturbs",
        ),
        (3, "that are met in instructions"),
        (4, "by less than the rounds differ"),
        (5, "others"),
        (6, "that were not measured"),
    ] {
        println!("  {:3} {text}", count(kind));
    }
    println!("{failures} failures");
}

fn print_machine(summary: &Summary) {
    let Some(Record::Machine {
        kernel,
        processor,
        emulated,
        counted,
        cpus,
        memory,
        quick,
        full,
        erms,
        rounds,
    }) = &summary.machine
    else {
        return;
    };
    println!(
        "Linux {kernel}, {cpus} CPUs ({processor}{}), {} MiB; {rounds} rounds{}",
        if *erms { ", erms" } else { "" },
        memory >> 20,
        match (quick, full) {
            (true, _) => ", quick",
            (_, true) => ", in full size",
            _ => ", less than in full size",
        }
    );
    println!("Medians, ± the median deviation from them, or (1) where something was measured once. ×: how");
    println!("many times as good reflinkfs is, round by round; disks: the best of XFS and btrfs, both on");
    println!("disks of memory.");
    if *counted {
        println!("WARNING: a nanosecond stands for an instruction: nothing here is a time.");
    } else if *emulated {
        println!("WARNING: the processor is emulated (no KVM): times mean nothing, only ratios do, and those not much.");
        println!("Goals that are missed are looked at once more in instructions (QEMU -icount), where they were counted.");
    }
    println!();
}

/// Which filesystems got fewer rounds of what than the others, or all of them fewer than were asked
/// for.
fn print_rounds(summary: &Summary, row: u8) {
    let Some(Record::Machine { rounds: asked, .. }) = &summary.machine else {
        return;
    };
    let mut fewer: Vec<(String, Vec<&str>)> = Vec::new();
    // A number of things is counted once, and so are many at a time.
    let once = |key: &Key| key.metric == "extents" || key.metric.ends_with("at a time");
    let timed = |key: &&Key| key.row == row && !once(key);
    for key in summary.keys.iter().filter(timed) {
        let rounds = |fs: &Fs| Some((*fs, summary.get(key, *fs)?.rounds.len()));
        let all: Vec<_> = COLUMNS.iter().filter_map(rounds).collect();
        let most = all.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let most = most.max(*asked as usize);
        for (fs, n) in all.into_iter().filter(|(_, n)| *n < most) {
            let rounds = format!("{} {n} of {most}", fs.name());
            match fewer.iter_mut().find(|(other, _)| *other == rounds) {
                Some((_, metrics)) if metrics.contains(&key.metric.as_str()) => {}
                Some((_, metrics)) => metrics.push(&key.metric),
                None => fewer.push((rounds, vec![&key.metric])),
            }
        }
    }
    let fewer: Vec<_> = fewer
        .into_iter()
        .map(|(rounds, metrics)| format!("{rounds} ({})", metrics.join(", ")))
        .collect();
    if !fewer.is_empty() {
        println!(
            "      fewer rounds, as they take long: {}",
            fewer.join("; ")
        );
    }
}

/// In what reflinkfs is behind tmpfs, whether that is a goal or not.
fn print_worse(summary: &Summary) {
    // The curves are of the same things again.
    let keys = summary.keys.iter().filter(|key| key.row < 16);
    let ratios = keys.filter_map(|key| {
        let ratio = summary.ratio_to_best((key, Fs::Reflinkfs), key, &[Fs::Tmpfs])?;
        Some((key, ratio)).filter(|(_, ratio)| ratio.median < 1.0)
    });
    let text = |(key, ratio): &(&Key, Ratio)| {
        format!("{} {} ({})", key.row, key.metric, precise(ratio.median))
    };
    let (close, behind): (Vec<_>, Vec<_>) = ratios.partition(|(_, ratio)| ratio.high >= 1.0);
    println!();
    for (what, list) in [
        ("Behind tmpfs", behind),
        ("Behind it by less than the rounds differ", close),
    ] {
        let list: Vec<_> = list.iter().map(text).collect();
        let list = if list.is_empty() {
            "nothing".to_owned()
        } else {
            list.join(", ")
        };
        println!("{what}: {list}");
    }
}

fn print_line(summary: &Summary, key: &Key) {
    let name = key.at.map_or(key.metric.clone(), |at| {
        format!("{}, {}", key.metric, size(at))
    });
    if let Some(series) = summary.get(key, Fs::Processor) {
        println!("    {name:40}{:>16}  (no filesystem)", cell(series));
        return;
    }
    print!("    {name:40}");
    for fs in COLUMNS {
        let text = match summary.get(key, fs) {
            Some(series) => cell(series),
            None if summary.failed(key.row, fs) => "failed".to_owned(),
            None => "-".to_owned(),
        };
        print!("{text:>16}");
    }
    for among in [&[Fs::Tmpfs][..], &[Fs::Xfs, Fs::Btrfs]] {
        let ratio = summary.ratio_to_best((key, Fs::Reflinkfs), key, among);
        print!(
            "{:>9}",
            ratio.map_or("-".to_owned(), |ratio| number(ratio.median))
        );
    }
    println!();
}

fn print_verdict(verdict: &Verdict) {
    let what = verdict.at.map_or(verdict.metric.to_owned(), |at| {
        format!("{}, {}", verdict.metric, size(at))
    });
    let result = match (verdict.measured, verdict.met) {
        (None, _) => "NOT MEASURED".to_owned(),
        (Some(measured), true) => format!("met: {}", number(measured.median)),
        (Some(measured), false) => {
            let [low, median, high] = [measured.low, measured.median, measured.high].map(precise);
            let how = if verdict.close {
                "MISSED, by less than the rounds differ"
            } else {
                "MISSED"
            };
            format!("{how}: {median} ({low} to {high})")
        }
    };
    println!("      goal: {what}: {}: {result}", verdict.text);
    // Where rounds differ too much, the instructions below say whether it can be met.
    let undecided = verdict.close && verdict.counted.is_some();
    if let Some(limit) = &verdict.limit {
        let text = if undecided && !limit.holds {
            format!("this has {}", number(limit.measured))
        } else {
            of_limit(limit)
        };
        println!("            {text}: {}", limit.why);
    }
    if let Some(counted) = &verdict.counted {
        let met = if counted.met { "met" } else { "missed, too" };
        let limit = counted.limit.as_ref();
        println!(
            "            in instructions{}{} {met}: {}{}",
            if counted.in_turns {
                " (of threads that take turns, so that none waits)"
            } else {
                ""
            },
            if undecided {
                ", which do not differ from round to round,"
            } else {
                ""
            },
            precise(counted.measured),
            limit.map_or(String::new(), |limit| format!("; {}", of_limit(limit)))
        );
    }
}

/// So that what misses a goal by little does not look as if it met it.
fn precise(value: f64) -> String {
    if (0.8..1.2).contains(&value) {
        format!("{value:.3}")
    } else {
        number(value)
    }
}

fn of_limit(limit: &Limited) -> String {
    let what = if limit.holds {
        "cannot be met, as this has"
    } else {
        "could be met, as this has"
    };
    format!("{what} {}", number(limit.measured))
}

fn cell(series: &Series) -> String {
    let median = value(series.median(), series.unit);
    match series.rounds.len() {
        1 => format!("{median} (1)"),
        _ => format!("{median} ±{:.0}%", series.spread() * 100.0),
    }
}

/// A value with three digits and its unit.
pub fn value(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 1e-3 => format!("{} us", number(value * 1e6)),
        Unit::Seconds if value < 1.0 => format!("{} ms", number(value * 1e3)),
        Unit::Seconds => format!("{} s", number(value)),
        Unit::BytesPerSecond if value >= 1e11 => format!("{} GB/s", number(value / 1e9)),
        Unit::BytesPerSecond => format!("{} MB/s", number(value / 1e6)),
        Unit::PerSecond => format!("{}/s", number(value)),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Times => format!("{value:.4}"),
        Unit::Count => format!("{value:.0}"),
    }
}

/// Three digits.
pub fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A size in bytes, or a count: `4 Ki`, `2 Gi`, `100`.
pub fn size(at: u64) -> String {
    for (shift, prefix) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if at >= 1 << shift && at % (1 << shift) == 0 {
            return format!("{} {prefix}", at >> shift);
        }
    }
    at.to_string()
}
