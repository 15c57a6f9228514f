// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The machine.

use std::fs::read_to_string;

use anyhow::{Context, Result};
use measure::record::Record;

use crate::bench::{print, Scale};
use crate::Options;

pub fn describe(options: &Options) -> Result<()> {
    let cpuinfo = read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    print(&Record::Machine {
        kernel: read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        processor: model
            .unwrap_or("unknown")
            .trim_matches([' ', '\t', ':'])
            .to_owned(),
        emulated: options.emulated,
        counted: options.counted,
        cpus: std::thread::available_parallelism()?.get(),
        memory: meminfo("MemTotal")?,
        quick: options.quick,
        full: options.scale() == Scale::Full,
        erms: cpuinfo.split_whitespace().any(|word| word == "erms"),
        rounds: options.rounds,
    })
}

/// Returns a line of `/proc/meminfo`, in bytes.
pub fn meminfo(name: &str) -> Result<u64> {
    let text = read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("/proc/meminfo has no {name}"))? << 10)
}
