// SPDX-License-Identifier: GPL-2.0

//! What can be done with a regular file, each in a file of its own.

use super::{
    clone, copy, dedupe, extents, fallocate, read, truncate, write, Changing, Inode, ReflinkFs,
};
use crate::{
    store::block::BlockRef,
    vfs::{Extent, Fallocate, FileOperations, Remap, RemapKind},
};
use core::ops::Range;
use kernel::{
    iov::{IovIterDest, IovIterSource},
    prelude::*,
};

impl FileOperations for ReflinkFs {
    fn read(inode: &Inode, pos: u64, to: &mut IovIterDest<'_>) -> Result<usize> {
        read::read(inode, pos, to)
    }

    fn get_stable(inode: &Inode, index: u64) -> Result<(BlockRef, u64)> {
        read::get_stable(inode, index)
    }

    fn write(
        inode: &Changing<'_>,
        pos: u64,
        from: &mut IovIterSource<'_>,
        may_wait: bool,
    ) -> Result<usize> {
        write::write(inode, pos, from, may_wait)
    }

    fn truncate(inode: &Changing<'_>, size: u64) -> Result {
        truncate::truncate(inode, size)
    }

    fn seek(inode: &Inode, pos: u64, hole: bool) -> Option<u64> {
        extents::seek(inode, pos, hole)
    }

    fn extent(inode: &Inode, pos: u64) -> Option<Extent> {
        extents::extent(inode, pos)
    }

    fn fallocate(inode: &Changing<'_>, what: Fallocate, bytes: Range<u64>, size: u64) -> Result {
        fallocate::fallocate(inode, what, bytes, size)
    }

    fn copy(request: &Remap<'_, Self>) -> Result<u64> {
        copy::copy(request)
    }

    fn remap(request: &Remap<'_, Self>) -> Result<u64> {
        match request.kind {
            RemapKind::Copy | RemapKind::CopyOrClone => copy::copy(request),
            RemapKind::Clone => clone::clone(request),
            RemapKind::Dedupe => dedupe::dedupe(request),
        }
    }
}
