// SPDX-License-Identifier: GPL-2.0

//! A block's page, its state, and the access to its bytes.
//!
//! `page->private` of a block holds two numbers:
//!
//! ```text
//! 63                             16 15              0
//! +--------------------------------+----------------+
//! | the block's number             | slots          |
//! +--------------------------------+----------------+
//! ```
//!
//! The number comes with the first slot, see [`numbers`](super::numbers). It never changes and says
//! nothing about where the page lies in memory. It is 0 where all were spent.
//!
//! The slot count does not overflow: half as many slots as it could count make a block full, and
//! then it is copied, not shared. Who shares without a lock adds to the count in one step with looking
//! at it ([`RawBlock::try_get_slot`]). Who holds a tree's lock, where no page can be allocated, looks
//! first and then adds ([`RawBlock::get_slot`]): for as many as can come between the two, one on each
//! processor as the lock spins, the other half is kept.

use super::{accesses, mapped, pool::Pool, BLOCK_SIZE};
use crate::bindings::{self, copy_page};
use core::{
    mem::{size_of, ManuallyDrop},
    ptr::NonNull,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Full, Acquire, Atomic, Relaxed},
        Arc,
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

/// The state of a block with this number, of 48 bits, that one slot holds.
fn in_slot(number: u64) -> u64 {
    number << SLOT_COUNT_BITS | 1
}

/// A page that is a block.
///
/// # Invariants
///
/// The page was allocated by [`BlockBatch`](super::BlockBatch), is of order 0, in no page cache, and has not been
/// freed; whoever holds this value holds one of the page's references, or a slot of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct RawBlock(NonNull<bindings::page>);

impl RawBlock {
    /// # Safety
    ///
    /// `page` must point to a live page that was allocated as a block.
    pub(super) unsafe fn from_raw(page: *mut bindings::page) -> Option<Self> {
        NonNull::new(page).map(Self)
    }

    /// A new block that a slot holds, and no other.
    ///
    /// # Safety
    ///
    /// As of [`NewBlock::from_page`]; the slot owns the page's first reference, and what the pool has
    /// counted.
    pub(super) unsafe fn in_slot(page: NonNull<bindings::page>, number: u64) -> Self {
        // SAFETY: By the safety requirements.
        unsafe { Self::new(page, in_slot(number)) }
    }

    /// # Safety
    ///
    /// `page` was allocated as a block, is of order 0, and nobody else has it.
    unsafe fn new(page: NonNull<bindings::page>, state: u64) -> Self {
        let block = Self(page);
        // SAFETY: Nobody else sees the block yet: so no atomic is needed, which would be a call for each.
        unsafe { block.state().as_ptr().write(state) };
        block
    }

    pub(super) fn as_ptr(self) -> *mut bindings::page {
        accesses::count_block();
        self.0.as_ptr()
    }

    fn state(&self) -> &Atomic<u64> {
        // SAFETY: By the type invariant the page is live, and `private` belongs to its owner, the
        // store, which accesses it only as this atomic, but for `new`, before others see it.
        unsafe {
            Atomic::from_ptr(
                (&raw mut (*self.as_ptr()).__bindgen_anon_1.__bindgen_anon_1.private).cast(),
            )
        }
    }

    pub(super) fn number(self) -> u64 {
        self.state().load(Relaxed) >> SLOT_COUNT_BITS
    }

    /// How many slots hold the block.
    ///
    /// With `Acquire`: it pairs with the full ordering of [`RawBlock::put_slot`], so that a caller
    /// who sees one slot, its own, sees what was done before the others let go. Reads through a
    /// [`BlockRef`] are not among that; they are what marks are for, see [`super::Leaf`].
    pub(super) fn slot_count(self) -> u64 {
        self.state().load(Acquire) & SLOT_COUNT_MASK
    }

    /// Whether so many slots hold the block that no more are to: then it is copied.
    pub(super) fn is_full(self) -> bool {
        self.state().load(Relaxed) & SLOT_COUNT_MASK >= MAX_SLOTS
    }

