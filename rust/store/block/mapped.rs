// SPDX-License-Identifier: GPL-2.0

//! The blocks that carry an inode's `address_space`.
//!
//! A block that is mapped writable carries in `page->mapping` and `page->index` whose it is, as a
//! DAX page does: the key of a futex in a shared mapping is made of these two, and without them
//! every process-shared lock fails with `EFAULT`.
//!
//! It **keeps** them when it becomes shared or is replaced: somebody may be between looking up
//! the page and reading its mapping, and a stale association still names the right inode and
//! index. It loses them only
//!
//! * when the inode is evicted ([`Mapped::release_all`]),
//! * when no slot holds the block and nobody but the store refers to the page ([`release`]).
//!   Until then a block that no slot holds any more waits on the inode's list `dropped`.
//!
//! Only a block that no other file ever held is mapped writable (see [`Slots`](super::Slots)), so
//! that a block never comes to carry another inode's mapping than its first.
//!
//! # The lists
//!
//! A block with `page->mapping` set is on exactly one list of that inode's [`Mapped`]:
//!
//! | list | blocks that |
//! |---|---|
//! | `writable` | may have been mapped writable since the last [`Mapped::settle`] |
//! | `kept` | have not |
//! | `dropped` | no slot holds; the list owns the store's reference to the page |
//!
//! # Finding the lock
//!
//! `page->mapping` is set and cleared, and the links are used, only under the lock of the
//! `Mapped` of the inode that `page->mapping` names (the new one, where it was null). To get from
//! a page to that lock without owning the inode, read `page->mapping` in an RCU read section:
//! inodes, and a `Mapped` with them, are freed after a grace period, and eviction empties the
//! lists first. So when `page->mapping` is unchanged under the lock, the inode is not evicted.

use super::page::{BlockRef, RawBlock};
use crate::bindings;
use core::{ops::Range, ptr::null_mut};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{rcu, SpinLock},
    types::Opaque,
};

/// The lists of one inode.
///
/// # Invariants
///
/// Each is a list of pages by `lru`.
#[pin_data]
struct Lists {
    #[pin]
    writable: Opaque<bindings::list_head>,
    #[pin]
    kept: Opaque<bindings::list_head>,
    #[pin]
    dropped: Opaque<bindings::list_head>,
    #[pin]
    busy: Opaque<bindings::list_head>,
}

// SAFETY: The lists are only followed under the lock that they are in.
unsafe impl Send for Lists {}

/// The blocks that carry an inode's `address_space`, see the [module](self).
#[pin_data]
pub struct Mapped {
    #[pin]
    lists: SpinLock<Lists>,
}

/// How many blocks are looked at under one hold of the lock.
const BATCH: usize = 64;

impl Mapped {
    /// Empty lists.
    pub fn new() -> impl PinInit<Self> {
        fn empty() -> impl PinInit<Opaque<bindings::list_head>> {
            // SAFETY: `list` is valid for writes and pinned.
            Opaque::ffi_init(|list| unsafe { bindings::INIT_LIST_HEAD(list) })
        }
        pin_init!(Self {
            lists <- new_spinlock!(pin_init!(Lists {
                writable <- empty(),
                kept <- empty(),
                dropped <- empty(),
                busy <- empty(),
            })),
        })
    }

    /// Makes `blocks` carry `mapping` and their index (in blocks), because they are about to be
    /// mapped writable there.
    ///
    /// # Safety
    ///
    /// * `mapping->host->i_private` points to `self`, and the inode is not being evicted.
    /// * Each block carries no mapping, or that inode's.
    ///
    /// The caller holds `invalidate_lock` shared at least, and the blocks are the inode's own.
    pub unsafe fn associate<'a>(
        &self,
        mapping: *mut bindings::address_space,
        blocks: impl IntoIterator<Item = (u64, &'a BlockRef)>,
    ) {
        let lists = self.lists.lock();
        for (index, block) in blocks {
            let block = block.raw();
            let current = block.mapping();
            debug_assert!(current.is_null() || current == mapping);
            // SAFETY: The page is live. The index is in place before the mapping is, for those who
            // read the mapping first.
            unsafe { bindings::shim_page_set_index(block.as_ptr(), index as usize) };
            if current.is_null() {
                block.set_mapping(mapping);
                // SAFETY: The block was on no list, the list is valid, and locked.
                unsafe { bindings::shim_list_add(block.link(), lists.writable.get()) };
            } else if current == mapping {
                // SAFETY: The block is on a list of this inode, which is locked.
                unsafe { bindings::shim_list_move(block.link(), lists.writable.get()) };
            }
        }
        // SAFETY: The lists are locked.
        unsafe { reap(&lists) };
    }

