// SPDX-License-Identifier: GPL-2.0

//! How system calls arrive on x86-64, see `arch/x86/include/asm/syscall_wrapper.h`: each has an
//! entry for 64-bit callers and one for 32-bit callers, both given the caller's registers.

use super::Arguments;
use crate::bindings;

/// The prefixes of the entries of a system call. All entries but the first may be missing.
pub(super) const ENTRIES: &[&str] = &["__x64_sys_", "__ia32_sys_"];

/// Returns the arguments of the system call that the current task makes with these registers.
pub(super) fn arguments(regs: &bindings::pt_regs) -> Arguments {
    // SAFETY: Both only look at the current task.
    let (ia32, is_32_bit) = unsafe {
        (
            bindings::in_ia32_syscall(),
            // x32 too, which passes its arguments as a 64-bit caller does.
            bindings::in_compat_syscall(),
        )
    };
    let values = if ia32 {
        // The upper halves are what the caller left in them.
        [regs.bx, regs.cx, regs.dx, regs.si, regs.di, regs.bp].map(|value| value as u32 as usize)
    } else {
        [regs.di, regs.si, regs.dx, regs.r10, regs.r8, regs.r9]
    };
    Arguments { values, is_32_bit }
}
