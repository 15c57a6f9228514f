// SPDX-License-Identifier: GPL-2.0

//! What C offers: [`kernel::bindings`], and what bindgen made of `bindings_helper.h`, which
//! stands in front where both have a name.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub use kernel::bindings::*;
use kernel::ffi;
use pin_init::MaybeZeroable;

include!(env!("REFLINKFS_BINDINGS"));