    /// Adds a slot, unless the block is full. Returns whether it did. The caller holds one already.
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

    /// Adds a slot. The caller holds one already, and found the block not to be full since he took a
    /// spinning lock.
    pub(super) fn get_slot(self) {
        self.state().add(1, Relaxed);
    }

    /// Takes the caller's slot away. Returns whether it was the last, so that the store's
    /// reference to the page is now the caller's.
    fn put_slot(self) -> bool {
        self.state().fetch_sub(1, Full) & SLOT_COUNT_MASK == 1
    }

    /// Takes the caller's slot away. If it was the last, the block is free as soon as nobody else refers
    /// to it.
    pub(super) fn release_slot(self, pool: &Arc<Pool>) {
        if self.put_slot() {
            mapped::release(self, pool);
        }
    }

    /// Gives the block back to `pool`, with the store's reference, which is the caller's.
    pub(super) fn free(self, pool: &Pool) {
        pool.uncharge(1);
        self.forget();
        // SAFETY: The caller owns the reference.
        unsafe { self.put_page() };
    }

    /// When it is no block any more: who else has a reference may put the page into a page cache, by
    /// way of a pipe, where `private` is somebody else's pointer.
    fn forget(self) {
        self.state().store(0, Relaxed);
    }

    /// How many references there are to the page. The kernel's count is an `int`, which an enemy makes
    /// negative: each pin counts 1024, and a thread in `process_vm_writev(2)` holds 1024 pins. It does
    /// not come around to what it was, as the kernel pins nothing whose count is negative, and each
    /// reference in a page table takes eight bytes of that.
    fn page_count(self) -> u32 {
        // SAFETY: By the type invariant the page is live.
        unsafe { bindings::page_count(self.as_ptr()) as u32 }
    }

    /// Whether the memory is known to be bad: `PageHWPoison`. Who looks first, as everybody does who
    /// touches the bytes, may still come upon memory that turns bad then.
    fn is_poisoned(self) -> bool {
        // SAFETY: By the type invariant the page is live. Others change the flags atomically.
        let flags = unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).flags.f) };
        flags.load(Relaxed) & bindings::__PG_HWPOISON != 0
    }

    /// Whether nobody has a reference to the page but the store.
    pub(super) fn has_only_store_ref(self) -> bool {
        self.page_count() == 1
    }

    pub(super) fn get_page(self) {
        // SAFETY: By the type invariant the page is live.
        unsafe { bindings::get_page(self.as_ptr()) };
    }

    /// # Safety
    ///
    /// The caller must own a reference to the page, and gives it away.
    pub(super) unsafe fn put_page(self) {
        // SAFETY: The caller owns the reference.
        unsafe { bindings::put_page(self.as_ptr()) };
    }

    /// Calls `f` with the address of the block's bytes.
    pub(super) fn with_bytes<R>(self, f: impl FnOnce(*mut u8) -> R) -> R {
        // SAFETY: By the type invariant the page is live. The mapping is undone below, in order.
        let addr = unsafe { bindings::kmap_local_page(self.as_ptr()) };
        let result = f(addr.cast());
        // SAFETY: `addr` was returned by `kmap_local_page` above.
        unsafe { bindings::kunmap_local(addr) };
        result
    }
}

/// A reference to a block's page: its bytes can be read and written, and the page stays what it
/// is, even when the last slot lets go of the block meanwhile.
///
/// The bytes may change at any time: other owners of a reference, and user space where the page
/// is mapped, write to them. So they are only ever copied, never borrowed as a slice.
///
/// Whether it is right to write is not known here but in the tree: see
/// [`Lookup`](crate::store::Lookup).
///
/// # Invariants
///
/// Owns one reference to the page.
#[repr(transparent)]
pub struct BlockRef(RawBlock);

// SAFETY: A page reference may be dropped on any thread.
unsafe impl Send for BlockRef {}
// SAFETY: All methods are sound in parallel: bytes are only copied, see the type's description.
unsafe impl Sync for BlockRef {}

