// SPDX-License-Identifier: GPL-2.0

//! Several new blocks at once.

use super::{
    page::{copy_bytes, BlockRef, NewBlock, RawBlock},
    uio::{for_each_contig, PAGES_VIRT_CONTIGUOUS},
    Pool, BLOCK_SIZE,
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{iov::IovIterSource, prelude::*};

/// As `GFP_KERNEL_ACCOUNT`, without direct reclaim and memory reserves: for several pages in one piece,
/// in the place of which single ones will do.
const GFP_NO_RECLAIM: bindings::gfp_t = (bindings::GFP_KERNEL_ACCOUNT
    & !bindings::__GFP_DIRECT_RECLAIM)
    | bindings::__GFP_NOMEMALLOC
    | bindings::__GFP_NOWARN;

/// How many blocks are worth making at a time: 1 MiB.
pub const MAX_CONTIG_BLOCKS: usize = 256;

/// Pages are allocated by up to so many at a time, `1 << MAX_ORDER`: one where several might not be in one
/// piece.
const MAX_ORDER: u32 = if PAGES_VIRT_CONTIGUOUS {
    MAX_CONTIG_BLOCKS.ilog2()
} else {
    0
};

/// New blocks whose pages are asked for together. Those that nobody takes are given back.
///
/// # Invariants
///
/// The pool counts `left` blocks for this.
pub struct BlockBatch<'pool> {
    pool: &'pool Pool,
    left: u64,
    /// Those whose pages are there, which come before the others.
    piece: Option<ContigBlocks<'pool>>,
}

impl<'pool> BlockBatch<'pool> {
    /// Up to `n` blocks of `pool`: fewer where there may be no more.
    pub(super) fn new(pool: &'pool Pool, n: u64) -> Self {
        // INVARIANT: The pool has counted them.
        Self {
            pool,
            left: if n == 0 { 0 } else { pool.charge(n) },
            piece: None,
        }
    }

    /// A block, for [`Pool::alloc_overcommit`].
    pub(super) fn overcommit(pool: &'pool Pool) -> Self {
        // INVARIANT: As above.
        Self {
            pool,
            left: pool.charge_overcommit(1),
            piece: None,
        }
    }

    /// The next block. Its bytes are undefined until its owner has written them.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more, `ENOMEM` where there is no page.
    pub fn take(&mut self) -> Result<NewBlock<'pool>> {
        loop {
            if let Some(block) = self.piece.as_mut().and_then(ContigBlocks::take) {
                return Ok(block);
            }
            self.piece = Some(self.alloc()?);
        }
    }

    /// The next blocks, at least one, as many as lie in one piece in memory. Their bytes are undefined
    /// until their owner has written them.
    ///
    /// # Errors
    ///
    /// As [`BlockBatch::take`].
    pub fn take_contig(&mut self) -> Result<ContigBlocks<'pool>> {
        match self.piece.take() {
            Some(piece) if piece.len > 0 => Ok(piece),
            _ => self.alloc(),
        }
    }

    /// Allocates pages: several if they are free in one piece, otherwise one, for which memory is
    /// reclaimed.
    fn alloc(&mut self) -> Result<ContigBlocks<'pool>> {
        if self.left == 0 {
            return Err(ENOSPC);
        }
        let wanted = self.left.ilog2().min(MAX_ORDER);
        let mut order = wanted.min(self.pool.order());
        let page = loop {
            if order == 0 {
                break alloc(bindings::GFP_KERNEL_ACCOUNT, 0).ok_or(ENOMEM)?;
            }
            if let Some(page) = alloc(GFP_NO_RECLAIM, order) {
                // SAFETY: The pages were allocated just now, with this order and not as one folio.
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
        // INVARIANT: They are counted for the piece now.
        self.left -= len as u64;
        // INVARIANT: The pages are single ones, and follow each other, as those of one allocation do;
        // nobody has them but us, nor their first references.
        Ok(ContigBlocks {
            pool: self.pool,
            page,
            len,
        })
    }
}

/// Allocates `1 << order` pages, charged to the caller's cgroup.
fn alloc(flags: bindings::gfp_t, order: u32) -> Option<NonNull<bindings::page>> {
    // SAFETY: Allocating pages has no preconditions beyond a context that may sleep, where `flags`
    // ask for that.
    NonNull::new(unsafe { bindings::alloc_pages(flags, order) })
}

