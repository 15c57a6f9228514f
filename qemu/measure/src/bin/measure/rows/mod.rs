// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rows of the table: what is done, a file for each kind of work. What must come of it is in
//! the program `report`.

mod clones;
mod copies;
mod curves;
mod dedupe;
mod faults;
mod first_write;
mod fragments;
mod memory;
mod names;
mod package;
mod read_write;
mod threads;
mod tree;
mod unlink;

use anyhow::Result;
use measure::record::Fs;

use crate::bench::Bench;

pub struct Row {
    pub number: u8,
    pub title: &'static str,
    /// On which filesystems.
    pub on: fn(Fs) -> bool,
    /// Makes what is measured; once on each filesystem.
    pub prepare: fn(&Bench) -> Result<()>,
    /// What is measured, one after the other, each of them in so many rounds. The first finds the
    /// directory as it was made, those after it as the one before left it.
    pub phases: &'static [Phase],
    /// How many rounds, where so many are asked for.
    pub rounds: fn(u32) -> u32,
    /// Whether what was made stays, because removing it takes longer than measuring.
    pub keep: bool,
}

/// One round of something.
pub enum Phase {
    /// On one filesystem, whose turn it is.
    Each(fn(&Bench) -> Result<()>),
    /// On all of them, which take their turns within it.
    All(fn(&[Bench]) -> Result<()>),
}

/// In the order in which they are measured. That which leaves much behind comes last.
pub const ALL: &[Row] = &[
    // Before the disks fill: when they give memory back is up to them.
    memory::ROW,
    clones::WHOLE,
    clones::RANGE,
    package::ROW,
    unlink::ROW,
    first_write::ROW,
    read_write::NEW_FILE,
    read_write::IN_PLACE,
    faults::ROW,
    names::ROW,
    dedupe::ROW,
    copies::ROW,
    threads::ROW,
    tree::ROW,
    curves::ROW,
    fragments::ROW,
];

/// A row that all filesystems are measured in, with as many rounds as are asked for.
const fn row(
    number: u8,
    title: &'static str,
    prepare: fn(&Bench) -> Result<()>,
    phases: &'static [Phase],
) -> Row {
    Row {
        number,
        title,
        on: |_| true,
        prepare,
        phases,
        rounds: |asked| asked,
        keep: false,
    }
}

/// The same in rounds that are short, and three times as many: for what filesystems differ little in.
const fn fine_row(
    number: u8,
    title: &'static str,
    prepare: fn(&Bench) -> Result<()>,
    phases: &'static [Phase],
) -> Row {
    Row {
        rounds: |asked| 3 * asked,
        ..row(number, title, prepare, phases)
    }
}
