// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What an enemy does: calls on files of any logical size, beside processes that want to go on;
//! calls at random; whatever takes memory.

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

/// What takes as long as it is given, and is no part of a run of all tests.
pub const CASES: &[Case] = &[
    case!(calls_at_random).needs(NEEDS),
    case!(memory_is_bounded).needs(NEEDS),
];

const NEEDS: &[Feature] = &[Feature::Reflink, Feature::Instance];

/// Tells what was done, in one piece, as others write, too.
pub fn tell(what: impl Display) {
    let _ = std::io::stderr().write_all(format!("torture: {what}\n").as_bytes());
}
