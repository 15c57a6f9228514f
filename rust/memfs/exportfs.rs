// SPDX-License-Identifier: GPL-2.0

//! File handles, for NFS and `open_by_handle_at(2)`. Compare `shmem_export_ops`.
//!
//! A handle names an inode by its number, which no other inode of the superblock gets, and by its
//! generation, which tells superblocks apart. It is stale when the inode is gone.

use super::{
    namei::iget,
    MemFs, //
};
use crate::{
    compat::ESTALE,
    vfs::{
        ExportOperations,
        Inode,
        SuperBlock, //
    },
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Generation, low and high half of the number.
type Handle = [u32; 3];

/// The export operations.
pub(crate) struct ExportFs;

impl<T: MemFs> ExportOperations<T> for ExportFs {
    type Handle = Handle;

    // The kernel's `FILEID_INO32_GEN` and `FILEID_INO32_GEN_PARENT`. Only this filesystem reads
    // them, as on tmpfs.
    const FILEID: u8 = 1;
    const FILEID_WITH_PARENT: u8 = 2;

    fn encode(inode: &Inode<T>) -> Handle {
        let ino = inode.ino();
        [inode.generation(), ino as u32, (ino >> 32) as u32]
    }

    fn find(sb: &SuperBlock<T>, [generation, low, high]: Handle) -> Result<ARef<Inode<T>>> {
        let inode = iget(sb, u64::from(high) << 32 | u64::from(low))?;
        if inode.generation() != generation {
            return Err(ESTALE);
        }
        Ok(inode)
    }

    fn get_parent(dir: &Inode<T>) -> Result<ARef<Inode<T>>> {
        let parent = T::info(dir).record.read().parent;
        iget(dir.super_block(), parent)
    }
}
