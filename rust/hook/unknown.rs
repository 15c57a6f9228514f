// SPDX-License-Identifier: GPL-2.0

//! An architecture for which nobody has written down how system calls arrive; what that takes
//! is in `x86.rs`.

use super::Arguments;
use crate::bindings;

pub(super) const ENTRIES: &[&str] = &[];

pub(super) fn arguments(_regs: &bindings::pt_regs) -> Arguments {
    Arguments {
        values: [0; 6],
        is_32_bit: false,
    }
}
