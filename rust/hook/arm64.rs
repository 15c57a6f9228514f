// SPDX-License-Identifier: GPL-2.0

//! How system calls arrive on arm64, see `arch/arm64/include/asm/syscall_wrapper.h`: each has one entry,
//! for 64-bit and 32-bit callers, given the caller's registers.
//!
//! ftrace calls the hook between the entry's second and third instruction, or one later where the
//! entry begins with a landing pad (BTI): before the first that does anything.

use super::Arguments;
use crate::bindings;

/// The prefixes of the entries of a system call.
pub(super) const ENTRIES: &[&str] = &["__arm64_sys_"];

/// Returns the arguments of the system call that the current task makes with these registers.
pub(super) fn arguments(regs: &bindings::pt_regs) -> Arguments {
    // SAFETY: Only looks at the current task.
    let is_32_bit = unsafe { bindings::in_compat_syscall() };
    // SAFETY: Both variants of the union are integers.
    let [_, x1, x2, x3, x4, x5, ..] = unsafe { regs.__bindgen_anon_1.user_regs.regs };
    // The first register becomes the result.
    let values = [regs.orig_x0, x1, x2, x3, x4, x5].map(|value| {
        if is_32_bit {
            value as u32 as usize
        } else {
            value as usize
        }
    });
    Arguments { values, is_32_bit }
}