    /// Looks at every block that may have been mapped writable since the last call, and calls
    /// `busy` with the index of each in `range` that somebody else holds a reference to, and so
    /// may still write to: a page pinned for DMA, or in the hands of `ptrace`. Such a block must
    /// not become shared.
    ///
    /// The caller holds `invalidate_lock` exclusive and has unmapped `range`, so that nothing new is
    /// mapped, and no page table entry counts as such a reference there. (Elsewhere it does, and
    /// the block stays on the list.)
    ///
    /// Costs as much as the blocks that were mapped writable since the last call.
    pub fn settle(&self, range: Range<u64>, mut busy: impl FnMut(u64) -> Result) -> Result {
        let mut result = Ok(());
        loop {
            let lists = self.lists.lock();
            // SAFETY: The list is locked, and of pages by `lru`.
            if unsafe { first(lists.writable.get()) }.is_none() {
                // SAFETY: Both lists are valid and locked.
                unsafe { bindings::shim_list_splice_init(lists.busy.get(), lists.writable.get()) };
                return result;
            }
            let mut indexes = [0; BATCH];
            let mut n = 0;
            for _ in 0..BATCH {
                // SAFETY: The list is locked, and of pages by `lru`.
                let Some(block) = (unsafe { first(lists.writable.get()) }) else {
                    break;
                };
                let to = if !block.has_only_store_ref() {
                    let index = block.index();
                    if range.contains(&index) {
                        indexes[n] = index;
                        n += 1;
                    }
                    lists.busy.get()
                } else {
                    lists.kept.get()
                };
                // SAFETY: Both lists are locked, the block is on the first of them.
                unsafe { bindings::shim_list_move(block.link(), to) };
            }
            drop(lists);
            for &index in &indexes[..n] {
                result = result.and_then(|()| busy(index));
            }
        }
    }

    /// Takes the association from every block: for an inode that is evicted and whose tree is
    /// gone. May sleep.
    pub fn release_all(&self) {
        while let Some(block) = self.release_some() {
            // Who unpins a page after writing to it looks at its mapping with the page locked. The
            // inode must not go away in between.
            let page = block.as_ptr();
            // SAFETY: The reference keeps the page alive, and the lock is not held for long.
            unsafe { bindings::shim_lock_page(page) };
            let lists = self.lists.lock();
            // SAFETY: The lists are locked. Nothing is added to them any more, so that the block is
            // still the first, or was let go of meanwhile.
            unsafe { take_off_first(&lists, |first| first == block.raw()) };
            drop(lists);
            // SAFETY: Locked above.
            unsafe { bindings::unlock_page(page) };
        }
    }

    /// As [`Mapped::release_all`], up to the first block that somebody else refers to.
    fn release_some(&self) -> Option<BlockRef> {
        loop {
            let lists = self.lists.lock();
            for _ in 0..BATCH {
                // SAFETY: The lists are locked.
                match unsafe { take_off_first(&lists, |first| first.has_only_store_ref()) } {
                    TakeOff::Done => (),
                    TakeOff::Empty => return None,
                    TakeOff::Refused(block) => return Some(BlockRef::new(block)),
                }
            }
        }
    }
}

/// What [`take_off_first`] did.
enum TakeOff {
    /// Ended an association.
    Done,
    /// Found none.
    Empty,
    /// Left this block as it is.
    Refused(RawBlock),
}

/// Ends the association of the first block of all lists, if `allowed` says so.
///
/// # Safety
///
/// The caller holds the lock of `lists`.
unsafe fn take_off_first(lists: &Lists, allowed: impl Fn(RawBlock) -> bool) -> TakeOff {
    for (list, owns_reference) in [
        (&lists.writable, false),
        (&lists.kept, false),
        (&lists.dropped, true),
    ] {
        // SAFETY: The lists are locked, and of pages by `lru`.
        let Some(block) = (unsafe { first(list.get()) }) else {
            continue;
        };
        if !allowed(block) {
            return TakeOff::Refused(block);
        }
        if owns_reference {
            // SAFETY: The block is on `dropped`, which is locked.
            unsafe { take_off_dropped(block) };
        } else {
            // SAFETY: The block is on one of the lists, which are locked.
            unsafe { take_off(block) };
        }
        return TakeOff::Done;
    }
    TakeOff::Empty
}

