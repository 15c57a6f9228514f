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

/// What programs could still get, in bytes.
pub fn available() -> Outcome<u64> {
    meminfo("MemAvailable")
}
