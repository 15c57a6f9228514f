// SPDX-License-Identifier: GPL-2.0

//! Blocks that no slot holds any more, and that others still refer to: a pipe, a device, a process
//! that looks at memory.
//!
//! Such a block is memory that the mount still takes. So the store keeps its reference, and the pool
//! counts the block, until nobody else refers to it. This is looked at
//!
//! * of a few blocks, when another one comes to wait;
//! * of some, when there is no room, or the number of blocks is asked for ([`Pool::reap`]);
//! * of all, once a second, as long as there are any.
//!
//! [`Pool::close`] gives the references back at the end of a mount.
//!
//! A block that carries a mapping waits on the list `dropped` of that inode's [`MappedBlocks`], the others
//! on a list of the pool, by `lru`, too. Nothing but a count of 1, the store's own reference, says that
//! a block is free: a count can be made to overflow.
//!
//! # Locks
//!
//! That of [`Lists`] comes last: after the lock of a tree, and after that of a [`MappedBlocks`].

use super::{
    mapped::{first, MappedBlocks},
    page::RawBlock,
    Pool,
};
use crate::bindings;
use kernel::{
    container_of, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu, SpinLock,
    },
    time::msecs_to_jiffies,
    types::Opaque,
};

/// How many blocks are looked at under one hold of a lock.
pub(super) const REAP_BATCH_BLOCKS: u64 = 64;

/// How many are looked at when one comes.
pub(super) const REAP_ON_ADD_BLOCKS: u64 = 2;

/// How many are looked at for want of room.
const REAP_MAX_BLOCKS: u64 = 1024;

/// How long it takes until all are looked at again, in seconds.
const REAP_PERIOD_SECS: c_uint = 1;

/// What [`Orphans`] protects.
///
/// # Invariants
///
/// `blocks` is a list of pages by `lru`; it owns the store's reference to each. `inodes` is a list of
/// [`MappedBlocks`] by `orphans_link`, of which each is live for a grace period after it has left the list.
#[pin_data]
struct Lists {
    #[pin]
    blocks: Opaque<bindings::list_head>,
    #[pin]
    inodes: Opaque<bindings::list_head>,
}

// SAFETY: The lists are only followed under the lock that they are in.
unsafe impl Send for Lists {}

/// The blocks of a pool that wait, see the [module](self).
#[pin_data]
pub(super) struct Orphans {
    #[pin]
    lists: SpinLock<Lists>,
    /// How many there are, those of inodes as well.
    count: Atomic<u64>,
    #[pin]
    work: Opaque<bindings::delayed_work>,
    /// Whether [`Pool::close`] was called: then `work` is not queued any more.
    closed: Atomic<bool>,
}

// SAFETY: The work item has a state of its own that is changed atomically, and is initialised once.
unsafe impl Send for Orphans {}
// SAFETY: As above.
unsafe impl Sync for Orphans {}

/// An empty list.
pub(super) fn empty() -> impl PinInit<Opaque<bindings::list_head>> {
    // SAFETY: `list` is valid for writes and pinned.
    Opaque::ffi_init(|list| unsafe { bindings::INIT_LIST_HEAD(list) })
}

impl Orphans {
    /// None.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            lists <- new_spinlock!(pin_init!(Lists {
                blocks <- empty(),
                inodes <- empty(),
            })),
            count: Atomic::new(0),
            // SAFETY: `work` is valid for writes and pinned.
            work <- Opaque::ffi_init(|work| unsafe {
                bindings::INIT_DELAYED_WORK(work, Some(reap_work))
            }),
            closed: Atomic::new(false),
        })
    }

    /// How many blocks wait.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Whether the pool was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Counts a block that waits from now on, and sees to it that it is looked at.
    pub(super) fn add(&self) {
        self.count.add(1, Relaxed);
        self.schedule();
    }

    fn schedule(&self) {
        // SAFETY: Initialised in `new`. `Pool::close` cancels it before the memory goes.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                bindings::system_dfl_wq,
                self.work.get(),
                msecs_to_jiffies(REAP_PERIOD_SECS * 1000),
            )
        };
    }

    /// Puts an inode on the list, if it is on none.
    ///
    /// # Safety
    ///
    /// `link` is the link of a live [`MappedBlocks`] whose lock is held, on a list of this pool or on none.
    pub(super) unsafe fn add_inode(&self, link: *mut bindings::list_head) {
        let lists = self.lists.lock();
        // SAFETY: The caller says that the link is on a list of this pool, which is locked, or on none. At the
        // end, so that each has its turn.
        unsafe {
            if (*link).next == link {
                bindings::list_add_tail(link, lists.inodes.get());
            }
        }
    }

    /// Takes an inode off the list, if it is there.
    ///
    /// # Safety
    ///
    /// As for [`Orphans::add_inode`].
    pub(super) unsafe fn remove_inode(&self, link: *mut bindings::list_head) {
        let _lists = self.lists.lock();
        // SAFETY: The caller says that the link is on a list of this pool, which is locked, or on none.
        unsafe { bindings::list_del_init(link) };
    }
}

