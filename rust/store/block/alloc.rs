// SPDX-License-Identifier: GPL-2.0

//! Allocation of blocks, several at once.

use super::{
    page::{
        copy_bytes,
        BlockRef,
        NewBlock,
        RawBlock, //
    },
    uio::{
        for_each_contig,
        PAGES_VIRT_CONTIGUOUS, //
    },
    Pool,
    BLOCK_SIZE,
    MAX_OVERCOMMIT_BLOCKS, //
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    iov::IovIterSource,
    prelude::*, //
};

/// The most blocks of a [`ContigBlocks`]: 1 MiB.
pub const MAX_CONTIG_BLOCKS: usize = 256;

/// The highest order of an allocation; 0 if adjacent pages may not be virtually contiguous.
const MAX_ORDER: u32 = if PAGES_VIRT_CONTIGUOUS {
    MAX_CONTIG_BLOCKS.ilog2()
} else {
    0
};

/// As `GFP_KERNEL_ACCOUNT`, without direct reclaim and memory reserves: for what can be had
/// otherwise, as an allocation of higher order by single pages, or one under a lock without it.
pub(in crate::store) const GFP_NO_RECLAIM: bindings::gfp_t = (bindings::GFP_KERNEL_ACCOUNT
    & !bindings::__GFP_DIRECT_RECLAIM)
    | bindings::__GFP_NOMEMALLOC
    | bindings::__GFP_NOWARN;

impl Pool {
    /// Returns a batch of up to `n` new blocks, as many as the limit allows.
    pub fn alloc_batch(&self, n: u64) -> BlockBatch<'_> {
        BlockBatch::new(self, n, 0)
    }

    /// Allocates a block. Its bytes are not initialised.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit, `ENOMEM`.
    pub fn alloc(&self) -> Result<NewBlock<'_>> {
        self.alloc_batch(1).take()
    }

    /// As [`Pool::alloc`] or [`Pool::alloc_overcommit`], without waiting for memory: for a caller
    /// that holds a lock for which others wait.
    ///
    /// # Errors
    ///
    /// As there; `ENOMEM` also where waiting would help.
    pub fn alloc_no_reclaim(&self, overcommit: bool) -> Result<NewBlock<'_>> {
        let overcommit = if overcommit { MAX_OVERCOMMIT_BLOCKS } else { 0 };
        BlockBatch::no_reclaim(self, overcommit).take()
    }

    /// As [`Pool::alloc`], and may exceed the limit: for an operation that frees as many blocks,
    /// and should not fail because it allocates first.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the limit is exceeded by [`MAX_OVERCOMMIT_BLOCKS`] already, as blocks that such
    /// operations freed are orphans; `ENOMEM`.
    pub fn alloc_overcommit(&self) -> Result<NewBlock<'_>> {
        BlockBatch::new(self, 1, MAX_OVERCOMMIT_BLOCKS).take()
    }
}

/// New blocks, charged at once, whose pages are allocated as they are taken. The charge of those
/// that are not taken ends with the batch.
///
/// # Invariants
///
/// The pool has charged `left` blocks for this.
pub struct BlockBatch<'pool> {
    pool: &'pool Pool,
    left: u64,
    /// How single pages are allocated.
    flags: bindings::gfp_t,
    /// Those whose pages are allocated, which are taken first.
    contig: Option<ContigBlocks<'pool>>,
}

impl<'pool> BlockBatch<'pool> {
    /// Charges up to `n` blocks, see [`Pool::charge`].
    pub(super) fn new(pool: &'pool Pool, n: u64, overcommit: u64) -> Self {
        // INVARIANT: The pool has charged them.
        Self {
            pool,
            left: if n == 0 {
                0
            } else {
                pool.charge(n, overcommit)
            },
            flags: bindings::GFP_KERNEL_ACCOUNT,
            contig: None,
        }
    }

    /// Charges a block, whose page is not waited for.
    pub(super) fn no_reclaim(pool: &'pool Pool, overcommit: u64) -> Self {
        let mut batch = Self::new(pool, 1, overcommit);
        batch.flags = GFP_NO_RECLAIM;
        batch
    }

    /// Takes the next block. Its bytes are not initialised.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if no more are charged, `ENOMEM`.
    pub fn take(&mut self) -> Result<NewBlock<'pool>> {
        loop {
            if let Some(block) = self.contig.as_mut().and_then(ContigBlocks::take) {
                return Ok(block);
            }
            self.contig = Some(self.alloc()?);
        }
    }

    /// Takes the next blocks, at least one, as many as are virtually contiguous. Their bytes are
    /// not initialised.
    ///
    /// # Errors
    ///
    /// As [`BlockBatch::take`].
    pub fn take_contig(&mut self) -> Result<ContigBlocks<'pool>> {
        match self.contig.take() {
            Some(contig) if contig.len > 0 => Ok(contig),
            _ => self.alloc(),
        }
    }

    /// Allocates pages: several if that takes no reclaim, otherwise one.
    fn alloc(&mut self) -> Result<ContigBlocks<'pool>> {
        if self.left == 0 {
            return Err(ENOSPC);
        }
        let wanted = self.left.ilog2().min(MAX_ORDER);
        let mut order = wanted.min(self.pool.order());
        let page = loop {
            if order == 0 {
                break alloc_pages(self.flags, 0).ok_or(ENOMEM)?;
            }
            if let Some(page) = alloc_pages(GFP_NO_RECLAIM, order) {
                // SAFETY: The pages were just allocated, with this order and not as one folio.
                unsafe { bindings::split_page(page.as_ptr(), order) };
                break page;
            }
            order -= 1;
            self.pool.set_order(order);
        };
        let len = 1 << order;
        if order < wanted && self.pool.should_raise_order(len as u64) {
            self.pool.set_order(order + 1);
        }
        // INVARIANT: The charge passes to `ContigBlocks`.
        self.left -= len as u64;
        // INVARIANT: The pages were split, are adjacent, and nothing else refers to them.
        Ok(ContigBlocks {
            pool: self.pool,
            page,
            len,
        })
    }
}

