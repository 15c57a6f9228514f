// SPDX-License-Identifier: GPL-2.0

//! File handles, for NFS and `open_by_handle_at(2)`. Compare `shmem_export_ops`.
//!
//! A handle names an inode by its number, which no other inode of the superblock gets, and by its
//! generation, which tells superblocks apart. It is stale when the inode is gone.

use super::MemFs;
use crate::vfs::{
    ExportOperations,
    Inode,
    InodeTest,
    SuperBlock, //
};
use kernel::sync::aref::ARef;

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

    /// Puts the inode into the kernel's hash, which is left until there is a handle: mounts that
    /// are not exported do not contend for the hash.
    fn encode(inode: &Inode<T>) -> Handle {
        let handle = handle(inode);
        let _guard = T::info(inode).hash_lock.lock();
        inode.insert_hash(hash(&handle));
        handle
    }

    fn find(sb: &SuperBlock<T>, handle: Handle) -> Option<ARef<Inode<T>>> {
        sb.ilookup(hash(&handle), HasHandle(handle))
    }
}

fn handle<T: MemFs>(inode: &Inode<T>) -> Handle {
    let ino = inode.ino();
    [inode.generation(), ino as u32, (ino >> 32) as u32]
}

/// Returns where the kernel's hash has the inode of a handle.
fn hash(handle: &Handle) -> u64 {
    let [generation, low, high] = handle.map(u64::from);
    (high << 32 | low).wrapping_add(generation)
}

struct HasHandle(Handle);

impl<T: MemFs> InodeTest<T> for HasHandle {
    fn test(&self, inode: &Inode<T>) -> bool {
        handle(inode) == self.0
    }
}
