// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Attacks: calls on files of any logical size while other processes must make progress; random
//! calls; calls that take memory.

pub mod bomb;
pub mod calls;
mod memory;
mod others;
mod random;
mod run;
mod shared;
mod speed;

use std::fmt::Display;
use std::io::Write;

use crate::case::{case, Case};
use crate::filesystem::Feature;
use memory::memory_is_bounded;
use random::calls_at_random;
pub use run::expect_bounded;

/// Tests that run for a given time, and are not part of a run of all tests.
pub const CASES: &[Case] = &[
    case!(calls_at_random).needs(NEEDS),
    case!(memory_is_bounded).needs(NEEDS),
];

const NEEDS: &[Feature] = &[Feature::Reflink, Feature::Instance];

/// Prints a count, in one write, as other threads write, too.
pub fn tell(what: impl Display) {
    let _ = std::io::stderr().write_all(format!("torture: {what}\n").as_bytes());
}
