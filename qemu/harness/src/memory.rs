// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The machine's memory.

use std::io::{BufRead, BufReader};

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

/// Returns the total, in bytes.
pub fn total() -> Outcome<u64> {
    meminfo("MemTotal")
}

/// Returns the free memory, in bytes, with the per-CPU lists of pages.
pub fn free() -> Outcome<u64> {
    Ok(pages("pages free")? + pages("count:")?)
}

/// Returns the memory that programs could still get, in bytes, with the per-CPU lists of pages.
pub fn available() -> Outcome<u64> {
    Ok(meminfo("MemAvailable")? + pages("count:")?)
}

/// Returns how many bytes of freed objects the kernel may keep: a 32nd of memory with KASAN
/// (`mm/kasan/quarantine.c`).
pub fn kept_when_freed() -> Outcome<u64> {
    // Line by line: the whole text would stay in the heap of this process.
    let symbols = std::fs::File::open("/proc/kallsyms").or_fail("open /proc/kallsyms")?;
    let has_kasan = BufReader::new(symbols)
        .lines()
        .any(|line| line.is_ok_and(|line| line.ends_with(" kasan_quarantine_put")));
    Ok(if has_kasan { total()? / 32 } else { 0 })
}

/// Returns the bytes of all pages on these lines of /proc/zoneinfo. Lines with `count:` are the
/// per-CPU lists: frequently allocated and freed pages, tens of MiB, which are in no other sum.
fn pages(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/zoneinfo").or_fail("read /proc/zoneinfo")?;
    let counts = text.lines().filter_map(|line| {
        let count = line.trim_start().strip_prefix(name)?;
        count.trim().parse::<u64>().ok()
    });
    Ok(counts.sum::<u64>() * 4096)
}
