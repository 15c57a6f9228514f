// SPDX-License-Identifier: GPL-2.0

//! Several new blocks at once.

use super::{page::NewBlock, Pool};
use crate::bindings;
use core::ptr::{null_mut, NonNull};
use kernel::prelude::*;

/// Pages are allocated by up to so many at a time, `1 << ORDER`.
const ORDER: u32 = 4;

/// New blocks with consecutive numbers, whose pages are asked for together. Those that nobody takes
/// are given back.
///
/// # Invariants
///
/// The pool counts `left` blocks for this, and nobody else has the `left` numbers from `number` on.
/// The `pages` pages from `page` on are single pages, and nobody else has a reference to
/// them.
pub struct Run<'pool> {
    pool: &'pool Pool,
    number: u64,
    left: u64,
    page: *mut bindings::page,
    pages: u64,
}

impl<'pool> Run<'pool> {
    /// Up to `n` blocks of `pool`: fewer where there may be no more.
    pub(super) fn new(pool: &'pool Pool, n: u64) -> Self {
        let n = if n == 0 { 0 } else { pool.take_room(n) };
        // INVARIANT: The pool has counted them, and gives no number twice.
        Self {
            pool,
            number: if n == 0 { 0 } else { pool.take_numbers(n) },
            left: n,
            page: null_mut(),
            pages: 0,
        }
    }

    /// A block, whatever the limit of `pool`.
    pub(super) fn over(pool: &'pool Pool) -> Self {
        pool.add_room(1);
        // INVARIANT: As above.
        Self {
            pool,
            number: pool.take_numbers(1),
            left: 1,
            page: null_mut(),
            pages: 0,
        }
    }

    /// The next block. Its bytes are undefined until its owner has written them.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more, `ENOMEM` where there is no page.
    pub fn take(&mut self) -> Result<NewBlock<'pool>> {
        if self.left == 0 {
            return Err(ENOSPC);
        }
        let page = match self.next_page() {
            Some(page) => page,
            None => alloc(bindings::GFP_KERNEL_ACCOUNT, 0).ok_or(ENOMEM)?,
        };
        let number = self.number;
        // INVARIANT: The block is counted, and has the number.
        self.left -= 1;
        self.number += 1;
        // SAFETY: A page of order 0 that nobody else has; the pool has counted the block.
        Ok(unsafe { NewBlock::from_page(self.pool, page, number) })
    }

    /// One of several pages that were allocated at once, if that succeeds without much effort.
    fn next_page(&mut self) -> Option<NonNull<bindings::page>> {
        if self.pages == 0 {
            let order = self.left.ilog2().min(ORDER);
            if order == 0 {
                return None;
            }
            let page = alloc(bindings::SHIM_GFP_KERNEL_EASY, order)?;
            // SAFETY: The pages were allocated just now, with this order and not as one folio.
            unsafe { bindings::split_page(page.as_ptr(), order) };
            // INVARIANT: They are single pages now, each with a reference, which is ours.
            self.page = page.as_ptr();
            self.pages = 1 << order;
        }
        let page = self.page;
        // INVARIANT: The first of them is not counted any more.
        // SAFETY: The pages of an allocation are adjacent in the kernel's array of pages.
        self.page = unsafe { page.add(1) };
        self.pages -= 1;
        NonNull::new(page)
    }
}

/// Allocates `1 << order` pages, charged to the caller's cgroup.
fn alloc(flags: bindings::gfp_t, order: u32) -> Option<NonNull<bindings::page>> {
    // SAFETY: Allocating pages has no preconditions beyond a context that may sleep, which
    // `GFP_KERNEL` asserts.
    NonNull::new(unsafe { bindings::alloc_pages(flags, order) })
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.pool.give_room(self.left);
        }
        for _ in 0..self.pages {
            // SAFETY: By the type invariant nobody else has the page, and its reference is ours.
            unsafe {
                bindings::shim_put_page(self.page);
                self.page = self.page.add(1);
            }
        }
    }
}
