// SPDX-License-Identifier: GPL-2.0

//! Families: a superblock, and those that were forked from it or from its forks.
//!
//! They share the records that none of them has changed since, the limits, and the numbers of
//! inodes.
//!
//! # The lock of a family
//!
//! A fork shows everything as of one instant. So each step of a change holds the lock of the family
//! shared ([`Steady`]), and making a fork holds it exclusive. It comes after `i_rwsem` and
//! `s_umount`, and before `invalidate_lock`. A step is bounded: nothing faults, waits for memory or
//! for a user with the lock held. Memory reclaim takes it nowhere, as eviction changes no record.
//!
//! It is several semaphores, of which a step takes that of its processor, so that steps on different
//! processors share no cache line.

use super::InodeSpace;
use crate::{
    bindings,
    vfs::{
        rw_semaphore::{
            ExclusiveGuard,
            SharedGuard, //
        },
        RwSemaphore,
        SiphashKey, //
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            ordering::Full,
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// How many semaphores the lock is.
const SHARDS: usize = 8;

/// The number of the last epoch of any family.
static LAST_EPOCH: Atomic<u64> = Atomic::new(Epoch::PRIVATE.0);

/// A time between two forks, in one superblock. No other superblock has the same.
///
/// A record has the epoch of the superblock in which it was made. As long as the superblock has
/// that, too, no fork can have the record, and it may be changed; afterwards it never is again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// That of a record that is never changed.
    pub(super) const NEVER: Self = Self(0);

    /// That of the record of an inode without a name, which is in no table, and so in no fork.
    pub(super) const PRIVATE: Self = Self(1);

    /// Returns one that there was not before.
    pub(super) fn new() -> Self {
        Self(LAST_EPOCH.fetch_add(1, Relaxed) + 1)
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A superblock and its forks.
#[pin_data]
pub(crate) struct Family {
    /// How many inodes there are, with their limit.
    pub(crate) space: Arc<InodeSpace>,
    /// Hashes the names.
    pub(super) key: SiphashKey,
    /// How many superblocks there are.
    members: Atomic<u64>,
    locks: KVec<Pin<KBox<RwSemaphore>>>,
}

/// How many superblocks a family may have: each has a shrinker, which is charged to no
/// cgroup, and which all of the machine's memory reclaim visits.
const MAX_MEMBERS: u64 = 4096;

impl Family {
    /// Creates one with a single member.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(space: InodeSpace) -> Result<Arc<Self>> {
        // Each has a class of its own, as a fork takes all of them.
        let mut locks = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        macro_rules! push {
            ($($i:literal)*) => {$(
                let _: usize = $i;
                let lock = RwSemaphore::new(c"reflinkfs_family", static_lock_class!());
                locks.push(KBox::pin_init(lock, GFP_KERNEL)?, GFP_KERNEL)?;
            )*};
        }
        push!(0 1 2 3 4 5 6 7);
        debug_assert!(locks.len() == SHARDS);
        let space = Arc::new(space, GFP_KERNEL)?;
        Ok(Arc::new(
            Self {
                space,
                key: SiphashKey::random(),
                members: Atomic::new(1),
                locks,
            },
            GFP_KERNEL,
        )?)
    }

    /// Counts one more.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there are as many as there may be.
    pub(crate) fn add_member(&self) -> Result {
        if self.members.fetch_add(1, Relaxed) >= MAX_MEMBERS {
            self.remove_member();
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Counts one less. Returns whether it was the last.
    pub(crate) fn remove_member(&self) -> bool {
        self.members.fetch_sub(1, Full) == 1
    }

    fn lock_of_processor(&self) -> &RwSemaphore {
        // SAFETY: Has no requirements. Another processor's lock would do, too.
        let processor = unsafe { bindings::raw_smp_processor_id() } as usize;
        &self.locks[processor % SHARDS]
    }

    /// Keeps forks from being made.
    pub(crate) fn steady(&self) -> Steady<'_> {
        Steady(Some(self.lock_of_processor().read()))
    }

    /// As [`Family::steady`], if that can be done at once.
    pub(super) fn try_steady(&self) -> Option<Steady<'_>> {
        let guard = self.lock_of_processor().try_read()?;
        Some(Steady(Some(guard)))
    }

    /// Waits for the steps that are under way, and keeps others from beginning.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal is pending; `ENOMEM`.
    pub(super) fn stop(&self) -> Result<Stopped<'_>> {
        let mut guards = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for lock in &self.locks {
            guards.push(lock.write_killable()?, GFP_KERNEL)?;
        }
        Ok(Stopped(guards))
    }
}

/// The lock of a family, held shared: no fork is made until this is dropped.
#[must_use]
pub(crate) struct Steady<'a>(#[allow(dead_code)] Option<SharedGuard<'a>>);

/// The lock of a family, held exclusive: nothing changes until this is dropped.
#[must_use]
pub(crate) struct Stopped<'a>(#[allow(dead_code)] KVec<ExclusiveGuard<'a>>);

impl Stopped<'_> {
    /// Has what made the family stop change something itself.
    pub(super) fn steady(&self) -> Steady<'_> {
        Steady(None)
    }
}
