// SPDX-License-Identifier: GPL-2.0

//! [`MappedBlocks`]: the blocks that carry an inode's `address_space`.
//!
//! A block that is mapped writable carries the inode's mapping and its index in `page->mapping` and
//! `page->index`, as a DAX page does. They make the key of a futex in a shared mapping: without
//! them every process-shared lock fails with `EFAULT`.
//!
//! The block stays associated as long as the block is referenced, even when the
//! file replaces it: a thread may be between looking up the page and reading its mapping, and a
//! stale association still names the right inode and index. It ends
//!
//! * before blocks become shared, if only the store refers to the page
//!   ([`MappedBlocks::for_each_referenced`]). A referenced block does not become
//!   shared, so that a shared block never leads from one file to another;
//! * when the inode is evicted ([`MappedBlocks::disassociate_all`]);
//! * when no slot holds the block and only the store refers to the page ([`release`]). Until then
//!   the block is on the inode's list `orphans`, see [`super::orphans`].
//!
//! Only a block that no other file ever held is mapped writable, see the
//! [theory of operation](crate::store): so a block never carries the mapping of a second inode.
//!
//! # The lists
//!
//! A block with `page->mapping` set is on exactly one list of that inode's [`MappedBlocks`]:
//!
//! | list | blocks that |
//! |---|---|
//! | `writable` | may be mapped writable |
//! | `referenced` | `for_each_referenced` has seen, while it runs |
//! | `orphans` | no slot holds; the list owns the store's reference to the page |
//!
//! # Finding the lock
//!
//! `page->mapping` is set and cleared, and `lru` used, only under the lock of the [`MappedBlocks`]
//! of the inode that `page->mapping` names, or names then. To get from a page to that lock without
//! a reference to the inode, read `page->mapping` in an RCU read section: inodes are freed after a
//! grace period, and eviction empties the lists first. If `page->mapping` is unchanged under the
//! lock, the inode is not evicted.

use super::{
    orphans::{
        empty_list,
        REAP_ON_ADD_BLOCKS, //
    },
    page::{
        BlockRef,
        RawBlock, //
    },
    Pool, //
};
use crate::bindings;
use core::{
    ops::Range,
    ptr::null_mut, //
};
use kernel::{
    container_of,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        rcu,
        Arc,
        SpinLock, //
    },
    types::Opaque, //
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
    referenced: Opaque<bindings::list_head>,
    #[pin]
    orphans: Opaque<bindings::list_head>,
    /// The pool of the orphans.
    pool: Option<Arc<Pool>>,
}

// SAFETY: The lists are only accessed under the lock around them.
unsafe impl Send for Lists {}

/// The blocks that carry an inode's `address_space`, see the [module](self).
#[pin_data]
pub struct MappedBlocks {
    #[pin]
    lists: SpinLock<Lists>,
    /// The link in the pool's list of inodes that have orphans.
    #[pin]
    pub(super) orphans_link: Opaque<bindings::list_head>,
}

// SAFETY: The lists are behind a lock, the link is used under the pool's.
unsafe impl Send for MappedBlocks {}
// SAFETY: The lists are behind a lock, the link is used under the pool's.
unsafe impl Sync for MappedBlocks {}

/// How many blocks are looked at under one hold of the lock.
const SCAN_BATCH_BLOCKS: usize = 64;