impl RawBlock {
    fn mapping(self) -> *mut bindings::address_space {
        // SAFETY: The page is live by the type invariant.
        unsafe { bindings::shim_page_mapping(self.as_ptr()) }
    }

    fn set_mapping(self, mapping: *mut bindings::address_space) {
        // SAFETY: The page is live by the type invariant.
        unsafe { bindings::shim_page_set_mapping(self.as_ptr(), mapping) };
    }

    fn index(self) -> u64 {
        // SAFETY: The page is live by the type invariant.
        unsafe { bindings::shim_page_index(self.as_ptr()) as u64 }
    }

    fn link(self) -> *mut bindings::list_head {
        // SAFETY: The page is live by the type invariant; only the field's address is taken.
        unsafe {
            &raw mut (*self.as_ptr())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .__bindgen_anon_1
                .lru
        }
    }
}

/// The first block of a list, if it has one.
///
/// # Safety
///
/// `list` is a valid list of pages by `lru`, and its lock is held.
unsafe fn first(list: *mut bindings::list_head) -> Option<RawBlock> {
    // SAFETY: A list that is not empty begins with a page's `lru`; pages on a list are live.
    unsafe { RawBlock::from_raw(bindings::shim_first_page(list)) }
}

/// Ends the association of `block`.
///
/// # Safety
///
/// `block` is on a list whose lock is held.
unsafe fn take_off(block: RawBlock) {
    // SAFETY: By the safety requirements.
    unsafe { bindings::shim_list_del(block.link()) };
    block.set_mapping(null_mut());
}

/// Ends the association of `block`, and gives back the store's reference to its page.
///
/// # Safety
///
/// `block` is on a list `dropped` whose lock is held.
unsafe fn take_off_dropped(block: RawBlock) {
    // SAFETY: By the safety requirements.
    unsafe { take_off(block) };
    // SAFETY: The list owned the reference, see the module's description. That the slot count is
    // 0 would not do: whoever took the last slot away may not have come to `release` yet.
    unsafe { block.put_page() };
}

/// Lets go of the blocks on `dropped` that nobody refers to any more.
///
/// # Safety
///
/// The caller holds the lock of `lists`.
unsafe fn reap(lists: &Lists) {
    for _ in 0..BATCH {
        // SAFETY: The list is locked.
        match unsafe { first(lists.dropped.get()) } {
            // SAFETY: As above.
            Some(block) if block.has_only_store_ref() => unsafe { take_off_dropped(block) },
            Some(block) => {
                // Still referred to. Look at another one the next time.
                // SAFETY: As above.
                unsafe { bindings::shim_list_move_tail(block.link(), lists.dropped.get()) };
                return;
            }
            None => return,
        }
    }
}

/// The lists of the inode of `mapping`.
///
/// # Safety
///
/// `mapping` was read from `page->mapping` of a block within the RCU read section in which the
/// result is used.
unsafe fn owner<'a>(mapping: *mut bindings::address_space) -> &'a Mapped {
    // SAFETY: `associate` was given this mapping, with its promise about `i_private`; the inode's
    // memory stays in place during the read section.
    unsafe { &*(*(*mapping).host).i_private.cast() }
}

/// Whether `block` carries some inode's mapping.
pub(super) fn is_associated(block: RawBlock) -> bool {
    !block.mapping().is_null()
}

/// Lets go of the store's reference to a block that no slot holds any more: at once, unless the
/// block carries a mapping and somebody still refers to the page.
pub(super) fn release(block: RawBlock) {
    let rcu = rcu::read_lock();
    loop {
        let mapping = block.mapping();
        if mapping.is_null() {
            break;
        }
        // SAFETY: `mapping` was read in this read section.
        let lists = unsafe { owner(mapping) }.lists.lock();
        if block.mapping() != mapping {
            continue;
        }
        if !block.has_only_store_ref() {
            // SAFETY: The block is on a list of this inode, whose lock is held. The reference
            // goes to the list.
            unsafe { bindings::shim_list_move(block.link(), lists.dropped.get()) };
            return;
        }
        // SAFETY: As above.
        unsafe { take_off(block) };
        break;
    }
    drop(rcu);
    // SAFETY: The caller's was the last slot, so the store's reference is ours to give away.
    unsafe { block.put_page() };
}
