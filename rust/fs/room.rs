// SPDX-License-Identifier: GPL-2.0

//! Memory for changes that are made with `invalidate_lock` held exclusive.
//!
//! No task waits for memory with that lock held: every fault of the file waits for it, of processes
//! of other cgroups, too, and a cgroup at its `memory.max` or above its `memory.high` may wait for
//! as long as it likes. So such a change takes what was allocated before, or what can be had
//! without waiting; where that is not enough it is undone, and done again after the lock was
//! dropped and more was allocated. It is done again, too, where a referenced block is looked at
//! again.

use crate::{
    store::{
        block::{NewBlock, Pool},
        Prealloc,
    },
    vfs::cond_resched_killable,
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often a referenced block is looked at again, if it ends the call: some references last for a
/// moment only, such as DAMON's.
const MAX_LOOKS: usize = 5;

/// Nodes and blocks for a change.
pub(super) struct Room<'a> {
    pool: &'a Arc<Pool>,
    nodes: Prealloc,
    /// Blocks that were charged within the limit of the pool, and those that need not be.
    blocks: [KVVec<NewBlock<'a>>; 2],
    /// How many of each the last attempt took.
    used: [usize; 2],
    /// Of which it had too few.
    short: Option<usize>,
    /// Whether a list was full.
    list_full: bool,
    /// Whether a block is to be looked at again, and how often that was done.
    looks_again: bool,
    looks: usize,
}

impl<'a> Room<'a> {
    /// Returns an empty one.
    pub(super) fn new(pool: &'a Arc<Pool>) -> Self {
        Self {
            pool,
            nodes: Prealloc::no_reclaim(),
            blocks: [KVVec::new(), KVVec::new()],
            used: [0; 2],
            short: None,
            list_full: false,
            looks_again: false,
            looks: 0,
        }
    }

    /// Calls `attempt`, which takes and drops the lock itself, until there is enough memory for it,
    /// and [`Room::before_referenced`] answers.
    ///
    /// # Errors
    ///
    /// Those of `attempt`; `ENOMEM`, `ENOSPC`, and `EINTR` where the process is to end.
    pub(super) fn retry<R>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<R>,
    ) -> Result<R> {
        loop {
            match attempt(self) {
                Err(_) if self.is_short() => self.fill()?,
                result => return result,
            }
        }
    }

    /// Returns the nodes. With `overcommit` more may be taken than the pool's limit allows.
    pub(super) fn nodes(&mut self, overcommit: bool) -> &mut Prealloc {
        self.nodes.set_overcommit(overcommit);
        &mut self.nodes
    }

    /// Returns a block, see [`Pool::alloc_overcommit`] for `overcommit`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit; `ENOMEM` where none can be had without waiting.
    pub(super) fn block(&mut self, overcommit: bool) -> Result<NewBlock<'a>> {
        let kind = usize::from(overcommit);
        let block = match self.blocks[kind].pop() {
            Some(block) => block,
            None => self
                .pool
                .alloc_no_reclaim(overcommit)
                .inspect_err(|&err| self.short = (err == ENOMEM).then_some(kind))?,
        };
        self.used[kind] += 1;
        Ok(block)
    }

    /// Appends to a list for which there should be room. The next attempt reserves it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there is none.
    pub(super) fn push<T>(&mut self, list: &mut KVVec<T>, value: T) -> Result {
        list.push_within_capacity(value).map_err(|_| {
            self.list_full = true;
            ENOMEM
        })
    }

    /// Returns how many of `n` blocks come before `first`, which is referenced. That is looked at
    /// again some times before: the attempt fails then.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it is the first of all.
    pub(super) fn before_referenced(&mut self, first: Option<u64>, n: u64) -> Result<u64> {
        match first {
            None => Ok(n),
            Some(_) if self.looks < MAX_LOOKS => {
                self.looks += 1;
                self.looks_again = true;
                Err(EBUSY)
            }
            Some(0) => Err(EBUSY),
            Some(first) => Ok(n.min(first)),
        }
    }

    /// Returns whether the last attempt failed because it would have had to wait.
    pub(super) fn is_short(&self) -> bool {
        self.nodes.is_short() || self.short.is_some() || self.list_full || self.looks_again
    }

    /// Allocates what the last attempt took, and what it was short of. Waits for memory: no lock is
    /// held for which others wait.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; `EINTR` where the process is to end.
    pub(super) fn fill(&mut self) -> Result {
        cond_resched_killable()?;
        self.list_full = false;
        if core::mem::take(&mut self.looks_again) {
            fsleep(Delta::from_millis(1));
        }
        if self.nodes.is_short() {
            self.nodes.refill(self.pool)?;
        }
        let short = self.short.take();
        for (kind, blocks) in self.blocks.iter_mut().enumerate() {
            let used = core::mem::take(&mut self.used[kind]);
            let wanted = used + usize::from(short == Some(kind));
            while blocks.len() < wanted {
                let block = match kind {
                    0 => self.pool.alloc(),
                    _ => self.pool.alloc_overcommit(),
                };
                blocks.push(block?, GFP_KERNEL)?;
            }
        }
        Ok(())
    }
}
