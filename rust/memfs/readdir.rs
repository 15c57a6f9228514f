// SPDX-License-Identifier: GPL-2.0

//! Open directories: `getdents(2)`, `lseek(2)`.
//!
//! A listing ends with the last entry that there was when it began: at its first read, or the first
//! one after its position was set to 0. It would never end where each step of it creates an entry,
//! as renaming does.

use super::{
    dir_offsets,
    MemFs, //
};
use crate::{
    bindings,
    vfs::{
        DirContext,
        File,
        FileOperations, //
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// How many entries are listed under one hold of the lock of the offsets.
const BATCH_ENTRIES: usize = 16;

/// The operations of an open directory.
pub(crate) struct DirFileOps;

#[vtable]
impl<T: MemFs> FileOperations<T> for DirFileOps {
    fn llseek(file: &File<T>, offset: i64, whence: u32) -> Result<i64> {
        // Positions are offsets of names, and have no end.
        if !matches!(whence, bindings::SEEK_SET | bindings::SEEK_CUR) {
            return Err(EINVAL);
        }
        file.generic_llseek(offset, whence, i64::MAX as u64, 0)
    }

    fn iterate_shared(file: &File<T>, mut ctx: DirContext<'_>) -> Result {
        let end = end_of_listing(file, ctx.pos());
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        loop {
            let mut found = [None; BATCH_ENTRIES];
            dir_offsets::of(file.inode()).first(ctx.pos()..end, &mut found);
            for (offset, entry) in found.iter().flatten() {
                ctx.set_pos(*offset);
                // SAFETY: The VFS holds the directory's lock.
                let dentry = unsafe { entry.dentry::<T>() };
                // A persistent dentry has an inode.
                let Some(inode) = dentry.inode() else {
                    continue;
                };
                if !ctx.emit(dentry.name(), inode.ino(), inode.file_type()) {
                    return Ok(());
                }
                ctx.set_pos(offset + 1);
            }
            if found[BATCH_ENTRIES - 1].is_none() {
                return Ok(());
            }
        }
    }

    fn fsync(_file: &File<T>, _range: Range<u64>) -> Result {
        Ok(())
    }
}

/// Returns the offset at which the listing ends that `file` is at.
///
/// It is noted in `private_data`, which is 0 before the first read, and anew by a read of the
/// start. Not by opening or seeking: what is created between these and the first read is listed.
fn end_of_listing<T: MemFs>(file: &File<T>, pos: u64) -> u64 {
    if pos == 0 || file.private() == 0 {
        file.set_private(dir_offsets::of(file.inode()).end() as usize);
    }
    file.private() as u64
}
