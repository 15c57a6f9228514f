// SPDX-License-Identifier: GPL-2.0

//! A block's page, its slot count and number, and access to its bytes.
//!
//! `page->private` of a block:
//!
//! ```text
//! 63                             16 15              0
//! +--------------------------------+----------------+
//! | the block's number             | slot count     |
//! +--------------------------------+----------------+
//! ```
//!
//! The number comes with the first slot, never changes, and says nothing about where the page is in
//! memory; it is 0 if all numbers are spent, see [`numbers`](super::numbers).
//!
//! The slot count does not overflow: at half of what it can count a block is **full**, and is
//! duplicated instead of shared. Without a lock a slot is added together with the check
//! ([`RawBlock::try_get_slot`]). Under a tree's lock, where no page can be allocated, the check
//! comes first and the slot is added later ([`RawBlock::get_slot`]): the other half is for as many
//! threads as can do so at the same time, one on each processor, as the lock spins.

use super::{
    Pool,
    BLOCK_SIZE, //
};
use crate::{
    bindings::{
        self,
        copy_page, //
    },
    store::accesses, //
};
use core::{
    mem::{
        size_of,
        ManuallyDrop, //
    },
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        ordering::Full,
        Acquire,
        Atomic,
        Relaxed, //
    },
};

const SLOT_COUNT_BITS: u32 = 16;
const SLOT_COUNT_MASK: u64 = (1 << SLOT_COUNT_BITS) - 1;

/// See [`RawBlock::is_full`].
const MAX_SLOTS: u64 = 1 << (SLOT_COUNT_BITS - 1);

/// See [`BlockRef::refcount_high`].
const REFCOUNT_HIGH: u32 = 1 << 30;

/// See [`BlockRef::refcount_near_overflow`].
const REFCOUNT_NEAR_OVERFLOW: u32 = 3 << 30;

/// Returns `page->private` of a block with this number, of 48 bits, and one slot.
fn in_slot(number: u64) -> u64 {
    number << SLOT_COUNT_BITS | 1
}

/// A page that is a block.
///
/// # Invariants
///
/// The page was allocated by [`BlockBatch`](super::BlockBatch), is of order 0, in no page cache,
/// and live: the holder of this value has a reference to the page, or a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct RawBlock(NonNull<bindings::page>);

impl RawBlock {
    /// # Safety
    ///
    /// `page` is null, or a live page that was allocated as a block.
    pub(super) unsafe fn from_raw(page: *mut bindings::page) -> Option<Self> {
        NonNull::new(page).map(Self)
    }

    /// Makes a new block with one slot.
    ///
    /// # Safety
    ///
    /// As for [`NewBlock::from_page`]; the slot owns the page's only reference, and the charge.
    pub(super) unsafe fn in_slot(page: NonNull<bindings::page>, number: u64) -> Self {
        // SAFETY: The caller passes a page of order 0 that was allocated as a block, and the only
        // reference to it.
        unsafe { Self::new(page, in_slot(number)) }
    }

    /// # Safety
    ///
    /// `page` was allocated as a block, is of order 0, and nothing else refers to it.
    unsafe fn new(page: NonNull<bindings::page>, state: u64) -> Self {
        let block = Self(page);
        // SAFETY: Nothing else refers to the page: a plain store will do, which saves a call.
        unsafe { block.state().as_ptr().write(state) };
        block
    }

    pub(super) fn as_ptr(self) -> *mut bindings::page {
        accesses::count_block();
        self.0.as_ptr()
    }

