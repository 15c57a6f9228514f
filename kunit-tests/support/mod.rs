// SPDX-License-Identifier: GPL-2.0

//! What the suites are written with.

#[macro_use]
mod check;

pub(crate) mod bytes;
pub(crate) mod counted;
pub(crate) mod diverge;
pub(crate) mod full;
#[cfg(CONFIG_FAULT_INJECTION)]
pub(crate) mod inject;
pub(crate) mod inode;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod random;
pub(crate) mod threads;
pub(crate) mod trees;
