// SPDX-License-Identifier: GPL-2.0

//! reflinkfs: an in-memory filesystem in which cloning a file costs nothing, and cloned pages
//! exist once.
//!
//! | where | what |
//! |---|---|
//! | [`fs`] | what the filesystem does, one file per concern |
//! | [`store`] | blocks, and the copy-on-write tree of a file |
//! | [`vfs`] | safe Rust over the C VFS |
//!
//! `unsafe` is in [`vfs`] and in [`store::block`].

mod bindings;
pub mod copy_flags;
mod fs;
pub mod store;
pub mod vfs;

use kernel::prelude::*;
use store::block::NodeCache;

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
    // Goes first: after that there are no mounts, and so no nodes.
    #[pin]
    registration: vfs::Registration<fs::ReflinkFs>,
    _nodes: NodeCache,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _nodes: store::node_cache(c"reflinkfs_node")?,
            registration <- vfs::Registration::new(module),
        })
    }
}