impl BlockRef {
    /// Takes a reference, however many there are: a thread holds a few dozen at a time, so that all
    /// threads there can be do not make up what lies between [`BlockRef::refcount_high`],
    /// [`BlockRef::refcount_near_overflow`] and the overflow.
    pub(super) fn new(block: RawBlock) -> Self {
        block.get_page();
        // INVARIANT: The reference was just taken.
        Self(block)
    }

    pub(super) fn raw(&self) -> RawBlock {
        self.0
    }

    /// The page, for the parts of the VFS that work on one. Valid as long as `self`.
    pub fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// As [`BlockRef::as_ptr`], of several: an array to be read, with a null pointer for each `None`.
    pub fn as_ptrs(blocks: &[Option<Self>]) -> *mut *mut bindings::page {
        // Both types are transparent, down to a `NonNull`.
        blocks.as_ptr().cast_mut().cast()
    }

    /// Gives the reference to the caller, as the kernel's `get_page` would.
    pub fn into_page(self) -> *mut bindings::page {
        ManuallyDrop::new(self).as_ptr()
    }

    /// Whether the block may be written through a mapping of some file: see [`super::MappedBlocks`].
    pub fn is_mapped_writable(&self) -> bool {
        mapped::is_associated(self.0)
    }

    /// Whether nobody has a reference to the page but the store and the caller, who has this one: then
    /// it is in no page table, nor about to leave one or to come back to one.
    pub fn has_only_store_ref(&self) -> bool {
        self.0.page_count() == 2
    }

    /// Whether the block's memory is known to be bad. No byte of it can be read or written, what lies in
    /// it is lost, and the page stays out of use for good when the block goes.
    pub fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }

    /// Copies `len` bytes at `from_offset` of `other` to `offset` of this block; what would lie
    /// outside of either block is left out.
    ///
    /// # Errors
    ///
    /// `EIO` if one of the blocks [is poisoned](BlockRef::is_poisoned); nothing was copied.
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
        Ok(())
    }

    /// Writes zeros to `len` bytes at `offset`; what would lie outside of the block is left out. Leaves a
    /// [poisoned](BlockRef::is_poisoned) block alone: nobody sees what is in it, so that truncation,
    /// which must not fail, need not.
    pub fn zero(&self, offset: usize, len: usize) {
        if self.is_poisoned() {
            return;
        }
        let len = len.min(BLOCK_SIZE.saturating_sub(offset));
        self.0.with_bytes(|addr| {
            // SAFETY: The range lies within the page.
            unsafe { addr.add(offset).write_bytes(0, len) }
        });
    }

    /// Whether the first `len` bytes of both blocks are equal, as far as both have them.
    ///
    /// # Errors
    ///
    /// `EIO` if one of them [is poisoned](BlockRef::is_poisoned), unless both are the same.
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

    /// Whether `len` bytes at `offset` are zeros, as far as the block has them.
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

    /// Whether so many references to the page exist that a copy is better than one more: their count
    /// should stay positive, as otherwise the kernel pins the page for nobody.
    pub fn refcount_high(&self) -> bool {
        self.0.page_count() > REFCOUNT_HIGH
    }

    /// Whether so many references to the page exist that none may be added that stays, as their count
    /// might come around to zero.
    pub fn refcount_near_overflow(&self) -> bool {
        self.0.page_count() > REFCOUNT_NEAR_OVERFLOW
    }
}

/// Copies bytes, whole pages as the kernel does it best.
///
/// # Safety
///
/// The `len` bytes at `from` and those at `to` are valid, and no byte is in both. They may change
/// meanwhile.
pub(super) unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    let is_page = |at: *const u8| at.addr() % BLOCK_SIZE == 0;
    // That of x86-64 is one `rep movsq`, or moves, which take any address (arch/x86/lib/copy_page_64.S).
    let anywhere = cfg!(CONFIG_X86_64) || is_page(from) && is_page(to);
    let pages = if anywhere { len - len % BLOCK_SIZE } else { 0 };
    // SAFETY: By the safety requirements; `copy_page` copies a page's worth.
    unsafe {
        for at in (0..pages).step_by(BLOCK_SIZE) {
            copy_page(to.add(at).cast(), from.add(at).cast_mut().cast());
        }
        if pages < len {
            core::ptr::copy_nonoverlapping(from.add(pages), to.add(pages), len - pages);
        }
    }
}