impl MappedBlocks {
    /// Makes empty lists.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            lists <- new_spinlock!(pin_init!(Lists {
                writable <- empty_list(),
                referenced <- empty_list(),
                orphans <- empty_list(),
                pool: None,
            })),
            orphans_link <- empty_list(),
        })
    }

    /// Associates `blocks`, which are about to be mapped writable, with `mapping` and their indexes
    /// in blocks.
    ///
    /// # Safety
    ///
    /// * `mapping->host->i_private` points to `self`, and the inode is not being evicted.
    /// * Each block carries no mapping, or that inode's.
    ///
    /// The caller holds `invalidate_lock`, at least shared, and the blocks are owned.
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
            if current.is_null() {
                block.set_mapping(mapping, index);
                // SAFETY: The block was on no list; the list is valid, and locked.
                unsafe { bindings::list_add(block.link(), lists.writable.get()) };
            }
        }
    }

    /// Calls `f` with the index of each block in `range` to whose page there is a reference besides
    /// the store's, of those that were mapped writable. Ends the association of the others, in
    /// `range` or not.
    ///
    /// The caller holds `invalidate_lock` exclusive, so that nothing is mapped anew. What refers to
    /// a block may be a page table: these blocks are to be unmapped. After that it is a page that
    /// is pinned for DMA, or that `ptrace` uses, which may still be stored to: such a block must
    /// not become shared.
    ///
    /// Takes a step for each block that was mapped writable since the last call, and for each that
    /// was found then.
    pub fn for_each_referenced(
        &self,
        range: Range<u64>,
        mut f: impl FnMut(u64) -> Result,
    ) -> Result {
        let mut result = Ok(());
        loop {
            let lists = self.lists.lock();
            // SAFETY: The list is locked, and of pages by `lru`.
            if unsafe { first(lists.writable.get()) }.is_none() {
                // SAFETY: Both lists are valid and locked.
                unsafe { bindings::list_splice_init(lists.referenced.get(), lists.writable.get()) };
                return result;
            }
            let mut indexes = [0; SCAN_BATCH_BLOCKS];
            let mut n = 0;
            for _ in 0..SCAN_BATCH_BLOCKS {
                // SAFETY: The list is locked, and of pages by `lru`.
                let Some(block) = (unsafe { first(lists.writable.get()) }) else {
                    break;
                };
                if block.has_only_store_ref() {
                    // SAFETY: The block is on the list, which is locked.
                    unsafe { disassociate(block) };
                    continue;
                }
                let index = block.index();
                if range.contains(&index) {
                    indexes[n] = index;
                    n += 1;
                }
                // SAFETY: Both lists are locked, and the block is on the first of them.
                unsafe { bindings::list_move(block.link(), lists.referenced.get()) };
            }
            drop(lists);
            for &index in &indexes[..n] {
                result = result.and_then(|()| f(index));
            }
        }
    }

    /// Looks at up to `n` orphans, all of `pool`, and frees those that nothing else refers to.
    /// Returns at how many it looked. If any are left, the inode is on the pool's list.
    pub(super) fn reap(&self, pool: &Pool, n: u64) -> u64 {
        let lists = self.lists.lock();
        // SAFETY: The lists are locked.
        let looked_at = unsafe { reap(&lists, pool, n) };
        // SAFETY: The list is locked, and of pages by `lru`.
        if unsafe { first(lists.orphans.get()) }.is_some() {
            // SAFETY: An inode with orphans is live, and its lists are locked.
            unsafe { pool.orphans.add_inode(self.orphans_link.get()) };
        }
        looked_at
    }

    /// Ends the association of every block, for an inode that is evicted and whose tree is empty.
    /// Its orphans become the pool's. May sleep.
    pub fn disassociate_all(&self) {
        self.disassociate_each();
        let lists = self.lists.lock();
        if let Some(pool) = &lists.pool {
            // SAFETY: The inode is live, and its lists are locked. It has no orphans, and gets
            // none.
            unsafe { pool.orphans.remove_inode(self.orphans_link.get()) };
        }
    }

    fn disassociate_each(&self) {
        while let Some(block) = self.disassociate_until_used() {
            // A thread that unpins a page it has written to reads the mapping with the page locked.
            // The inode must not be freed meanwhile.
            let page = block.as_ptr();
            // SAFETY: The reference keeps the page alive, and the lock is not held for long.
            unsafe { bindings::lock_page(page) };
            let lists = self.lists.lock();
            // SAFETY: The lists are locked. No block is added any more, so this one is still the
            // first, or was released meanwhile.
            unsafe { disassociate_first(&lists, |first| first == block.raw()) };
            drop(lists);
            // SAFETY: Locked above.
            unsafe { bindings::unlock_page(page) };
        }
    }

    /// As [`MappedBlocks::disassociate_all`], up to the first referenced block,
    /// which is returned.
    fn disassociate_until_used(&self) -> Option<BlockRef> {
        loop {
            let lists = self.lists.lock();
            for _ in 0..SCAN_BATCH_BLOCKS {
                // SAFETY: The lists are locked.
                match unsafe { disassociate_first(&lists, |first| first.has_only_store_ref()) } {
                    Disassociated::Done => (),
                    Disassociated::Empty => return None,
                    Disassociated::Refused(block) => return Some(BlockRef::new(block)),
                }
            }
        }
    }
}

