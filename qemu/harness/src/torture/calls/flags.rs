// SPDX-License-Identifier: GPL-2.0 OR MIT
//! copy_file_range(2) with its flags.

use super::sharing::{copy, within};
use super::{Caller, Piece};
use crate::failure::Sys;
use crate::filesystem::Feature;
use crate::pattern::BLOCK64;
use crate::tests::flags::{COPY, DEDUP, REFLINK};

pub const NEEDS: &[Feature] = &[Feature::Reflinkfs, Feature::Flags, Feature::FastKernel];

pub fn flag_copy(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, within(piece), 0, COPY)
}

pub fn flag_reflink(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, within(piece), 0, REFLINK)
}

pub fn flag_reflink_a_block_later(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, within(piece), BLOCK64, REFLINK)
}

/// Deduplicates equal ranges.
pub fn flag_dedup(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    copy(caller, within(piece), caller.bomb.shift(), DEDUP)
}
