// SPDX-License-Identifier: GPL-2.0

//! The inodes of a superblock.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    FileSystem,
    Inode,
    NewInode,
    SuperBlock, //
};
use crate::bindings;
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    container_of,
    prelude::*,
    sync::aref::ARef, //
};

impl<T: FileSystem> SuperBlock<T> {
    /// Calls `f` with each inode that is not going away. It may sleep.
    pub fn for_each_inode(&self, f: impl Fn(&Inode<T>)) {
        let sb = self.as_raw();
        let mut last = ptr::null_mut();
        // SAFETY: The superblock is live, and all its inodes are of `T`. The list is followed with
        // its lock held, and from an inode to which there is a reference, as that stays on it.
        unsafe {
            bindings::spin_lock(&raw mut (*sb).s_inode_list_lock);
            let head = &raw mut (*sb).s_inodes;
            let mut link = (*head).next;
            while link != head {
                let inode = bindings::igrab(container_of!(link, bindings::inode, i_sb_list));
                if !inode.is_null() {
                    bindings::spin_unlock(&raw mut (*sb).s_inode_list_lock);
                    f(Inode::from_raw(inode));
                    bindings::iput(last);
                    last = inode;
                    bindings::cond_resched();
                    bindings::spin_lock(&raw mut (*sb).s_inode_list_lock);
                }
                link = (*link).next;
            }
            bindings::spin_unlock(&raw mut (*sb).s_inode_list_lock);
            bindings::iput(last);
        }
    }

    /// Returns the inode of a number, if it is in the cache: `ilookup`.
    pub fn ilookup(&self, ino: u64) -> Option<ARef<Inode<T>>> {
        // SAFETY: The superblock is live.
        let inode = unsafe { bindings::ilookup(self.as_raw(), ino) };
        // SAFETY: An inode of this superblock, and a reference that passes to the result.
        NonNull::new(inode).map(|inode| unsafe { ARef::from_raw(inode.cast()) })
    }

    /// Returns the inode of a number. If it is not in the cache, `init` reads it; whatever looks
    /// for it meanwhile waits. `iget_locked`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `init`.
    pub fn iget(
        &self,
        ino: u64,
        init: impl FnOnce(&NewInode<T>) -> Result,
    ) -> Result<ARef<Inode<T>>> {
        // SAFETY: The superblock is live.
        let inode = unsafe { bindings::iget_locked(self.as_raw(), ino) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: An inode of this superblock, and a reference that passes to the result.
        let inode: ARef<Inode<T>> = unsafe { ARef::from_raw(inode.cast()) };
        // SAFETY: The inode is live.
        let state = unsafe { bindings::inode_state_read_once(inode.as_raw()) };
        if state & bindings::inode_state_flags_enum_I_NEW == 0 {
            return Ok(inode);
        }
        // INVARIANT: The inode is locked and new.
        let inode = NewInode::from_locked(inode);
        init(&inode)?;
        Ok(inode.unlock())
    }
}
