// SPDX-License-Identifier: GPL-2.0

//! Memory for changes that are made with `invalidate_lock` held exclusive.
//!
//! No task waits for memory with that lock held: every fault of the file waits for it, of processes
//! of other cgroups, too, and a cgroup at its `memory.max` or above its `memory.high` may wait for
//! as long as it likes. So such a change takes what was allocated before, or what can be had
//! without waiting; where that is not enough it is undone, and done again after the lock was
//! dropped and more was allocated.

use crate::{
    store::{
        block::{NewBlock, Pool},
        Prealloc,
    },
    vfs::cond_resched_killable,
};
use kernel::{prelude::*, sync::Arc};

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
}

impl<'a> Room<'a> {
    /// Returns one without anything.
    pub(super) fn new(pool: &'a Arc<Pool>) -> Self {
        Self {
            pool,
            nodes: Prealloc::no_reclaim(),
            blocks: [KVVec::new(), KVVec::new()],
            used: [0; 2],
            short: None,
        }
    }

    /// Calls `attempt`, which takes and drops the lock itself, until there is enough memory for it.
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

    /// Returns whether the last attempt failed because it would have had to wait for memory.
    pub(super) fn is_short(&self) -> bool {
        self.nodes.is_short() || self.short.is_some()
    }

    /// Allocates what the last attempt took, and what it was short of. Waits for memory: no lock is
    /// held for which others wait.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; `EINTR` where the process is to end.
    pub(super) fn fill(&mut self) -> Result {
        cond_resched_killable()?;
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
