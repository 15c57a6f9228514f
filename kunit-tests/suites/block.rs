// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_block`: the bytes of a block.

use crate::{
    bindings,
    store::block::{
        Pool,
        ZeroBlock,
        BLOCK_SIZE, //
    },
    support::{
        bytes::{
            check_bytes,
            read,
            read_blocks,
            write, //
        },
        inode::with_page_count, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

#[kunit_tests(reflinkfs_block)]
mod tests {
    use super::*;

    #[test]
    fn several_blocks_are_read_at_once() -> Result {
        let pool = Pool::new(None)?;
        // Those of a run follow each other in memory, in either order of reading; one is on its
        // own.
        let mut run = pool.alloc_batch(4);
        let new = [
            run.take()?,
            run.take()?,
            run.take()?,
            run.take()?,
            pool.alloc()?,
        ];
        for (i, block) in (0u8..).zip(&new) {
            block.bytes().zero(0, BLOCK_SIZE);
            write(block.bytes(), 0, &mut [i + 1]);
            write(block.bytes(), BLOCK_SIZE - 1, &mut [i + 101]);
        }
        for order in [
            [Some(0), Some(1), Some(2), Some(3), Some(4)],
            [Some(3), Some(2), Some(1), Some(0), None],
            [None, Some(1), Some(2), None, Some(3)],
            [Some(0), Some(2), Some(3), Some(3), Some(4)],
        ] {
            let blocks = order.map(|i: Option<usize>| i.map(|i| new[i].bytes().clone()));
            for (offset, len) in [
                (0, 5 * BLOCK_SIZE),
                (1, 5 * BLOCK_SIZE - 1),
                (BLOCK_SIZE - 1, 2 * BLOCK_SIZE + 1),
                (17, 3 * BLOCK_SIZE),
                (0, 0),
            ] {
                let mut bytes = KVVec::from_elem(0xee, len, GFP_KERNEL)?;
                check_eq!(read_blocks(&blocks, offset, &mut bytes), len);
                for (at, &byte) in bytes.iter().enumerate() {
                    let (i, at) = ((offset + at) / BLOCK_SIZE, (offset + at) % BLOCK_SIZE);
                    let wanted = match (order[i], at) {
                        (Some(n), 0) => n as u8 + 1,
                        (Some(n), at) if at == BLOCK_SIZE - 1 => n as u8 + 101,
                        _ => 0,
                    };
                    check_eq!(byte, wanted, "byte {at} of block {i}, from {offset} on");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn bytes_are_where_they_were_written() -> Result {
        let pool = Pool::new(None)?;
        let block = pool.alloc()?;
        let block = block.bytes();
        block.zero(0, BLOCK_SIZE);
        check_eq!(write(block, 100, &mut [1, 2, 3]), 3);
        check_bytes(block, 99, [0, 1, 2, 3, 0])?;
        check_eq!(write(block, BLOCK_SIZE - 2, &mut [7, 8, 9]), 2);
        check_bytes(block, BLOCK_SIZE - 3, [0, 7, 8])?;
        check_eq!(write(block, BLOCK_SIZE, &mut [1]), 0);
        check_eq!(read(block, BLOCK_SIZE, &mut [0]), 0);
        check_bytes(block, 0, [0, 0])
    }

    #[test]
    fn zeros() -> Result {
        let pool = Pool::new(None)?;
        let block = pool.alloc()?;
        let block = block.bytes();
        block.zero(0, usize::MAX);
        check!(block.is_zero(0, BLOCK_SIZE)?);
        check!(block.is_zero(BLOCK_SIZE, 1)? && block.is_zero(1, usize::MAX)?);
        write(block, 10, &mut [1, 2, 3, 4]);
        for (offset, len, zero) in [(0, 10, true), (0, 11, false), (13, 1, false), (14, 9, true)] {
            check_eq!(block.is_zero(offset, len)?, zero, "{len} bytes at {offset}");
        }
        block.zero(11, 2);
        check_bytes(block, 9, [0, 1, 0, 0, 4, 0])?;
        write(block, BLOCK_SIZE - 1, &mut [5]);
        check!(!block.is_zero(14, usize::MAX)?);
        block.zero(BLOCK_SIZE, 1);
        check_bytes(block, BLOCK_SIZE - 1, [5])?;
        block.zero(14, usize::MAX);
        check!(block.is_zero(14, BLOCK_SIZE)?);
        Ok(())
    }

    #[test]
    fn copying() -> Result {
        let pool = Pool::new(None)?;
        let (a, b) = (pool.alloc()?, pool.alloc()?);
        let (a, b) = (a.bytes(), b.bytes());
        a.zero(0, BLOCK_SIZE);
        b.zero(0, BLOCK_SIZE);
        write(a, 0, &mut [1, 2, 3, 4, 5]);
        b.copy_from(7, a, 1, 3)?;
        check_bytes(b, 6, [0, 2, 3, 4, 0])?;
        // As much as both blocks have.
        b.copy_from(BLOCK_SIZE - 2, a, 0, BLOCK_SIZE)?;
        check_bytes(b, BLOCK_SIZE - 3, [0, 1, 2])?;
        b.copy_from(0, a, BLOCK_SIZE - 1, usize::MAX)?;
        check_bytes(b, 0, [0, 0])?;
        b.copy_from(0, a, BLOCK_SIZE, 1)?;
        b.copy_from(BLOCK_SIZE, a, 0, 1)?;
        check_bytes(b, 6, [0, 2, 3, 4, 0])?;
        // Within one block, overlapping.
        a.copy_from(1, a, 0, 5)?;
        check_bytes(a, 0, [1, 1, 2, 3, 4, 5, 0])
    }

    #[test]
    fn comparing() -> Result {
        let pool = Pool::new(None)?;
        let (a, b) = (pool.alloc()?, pool.alloc()?);
        let (a, b) = (a.bytes(), b.bytes());
        a.zero(0, BLOCK_SIZE);
        b.zero(0, BLOCK_SIZE);
        check!(a.bytes_equal(b, BLOCK_SIZE)? && a.bytes_equal(b, usize::MAX)?);
        for offset in [0, 1, 100, BLOCK_SIZE - 1] {
            write(b, offset, &mut [1]);
            check!(a.bytes_equal(b, offset)?, "offset {offset}");
            check!(!a.bytes_equal(b, offset + 1)?, "offset {offset}");
            check!(!a.bytes_equal(b, usize::MAX)?, "offset {offset}");
            b.zero(offset, 1);
        }
        check!(a.bytes_equal(b, BLOCK_SIZE)?);
        Ok(())
    }

    #[test]
    fn references_are_counted() -> Result {
        let pool = Pool::new(None)?;
        let block = pool.alloc()?;
        let page = block.bytes().as_ptr();
        // SAFETY: `block` keeps the page.
        let count = || unsafe { bindings::page_count(page) };
        check_eq!(count(), 1);
        let reference = block.bytes().clone();
        check_eq!(count(), 2);
        drop(reference);
        check_eq!(count(), 1);
        check_eq!(block.bytes().clone().into_page(), page);
        check_eq!(count(), 2);
        // SAFETY: The reference is that of `into_page`.
        unsafe { bindings::put_page(page) };
        check!(!block.bytes().refcount_high() && !block.bytes().is_mapped_writable());
        Ok(())
    }

    #[test]
    fn a_block_of_zeros_that_is_pinned_too_often_is_replaced() -> Result {
        let pool = Pool::new(None)?;
        let zeros = KBox::pin_init(ZeroBlock::new(&pool), GFP_KERNEL)?;
        let first = zeros.get().ok_or(ENOENT)?;
        check!(first.is_zero(0, BLOCK_SIZE)?);
        // Not while it is good.
        zeros.replace(&pool)?;
        check_eq!(
            zeros.get().map(|block| block.as_ptr()),
            Some(first.as_ptr())
        );
        for count in [(1 << 30) + 1, i32::MAX, i32::MIN, -128] {
            let pinned = zeros.get().ok_or(ENOENT)?;
            with_page_count(&pinned, count, || {
                check!(zeros.get().is_none(), "{count} references");
                zeros.replace(&pool)?;
                let other = zeros.get().ok_or(ENOENT)?;
                check!(other.as_ptr() != pinned.as_ptr(), "{count} references");
                check!(other.is_zero(0, BLOCK_SIZE)?);
                check!(!other.refcount_high());
                Ok(())
            })?;
        }
        // What was pinned is still zeros.
        check!(first.is_zero(0, BLOCK_SIZE)?);
        check_eq!(pool.used(), 0, "it is no block of the pool");
        Ok(())
    }

    #[test]
    fn a_count_of_references_has_no_sign() -> Result {
        let pool = Pool::new(None)?;
        let block = pool.alloc()?;
        let block = block.bytes();
        for (count, crowded, near_overflow) in [
            (1, false, false),
            (1 << 30, false, false),
            ((1 << 30) + 1, true, false),
            (i32::MAX, true, false),
            (i32::MIN, true, false),
            (-(1 << 30), true, false),
            (-(1 << 30) + 1, true, true),
            (-128, true, true),
        ] {
            with_page_count(block, count, || {
                check_eq!(block.refcount_high(), crowded, "{count} references");
                check_eq!(
                    block.refcount_near_overflow(),
                    near_overflow,
                    "{count} references"
                );
                check!(!block.has_no_other_ref(), "{count} references");
                Ok(())
            })?;
        }
        Ok(())
    }
}
