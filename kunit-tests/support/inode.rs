// SPDX-License-Identifier: GPL-2.0

//! The parts of an inode that the store uses.

use crate::{
    bindings,
    store::block::{
        BlockRef,
        MappedBlocks, //
    },
    support::trees::Page, //
};
use core::{
    mem::MaybeUninit,
    ops::Deref, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// An inode whose `i_private` is a [`MappedBlocks`], evicted when dropped.
///
/// It must be declared before the trees that have blocks with its mapping, so that it goes after
/// them.
pub(crate) struct Inode {
    inode: KBox<MaybeUninit<bindings::inode>>,
    mapped: Pin<KBox<MappedBlocks>>,
}

impl Inode {
    pub(crate) fn new() -> Result<Self> {
        let mapped = KBox::pin_init(MappedBlocks::new(), GFP_KERNEL)?;
        let mut inode = KBox::<bindings::inode>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let raw = inode.as_mut_ptr();
        // SAFETY: The inode was just allocated, and is zeros: valid for the fields set here.
        unsafe {
            (*raw).i_mapping = &raw mut (*raw).i_data;
            (*raw).i_data.host = raw;
            (*raw).i_private = (&raw const *mapped).cast_mut().cast();
        }
        Ok(Self { inode, mapped })
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: Only the field's address is taken.
        unsafe { (&raw const (*self.inode.as_ptr()).i_data).cast_mut() }
    }

    /// Makes `block` carry this inode's mapping, see [`MappedBlocks::associate`].
    ///
    /// # Safety
    ///
    /// `block` carries no mapping, or this inode's.
    pub(crate) unsafe fn associate(&self, block: &BlockRef, index: u64) {
        // SAFETY: `new` has set `i_private`; eviction takes a `&mut`. The rest is the caller's.
        unsafe { self.mapped.associate(self.mapping(), [(index, block)]) };
    }

    /// Whether the page carries this inode's mapping.
    ///
    /// The page need not be a block any more: `struct page` stays, and nothing else sets this
    /// mapping.
    pub(crate) fn is_carried_by(&self, page: Page) -> bool {
        // SAFETY: `page` was a block's page, and pages are never taken from the memory map here.
        unsafe { (*page).__bindgen_anon_1.__bindgen_anon_1.mapping == self.mapping() }
    }
}

impl Deref for Inode {
    type Target = MappedBlocks;

    fn deref(&self) -> &MappedBlocks {
        &self.mapped
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.mapped.disassociate_all();
        // The memory of inodes is freed after a grace period, and that of `MappedBlocks` with it.
        // SAFETY: No lock is held.
        unsafe { bindings::synchronize_rcu() };
    }
}

/// The index that a page carries along with a mapping.
pub(crate) fn index_of(block: &BlockRef) -> u64 {
    // SAFETY: `block` keeps the page.
    unsafe {
        (*block.as_ptr())
            .__bindgen_anon_1
            .__bindgen_anon_1
            .__bindgen_anon_2
            .__folio_index as u64
    }
}

/// Calls `f` while there seem to be `count` references to the page of `block`, which is one that
/// nothing else looks at.
pub(crate) fn with_page_count<R>(block: &BlockRef, count: i32, f: impl FnOnce() -> R) -> R {
    // SAFETY: `block` keeps the page, and the kernel changes the field as an atomic, too.
    let refs: &Atomic<i32> =
        unsafe { Atomic::from_ptr(&raw mut (*block.as_ptr())._refcount.counter) };
    let more = count.wrapping_sub(refs.load(Relaxed));
    refs.add(more, Relaxed);
    let result = f();
    refs.add(more.wrapping_neg(), Relaxed);
    result
}

/// How many references there are to the page, which need not be a block any more.
pub(crate) fn page_count(page: Page) -> i32 {
    // SAFETY: `page` was a block's page, and pages are never taken from the memory map here.
    unsafe { bindings::page_count(page) }
}