    /// Returns `page->private`.
    fn state(&self) -> &Atomic<u64> {
        // SAFETY: By the type invariant the page is live. `private` belongs to the store, which
        // accesses it only as this atomic, but for `new`, before the block is shared.
        unsafe {
            Atomic::from_ptr(
                (&raw mut (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.private).cast(),
            )
        }
    }

    pub(super) fn number(self) -> u64 {
        self.state().load(Relaxed) >> SLOT_COUNT_BITS
    }

    /// Returns how many slots hold the block.
    ///
    /// `Acquire` pairs with the full ordering of [`RawBlock::put_slot`]: a caller that sees one
    /// slot, its own, sees what was done before the others were dropped. That does not include
    /// reads by way of a [`BlockRef`], for which there are owned bits.
    pub(super) fn slot_count(self) -> u64 {
        self.state().load(Acquire) & SLOT_COUNT_MASK
    }

    /// Returns whether the block is to be duplicated instead of shared, as too many slots hold it.
    pub(super) fn is_full(self) -> bool {
        self.state().load(Relaxed) & SLOT_COUNT_MASK >= MAX_SLOTS
    }

    /// Adds a slot, unless the block is full. Returns whether it did. The caller holds a slot.
    pub(super) fn try_get_slot(self) -> bool {
        let mut old = self.state().load(Relaxed);
        while old & SLOT_COUNT_MASK < MAX_SLOTS {
            match self.state().cmpxchg(old, old + 1, Relaxed) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// Adds a slot. The caller holds a slot and a spinning lock, under which it saw that the block
    /// is not full.
    pub(super) fn get_slot(self) {
        self.state().add(1, Relaxed);
    }

    /// Drops the caller's slot. Returns whether it was the last, which makes the store's reference
    /// to the page the caller's.
    pub(super) fn put_slot(self) -> bool {
        self.state().fetch_sub(1, Full) & SLOT_COUNT_MASK == 1
    }

    /// Frees the block. The caller owns the store's reference.
    pub(super) fn free(self, pool: &Pool) {
        pool.uncharge(1);
        self.clear_private();
        // SAFETY: The caller owns the reference.
        unsafe { self.put_page() };
    }

    /// Clears `page->private` when the page stops being a block. A pipe may still hold the page and
    /// splice it into another page cache, which uses `private` as a pointer.
    fn clear_private(self) {
        self.state().store(0, Relaxed);
    }

    /// Returns the page's reference count. It is an `int`, which can be made negative: each pin
    /// counts 1024, and a thread in `process_vm_writev(2)` holds 1024 pins. It does not wrap
    /// around, as the kernel pins no page whose count is negative, and each reference of a page
    /// table takes eight bytes.
    ///
    /// `Acquire` pairs with dropping a reference, which is fully ordered: a caller that sees it
    /// gone sees what was stored by way of it.
    fn page_count(self) -> u32 {
        // SAFETY: By the type invariant the page is live, and the count its own, as it is of order
        // 0. The kernel changes it atomically.
        let count = unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr())._refcount.counter) };
        count.load(Acquire) as u32
    }

    /// Returns whether the page has `PageHWPoison` set. Memory may turn bad after that.
    fn is_poisoned(self) -> bool {
        // SAFETY: By the type invariant the page is live. Flags are changed atomically.
        let flags = unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).flags.f) };
        flags.load(Relaxed) & bindings::__PG_HWPOISON != 0
    }

    /// Returns whether the only reference to the page is the store's.
    pub(super) fn has_only_store_ref(self) -> bool {
        self.page_count() == 1
    }

    pub(super) fn get_page(self) {
        // SAFETY: By the type invariant the page is live.
        unsafe { bindings::get_page(self.as_ptr()) };
    }

    /// # Safety
    ///
    /// The caller owns a reference to the page, and gives it up.
    pub(super) unsafe fn put_page(self) {
        // SAFETY: The caller owns the reference that is given up.
        unsafe { bindings::put_page(self.as_ptr()) };
    }

    /// Notes that the kernel has changed the bytes. On arm64 a page that is mapped executable is
    /// made coherent with the instruction caches, unless it was since the last call.
    pub(super) fn flush_dcache(self) {
        if bindings::ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE != 0 {
            // SAFETY: By the type invariant the page is live.
            unsafe { bindings::flush_dcache_page(self.0.as_ptr()) };
        }
    }

    /// Calls `f` with the address of the block's bytes.
    pub(super) fn with_bytes<R>(self, f: impl FnOnce(*mut u8) -> R) -> R {
        // SAFETY: By the type invariant the page is live. Unmapped below, in order.
        let addr = unsafe { bindings::kmap_local_page(self.as_ptr()) };
        let result = f(addr.cast());
        // SAFETY: Mapped above.
        unsafe { bindings::kunmap_local(addr) };
        result
    }
}

