// SPDX-License-Identifier: GPL-2.0

//! Orphans: blocks that no slot holds, but that a pipe, a device or a process still refers to.
//!
//! An orphan takes memory of the mount. So the store keeps its reference, and the pool the charge,
//! until it has the only reference. Nothing calls back when that is so. Orphans are looked at
//!
//! * a few whenever a block becomes one;
//! * some when the limit is reached, or the number of blocks is asked for ([`Pool::reap`]);
//! * all once a second, by a work item, as long as there are any.
//!
//! [`Pool::close`] puts all references at the end of a mount.
//!
//! An orphan with a mapping is on the list `orphans` of that inode's [`MappedBlocks`], any other on
//! the pool's list, by `lru`. Only a page count of 1 says that a block is free, as a count can be
//! made to overflow.

use super::{
    mapped::{
        first,
        MappedBlocks, //
    },
    orphans::REAP_ON_ADD_BLOCKS,
    page::RawBlock,
    Pool, //
};
use crate::bindings;
use kernel::{
    container_of,
    sync::{
        atomic::Relaxed,
        rcu, //
    },
    types::Opaque, //
};

/// How many blocks are looked at under one hold of a lock.
const REAP_BATCH_BLOCKS: u64 = 64;

/// How many blocks are looked at when room is needed.
const REAP_MAX_BLOCKS: u64 = 1024;

impl Pool {
    /// Adds an orphan without a mapping. The caller gives up the store's reference.
    pub(super) fn add_orphan(&self, block: RawBlock) {
        self.reap_blocks(REAP_ON_ADD_BLOCKS);
        // Counts it before another thread finds it on the list and uncounts it.
        self.orphans.add();
        self.requeue_orphan(block);
    }

    /// As [`Pool::add_orphan`], for one that was on the list of an inode.
    pub(super) fn requeue_orphan(&self, block: RawBlock) {
        let lists = self.orphans.lists.lock();
        // SAFETY: Without a mapping the block is on no list. At the head, where the next look is:
        // the only other reference may be that of the thread that dropped the last slot.
        unsafe { bindings::list_add(block.link(), lists.blocks.get()) };
    }

    /// Frees an orphan, which is on no list any more.
    pub(super) fn free_orphan(&self, block: RawBlock) {
        self.orphans.count.fetch_sub(1, Relaxed);
        block.free(self);
    }

    /// Looks at some orphans, and frees those that nothing else refers to. The newest are among
    /// them.
    pub(super) fn reap(&self) {
        let n = REAP_MAX_BLOCKS.min(self.orphans.count());
        if n > 0 {
            self.reap_blocks(n);
            self.reap_inodes(n);
        }
    }

    /// Looks at up to `n` orphans without a mapping.
    fn reap_blocks(&self, n: u64) {
        let mut left = n;
        while left > 0 {
            let lists = self.orphans.lists.lock();
            for _ in 0..left.min(REAP_BATCH_BLOCKS) {
                // SAFETY: The list is locked, and of pages by `lru`.
                let Some(block) = (unsafe { first(lists.blocks.get()) }) else {
                    return;
                };
                if block.has_only_store_ref() {
                    // SAFETY: The block is on this list, which is locked.
                    unsafe { bindings::list_del(block.link()) };
                    self.free_orphan(block);
                } else {
                    // SAFETY: The block is on this list, which is locked.
                    unsafe { bindings::list_move_tail(block.link(), lists.blocks.get()) };
                }
            }
            left -= left.min(REAP_BATCH_BLOCKS);
        }
    }

    /// Looks at up to `n` orphans of inodes.
    fn reap_inodes(&self, n: u64) {
        let mut left = n;
        while left > 0 {
            let _rcu = rcu::read_lock();
            let Some(mapped) = self.next_inode() else {
                return;
            };
            left = left.saturating_sub(mapped.reap(self, REAP_BATCH_BLOCKS).max(1));
        }
    }

    /// Removes the first inode from the list, for use in the caller's RCU read section.
    fn next_inode<'a>(&self) -> Option<&'a MappedBlocks> {
        let lists = self.orphans.lists.lock();
        // SAFETY: The list is locked, and of `MappedBlocks` by `orphans_link`. An inode leaves the
        // list before it is freed, after a grace period.
        unsafe {
            let link = (*lists.inodes.get()).next;
            if link == lists.inodes.get() {
                return None;
            }
            bindings::list_del_init(link);
            let link = link.cast::<Opaque<bindings::list_head>>();
            Some(&*container_of!(link, MappedBlocks, orphans_link))
        }
    }

    /// Frees all orphans, whatever refers to them, at the end of a mount, whose trees and inodes
    /// are gone. Called once. May sleep.
    pub fn close(&self) {
        // SAFETY: Initialised with the pool. Only the work queues itself from now on, which this
        // waits for.
        unsafe { bindings::cancel_delayed_work_sync(self.orphans.work.get()) };
        self.orphans.closed.store(true, Relaxed);
        loop {
            let lists = self.orphans.lists.lock();
            // SAFETY: The list is locked, and of pages by `lru`.
            let Some(block) = (unsafe { first(lists.blocks.get()) }) else {
                return;
            };
            // SAFETY: The block is on this list, which is locked.
            unsafe { bindings::list_del(block.link()) };
            self.free_orphan(block);
        }
    }

    /// Looks at all orphans, and queues itself again if any are left.
    ///
    /// # Safety
    ///
    /// `work` is that of the orphans of a live pool.
    pub(super) unsafe extern "C" fn reap_work(work: *mut bindings::work_struct) {
        const { assert!(core::mem::offset_of!(bindings::delayed_work, work) == 0) };
        let work = work.cast::<Opaque<bindings::delayed_work>>();
        // SAFETY: The workqueue passes the work that was queued, which is that of a pool.
        // `Pool::close` cancels it before the pool is freed.
        let pool = unsafe { &*container_of!(work, Pool, orphans.work) };
        let mut left = pool.orphans.count();
        while left > 0 {
            let n = left.min(REAP_MAX_BLOCKS);
            pool.reap_blocks(n);
            pool.reap_inodes(n);
            left -= n;
            // SAFETY: No lock is held.
            unsafe { bindings::cond_resched() };
        }
        if pool.orphans.count() > 0 {
            pool.orphans.schedule();
        }
    }
}
