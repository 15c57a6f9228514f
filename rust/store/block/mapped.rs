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
//! * when another file maps it writable ([`Mapped::associate`]),
//! * when the inode is evicted ([`Mapped::release_all`]),
//! * when no slot holds the block and nobody but the store refers to the page ([`release`]).
//!   Until then a block that no slot holds any more waits on the inode's list `dropped`.
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

    /// Makes `block` carry `mapping` and `index` (in blocks), because it is about to be mapped
    /// writable there.
    ///
    /// # Safety
    ///
    /// * `mapping->host->i_private` points to `self`, and the inode is not being evicted.
    /// * The only slot that holds `block` is in that inode's tree, and stays the only one during
    ///   the call.
    pub unsafe fn associate(
        &self,
        mapping: *mut bindings::address_space,
        block: &BlockRef,
        index: u64,
    ) {
        let block = block.raw();
        loop {
            let current = block.mapping();
            if !current.is_null() && current != mapping {
                disassociate(block, current);
                continue;
            }
            let lists = self.lists.lock();
            if block.mapping() != current {
                continue;
            }
            // SAFETY: The page is live. The index is in place before the mapping is, for those
            // who read the mapping first.
            unsafe { bindings::shim_page_set_index(block.as_ptr(), index as usize) };
            if current.is_null() {
                block.set_mapping(mapping);
                // SAFETY: The block was on no list, the list is valid, and locked.
                unsafe { bindings::shim_list_add(block.link(), lists.writable.get()) };
            } else {
                // SAFETY: The block is on a list of this inode, which is locked.
                unsafe { bindings::shim_list_move(block.link(), lists.writable.get()) };
            }
            // SAFETY: The lists are locked.
            unsafe { reap(&lists) };
            return;
        }
    }

    /// Looks at every block that may have been mapped writable since the last call, and calls
    /// `busy` with the index of each in `range` that somebody else holds a reference to, and so
    /// may still write to: a page pinned for DMA, or in the hands of `ptrace`. Such a block must
    /// not become shared.
    ///
    /// The caller holds `invalidate_lock` exclusive and has unmapped the file, so no page table
    /// entry counts as such a reference and nothing new is mapped.
    ///
    /// Costs as much as the blocks that were written through mappings since the last call.
    pub fn settle(&self, range: Range<u64>, mut busy: impl FnMut(u64) -> Result) -> Result {
        let mut result = Ok(());
        loop {
            let mut indexes = [0; BATCH];
            let mut n = 0;
            let lists = self.lists.lock();
            let mut empty = false;
            for _ in 0..BATCH {
                // SAFETY: The list is locked, and of pages by `lru`.
                let Some(block) = (unsafe { first(lists.writable.get()) }) else {
                    empty = true;
                    break;
                };
                let to = if block.page_count() > 1 {
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
            if empty {
                // SAFETY: Both lists are valid and locked.
                unsafe { bindings::shim_list_splice_init(lists.busy.get(), lists.writable.get()) };
            }
            drop(lists);
            for &index in &indexes[..n] {
                result = result.and_then(|()| busy(index));
            }
            if empty {
                return result;
            }
        }
    }

    /// Takes the association from every block: for an inode that is evicted and whose tree is
    /// gone.
    pub fn release_all(&self) {
        let mut more = true;
        while more {
            let lists = self.lists.lock();
            for _ in 0..BATCH {
                let next = [&lists.writable, &lists.kept]
                    .into_iter()
                    // SAFETY: The lists are locked, and of pages by `lru`.
                    .find_map(|list| unsafe { first(list.get()) });
                // SAFETY: As above.
                let dropped = unsafe { first(lists.dropped.get()) };
                if let Some(block) = next {
                    // SAFETY: The block is on one of the lists, which are locked.
                    unsafe { take_off(block) };
                } else if let Some(block) = dropped {
                    // SAFETY: The block is on `dropped`, which is locked.
                    unsafe { take_off_dropped(block) };
                } else {
                    more = false;
                    break;
                }
            }
        }
    }
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
            Some(block) if block.page_count() == 1 => unsafe { take_off_dropped(block) },
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

/// Ends the association of `block` with `mapping`, if it still has it.
fn disassociate(block: RawBlock, mapping: *mut bindings::address_space) {
    let _rcu = rcu::read_lock();
    // SAFETY: `mapping` was `page->mapping`; see "Finding the lock".
    let lists = unsafe { owner(mapping) }.lists.lock();
    if block.mapping() == mapping {
        // SAFETY: The block is on a list of this inode, whose lock is held.
        unsafe { take_off(block) };
    }
    drop(lists);
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
        if block.page_count() > 1 {
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