/// A reference to a block's page, which stays what it is even if no slot holds the block any more.
///
/// The bytes may change at any time, by other references and by user space that maps the page. So
/// they are only copied, never borrowed as a slice. Whether they may be written, the tree knows:
/// see [`Lookup`](crate::store::Lookup).
///
/// # Examples
///
/// ```
/// use crate::store::block::{Pool, BLOCK_SIZE};
/// use kernel::prelude::*;
///
/// let pool = Pool::new(None)?;
/// let (a, b) = (pool.alloc()?, pool.alloc()?);
///
/// a.bytes().zero(0, BLOCK_SIZE);
/// b.bytes().copy_block(a.bytes())?;
/// assert!(b.bytes().is_zero(0, BLOCK_SIZE)?);
/// assert!(b.bytes().bytes_equal(a.bytes(), BLOCK_SIZE)?);
///
/// // A reference keeps the page, but not the block: what is not in a slot by now is freed.
/// let page = a.bytes().clone();
/// drop(a);
/// assert_eq!(pool.used(), 1);
/// assert!(page.is_zero(0, BLOCK_SIZE)?);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// Owns a reference to the page.
#[repr(transparent)]
pub struct BlockRef(RawBlock);

// SAFETY: A page reference may be dropped on any thread.
unsafe impl Send for BlockRef {}
// SAFETY: All methods may be called concurrently: bytes are only copied.
unsafe impl Sync for BlockRef {}

impl BlockRef {
    /// Takes a reference, at any count. A thread holds a few dozen at a time: all threads
    /// that can exist do not fill what lies between [`BlockRef::refcount_high`],
    /// [`BlockRef::refcount_near_overflow`] and the overflow.
    pub(super) fn new(block: RawBlock) -> Self {
        block.get_page();
        // INVARIANT: The reference was just taken.
        Self(block)
    }

    pub(super) fn raw(&self) -> RawBlock {
        self.0
    }

    /// Returns the page, valid as long as `self`.
    pub fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Passes the reference to the caller, as from `get_page`.
    pub fn into_page(self) -> *mut bindings::page {
        ManuallyDrop::new(self).as_ptr()
    }

    /// Returns whether the store's and this are the only references to the page: then no page table
    /// maps it.
    pub fn has_no_other_ref(&self) -> bool {
        const STORE_AND_SELF: u32 = 2;
        self.0.page_count() == STORE_AND_SELF
    }

