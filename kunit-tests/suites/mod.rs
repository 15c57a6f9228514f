// SPDX-License-Identifier: GPL-2.0

//! The suites, one a file.

mod alloc;
mod block;
mod compare;
mod cost;
mod ends;
mod extent;
#[cfg(CONFIG_FAULT_INJECTION)]
mod failing;
mod full;
mod history;
mod map;
#[cfg(CONFIG_FAULT_INJECTION)]
mod map_failing;
mod mapped;
mod names;
mod owned;
mod parallel;
mod pool;
mod prealloc;
mod share;
mod stable;
mod table;
mod tree;
