// SPDX-License-Identifier: GPL-2.0

//! The memory of inodes, and what becomes of one that nobody uses any more.

use super::{
    super::{
        directory::Index,
        filesystem::{FileSystem, Registration, SuperBlock},
        quota::{self, Dquots},
        xattr::Attributes,
    },
    Inode,
};
use crate::{bindings, store::block::MappedBlocks};
use core::{mem::size_of, ptr::null_mut};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{atomic::Atomic, SpinLock},
    types::Opaque,
};

/// The memory of an inode: C's part, and ours.
///
/// # Invariants
///
/// Everything is initialised from [`alloc`] to [`free`]. `inode.i_private` points to `mapped`, once
/// [`NewInode::new`] has set it, and before any page carries the inode's mapping.
#[pin_data]
#[repr(C)]
pub(super) struct Container<T: FileSystem> {
    /// First, because the cache's constructor sees only this.
    pub(super) inode: Opaque<bindings::inode>,
    #[pin]
    pub(super) mapped: MappedBlocks,
    #[pin]
    pub(super) index: Index,
    #[pin]
    pub(super) attributes: Attributes,
    /// Whether the file was ever mapped. Set before the mapping can be used.
    pub(super) was_mapped: Atomic<bool>,
    /// What `chattr(1)` set, `FS_*_FL`. Changed with `i_rwsem` held exclusive.
    pub(super) flags: Atomic<u32>,
    /// When the inode was made.
    pub(super) btime: bindings::timespec64,
    /// Held to put the inode into the kernel's hash of inodes, for [`super::export`].
    #[pin]
    pub(super) hashing: SpinLock<()>,
    pub(super) dquots: Dquots,
    /// What `i_link` of a symbolic link points to.
    pub(super) target: Option<KVec<u8>>,
    #[pin]
    pub(super) data: T::InodeData,
}

/// Makes the cache that [`alloc`] takes inodes from.
pub(in super::super) fn new_cache<T: FileSystem>() -> Result<*mut bindings::kmem_cache> {
    let mut args = bindings::kmem_cache_args {
        align: core::mem::align_of::<Container<T>>() as u32,
        ctor: Some(init_once),
        ..Default::default()
    };
    // SAFETY: The name is static, and `args` only needed during the call.
    let cache = unsafe {
        bindings::__kmem_cache_create_args(
            kernel::str::as_char_ptr_in_const_context(T::NAME),
            size_of::<Container<T>>() as u32,
            &mut args,
            bindings::SLAB_RECLAIM_ACCOUNT | bindings::SLAB_ACCOUNT,
        )
    };
    if cache.is_null() {
        return Err(ENOMEM);
    }
    Ok(cache)
}

/// # Safety
///
/// `container` is memory for a `Container`.
unsafe extern "C" fn init_once(container: *mut c_void) {
    // SAFETY: The inode is the first field.
    unsafe { bindings::inode_init_once(container.cast()) };
}

/// # Safety
///
/// `sb` is a superblock of `T`.
pub(in super::super) unsafe extern "C" fn alloc<T: FileSystem>(
    sb: *mut bindings::super_block,
) -> *mut bindings::inode {
    // SAFETY: The caller says that `sb` is a superblock of `T`, whose cache is there while it is.
    let memory = unsafe {
        bindings::alloc_inode_sb(sb, Registration::<T>::cache_of(sb), bindings::GFP_KERNEL)
    };
    let container: *mut Container<T> = memory.cast();
    if container.is_null() {
        return null_mut();
    }
    // SAFETY: The memory is for a container. The fields are pinned, as C never moves an inode;
    // `inode` was initialised by `init_once`, and `new_inode` does the rest. No initialiser fails.
    unsafe {
        pin_init::raw_init(&raw mut (*container).mapped, MappedBlocks::new());
        pin_init::raw_init(&raw mut (*container).index, Index::new());
        pin_init::raw_init(&raw mut (*container).attributes, Attributes::new());
        (&raw mut (*container).was_mapped).write(Atomic::new(false));
        (&raw mut (*container).flags).write(Atomic::new(0));
        (&raw mut (*container).btime).write(Default::default());
        pin_init::raw_init(&raw mut (*container).hashing, new_spinlock!(()));
        (&raw mut (*container).dquots).write(Dquots::new());
        (&raw mut (*container).target).write(None);
        pin_init::raw_init(
            &raw mut (*container).data,
            T::inode_data(SuperBlock::from_raw(sb)),
        );
    }
    container.cast()
}

/// # Safety
///
/// `inode` was made by [`alloc`], nobody uses it, and a grace period has passed.
pub(in super::super) unsafe extern "C" fn free<T: FileSystem>(inode: *mut bindings::inode) {
    let container: *mut Container<T> = inode.cast();
    // SAFETY: By the safety requirements and the container's invariants. `kfree` takes memory of
    // any cache.
    unsafe {
        core::ptr::drop_in_place(&raw mut (*container).mapped);
        core::ptr::drop_in_place(&raw mut (*container).index);
        core::ptr::drop_in_place(&raw mut (*container).attributes);
        core::ptr::drop_in_place(&raw mut (*container).hashing);
        core::ptr::drop_in_place(&raw mut (*container).target);
        core::ptr::drop_in_place(&raw mut (*container).data);
        bindings::kfree(container.cast());
    }
}

/// # Safety
///
/// `inode` is an inode of `T` that nobody uses any more.
pub(in super::super) unsafe extern "C" fn evict<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: By the safety requirements. The page cache is empty, and stays so.
    let inode = unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
        Inode::<T>::from_raw(inode)
    };
    let data = T::inode_blocks(inode);
    T::evict(inode);
    inode.mapped().disassociate_all();
    inode.index().clear();
    let bytes = inode.attributes().clear();
    // Cannot fail: it counts less.
    let _ = inode.recount(bytes, 0);
    quota::dismiss(inode, data);
    T::dismiss_inode(inode.super_block());
}
