// SPDX-License-Identifier: GPL-2.0

//! The lists of a pool's orphans, which `reap.rs` looks after.

use crate::bindings;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};

/// How many blocks are looked at when one becomes an orphan.
pub(super) const REAP_ON_ADD_BLOCKS: u64 = 2;

/// How often all blocks are looked at.
const REAP_PERIOD_MSECS: c_uint = 1000;

/// The function of a work item.
type ReapWork = unsafe extern "C" fn(*mut bindings::work_struct);

/// The lists of a pool.
///
/// # Invariants
///
/// `blocks` is a list of pages by `lru`, and owns the store's reference to each. `inodes` is a list
/// of [`MappedBlocks`](super::MappedBlocks) by `orphans_link`, each of which is live for a grace
/// period after it leaves the list.
#[pin_data]
pub(super) struct Lists {
    #[pin]
    pub(super) blocks: Opaque<bindings::list_head>,
    #[pin]
    pub(super) inodes: Opaque<bindings::list_head>,
}

// SAFETY: The lists are only accessed under the lock around them.
unsafe impl Send for Lists {}

/// The orphans of a pool, see [`reap`](super::reap).
#[pin_data]
pub(super) struct Orphans {
    #[pin]
    pub(super) lists: SpinLock<Lists>,
    /// How many there are, with those on the lists of inodes.
    pub(super) count: Atomic<u64>,
    #[pin]
    pub(super) work: Opaque<bindings::delayed_work>,
    /// Whether [`Pool::close`](super::Pool::close) was called. Then `work` is not queued any more.
    pub(super) closed: Atomic<bool>,
}

// SAFETY: A work item is initialised once, and changes its state atomically.
unsafe impl Send for Orphans {}
// SAFETY: The lists are behind a lock; the other fields change atomically.
unsafe impl Sync for Orphans {}

/// Initialises an empty list.
pub(super) fn empty_list() -> impl PinInit<Opaque<bindings::list_head>> {
    // SAFETY: `list` is valid for writes and pinned.
    Opaque::ffi_init(|list| unsafe { bindings::INIT_LIST_HEAD(list) })
}

impl Orphans {
    /// Makes empty lists. `reap_work` is the function of the work item.
    pub(super) fn new(reap_work: ReapWork) -> impl PinInit<Self> {
        pin_init!(Self {
            lists <- new_spinlock!(pin_init!(Lists {
                blocks <- empty_list(),
                inodes <- empty_list(),
            })),
            count: Atomic::new(0),
            // SAFETY: `work` is valid for writes and pinned.
            work <- Opaque::ffi_init(|work| unsafe {
                bindings::INIT_DELAYED_WORK(work, Some(reap_work))
            }),
            closed: Atomic::new(false),
        })
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Returns whether the pool was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Counts a new orphan, and schedules a look at it.
    pub(super) fn add(&self) {
        self.count.add(1, Relaxed);
        self.schedule();
    }

    /// Queues the work item, to run in a second.
    pub(super) fn schedule(&self) {
        // SAFETY: Initialised in `new`. `Pool::close` cancels it before the memory is freed.
        unsafe {
            bindings::queue_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                bindings::system_dfl_wq,
                self.work.get(),
                msecs_to_jiffies(REAP_PERIOD_MSECS),
            )
        };
    }

    /// Adds an inode to the list, if it is not there.
    ///
    /// # Safety
    ///
    /// `link` is the link of a live [`MappedBlocks`](super::MappedBlocks) whose lock is held, on
    /// this list or on none.
    pub(super) unsafe fn add_inode(&self, link: *mut bindings::list_head) {
        let lists = self.lists.lock();
        // SAFETY: The link is on this list, which is locked, or on none. At the tail, for fairness.
        unsafe {
            if (*link).next == link {
                bindings::list_add_tail(link, lists.inodes.get());
            }
        }
    }

    /// Removes an inode from the list, if it is there.
    ///
    /// # Safety
    ///
    /// As for [`Orphans::add_inode`].
    pub(super) unsafe fn remove_inode(&self, link: *mut bindings::list_head) {
        let _lists = self.lists.lock();
        // SAFETY: The link is on this list, which is locked, or on none.
        unsafe { bindings::list_del_init(link) };
    }
}
