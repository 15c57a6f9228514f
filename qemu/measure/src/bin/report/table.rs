// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The table on the terminal.

use measure::record::{Fs, Record, Unit};

use crate::summary::{Key, Ratio, Series, Summary};

const COLUMNS: [Fs; 4] = [Fs::Reflinkfs, Fs::Tmpfs, Fs::Xfs, Fs::Btrfs];

pub const TITLES: [&str; 17] = [
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
    "forks",
];

pub fn print(summary: &Summary, counted: Option<&Summary>) {
    print_machine(summary);
    println!(
        "{:44}{:>16}{:>16}{:>16}{:>16}{:>9}{:>9}{:>9}{:>9}",
        "", "reflinkfs", "tmpfs", "xfs", "btrfs", "× tmpfs", "× disks", "i tmpfs", "i disks"
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
            print_line(summary, counted, key);
        }
        print_rounds(summary, row);
        for (_, fs, error) in summary.failures.iter().filter(|failure| failure.0 == row) {
            println!("    FAILED on {}: {error}", fs.name());
        }
    }
    print_worse(summary);
    println!("{} failures", summary.failures.len());
    if summary.seconds.is_none() {
        println!("CUT OFF: the guest ended before the end of the measurements");
    }
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
    println!(
        "Medians, ± the median deviation from them, or (1) for a single measurement. ×: how many"
    );
    println!(
        "times as good reflinkfs is, round by round; disks: compared with the better of XFS and"
    );
    println!(
        "btrfs, both on RAM disks. i: the same ratio of instructions (QEMU -icount), if counted."
    );
    if *counted {
        println!("WARNING: each nanosecond is an instruction: no value is a time.");
    } else if *emulated {
        println!("WARNING: the processor is emulated (no KVM): only ratios mean something.");
    }
    println!();
}

/// Prints which filesystems had fewer rounds than others, or all of them fewer than asked for.
fn print_rounds(summary: &Summary, row: u8) {
    let Some(Record::Machine { rounds: asked, .. }) = &summary.machine else {
        return;
    };
    let mut fewer: Vec<(String, Vec<&str>)> = Vec::new();
    // Counts are measured once, and so are large numbers of operations.
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

/// Prints the metrics in which reflinkfs is behind tmpfs.
fn print_worse(summary: &Summary) {
    // The curves repeat other rows.
    let keys = summary.keys.iter().filter(|key| key.row != 16);
    let ratios = keys.filter_map(|key| {
        let ratio = summary.ratio_to_best((key, Fs::Reflinkfs), key, &[Fs::Tmpfs])?;
        Some((key, ratio)).filter(|(_, ratio)| ratio.median < 1.0)
    });
    let text = |(key, ratio): &(&Key, Ratio)| {
        format!("{} {} ({})", key.row, key.metric, number(ratio.median))
    };
    let (close, behind): (Vec<_>, Vec<_>) = ratios.partition(|(_, ratio)| ratio.high >= 1.0);
    println!();
    for (what, list) in [
        ("Behind tmpfs", behind),
        ("Behind tmpfs by less than the spread of rounds", close),
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

fn print_line(summary: &Summary, counted: Option<&Summary>, key: &Key) {
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
    for summary in [Some(summary), counted] {
        for among in [&[Fs::Tmpfs][..], &[Fs::Xfs, Fs::Btrfs]] {
            let ratio =
                summary.and_then(|summary| summary.ratio_to_best((key, Fs::Reflinkfs), key, among));
            print!(
                "{:>9}",
                ratio.map_or("-".to_owned(), |ratio| number(ratio.median))
            );
        }
    }
    println!();
}

fn cell(series: &Series) -> String {
    let median = value(series.median(), series.unit);
    match series.rounds.len() {
        1 => format!("{median} (1)"),
        _ => format!("{median} ±{:.0}%", series.spread() * 100.0),
    }
}

/// Formats a value with three digits and its unit.
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

/// Formats three digits.
pub fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Formats a size in bytes, or a count: `4 Ki`, `2 Gi`, `100`.
pub fn size(at: u64) -> String {
    for (shift, prefix) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if at >= 1 << shift && at % (1 << shift) == 0 {
            return format!("{} {prefix}", at >> shift);
        }
    }
    at.to_string()
}