/// Allocates `1 << order` pages, charged to the caller's cgroup.
fn alloc_pages(flags: bindings::gfp_t, order: u32) -> Option<NonNull<bindings::page>> {
    // SAFETY: Allocating pages has no preconditions but a context that may sleep if `flags` do.
    NonNull::new(unsafe { bindings::alloc_pages(flags, order) })
}

impl Drop for BlockBatch<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.pool.uncharge(self.left);
        }
    }
}

/// New blocks that are virtually contiguous.
///
/// # Invariants
///
/// The pool has charged `len` blocks for this. The `len` pages from `page` on are of order 0, and
/// this value owns their only references.
pub struct ContigBlocks<'pool> {
    pool: &'pool Pool,
    page: NonNull<bindings::page>,
    len: usize,
}

impl<'pool> ContigBlocks<'pool> {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn pool(&self) -> &'pool Pool {
        self.pool
    }

    /// Copies bytes of `from` to the blocks, up to the end of either. Returns how many.
    ///
    /// May fault on user memory: the caller holds no lock that a fault takes.
    pub fn copy_from_iter(&self, from: &mut IovIterSource<'_>) -> usize {
        // SAFETY: The `len` pages are owned, and virtually contiguous if there are several, see
        // `MAX_ORDER`. `from` is valid.
        unsafe {
            let bytes = bindings::kmap_local_page(self.page.as_ptr());
            let copied = bindings::_copy_from_iter(bytes, self.len * BLOCK_SIZE, from.as_raw());
            bindings::kunmap_local(bytes);
            copied
        }
    }

    /// Copies `len` bytes, from `from_offset` bytes into the first of `from` on, to `offset` in
    /// these blocks; `None` is a block of zeros. Leaves out what lies outside of either. Returns
    /// how many bytes were copied, up to a [poisoned](BlockRef::is_poisoned) block.
    pub fn copy_from(
        &self,
        offset: usize,
        from: &[Option<BlockRef>],
        from_offset: usize,
        len: usize,
    ) -> usize {
        let len = len.min((self.len * BLOCK_SIZE).saturating_sub(offset));
        if len == 0 {
            return 0;
        }
        // SAFETY: The pages are owned, and virtually contiguous if there are several, see
        // `MAX_ORDER`.
        let mapping = unsafe { bindings::kmap_local_page(self.page.as_ptr()) };
        // SAFETY: `len` bytes, at least one, lie within the pages from there on.
        let mut to = unsafe { mapping.cast::<u8>().add(offset) };
        let copy = |contig: &[Option<BlockRef>], from_offset, n| {
            // SAFETY: `n` bytes lie within both. These pages are not among those of `from`, to
            // which there are references.
            unsafe {
                match contig {
                    [Some(first), ..] => first
                        .raw()
                        .with_bytes(|from| copy_bytes(from.add(from_offset), to, n)),
                    _ => to.write_bytes(0, n),
                }
                to = to.add(n);
            }
            n
        };
        let done = for_each_contig(from, from_offset, len, copy);
        // SAFETY: Mapped above; what was mapped since is unmapped.
        unsafe { bindings::kunmap_local(mapping) };
        done
    }

    /// Takes the first block.
    pub fn take(&mut self) -> Option<NewBlock<'pool>> {
        let page = self.page;
        self.len = self.len.checked_sub(1)?;
        // INVARIANT: The first is no longer among them.
        // SAFETY: At most one past the last of the pages, in the kernel's array of `struct page`s.
        self.page = unsafe { page.add(1) };
        // SAFETY: By the type invariant its only reference was owned, and it is charged.
        Some(unsafe { NewBlock::from_page(self.pool, page) })
    }

    /// Takes the first `n` blocks, or all, for slots that own them from then on, with the numbers
    /// from `number` on; 0 gives none a number.
    ///
    /// Those that the caller does not take from the iterator are lost.
    pub(super) fn take_for_slots(
        &mut self,
        n: usize,
        number: u64,
    ) -> impl Iterator<Item = RawBlock> {
        let n = n.min(self.len);
        let page = self.page;
        let step = u64::from(number != 0);
        // INVARIANT: The first `n` are no longer among them.
        // SAFETY: At most one past the last of the pages, in the kernel's array of `struct page`s.
        self.page = unsafe { page.add(n) };
        self.len -= n;
        (0..n).map(move |i| {
            // Numbers end long before this wraps: no check for each block.
            let number = number.wrapping_add(step.wrapping_mul(i as u64));
            // SAFETY: By the type invariant its only reference was owned, and it is charged; both
            // pass to the slot.
            unsafe { RawBlock::in_slot(page.add(i), number) }
        })
    }

    /// Frees all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            drop(self.take_last());
        }
    }

    /// Takes the last block.
    pub fn take_last(&mut self) -> Option<NewBlock<'pool>> {
        let len = self.len.checked_sub(1)?;
        // INVARIANT: The last is no longer among them.
        self.len = len;
        // SAFETY: By the type invariant its only reference was owned, and it is charged.
        Some(unsafe { NewBlock::from_page(self.pool, self.page.add(len)) })
    }
}

impl Drop for ContigBlocks<'_> {
    fn drop(&mut self) {
        while let Some(block) = self.take() {
            drop(block);
        }
    }
}