/// The result of [`disassociate_first`].
enum Disassociated {
    /// A block's association has ended.
    Done,
    /// There is no block.
    Empty,
    /// The block stays as it is.
    Refused(RawBlock),
}

/// Ends the association of the first block of all lists, if `allowed` says so.
///
/// # Safety
///
/// The caller holds the lock of `lists`.
unsafe fn disassociate_first(lists: &Lists, allowed: impl Fn(RawBlock) -> bool) -> Disassociated {
    for (list, owns_reference) in [(&lists.writable, false), (&lists.orphans, true)] {
        // SAFETY: The lists are locked, and of pages by `lru`.
        let Some(block) = (unsafe { first(list.get()) }) else {
            continue;
        };
        if !allowed(block) {
            return Disassociated::Refused(block);
        }
        if owns_reference {
            // SAFETY: The block is on `orphans`, which is locked.
            unsafe { disassociate_orphan(lists, block) };
        } else {
            // SAFETY: The block is on one of the lists, which are locked.
            unsafe { disassociate(block) };
        }
        return Disassociated::Done;
    }
    Disassociated::Empty
}

impl BlockRef {
    /// Returns whether a mapping of a file may store to the block: see [`MappedBlocks`].
    pub fn is_mapped_writable(&self) -> bool {
        !self.raw().mapping().is_null()
    }
}

impl RawBlock {
    /// Drops the caller's slot. If it was the last, the block is freed, or becomes an orphan.
    pub(super) fn release_slot(self, pool: &Arc<Pool>) {
        if self.put_slot() {
            release(self, pool);
        }
    }

    fn mapping(self) -> *mut bindings::address_space {
        // SAFETY: By the type invariant the page is live.
        unsafe { page_mapping(self.as_ptr()) }.load(Relaxed)
    }

    /// Sets the index, and then the mapping, which other threads read first.
    fn set_mapping(self, mapping: *mut bindings::address_space, index: u64) {
        // SAFETY: By the type invariant the page is live.
        unsafe {
            page_index(self.as_ptr()).store(index as usize, Relaxed);
            page_mapping(self.as_ptr()).store(mapping, Release);
        }
    }

    fn clear_mapping(self) {
        // SAFETY: By the type invariant the page is live.
        unsafe { page_mapping(self.as_ptr()) }.store(null_mut(), Release);
    }

    fn index(self) -> u64 {
        // SAFETY: By the type invariant the page is live.
        unsafe { page_index(self.as_ptr()) }.load(Relaxed) as u64
    }

    pub(super) fn link(self) -> *mut bindings::list_head {
        // SAFETY: By the type invariant the page is live; only the field's address is taken.
        unsafe {
            &raw mut (*self.as_ptr())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .__bindgen_anon_1
                .lru
        }
    }
}

/// Returns `page->mapping`.
///
/// # Safety
///
/// `page` is the address of a live `struct page`.
unsafe fn page_mapping<'a>(page: *mut bindings::page) -> &'a Atomic<*mut bindings::address_space> {
    // SAFETY: The caller guarantees that the page is live; the store and the kernel access the
    // field as a whole.
    unsafe { Atomic::from_ptr(&raw mut (*page).__bindgen_anon_1.__bindgen_anon_1.mapping) }
}

/// Returns `page->index`.
///
/// # Safety
///
/// `page` is the address of a live `struct page`.
unsafe fn page_index<'a>(page: *mut bindings::page) -> &'a Atomic<usize> {
    // SAFETY: The caller guarantees that the page is live; the store and the kernel access the
    // field as a whole.
    unsafe {
        let named = &raw mut (*page).__bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_2;
        Atomic::from_ptr(&raw mut (*named).__folio_index)
    }
}

/// Returns the first block of a list.
///
/// # Safety
///
/// `list` is a valid list of pages by `lru`, and its lock is held.
pub(super) unsafe fn first(list: *mut bindings::list_head) -> Option<RawBlock> {
    // SAFETY: The list is valid and locked. If it is not empty, it begins with the `lru` of a page,
    // which is live, as all pages on such a list.
    unsafe {
        let link = (*list).next;
        if link == list {
            return None;
        }
        RawBlock::from_raw(container_of!(
            link,
            bindings::page,
            __bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_1.lru
        ))
    }
}

