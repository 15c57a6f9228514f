// SPDX-License-Identifier: GPL-2.0

//! `struct address_space`: its operations, and `invalidate_lock`.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h).

use super::{
    AddressSpaceOps,
    FileSystem,
    Inode, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Range, //
};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*, //
};

impl<T: FileSystem> AddressSpaceOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: AddressSpaceOperations<T>>() -> &'static Self {
        &Table::<T, U>::TABLE
    }
}

/// The operations of an address space. What is not implemented is not in the table.
#[vtable]
pub trait AddressSpaceOperations<T: FileSystem> {
    /// Called when a page that carries the mapping of `inode` was written to, as its page table
    /// entry or the end of a pin says. Must not sleep. Returns whether the page was marked dirty.
    fn dirty_folio(_inode: &Inode<T>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

struct Table<T, U>(PhantomData<(T, U)>);

impl<T: FileSystem, U: AddressSpaceOperations<T>> Table<T, U> {
    const TABLE: AddressSpaceOps<T> =
        AddressSpaceOps::from_raw(bindings::address_space_operations {
            dirty_folio: if U::HAS_DIRTY_FOLIO {
                Some(Self::dirty_folio)
            } else {
                None
            },
            ..pin_init::zeroed()
        });

    /// # Safety
    ///
    /// `mapping` is that of an inode of the filesystem, which stays, as the page or its page table
    /// is locked.
    unsafe extern "C" fn dirty_folio(
        mapping: *mut bindings::address_space,
        _folio: *mut bindings::folio,
    ) -> bool {
        // SAFETY: The caller passes the mapping of an inode of the filesystem, which stays during
        // the call.
        U::dirty_folio(unsafe { Inode::from_raw((*mapping).host) })
    }
}

impl<T: FileSystem> Inode<T> {
    /// Updates change and modification time without sleeping, `inode_update_cmtime`.
    pub fn update_cmtime(&self) {
        // SAFETY: The inode is live.
        unsafe { bindings::reflinkfs_update_cmtime(self.as_raw()) };
    }

    fn invalidate_rwsem(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: The inode is live; only the field's address is taken.
        unsafe { &raw mut (*self.mapping()).invalidate_lock }
    }

    /// Takes `invalidate_lock` exclusive: no fault maps a page meanwhile.
    pub fn invalidate_lock(&self) -> InvalidateGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::down_write(self.invalidate_rwsem()) };
        invalidate_locked();
        InvalidateGuard {
            inode: self,
            unlock: true,
        }
    }

    /// Takes `invalidate_lock` shared: what the file holds at an index does not change meanwhile.
    pub fn invalidate_lock_shared(&self) -> InvalidateSharedGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::down_read(self.invalidate_rwsem()) };
        InvalidateSharedGuard(self)
    }
}

/// Tells lockdep that an `invalidate_lock`, or two, are held exclusive from now on: it reports a
/// wait for memory then.
pub(super) fn invalidate_locked() {
    // SAFETY: Only tells lockdep.
    unsafe { bindings::reflinkfs_invalidate_locked() };
}

/// Has lockdep report waits for memory with `invalidate_lock` held exclusive: once, before there is
/// an inode.
pub(super) fn invalidate_in_reclaim() {
    // SAFETY: Only tells lockdep.
    unsafe { bindings::reflinkfs_invalidate_in_reclaim() };
}

/// Ends what [`invalidate_locked`] began.
pub(super) fn invalidate_unlocked() {
    // SAFETY: Only tells lockdep.
    unsafe { bindings::reflinkfs_invalidate_unlocked() };
}

/// `invalidate_lock` held exclusive. No task waits for memory meanwhile, as faults of processes of
/// other cgroups wait for the lock; lockdep is told so.
#[must_use]
pub struct InvalidateGuard<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    /// Whether dropping this value unlocks.
    unlock: bool,
}

impl<'a, T: FileSystem> InvalidateGuard<'a, T> {
    /// # Safety
    ///
    /// The caller holds the lock during `'a`, and unlocks it.
    pub(super) unsafe fn assume(inode: &'a Inode<T>) -> Self {
        Self {
            inode,
            unlock: false,
        }
    }

    /// Returns the inode whose lock it is.
    pub fn inode(&self) -> &'a Inode<T> {
        self.inode
    }

    /// Makes it shared, `downgrade_write`: what is true of the inode stays so.
    pub fn downgrade(self) -> InvalidateSharedGuard<'a, T> {
        debug_assert!(self.unlock);
        let inode = ManuallyDrop::new(self).inode;
        invalidate_unlocked();
        // SAFETY: The lock is held exclusive; it passes to the new guard, which unlocks it.
        unsafe { bindings::downgrade_write(inode.invalidate_rwsem()) };
        InvalidateSharedGuard(inode)
    }

    /// Removes `pages` from every page table, `unmap_mapping_pages`. The copies that private
    /// mappings made stay.
    pub fn unmap(&self, pages: Range<u64>) {
        self.unmap_mapping_pages(pages, false);
    }

    /// As [`InvalidateGuard::unmap`], with the copies of private mappings: for pages that do not
    /// lie within the file any more.
    pub fn unmap_even_cows(&self, pages: Range<u64>) {
        self.unmap_mapping_pages(pages, true);
    }

    fn unmap_mapping_pages(&self, pages: Range<u64>, even_cows: bool) {
        let len = pages.end.saturating_sub(pages.start);
        // A length of 0 means "to the end" there.
        if len == 0 {
            return;
        }
        // Also where no VMA seems to map the file: without `i_mmap_rwsem` `mapping_mapped` may say
        // so wrongly, as `vma_prepare` takes a VMA that has entries out of the tree for a while. A
        // VMA that comes later faults under `invalidate_lock`.
        // SAFETY: The inode is live.
        unsafe {
            bindings::unmap_mapping_pages(
                self.inode.mapping(),
                pages.start as usize,
                len as usize,
                even_cows,
            )
        };
    }
}

impl<T: FileSystem> Drop for InvalidateGuard<'_, T> {
    fn drop(&mut self) {
        if self.unlock {
            invalidate_unlocked();
            // SAFETY: `Inode::invalidate_lock` took it.
            unsafe { bindings::up_write(self.inode.invalidate_rwsem()) };
        }
    }
}

/// `invalidate_lock` held shared.
#[must_use]
pub struct InvalidateSharedGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Drop for InvalidateSharedGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::invalidate_lock_shared` or `InvalidateGuard::downgrade` took it.
        unsafe { bindings::up_read(self.0.invalidate_rwsem()) };
    }
}
