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
    /// Measures, and leaves the directory as it was.
    pub round: fn(&Bench) -> Result<()>,
    /// At most so many rounds.
    pub rounds: u32,
    /// Whether what was made stays, because removing it takes longer than measuring.
    pub keep: bool,
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

/// A row that all filesystems are measured in, every round.
const fn row(
    number: u8,
    title: &'static str,
    prepare: fn(&Bench) -> Result<()>,
    round: fn(&Bench) -> Result<()>,
) -> Row {
    Row {
        number,
        title,
        on: |_| true,
        prepare,
        round,
        rounds: u32::MAX,
        keep: false,
    }
}
