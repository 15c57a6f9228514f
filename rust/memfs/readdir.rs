// SPDX-License-Identifier: GPL-2.0

//! Open directories: `getdents(2)`, `lseek(2)`.
//!
//! Names are listed in the order of their positions, so that a listing ends however many are
//! created meanwhile.
//!
//! A 32-bit program sees the higher 31 bits of a position, as on ext4. Where it goes on from one it
//! may see names again that have these bits, too: one in 2^31 of any two.

use super::{
    names::{
        Named,
        FIRST_POSITION,
        LOW_BITS, //
    },
    MemFs, //
};
use crate::{
    bindings,
    vfs::{
        in_compat_syscall,
        DirContext,
        File,
        FileOperations, //
    },
};
use core::ops::{
    ControlFlow,
    Range, //
};
use kernel::prelude::*;

/// The operations of an open directory.
pub(crate) struct DirFileOps;

#[vtable]
impl<T: MemFs> FileOperations<T> for DirFileOps {
    fn llseek(file: &File<T>, offset: i64, whence: u32) -> Result<i64> {
        // Positions are hashes, and have no end.
        if !matches!(whence, bindings::SEEK_SET | bindings::SEEK_CUR) {
            return Err(EINVAL);
        }
        file.generic_llseek(offset, whence, i64::MAX as u64, 0)
    }

    fn iterate_shared(file: &File<T>, mut ctx: DirContext<'_>) -> Result {
        if !ctx.emit_dots(file) {
            return Ok(());
        }
        // A clone, as the lock must not be held while names are copied to user space. Nothing
        // changes them meanwhile, with the directory locked.
        let names = T::info(file.inode()).record.read().names.clone();
        let hidden = if in_compat_syscall() { LOW_BITS } else { 0 };
        let from = FIRST_POSITION.max(ctx.pos() << hidden);
        names.for_each(from, |position, entry| {
            ctx.set_pos(position >> hidden);
            if !ctx.emit(entry.name(), entry.ino, entry.file_type) {
                return ControlFlow::Break(());
            }
            ctx.set_pos((position >> hidden) + 1);
            ControlFlow::Continue(())
        });
        Ok(())
    }

    fn fsync(_file: &File<T>, _range: Range<u64>) -> Result {
        Ok(())
    }
}