impl Pool {
    /// Has a block wait that carries no mapping, and whose store's reference the caller owns.
    pub(super) fn add_orphan(&self, block: RawBlock) {
        self.reap_blocks(REAP_ON_ADD_BLOCKS);
        // Before somebody finds it on the list, and takes it from the count.
        self.orphans().add();
        self.requeue_orphan(block);
    }

    /// As [`Pool::add_orphan`], for a block that has been waiting with its inode.
    pub(super) fn requeue_orphan(&self, block: RawBlock) {
        let lists = self.orphans().lists.lock();
        // SAFETY: The block is on no list, as it carries no mapping. What came last is looked at first:
        // it may have been referred to only by who let go of it.
        unsafe { bindings::list_add(block.link(), lists.blocks.get()) };
    }

    /// Gives back a block that waited, which is on no list any more.
    pub(super) fn free_orphan(&self, block: RawBlock) {
        self.orphans().count.fetch_sub(1, Relaxed);
        block.free(self);
    }

    /// Gives back blocks that wait and that nobody refers to any more. Looks at some, those that came
    /// last among them.
    pub(super) fn reap(&self) {
        let some = REAP_MAX_BLOCKS.min(self.orphans().count());
        if some > 0 {
            self.reap_blocks(some);
            self.reap_inodes(some);
        }
    }

    /// Looks at up to `n` blocks without a mapping.
    fn reap_blocks(&self, n: u64) {
        let mut left = n;
        while left > 0 {
            let lists = self.orphans().lists.lock();
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

    /// Looks at up to `n` blocks of inodes.
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

    /// Takes the first inode off the list, to be used in the RCU read section that the caller is in.
    fn next_inode<'a>(&self) -> Option<&'a MappedBlocks> {
        let lists = self.orphans().lists.lock();
        // SAFETY: The list is locked, and of `MappedBlocks` by `orphans_link`. An inode leaves the list before it
        // goes, and its memory stays for a grace period.
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

    /// Gives back the store's references to all blocks that wait, whoever else refers to them: for the
    /// end of a mount, whose trees and inodes are gone, once. May sleep.
    pub fn close(&self) {
        // SAFETY: Initialised with the pool. Nothing queues it any more but the work itself, which this
        // waits for.
        unsafe { bindings::cancel_delayed_work_sync(self.orphans().work.get()) };
        self.orphans().closed.store(true, Relaxed);
        loop {
            let lists = self.orphans().lists.lock();
            // SAFETY: The list is locked, and of pages by `lru`.
            let Some(block) = (unsafe { first(lists.blocks.get()) }) else {
                return;
            };
            // SAFETY: The block is on this list, which is locked.
            unsafe { bindings::list_del(block.link()) };
            self.free_orphan(block);
        }
    }
}

/// Looks at all blocks that wait, and comes again where there are any left.
///
/// # Safety
///
/// `work` is that of a [`Orphans`] of a live pool.
unsafe extern "C" fn reap_work(work: *mut bindings::work_struct) {
    const { assert!(core::mem::offset_of!(bindings::delayed_work, work) == 0) };
    let work = work.cast::<Opaque<bindings::delayed_work>>();
    // SAFETY: By the safety requirements; a pool waits for its work before it goes.
    let pool = unsafe { &*container_of!(work, Pool, orphans.work) };
    let mut left = pool.orphans().count();
    while left > 0 {
        let some = left.min(REAP_MAX_BLOCKS);
        pool.reap_blocks(some);
        pool.reap_inodes(some);
        left -= some;
        // SAFETY: No lock is held.
        unsafe { bindings::cond_resched() };
    }
    if pool.orphans().count() > 0 {
        pool.orphans().schedule();
    }
}
