// SPDX-License-Identifier: GPL-2.0

//! Calls the tracepoints of [`crate::trace`].

use super::{
    remap::RemapRequest,
    Inode, //
};
use crate::trace::{
    self,
    RemapEvent,
    Remapped, //
};
use kernel::prelude::*;

/// Traces that a request was made, with its result.
pub(super) fn remap(event: RemapEvent, request: &RemapRequest<'_>, result: Result<u64>) {
    let (from, to) = (request.from.inode(), request.to.inode());
    let range = Remapped {
        dev: to.super_block().s_dev(),
        from: (from.ino(), request.from_pos),
        to: (to.ino(), request.to_pos),
        len: request.len,
    };
    trace::remap(event, &range, result);
}

/// Traces that owned blocks replace shared ones in `inode`.
pub(super) fn cow(inode: &Inode, index: u64, blocks: u64) {
    trace::cow(inode.super_block().s_dev(), inode.ino(), index, blocks);
}

/// Traces that an allocation for `inode` failed because of `size=`, if that is why. Returns the
/// error.
pub(super) fn alloc_failed(inode: &Inode, err: Error) -> Error {
    if err == ENOSPC {
        let (sb, pool) = (inode.super_block(), inode.blocks().pool());
        trace::nospc(
            sb.s_dev(),
            inode.ino(),
            pool.charged(),
            pool.limit().unwrap_or(0),
        );
    }
    err
}
