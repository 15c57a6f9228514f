// SPDX-License-Identifier: GPL-2.0

//! copy_fr: the flags of `copy_file_range(2)`, on every filesystem of a running kernel.
//!
//! The system call refuses flags before it asks a filesystem. While this module is loaded, a call
//! with one of the three flags is redirected to it; any other stays the kernel's own.
//!
//! | where | what |
//! |---|---|
//! | [`copy_file_range`] | what a call does, one file per concern |
//! | [`hook`] | how a call is redirected: ftrace |
//! | [`mod@file`] | open files of any filesystem, and ranges of them |
//! | [`debugfs`] | statistics of the calls, for an administrator |
//!
//! `unsafe` is in [`hook`], [`mod@file`] and [`debugfs`].

// Unused on a kernel where the hook cannot be installed.
#![cfg_attr(
    not(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES)),
    allow(dead_code, unused_imports)
)]

mod bindings;
mod compat;
mod copy_file_range;
mod copy_flags;
mod debugfs;
mod file;
mod hook;
mod version;

use kernel::prelude::*;

module! {
    type: Module,
    name: "copy_fr",
    authors: ["The reflinkfs developers"],
    description: "Flags for copy_file_range(2)",
    license: "GPL",
}

#[pin_data]
struct Module {
    /// Dropped first, so that no call counts while the files of the counters are removed.
    #[pin]
    hook: hook::Hook<copy_file_range::CopyFileRange>,
    shown: debugfs::Directory,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shown: copy_file_range::show(),
            hook <- hook::Hook::install(),
            _: { pr_info!("version {}\n", version::VERSION) },
        })
    }
}
