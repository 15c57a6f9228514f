// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: `/sys/kernel/tracing/events/reflinkfs`, see `reflinkfs_trace.h`.

use crate::bindings;
use kernel::prelude::*;

/// A range that went from one file to another. Positions and lengths are in bytes.
pub(crate) struct Remapped {
    /// The device of the destination's superblock.
    pub(crate) dev: u32,
    /// The source: its inode number, and where the range begins.
    pub(crate) from: (u64, u64),
    /// The destination, likewise.
    pub(crate) to: (u64, u64),
    /// The length that was asked for.
    pub(crate) len: u64,
}

fn ret(result: &Result<u64>) -> i64 {
    match result {
        Ok(n) => *n as i64,
        Err(err) => err.to_errno().into(),
    }
}

/// `FICLONE`, `FICLONERANGE`, `COPY_FR_REFLINK`.
pub(crate) fn clone(range: &Remapped, result: &Result<u64>) {
    let Remapped { dev, from, to, len } = *range;
    // SAFETY: Has no preconditions.
    unsafe {
        bindings::rust_trace_reflinkfs_clone(dev, from.0, from.1, to.0, to.1, len, ret(result))
    };
}

/// `FIDEDUPERANGE`, `COPY_FR_DEDUP`.
pub(crate) fn dedupe(range: &Remapped, result: &Result<u64>) {
    let Remapped { dev, from, to, len } = *range;
    // SAFETY: Has no preconditions.
    unsafe {
        bindings::rust_trace_reflinkfs_dedupe(dev, from.0, from.1, to.0, to.1, len, ret(result))
    };
}

/// `copy_file_range(2)` without flags, `COPY_FR_COPY`.
pub(crate) fn copy(range: &Remapped, result: &Result<u64>) {
    let Remapped { dev, from, to, len } = *range;
    // SAFETY: Has no preconditions.
    unsafe {
        bindings::rust_trace_reflinkfs_copy(dev, from.0, from.1, to.0, to.1, len, ret(result))
    };
}

/// Returns whether [`cow`] is enabled, where it costs something to find out what to tell it.
pub(crate) fn cow_enabled() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { bindings::rust_trace_reflinkfs_cow_enabled() }
}

/// Blocks of a file's own come in the place of shared ones, from `index` on.
pub(crate) fn cow(dev: u32, ino: u64, index: u64, blocks: u64) {
    // SAFETY: Has no preconditions.
    unsafe { bindings::rust_trace_reflinkfs_cow(dev, ino, index, blocks) };
}

/// A page fault at `index`; `write` is whether the file is stored to.
pub(crate) fn fault(dev: u32, ino: u64, index: u64, write: bool, result: Result) {
    let ret = result.map_or_else(|err| err.to_errno(), |()| 0);
    // SAFETY: Has no preconditions.
    unsafe { bindings::rust_trace_reflinkfs_fault(dev, ino, index, write, ret) };
}

/// There is no room for a block: `blocks` are charged of `limit`, 0 for none.
pub(crate) fn nospc(dev: u32, ino: u64, blocks: u64, limit: u64) {
    // SAFETY: Has no preconditions.
    unsafe { bindings::rust_trace_reflinkfs_nospc(dev, ino, blocks, limit) };
}
