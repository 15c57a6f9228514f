// SPDX-License-Identifier: GPL-2.0

//! The inodes of a superblock.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    FileSystem,
    Inode,
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

    /// Returns the inode that is hashed as `hash` and passes `test`: `ilookup5`.
    pub fn ilookup<C: InodeTest<T>>(&self, hash: u64, test: C) -> Option<ARef<Inode<T>>> {
        /// # Safety
        ///
        /// `inode` is an inode of the superblock, `test` is a `C`.
        unsafe extern "C" fn call<T: FileSystem, C: InodeTest<T>>(
            inode: *mut bindings::inode,
            test: *mut c_void,
        ) -> c_int {
            // SAFETY: `ilookup5` passes inodes of the superblock in an RCU read section, in which
            // none is freed, and the `test` below.
            unsafe { (*test.cast::<C>()).test(Inode::from_raw(inode)) }.into()
        }
        let mut test = test;
        // SAFETY: The superblock is live; `test` is valid during the call.
        let inode = unsafe {
            bindings::ilookup5(
                self.as_raw(),
                hash,
                Some(call::<T, C>),
                (&raw mut test).cast(),
            )
        };
        // SAFETY: An inode of this superblock, and a reference that passes to the result.
        NonNull::new(inode).map(|inode| unsafe { ARef::from_raw(inode.cast()) })
    }
}

/// Recognises the inode that [`SuperBlock::ilookup`] looks for.
pub trait InodeTest<T: FileSystem> {
    /// Returns whether this is the inode. Must not sleep.
    fn test(&self, inode: &Inode<T>) -> bool;
}
