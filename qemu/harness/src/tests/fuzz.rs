// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random operations on two files.

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, Outcome};
use crate::fuzz::fuzz;

pub const CASES: &[Case] = &[case!(two_files)];

fn two_files(t: &Test) -> Outcome {
    let settings = t.settings;
    if !t.is_reflinkfs() {
        fuzz(&t.dir, t.filesystem, settings.seed, settings.fuzz)?;
        return Ok(());
    }
    let fs = t.mount(&[])?;
    let before = fs.used()?;
    fuzz(&fs.root, t.filesystem, settings.seed, settings.fuzz)?;
    expect_eq(fs.used()?, before, "blocks in use after all are removed")?;
    fs.unmount()
}