    /// Returns whether the memory is known to be bad. Then the bytes are lost: none can be read or
    /// written, and the page is not used again when the block is freed.
    pub fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }

    /// Copies all bytes of `other`.
    ///
    /// # Errors
    ///
    /// As [`BlockRef::copy_from`].
    pub fn copy_block(&self, other: &BlockRef) -> Result {
        self.copy_from(0, other, 0, BLOCK_SIZE)
    }

    /// Copies `len` bytes at `from_offset` of `other` to `offset` of this block. Leaves out what
    /// lies outside of either.
    ///
    /// # Errors
    ///
    /// `EIO` if one of them [is poisoned](BlockRef::is_poisoned); nothing was copied.
    pub fn copy_from(
        &self,
        offset: usize,
        other: &BlockRef,
        from_offset: usize,
        len: usize,
    ) -> Result {
        let len = len
            .min(BLOCK_SIZE.saturating_sub(offset))
            .min(BLOCK_SIZE.saturating_sub(from_offset));
        if self.is_poisoned() || other.is_poisoned() {
            return Err(EIO);
        }
        self.0.with_bytes(|to| {
            other.0.with_bytes(|from| {
                // SAFETY: Both ranges lie within their pages.
                unsafe {
                    let (from, to) = (from.add(from_offset), to.add(offset));
                    if self.0 == other.0 {
                        core::ptr::copy(from, to, len);
                    } else {
                        copy_bytes(from, to, len);
                    }
                }
            })
        });
        self.0.flush_dcache();
        Ok(())
    }

    /// Zeroes `len` bytes at `offset`. Leaves out what lies outside of the block. Does nothing to a
    /// [poisoned](BlockRef::is_poisoned) block, whose bytes cannot be seen: so truncation does not
    /// fail.
    pub fn zero(&self, offset: usize, len: usize) {
        if self.is_poisoned() {
            return;
        }
        let len = len.min(BLOCK_SIZE.saturating_sub(offset));
        self.0.with_bytes(|addr| {
            // SAFETY: The range lies within the page.
            unsafe { addr.add(offset).write_bytes(0, len) }
        });
        self.0.flush_dcache();
    }

    /// Returns whether the first `len` bytes of both blocks are equal.
    ///
    /// # Errors
    ///
    /// `EIO` if one of them [is poisoned](BlockRef::is_poisoned), unless both are the same block.
    pub fn bytes_equal(&self, other: &BlockRef, len: usize) -> Result<bool> {
        let len = len.min(BLOCK_SIZE);
        if self.0 == other.0 {
            return Ok(true);
        }
        if self.is_poisoned() || other.is_poisoned() {
            return Err(EIO);
        }
        Ok(self.0.with_bytes(|a| {
            other.0.with_bytes(|b| {
                // SAFETY: `len` bytes lie within both pages.
                unsafe {
                    if len == BLOCK_SIZE {
                        pages_equal(a.cast(), b.cast())
                    } else {
                        bindings::memcmp(a.cast(), b.cast(), len) == 0
                    }
                }
            })
        }))
    }

    /// Returns whether the `len` bytes at `offset` are zeros. Leaves out what lies outside of the
    /// block.
    ///
    /// # Errors
    ///
    /// `EIO` if it [is poisoned](BlockRef::is_poisoned).
    pub fn is_zero(&self, offset: usize, len: usize) -> Result<bool> {
        let len = len.min(BLOCK_SIZE.saturating_sub(offset));
        if self.is_poisoned() {
            return Err(EIO);
        }
        Ok(self.0.with_bytes(|addr| {
            // SAFETY: The range lies within the page.
            unsafe { bindings::memchr_inv(addr.add(offset).cast(), 0, len).is_null() }
        }))
    }

    /// Returns whether to copy the block rather than take one more reference to the page: the count
    /// should stay positive, as the kernel pins no page whose count is negative.
    pub fn refcount_high(&self) -> bool {
        self.0.page_count() > REFCOUNT_HIGH
    }

    /// Returns whether no reference may be added that stays, as the count might wrap around.
    pub fn refcount_near_overflow(&self) -> bool {
        self.0.page_count() > REFCOUNT_NEAR_OVERFLOW
    }
}

/// Copies bytes, and whole pages by the kernel's `copy_page`.
///
/// # Safety
///
/// The `len` bytes at `from` and at `to` are valid, and do not overlap. They may change meanwhile.
pub(super) unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    let is_page = |at: *const u8| at.addr() % BLOCK_SIZE == 0;
    // On x86-64 a `rep movsq`, or moves, which need no alignment (arch/x86/lib/copy_page_64.S).
    let anywhere = cfg!(CONFIG_X86_64) || is_page(from) && is_page(to);
    let pages = if anywhere { len - len % BLOCK_SIZE } else { 0 };
    // SAFETY: The caller guarantees that `len` bytes are valid at both and do not overlap;
    // `copy_page` copies `BLOCK_SIZE` of them.
    unsafe {
        for at in (0..pages).step_by(BLOCK_SIZE) {
            copy_page(to.add(at).cast(), from.add(at).cast_mut().cast());
        }
        if pages < len {
            core::ptr::copy_nonoverlapping(from.add(pages), to.add(pages), len - pages);
        }
    }
}

