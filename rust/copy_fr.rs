// SPDX-License-Identifier: GPL-2.0

//! copy_fr: the flags of `copy_file_range(2)`, on every filesystem of a running kernel.
//!
//! The system call refuses flags before it asks a filesystem. While this module is loaded, a call
//! with one of the three flags comes here instead; any other is the kernel's own, untouched.
//!
//! | where | what |
//! |---|---|
//! | [`call`] | what a call does, one file per concern |
//! | [`hook`] | how it comes here: ftrace |
//! | [`debugfs`] | what came of the calls, for an administrator to see |
//! | [`any`] | open files, part of reflinkfs's layer over the VFS, as is [`debugfs`] |
//!
//! `unsafe` is in [`hook`], [`debugfs`] and [`any`].

// Nothing leads there on a kernel where the hook refuses.
#![cfg_attr(
    not(all(CONFIG_DYNAMIC_FTRACE_WITH_ARGS, CONFIG_KPROBES)),
    allow(dead_code, unused_imports)
)]

#[path = "vfs/any/mod.rs"]
pub mod any;
mod bindings;
mod call;
pub mod copy_flags;
#[path = "vfs/debugfs.rs"]
mod debugfs;
mod hook;

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
    /// Goes first, so that nothing is counted any more when what shows the counters goes.
    #[pin]
    hook: hook::Hook<call::CopyFileRange>,
    shown: debugfs::Directory,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shown: call::show(),
            hook <- hook::Hook::install(),
        })
    }
}