/// Whether two pages hold the same bytes. The kernel's `memcmp` branches at each word; this, which
/// reads all memory that is deduplicated, at each cache line.
///
/// # Safety
///
/// Both are the addresses of pages. Their bytes may change meanwhile.
unsafe fn pages_equal(a: *const u64, b: *const u64) -> bool {
    const LINE: usize = 8;
    (0..BLOCK_SIZE / size_of::<u64>())
        .step_by(LINE)
        .all(|start| {
            let differ = (start..start + LINE).fold(0, |differ, i| {
                // SAFETY: Within both pages, by the safety requirements, and aligned.
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
        // SAFETY: By the type invariant the reference is owned, and given away once.
        unsafe { self.0.put_page() };
    }
}

/// A block that no slot holds yet: nobody else sees it, and dropping it gives it back.
///
/// # Invariants
///
/// `bytes` owns the page's first reference; the slot count is 0; the pool counts the block.
pub struct NewBlock<'pool> {
    bytes: ManuallyDrop<BlockRef>,
    pool: &'pool Pool,
    /// What the slot it comes into says of it, see [`Leaf`](super::Leaf).
    unwritten: bool,
}

impl<'pool> NewBlock<'pool> {
    /// # Safety
    ///
    /// `page` is of order 0, nobody else has it, and its reference is given away; `pool` has counted
    /// the block.
    pub(super) unsafe fn from_page(pool: &'pool Pool, page: NonNull<bindings::page>) -> Self {
        // SAFETY: By the safety requirements; the slot count is 0.
        unsafe { Self::from_raw(pool, RawBlock::new(page, 0)) }
    }

    /// # Safety
    ///
    /// The caller owns the first reference to the page of `block`, which he gives away, and no slot holds
    /// it; `pool` has counted it.
    pub(super) unsafe fn from_raw(pool: &'pool Pool, block: RawBlock) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            bytes: ManuallyDrop::new(BlockRef(block)),
            pool,
            unwritten: false,
        }
    }

    /// The block's bytes.
    pub fn bytes(&self) -> &BlockRef {
        &self.bytes
    }

    /// Makes the bytes around the `len` at `offset` zeros, where nothing was written to: the kernel may
    /// have done it already, see `init_on_alloc` in its list of parameters.
    pub fn zero_around(&self, offset: usize, len: usize) {
        // SAFETY: Both look at how the kernel was configured and booted.
        let is_cleared = unsafe {
            bindings::want_init_on_alloc(bindings::GFP_KERNEL_ACCOUNT)
                || bindings::want_init_on_free()
        };
        if !is_cleared {
            self.bytes.zero(0, offset);
            self.bytes.zero(offset.saturating_add(len), usize::MAX);
        }
    }

    /// Makes it one of zeros that counts as unwritten. Nothing was written to it.
    pub fn fill_unwritten(&mut self) {
        self.zero_around(0, 0);
        self.unwritten = true;
    }

    /// Whether it counts as unwritten.
    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// The pool that the block is of.
    pub(super) fn pool(&self) -> &'pool Pool {
        self.pool
    }

    /// Gives what it owns to the caller.
    pub(super) fn into_raw(self) -> RawBlock {
        ManuallyDrop::new(self).bytes.raw()
    }

    /// Puts the block into a slot, whose owner is now the block's owner too, and gives it its number.
    pub(super) fn into_slot(self, number: u64) -> RawBlock {
        let block = self.into_raw();
        // Nobody else sees the block yet.
        block.state().store(in_slot(number), Relaxed);
        block
    }
}

impl Drop for NewBlock<'_> {
    fn drop(&mut self) {
        self.pool.uncharge(1);
        self.bytes.raw().forget();
        // SAFETY: Nothing uses the field again.
        unsafe { ManuallyDrop::drop(&mut self.bytes) };
    }
}
