// SPDX-License-Identifier: GPL-2.0

//! Redirects some calls of a system call to this module.

#[cfg(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES))]
#[cfg_attr(CONFIG_X86_64, path = "x86.rs")]
#[cfg_attr(CONFIG_ARM64, path = "arm64.rs")]
#[cfg_attr(not(any(CONFIG_X86_64, CONFIG_ARM64)), path = "unknown.rs")]
mod arch;
#[cfg(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES))]
mod ftrace;
#[cfg(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES))]
mod parameter;
#[cfg(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES))]
pub(crate) use ftrace::Hook;

#[cfg(not(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES)))]
mod refuse;
#[cfg(not(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES)))]
pub(crate) use refuse::Hook;

use kernel::prelude::*;

/// The arguments of a system call.
pub(crate) struct Arguments {
    /// As the call takes them.
    pub(crate) values: [usize; 6],
    /// Whether the caller sees only 32 bits of the result.
    pub(crate) is_32_bit: bool,
}

/// A system call, some calls of which are redirected.
pub(crate) trait SystemCall: Send + Sync + 'static {
    /// The name, without the architecture's prefix.
    const NAME: &'static str;

    /// Returns whether to redirect this call. Called with preemption disabled.
    fn wants(arguments: &Arguments) -> bool;

    /// Makes the call. Returns its result.
    ///
    /// # Errors
    ///
    /// What the call fails with.
    fn call(arguments: &Arguments) -> Result<usize>;
}
