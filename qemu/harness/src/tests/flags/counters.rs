// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The statistics of the calls in debugfs.

use std::collections::BTreeMap;

use libc::{EBADE, EINVAL, EXDEV};

use super::{copy, flag_name, range, COPY, DEDUP, FLAGS, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::pattern::{blocks, BLOCK};

pub const CASES: &[Case] = &[
    case!(the_module_says_that_it_is_active),
    case!(calls_bytes_and_errors_are_counted_by_flag),
];

fn the_module_says_that_it_is_active(_: &Test) -> Outcome {
    let path = "/sys/module/copy_fr/parameters/active";
    let said = std::fs::read_to_string(path).or_fail(path)?;
    expect_eq(said.as_str(), "Y\n", path)?;
    let written = std::fs::write(path, "N");
    expect(written.is_err(), "it cannot be turned off by writing")
}

/// Returns the counters of a flag.
fn counters(flags: u32) -> Outcome<BTreeMap<String, u64>> {
    let name = match flags {
        COPY => "copy",
        REFLINK => "reflink",
        _ => "dedup",
    };
    let path = format!("/sys/kernel/debug/copy_fr/{name}");
    let text = std::fs::read_to_string(&path).or_fail(&path)?;
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').ok_or("no value").or_fail(line)?;
            Ok((name.to_owned(), value.trim().parse().or_fail(line)?))
        })
        .collect()
}

/// Expects a call to increase counters at least by this: other tests run at the same time.
#[track_caller]
fn expect_counted(flags: u32, names: &[(&str, u64)], call: impl FnOnce() -> Outcome) -> Outcome {
    let before = counters(flags)?;
    call()?;
    let after = counters(flags)?;
    for (name, by) in names {
        let of = |counters: &BTreeMap<String, u64>| {
            let value = counters.get(*name).copied();
            value.ok_or("no such counter").or_fail(name)
        };
        let (before, after) = (of(&before)?, of(&after)?);
        expect(
            after >= before + by,
            format_args!("{}: {name} was {before}, is {after}", flag_name(flags)),
        )?;
    }
    Ok(())
}

fn calls_bytes_and_errors_are_counted_by_flag(t: &Test) -> Outcome {
    let data = blocks(1, 3);
    let source = t.create_with("source", &data)?;
    let to = t.create_with("to", &data)?;
    let there = t.create_elsewhere("there", &data)?;
    let whole = range(0, 0, data.len());
    for flags in FLAGS {
        if flags == COPY || t.filesystem.can_share() {
            let bytes = data.len() as u64;
            expect_counted(flags, &[("whole", 1), ("bytes", bytes)], || {
                super::copy_all(&source, &to, whole, flags)
            })?;
        } else {
            expect_counted(flags, &[("EOPNOTSUPP", 1)], || {
                expect_errno(
                    copy(&source, &to, whole, flags),
                    libc::EOPNOTSUPP,
                    "the call",
                )
            })?;
        }
        expect_counted(flags, &[("EXDEV", 1)], || {
            expect_errno(copy(&source, &there, whole, flags), EXDEV, "the call")
        })?;
        expect_counted(flags, &[("EINVAL", 1)], || {
            let before = range(-4096i64 as u64, 0, BLOCK);
            expect_errno(copy(&source, &to, before, flags), EINVAL, "the call")
        })?;
    }
    if !t.filesystem.can_share() {
        return Ok(());
    }
    to.write_at(b"different", 100)?;
    expect_counted(DEDUP, &[("EBADE", 1)], || {
        expect_errno(copy(&source, &to, whole, DEDUP), EBADE, "the call")
    })
}