/// Ends the association of `block`.
///
/// # Safety
///
/// `block` is on a list whose lock is held.
unsafe fn disassociate(block: RawBlock) {
    // SAFETY: The block is on a list whose lock is held.
    unsafe { bindings::list_del(block.link()) };
    block.clear_mapping();
}

/// Ends the association of an orphan, and frees it, or makes it the pool's if it is referenced.
///
/// # Safety
///
/// `block` is on the list `orphans` of `lists`, whose lock is held.
unsafe fn disassociate_orphan(lists: &Lists, block: RawBlock) {
    let free = block.has_only_store_ref();
    // SAFETY: The block is on `orphans`, whose lock is held.
    unsafe { disassociate(block) };
    // The list owned the store's reference. A slot count of 0 would not tell: the thread that
    // dropped the last slot may not have called `release` yet.
    match &lists.pool {
        Some(pool) if free => pool.free_orphan(block),
        Some(pool) => pool.requeue_orphan(block),
        // There is a pool if there are orphans.
        None => (),
    }
}

/// Looks at up to `n` orphans, and frees those that nothing else refers to. Returns at how many it
/// looked.
///
/// # Safety
///
/// The caller holds the lock of `lists`, whose orphans are of `pool`.
unsafe fn reap(lists: &Lists, pool: &Pool, n: u64) -> u64 {
    for looked_at in 0..n {
        // SAFETY: The list is locked.
        let Some(block) = (unsafe { first(lists.orphans.get()) }) else {
            return looked_at;
        };
        if block.has_only_store_ref() {
            // SAFETY: The block is on this list, which is locked.
            unsafe { disassociate(block) };
            pool.free_orphan(block);
        } else {
            // SAFETY: The block is on this list, which is locked.
            unsafe { bindings::list_move_tail(block.link(), lists.orphans.get()) };
        }
    }
    n
}

/// Returns the lists of the inode of `mapping`.
///
/// # Safety
///
/// `mapping` was read from `page->mapping` of a block in the RCU read section in which the result
/// is used.
unsafe fn owner<'a>(mapping: *mut bindings::address_space) -> &'a MappedBlocks {
    // SAFETY: `associate` set this mapping, whose caller guarantees what `i_private` points to; the
    // inode is not freed during the read section.
    unsafe { &*(*(*mapping).host).i_private.cast() }
}

/// Takes over the store's reference to a block that no slot holds: frees the block, or makes it an
/// orphan if it is referenced.
fn release(block: RawBlock, pool: &Arc<Pool>) {
    let rcu = rcu::read_lock();
    loop {
        let mapping = block.mapping();
        if mapping.is_null() {
            break;
        }
        // SAFETY: `mapping` was read in this read section.
        let mapped = unsafe { owner(mapping) };
        let mut lists = mapped.lists.lock();
        if block.mapping() != mapping {
            continue;
        }
        if !block.has_only_store_ref() {
            // SAFETY: The lists are locked, and all blocks with this mapping are of one pool.
            unsafe { reap(&lists, pool, REAP_ON_ADD_BLOCKS) };
            // SAFETY: The field is no part of a list, and not pinned.
            unsafe { lists.as_mut().get_unchecked_mut() }
                .pool
                .get_or_insert_with(|| pool.clone());
            // SAFETY: The block is on a list of this inode, whose lock is held. The reference
            // passes to the list. At the head, see `Pool::requeue_orphan`.
            unsafe { bindings::list_move(block.link(), lists.orphans.get()) };
            // SAFETY: An inode whose mapping a block carries is live, see the module's description,
            // and its lists are locked.
            unsafe { pool.orphans.add_inode(mapped.orphans_link.get()) };
            pool.orphans.add();
            return;
        }
        // SAFETY: The block carries this inode's mapping: it is on one of its lists, which are
        // locked.
        unsafe { disassociate(block) };
        break;
    }
    drop(rcu);
    if block.has_only_store_ref() {
        block.free(pool);
    } else {
        pool.add_orphan(block);
    }
}
