// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rows of the table, a file for each kind of work. The program `report` makes the table.

mod clones;
mod copies;
mod curves;
mod dedupe;
mod faults;
mod first_write;
mod forks;
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
    /// The filesystems of the row.
    pub on: fn(Fs) -> bool,
    /// Creates the files; once on each filesystem.
    pub prepare: fn(&Bench) -> Result<()>,
    /// The phases, one after the other, each with several rounds. The first finds the directory as
    /// `prepare` made it, the next ones as the phase before left it.
    pub phases: &'static [Phase],
    /// The number of rounds, from the number asked for.
    pub rounds: fn(u32) -> u32,
    /// Whether the files stay, because removing them takes longer than measuring.
    pub keep: bool,
}

/// One round of a phase.
pub enum Phase {
    /// On one filesystem, in its turn.
    Each(fn(&Bench) -> Result<()>),
    /// On all filesystems, which take turns within it.
    All(fn(&[Bench]) -> Result<()>),
}

/// In the order of measuring. Rows that leave much behind come last.
pub const ALL: &[Row] = &[
    // Before the disks fill: they free memory whenever they like.
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
    forks::ROW,
    dedupe::ROW,
    copies::ROW,
    threads::ROW,
    tree::ROW,
    curves::ROW,
    fragments::ROW,
];

/// A row for all filesystems, with as many rounds as asked for.
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

/// The same with short rounds, and three times as many: for rows with small differences.
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
