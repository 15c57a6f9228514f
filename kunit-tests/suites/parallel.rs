// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_parallel`: threads that share blocks, nodes and lists.

use crate::{
    rounds,
    store::{
        block::Pool,
        Lookup,
        Tree, //
    },
    support::inode::Inode,
    support::random::Random,
    support::threads::in_threads,
    support::trees::{
        found,
        insert_block,
        pool,
        remove,
        share_range,
        tree_of,
        was_shared,
        Found,
        LAST, //
    },
};
use kernel::{
    macros::kunit_tests,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

/// One more than there are processors, at least.
const THREADS: u64 = 4;

/// Clones a file that other threads clone, changes the clone, and checks it.
fn diverge(base: &Mutex<Tree>, thread: u64) -> Result {
    let mut random = Random::new(thread);
    for _ in 0..rounds(30) {
        let mut tree = base.lock().snapshot();
        let mut own = KVec::new();
        for _ in 0..random.below(5) {
            let index = random.below(130) as u64;
            own.push((index, insert_block(&mut tree, index)?), GFP_KERNEL)?;
        }
        let copy = tree.edit();
        share_range(&mut tree, 1000, &copy, random.below(64) as u64, 100)?;
        remove(&mut tree, 200, LAST)?;
        drop(copy);
        // The last block put in at an index is the one that is there.
        for (i, (index, page)) in own.iter().enumerate() {
            if own[i + 1..].iter().all(|(later, _)| later != index) {
                check_eq!(found(&tree, *index), Found::Owned(*page), "index {index}");
            }
        }
        for index in (0..130).filter(|index| own.iter().all(|(own, _)| own != index)) {
            let page = found(&base.lock(), index).page().ok_or(ENOENT)?;
            check_eq!(found(&tree, index), Found::Shared(page), "index {index}");
        }
    }
    Ok(())
}

/// Where threads pass each other files.
#[pin_data]
struct Exchange {
    pool: Arc<Pool>,
    #[pin]
    files: Mutex<[Option<Tree>; 2]>,
}

impl Exchange {
    fn new(pool: Arc<Pool>) -> Result<Pin<KBox<Self>>> {
        let init = try_pin_init!(Self {
            pool,
            files <- new_mutex!([const { None }; 2]),
        });
        KBox::try_pin_init(init, GFP_KERNEL)
    }

    fn swap(&self, i: usize, file: Option<Tree>) -> Option<Tree> {
        core::mem::replace(&mut self.files.lock()[i], file)
    }
}

/// Maps blocks of its own tree and of snapshots from other threads, while those drop them, and
/// evicts its inode.
fn hand_around(exchange: &Exchange, thread: u64) -> Result {
    let mut random = Random::new(thread);
    for _ in 0..rounds(40) {
        let inode = Inode::new()?;
        let mut tree = tree_of(&exchange.pool, 0..8)?;
        let mut held = KVec::new();
        for step in 0..40 {
            let index = random.below(8) as u64;
            match tree.lookup(index) {
                Lookup::Owned(block) => {
                    // SAFETY: A private block of this tree was put in here, after `inode` was made:
                    // what other threads pass on is a snapshot.
                    unsafe { inode.associate(&block, index) };
                    check!(inode.is_carried_by(block.as_ptr()), "step {step}");
                    if random.one_in(3) {
                        held.push(block, GFP_KERNEL)?;
                    }
                }
                // What another file may still have is copied, never mapped writable.
                Lookup::Unwritten(_) | Lookup::Shared(_) | Lookup::WasShared(_) | Lookup::Hole => {
                    insert_block(&mut tree, index)?;
                }
            }
            match random.below(6) {
                0 => drop(exchange.swap(random.below(2), Some(tree.snapshot()))),
                1 => {
                    if let Some(other) = exchange.swap(random.below(2), None) {
                        tree = other;
                    }
                }
                2 => held.clear(),
                3 => inode.for_each_referenced(0..8, |_| Ok(()))?,
                _ => (),
            }
        }
        // Another thread may still have blocks of an inode that is evicted meanwhile.
        drop(exchange.swap(random.below(2), Some(tree.snapshot())));
    }
    Ok(())
}

/// A pool, and how many of its blocks threads are known to hold.
struct Contested {
    pool: Arc<Pool>,
    limit: u64,
    held: Atomic<u64>,
}

/// Allocates up to the limit, and never over it.
fn compete(contested: &Contested, _thread: u64) -> Result {
    let Contested { pool, limit, held } = contested;
    for _ in 0..rounds(200) {
        let mut blocks = KVec::with_capacity(10, GFP_KERNEL)?;
        for _ in 0..10 {
            match pool.alloc() {
                Ok(block) => {
                    let now = held.fetch_add(1, Relaxed) + 1;
                    check!(now <= *limit, "{now} blocks of {limit}");
                    blocks.push(block, GFP_KERNEL)?;
                }
                Err(err) if err == ENOSPC => (),
                Err(err) => return Err(err),
            }
        }
        held.fetch_sub(blocks.len() as u64, Relaxed);
    }
    Ok(())
}

#[kunit_tests(reflinkfs_parallel)]
mod tests {
    use super::*;

    #[test]
    fn clones_diverge() -> Result {
        let pool = pool()?;
        let base = tree_of(&pool, [0..130, LAST - 1..LAST + 1].into_iter().flatten())?;
        let blocks = base.blocks();
        let base = KBox::pin_init(new_mutex!(base), GFP_KERNEL)?;
        in_threads(THREADS, &*base, diverge)?;
        let tree = base.lock();
        check_eq!((tree.blocks(), pool.used()), (blocks, blocks));
        let mut from = 0;
        while let Some(index) = tree.next_block(from) {
            check!(was_shared(&tree, index), "index {index}");
            from = index + 1;
        }
        drop(tree);
        drop(base);
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        Ok(())
    }

    #[test]
    fn mapped_blocks_are_handed_around() -> Result {
        let exchange = Exchange::new(pool()?)?;
        in_threads(THREADS, &*exchange, hand_around)?;
        drop((exchange.swap(0, None), exchange.swap(1, None)));
        check_eq!((exchange.pool.used(), exchange.pool.nodes()), (0, 0));
        Ok(())
    }

    #[test]
    fn the_limit_holds() -> Result {
        let limit = 10 * THREADS - 5;
        let pool = Pool::new(Some(limit))?;
        let contested = Contested {
            pool,
            limit,
            held: Atomic::new(0),
        };
        in_threads(THREADS, &contested, compete)?;
        check_eq!(contested.pool.used(), 0);
        // And is reached, after all that.
        let mut blocks = KVec::new();
        while let Ok(block) = contested.pool.alloc() {
            blocks.push(block, GFP_KERNEL)?;
        }
        check_eq!(blocks.len() as u64, limit);
        Ok(())
    }
}