impl Drop for BlockBatch<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.pool.uncharge(self.left);
        }
    }
}

/// New blocks that lie in one piece in memory: as so many [`NewBlock`]s.
///
/// # Invariants
///
/// The pool counts `len` blocks for this. The `len` pages from `page` on are single pages, nobody else uses them, and their first references are
/// ours.
pub struct ContigBlocks<'pool> {
    pool: &'pool Pool,
    page: NonNull<bindings::page>,
    len: usize,
}

impl<'pool> ContigBlocks<'pool> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pool that they are of.
    pub(super) fn pool(&self) -> &'pool Pool {
        self.pool
    }

    /// Copies bytes of `from` to the blocks, as far as there are both. Returns how many.
    ///
    /// May fault in user memory: no lock that a fault takes may be held.
    pub fn copy_from_iter(&self, from: &mut IovIterSource<'_>) -> usize {
        // SAFETY: The `len` pages are ours, and follow each other in the kernel's mapping of all memory
        // where they are more than one, see `MAX_ORDER`. `from` is valid.
        unsafe {
            let bytes = bindings::kmap_local_page(self.page.as_ptr());
            let copied = bindings::_copy_from_iter(bytes, self.len * BLOCK_SIZE, from.as_raw());
            bindings::kunmap_local(bytes);
            copied
        }
    }

    /// Copies `len` bytes of `from`, beginning `from_offset` bytes into the first of them, to `offset` in
    /// these; `None` is a block of zeros. What would lie outside of either is left out. Returns how many
    /// bytes: up to a block that [is poisoned](BlockRef::is_poisoned).
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
        // SAFETY: As in `copy_from_iter`.
        let mapping = unsafe { bindings::kmap_local_page(self.page.as_ptr()) };
        // SAFETY: `len` bytes, at least one, lie within the pages from there on.
        let mut to = unsafe { mapping.cast::<u8>().add(offset) };
        let copy = |piece: &[Option<BlockRef>], from_offset, n| {
            // SAFETY: `n` bytes lie within both pieces. The pages of this one are others than those of
            // `from`, to which there are references.
            unsafe {
                match piece {
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
        // SAFETY: From `kmap_local_page` above; mappings made since have been undone.
        unsafe { bindings::kunmap_local(mapping) };
        done
    }

    /// Takes the first out.
    pub fn take(&mut self) -> Option<NewBlock<'pool>> {
        let page = self.page;
        self.len = self.len.checked_sub(1)?;
        // INVARIANT: The first of them is not counted any more.
        // SAFETY: One past the first of `len`, in the kernel's array of pages.
        self.page = unsafe { page.add(1) };
        // SAFETY: A page of order 0 that nobody else has; the pool has counted the block.
        Some(unsafe { NewBlock::from_page(self.pool, page) })
    }

    /// Takes the first `n` out, or all, for as many slots that own them from now on, with the numbers from
    /// `number` on; 0 gives none a number.
    ///
    /// Those that are not taken from what this returns are lost.
    pub(super) fn take_for_slots(
        &mut self,
        n: usize,
        number: u64,
    ) -> impl Iterator<Item = RawBlock> {
        let n = n.min(self.len);
        let page = self.page;
        let step = u64::from(number != 0);
        // INVARIANT: The first `n` of them are not counted any more.
        // SAFETY: One past the first `n` of `len`, in the kernel's array of pages.
        self.page = unsafe { page.add(n) };
        self.len -= n;
        (0..n).map(move |i| {
            // Numbers end long before this wraps, so that it need not be checked for each.
            let number = number.wrapping_add(step.wrapping_mul(i as u64));
            // SAFETY: A single page that nobody else has; the pool's count of it and its first
            // reference are the slot's now.
            unsafe { RawBlock::in_slot(page.add(i), number) }
        })
    }

    /// Gives back all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            drop(self.take_last());
        }
    }

    /// Takes the last out.
    pub fn take_last(&mut self) -> Option<NewBlock<'pool>> {
        let len = self.len.checked_sub(1)?;
        // INVARIANT: The last is not counted any more.
        self.len = len;
        // SAFETY: It was one of the `len` pages, each of order 0, that nobody else has; the pool has
        // counted the block.
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
