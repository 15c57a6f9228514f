// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What an enemy does: calls on files of any logical size, beside processes that want to go on.

pub mod bomb;
pub mod calls;
mod others;
mod run;
mod shared;
mod speed;

pub use run::expect_bounded;
