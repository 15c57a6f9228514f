// SPDX-License-Identifier: GPL-2.0

//! Architectures without support; `x86.rs` shows what it takes.

use super::Arguments;
use crate::bindings;

pub(super) const ENTRIES: &[&str] = &[];

pub(super) fn arguments(_regs: &bindings::pt_regs) -> Arguments {
    Arguments {
        values: [0; 6],
        is_32_bit: false,
    }
}
