// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: `/sys/kernel/tracing/events/reflinkfs`, see `reflinkfs_trace.h`.

use crate::bindings;
use kernel::{
    error::from_result,
    prelude::*, //
};

/// A range that was copied or shared from one file to another. Positions and lengths are in bytes.
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

/// A tracepoint for such a range: its function, as C has it.
///
/// # Invariants
///
/// It takes any numbers.
pub(crate) struct RemapEvent(unsafe extern "C" fn(u32, u64, u64, u64, u64, u64, i64));

// INVARIANT: `TP_fast_assign` of each copies its arguments.
/// `FICLONE`, `FICLONERANGE`, `COPY_FR_REFLINK`.
pub(crate) const CLONE: RemapEvent = RemapEvent(bindings::rust_trace_reflinkfs_clone);

/// `FIDEDUPERANGE`, `COPY_FR_DEDUP`.
pub(crate) const DEDUPE: RemapEvent = RemapEvent(bindings::rust_trace_reflinkfs_dedupe);

/// `copy_file_range(2)` without flags, `COPY_FR_COPY`.
pub(crate) const COPY: RemapEvent = RemapEvent(bindings::rust_trace_reflinkfs_copy);

/// Emits `event`, with what `result` is to a program: a count or a negative errno.
pub(crate) fn remap(event: RemapEvent, range: &Remapped, result: Result<u64>) {
    let Remapped { dev, from, to, len } = *range;
    let ret = from_result(|| Ok(result? as i64));
    // SAFETY: By the type invariant of `event`.
    unsafe { (event.0)(dev, from.0, from.1, to.0, to.1, len, ret) };
}

/// Returns whether [`cow`] is enabled: its arguments are computed only then.
pub(crate) fn cow_enabled() -> bool {
    // SAFETY: Reads a static key.
    unsafe { bindings::rust_trace_reflinkfs_cow_enabled() }
}

/// Owned blocks replace shared ones, from `index` on.
pub(crate) fn cow(dev: u32, ino: u64, index: u64, blocks: u64) {
    // SAFETY: A tracepoint's function takes any numbers.
    unsafe { bindings::rust_trace_reflinkfs_cow(dev, ino, index, blocks) };
}

/// A page fault at `index`; `write` is whether the file is stored to.
pub(crate) fn fault(dev: u32, ino: u64, index: u64, write: bool, result: Result) {
    let ret = from_result(|| result.map(|()| 0));
    // SAFETY: A tracepoint's function takes any numbers.
    unsafe { bindings::rust_trace_reflinkfs_fault(dev, ino, index, write, ret) };
}

/// An allocation failed at the limit: `blocks` are charged of `limit`, 0 for none.
pub(crate) fn nospc(dev: u32, ino: u64, blocks: u64, limit: u64) {
    // SAFETY: A tracepoint's function takes any numbers.
    unsafe { bindings::rust_trace_reflinkfs_nospc(dev, ino, blocks, limit) };
}
