// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_run`: new blocks that are asked for together.

use crate::{
    store::{
        block::{Pool, Slots},
        Reserve, Tree,
    },
    trees::pool,
};
use kernel::{macros::kunit_tests, prelude::*};

#[kunit_tests(reflinkfs_run)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_may_be() -> Result {
        let pool = Pool::new(Some(5));
        let mut run = pool.alloc_run(9);
        check_eq!(pool.used(), 5);
        let mut blocks = KVec::new();
        for _ in 0..5 {
            blocks.push(run.take()?, GFP_KERNEL)?;
        }
        check_eq!(run.take().err(), Some(ENOSPC));
        check_eq!(pool.used(), 5);
        drop(blocks);
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn what_nobody_takes_is_given_back() -> Result {
        for taken in 0..20 {
            let pool = Pool::new(Some(40));
            let mut run = pool.alloc_run(33);
            let mut blocks = KVec::new();
            for _ in 0..taken {
                blocks.push(run.take()?, GFP_KERNEL)?;
            }
            check_eq!(pool.used(), 33);
            drop(run);
            check_eq!(pool.used(), taken);
            drop(blocks);
            check_eq!(pool.used(), 0);
        }
        Ok(())
    }

    #[test]
    fn none_is_none() -> Result {
        let pool = Pool::new(None);
        check_eq!(pool.alloc_run(0).take().err(), Some(ENOSPC));
        check_eq!(pool.used(), 0);
        Ok(())
    }

    #[test]
    fn two_runs_do_not_interleave() -> Result {
        let pool = pool()?;
        let (mut a, mut b) = (Tree::new(pool.clone()), Tree::new(pool.clone()));
        let mut reserve = Reserve::on_demand();
        let (mut run, mut other) = (pool.alloc_run(40), pool.alloc_run(40));
        for index in 0..40 {
            a.insert(index, run.take()?, &mut reserve)?;
            b.insert(index, other.take()?, &mut reserve)?;
        }
        for tree in [&a, &b] {
            let extent = tree.extent(0, 40).ok_or(EINVAL)?;
            check_eq!((extent.len, extent.shared), (40, false));
        }
        Ok(())
    }

    #[test]
    fn pages_of_one_allocation_are_pages_of_their_own() -> Result {
        let pool = pool()?;
        let mut run = pool.alloc_run(16);
        let mut slots = Slots::<16>::new(pool.clone());
        for i in 0..16 {
            let block = run.take()?;
            block.bytes().zero(0, usize::MAX);
            slots.insert(i, block, 0);
        }
        // Each goes by itself, while its neighbours stay as they are.
        for i in (0..16).step_by(2) {
            slots.remove(i);
        }
        check_eq!(pool.used(), 8);
        for i in (1..16).step_by(2) {
            check!(slots
                .get(i)
                .is_some_and(|block| block.is_zero(0, usize::MAX)));
        }
        Ok(())
    }
}
