// SPDX-License-Identifier: GPL-2.0

//! The memory of inodes.

use super::{
    FileSystem,
    SuperBlock, //
};
use crate::{
    bindings,
    compat::raw_init, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ptr::null_mut, //
};
use kernel::{
    container_of,
    prelude::*,
    types::Opaque, //
};

/// An inode, and what the filesystem keeps with it.
///
/// # Invariants
///
/// Both are initialised from [`InodeCache::alloc_inode`] to [`free_inode`].
#[repr(C)]
pub(super) struct InodeWithInfo<T: FileSystem> {
    /// First, as the cache's constructor is the same for all filesystems.
    inode: Opaque<bindings::inode>,
    /// Pinned, as C never moves an inode.
    pub(super) info: T::InodeInfo,
}

impl<T: FileSystem> InodeWithInfo<T> {
    /// # Safety
    ///
    /// `inode` is the `inode` of an `InodeWithInfo<T>`, initialised or not.
    pub(super) unsafe fn container_of(inode: *mut bindings::inode) -> *mut Self {
        // SAFETY: The caller guarantees that `inode` is the field of an `InodeWithInfo<T>`.
        unsafe { container_of!(inode.cast::<Opaque<bindings::inode>>(), Self, inode) }
    }
}

/// A cache of the memory of inodes of `T`, `struct kmem_cache`.
///
/// # Invariants
///
/// It exists until this is dropped.
pub(super) struct InodeCache<T: FileSystem> {
    cache: *mut bindings::kmem_cache,
    _type: PhantomData<T>,
}

// SAFETY: The slab allocator has its own locks.
unsafe impl<T: FileSystem> Send for InodeCache<T> {}
// SAFETY: The slab allocator has its own locks.
unsafe impl<T: FileSystem> Sync for InodeCache<T> {}

impl<T: FileSystem> InodeCache<T> {
    /// Creates the cache, named as the filesystem is.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let mut args = bindings::kmem_cache_args {
            align: align_of::<InodeWithInfo<T>>() as u32,
            ctor: Some(init_once),
            ..Default::default()
        };
        // SAFETY: The name is static, and `args` is only used during the call.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                kernel::str::as_char_ptr_in_const_context(T::NAME),
                size_of::<InodeWithInfo<T>>() as u32,
                &mut args,
                bindings::SLAB_RECLAIM_ACCOUNT | bindings::SLAB_ACCOUNT,
            )
        };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        Ok(Self {
            cache,
            _type: PhantomData,
        })
    }

    /// Allocates an inode, for `->alloc_inode`. Returns null where there is no memory.
    pub(super) fn alloc_inode(
        &self,
        sb: &SuperBlock<T>,
        info: impl PinInit<T::InodeInfo>,
    ) -> *mut bindings::inode {
        // SAFETY: The superblock and the cache are live.
        let memory =
            unsafe { bindings::alloc_inode_sb(sb.as_raw(), self.cache, bindings::GFP_KERNEL) };
        let this: *mut InodeWithInfo<T> = memory.cast();
        if this.is_null() {
            return null_mut();
        }
        // SAFETY: The memory is for an `InodeWithInfo<T>`, which nothing else refers to. `inode`
        // was initialised by `init_once`, and `new_inode` does the rest. The initialiser does not
        // fail.
        unsafe { raw_init(&raw mut (*this).info, info) };
        this.cast()
    }
}

impl<T: FileSystem> Drop for InodeCache<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. There is no superblock any more, and inodes are freed by
        // RCU: they are gone after `rcu_barrier`.
        unsafe {
            bindings::rcu_barrier();
            bindings::kmem_cache_destroy(self.cache);
        }
    }
}

/// # Safety
///
/// `memory` is memory for an `InodeWithInfo`.
unsafe extern "C" fn init_once(memory: *mut c_void) {
    // SAFETY: The inode is the first field.
    unsafe { bindings::inode_init_once(memory.cast()) };
}

/// # Safety
///
/// `inode` was allocated by [`InodeCache::alloc_inode`], nothing refers to it, and a grace period
/// has passed.
pub(super) unsafe extern "C" fn free_inode<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: The VFS passes an inode of `T` to which there is no reference any more, after a grace
    // period, so that its `info` is still initialised (invariant of `InodeWithInfo`) and used by
    // nothing. `kfree` takes memory of any cache.
    unsafe {
        if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::kfree((*inode).__bindgen_anon_5.i_link.cast());
        }
        let this = InodeWithInfo::<T>::container_of(inode);
        core::ptr::drop_in_place(&raw mut (*this).info);
        bindings::kfree(this.cast());
    }
}
