// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of a write come from.

use crate::store::block::{
    copy_from_iter,
    fault_in,
    without_faults,
    BlockRef,
    ContigBlocks,
    BLOCK_SIZE, //
};
use kernel::{
    iov::IovIterSource,
    prelude::*, //
};

/// Where the bytes of a write come from.
pub(crate) trait Source {
    /// Returns how many bytes there are left.
    fn len(&self) -> usize;

    /// Copies the next bytes, at most `len`, to `blocks`, from `offset` of the first on; those for
    /// a `None` are skipped. Returns how many; fewer than `len` means that no more can be had.
    fn fill(&mut self, blocks: &[Option<&BlockRef>], offset: usize, len: usize) -> usize;

    /// Returns the error if [`Source::fill`] has fewer bytes than it was asked for.
    fn why_short(&self) -> Error;

    /// As [`Source::fill`]. Also returns why there were fewer bytes.
    fn fill_or_err(
        &mut self,
        blocks: &[Option<&BlockRef>],
        offset: usize,
        len: usize,
    ) -> (usize, Result) {
        let done = self.fill(blocks, offset, len);
        (done, self.check_full(done, len))
    }

    /// Returns [`Source::why_short`] if `done` is less than `wanted`.
    fn check_full(&self, done: usize, wanted: usize) -> Result {
        if done < wanted {
            Err(self.why_short())
        } else {
            Ok(())
        }
    }

    /// As [`Source::fill`], with the tree's lock held: only as far as neither a fault nor another
    /// tree's lock is needed.
    fn fill_at_once(&mut self, blocks: &[Option<BlockRef>], offset: usize, len: usize) -> usize;

    /// Has the next bytes in memory, so that [`Source::fill_at_once`] finds some. `None` where
    /// [`Source::fill`] does not fault anyway.
    fn fault_in(&mut self) -> Option<Result>;

    /// Returns how many bytes there are left up to a hole.
    fn len_for_contig(&self) -> usize {
        self.len()
    }

    /// Copies the next bytes to all of `contig`: no more than [`Source::len_for_contig`]. Returns
    /// how many; fewer mean that no more can be had.
    fn fill_contig(&mut self, contig: &ContigBlocks<'_>) -> usize;

    /// Returns whether the `len` bytes that lie `ahead` are a hole, so that they can be one here
    /// too.
    fn is_hole(&self, _ahead: usize, _len: usize) -> bool {
        false
    }
}

impl Source for IovIterSource<'_> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn fill(&mut self, blocks: &[Option<&BlockRef>], offset: usize, len: usize) -> usize {
        copy_from_iter(blocks, offset, len, self)
    }

    fn why_short(&self) -> Error {
        EFAULT
    }

    fn fill_at_once(&mut self, blocks: &[Option<BlockRef>], offset: usize, len: usize) -> usize {
        without_faults(|| copy_from_iter(blocks, offset, len, self))
    }

    fn fault_in(&mut self) -> Option<Result> {
        Some(fault_in(self, BLOCK_SIZE))
    }

    fn fill_contig(&mut self, contig: &ContigBlocks<'_>) -> usize {
        contig.copy_from_iter(self)
    }
}