/// Returns whether two pages hold the same bytes. Branches once for a cache line; the kernel's
/// `memcmp` does for each word.
///
/// # Safety
///
/// Both are the addresses of pages. Their bytes may change meanwhile.
unsafe fn pages_equal(a: *const u64, b: *const u64) -> bool {
    const LINE_WORDS: usize = 8;
    (0..BLOCK_SIZE / size_of::<u64>())
        .step_by(LINE_WORDS)
        .all(|start| {
            let differ = (start..start + LINE_WORDS).fold(0, |differ, i| {
                // SAFETY: The caller passes the addresses of pages, within which both words lie;
                // they are aligned.
                differ | unsafe { a.add(i).read_volatile() ^ b.add(i).read_volatile() }
            });
            differ == 0
        })
}

impl Clone for BlockRef {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for BlockRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is owned.
        unsafe { self.0.put_page() };
    }
}

/// A block that no slot holds yet, and nothing else refers to. Dropping it frees it.
///
/// # Invariants
///
/// `bytes` owns the page's only reference; the slot count is 0; `pool` has charged the block.
pub struct NewBlock<'pool> {
    bytes: ManuallyDrop<BlockRef>,
    pool: &'pool Pool,
    /// Whether its slot is to be unwritten, see [`Slots`](super::Slots).
    unwritten: bool,
}

impl<'pool> NewBlock<'pool> {
    /// # Safety
    ///
    /// `page` is of order 0, and the caller gives up the only reference to it; `pool` has charged
    /// the block.
    pub(super) unsafe fn from_page(pool: &'pool Pool, page: NonNull<bindings::page>) -> Self {
        // SAFETY: The caller passes a page of order 0 and its only reference, for which `pool` has
        // charged a block; the slot count is 0.
        unsafe { Self::from_raw(pool, RawBlock::new(page, 0)) }
    }

    /// # Safety
    ///
    /// The caller gives up the only reference to the page of `block`, and no slot holds it; `pool`
    /// has charged it.
    pub(super) unsafe fn from_raw(pool: &'pool Pool, block: RawBlock) -> Self {
        // INVARIANT: The caller gives up the only reference, and guarantees that no slot holds the
        // block and that `pool` has charged it.
        Self {
            bytes: ManuallyDrop::new(BlockRef(block)),
            pool,
            unwritten: false,
        }
    }

    /// Returns a reference for access to the block's bytes.
    pub fn bytes(&self) -> &BlockRef {
        &self.bytes
    }

    /// Zeroes what lies around the `len` bytes at `offset`, in a block that was not written to,
    /// unless the kernel zeroes all pages that it allocates (`init_on_alloc`).
    pub fn zero_around(&self, offset: usize, len: usize) {
        // SAFETY: Both read how the kernel was configured and booted.
        let is_zeroed = unsafe {
            bindings::want_init_on_alloc(bindings::GFP_KERNEL_ACCOUNT)
                || bindings::want_init_on_free()
        };
        if !is_zeroed {
            self.bytes.zero(0, offset);
            self.bytes.zero(offset.saturating_add(len), usize::MAX);
        }
    }

    /// Makes the block, which was not written to, an unwritten one of zeros.
    pub fn fill_unwritten(&mut self) {
        self.zero_around(0, 0);
        self.unwritten = true;
    }

    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    pub(super) fn pool(&self) -> &'pool Pool {
        self.pool
    }

    /// Passes what it owns to the caller.
    pub(super) fn into_raw(self) -> RawBlock {
        ManuallyDrop::new(self).bytes.raw()
    }

    /// Gives the block a number and a slot, which owns it from then on.
    pub(super) fn into_slot(self, number: u64) -> RawBlock {
        let block = self.into_raw();
        // Nothing else refers to the block yet.
        block.state().store(in_slot(number), Relaxed);
        block
    }
}

impl Drop for NewBlock<'_> {
    fn drop(&mut self) {
        self.pool.uncharge(1);
        self.bytes.raw().clear_private();
        // SAFETY: The field is not used again.
        unsafe { ManuallyDrop::drop(&mut self.bytes) };
    }
}
