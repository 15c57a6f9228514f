// SPDX-License-Identifier: GPL-2.0 OR MIT
//! How much memory the machine has.

use crate::failure::{Context, Outcome};

fn meminfo(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").or_fail("read /proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
        .ok_or("not there")
        .or_fail(format_args!("{name} in /proc/meminfo"))?;
    Ok(kib * 1024)
}

/// All of it, in bytes.
pub fn total() -> Outcome<u64> {
    meminfo("MemTotal")
}

/// What nobody has, in bytes, with the pages that each processor keeps at hand: those that
/// come and go in great numbers come from there and go there, which no other sum shows.
pub fn free() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/zoneinfo").or_fail("read /proc/zoneinfo")?;
    let pages: u64 = text
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let count = line.strip_prefix("pages free");
            let count = count.or_else(|| line.strip_prefix("count:"))?;
            count.trim().parse::<u64>().ok()
        })
        .sum();
    Ok(pages * 4096)
}

/// What programs could still get, in bytes.
pub fn available() -> Outcome<u64> {
    meminfo("MemAvailable")
}
