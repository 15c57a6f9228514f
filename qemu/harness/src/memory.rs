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

/// What nobody has, in bytes, with what each processor keeps at hand.
pub fn free() -> Outcome<u64> {
    Ok(pages("pages free")? + pages("count:")?)
}

/// What programs could still get, in bytes, with what each processor keeps at hand.
pub fn available() -> Outcome<u64> {
    Ok(meminfo("MemAvailable")? + pages("count:")?)
}

/// The bytes of all pages that lines of /proc/zoneinfo tell. Those that begin with `count:` are what each
/// processor keeps at hand: pages that come and go in great numbers come from there and go there, tens of
/// MiB, which no other sum shows.
fn pages(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/zoneinfo").or_fail("read /proc/zoneinfo")?;
    let counts = text.lines().filter_map(|line| {
        let count = line.trim_start().strip_prefix(name)?;
        count.trim().parse::<u64>().ok()
    });
    Ok(counts.sum::<u64>() * 4096)
}
