// SPDX-License-Identifier: GPL-2.0

//! reflinkfs: an in-memory filesystem in which cloning a file costs nothing, and cloned pages
//! exist once.
//!
//! | where | what |
//! |---|---|
//! | [`fs`] | what the filesystem does, one file per concern |
//! | [`dax`] | blocks mapped into processes |
//! | [`memfs`] | names, attributes, quotas: what any in-memory filesystem needs |
//! | [`store`] | blocks, and the copy-on-write tree of a file |
//! | [`vfs`] | bindings of the C VFS, without policy |
//! | [`trace`], [`sysfs`] | tracepoints, files that show numbers |
//!
//! Each imports only from those below it. `unsafe` is in [`vfs`], in `block/` and `node_ref.rs` of
//! [`store`], and in a few places of [`memfs`], [`dax`], [`trace`], [`sysfs`] and [`compat`].

mod bindings;
mod compat;
mod copy_flags;
mod dax;
mod fs;
mod memfs;
mod store;
mod sysfs;
mod trace;
mod version;
mod vfs;

use kernel::prelude::*;
use store::NodeCache;

module! {
    type: Module,
    name: "reflinkfs",
    authors: ["The reflinkfs developers"],
    description: "In-memory filesystem with reflinks",
    license: "GPL",
    alias: ["fs-reflinkfs"],
}

#[pin_data]
struct Module {
    // Dropped first: afterwards there are no mounts, and so no nodes.
    #[pin]
    registration: vfs::Registration<fs::ReflinkFs>,
    _nodes: NodeCache,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _nodes: NodeCache::new(c"reflinkfs_node")?,
            registration <- vfs::Registration::new(module, fs::TypeData::new(module)),
            _: { pr_info!("version {}\n", version::VERSION) },
        })
    }
}
