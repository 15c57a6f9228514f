// SPDX-License-Identifier: GPL-2.0

//! The blocks of a request: where they are, which of them are referenced, and whether they are
//! equal.

use super::super::{
    block_of,
    file_blocks::BlocksLock,
    referenced::Referenced,
    remap::RemapRequest,
    room::Room,
    ReflinkFs, //
};
use crate::{
    compat::EBADE,
    store::{
        block::{
            BlockRef,
            BLOCK_SIZE, //
        },
        Tree, //
    },
    vfs::LockedPair, //
};
use core::ops::Range;
use kernel::prelude::*;

/// Where the blocks of a request are: a block of the range has the index `i` here, `first + i` in
/// the source, and `to_first + i` in the destination.
pub(super) struct Blocks {
    pub(super) first: u64,
    pub(super) to_first: u64,
}

impl Blocks {
    pub(super) fn of(request: &RemapRequest<'_>) -> Self {
        Self {
            first: block_of(request.from_pos),
            to_first: block_of(request.to_pos),
        }
    }

    /// Returns the indexes of block `i` in both files.
    pub(super) fn at(&self, i: u64) -> (u64, u64) {
        (self.first + i, self.to_first + i)
    }

    /// Returns the first `n` blocks, in the source.
    pub(super) fn from(&self, n: u64) -> Range<u64> {
        self.first..self.first + n
    }

    /// Returns the first `n` blocks, in the destination.
    pub(super) fn to(&self, n: u64) -> Range<u64> {
        self.to_first..self.to_first + n
    }
}

/// The referenced blocks of both files.
pub(super) struct ReferencedPair {
    pub(super) from: Referenced,
    pub(super) to: Referenced,
    /// Those of either in the range, as [`Blocks`] counts, in ascending order.
    pub(super) both: KVVec<u64>,
}

impl ReferencedPair {
    pub(super) fn new() -> Self {
        Self {
            from: Referenced::new(),
            to: Referenced::new(),
            both: KVVec::new(),
        }
    }

    /// See [`Referenced::reserve`].
    pub(super) fn reserve(&mut self) -> Result {
        let found = self.from.reserve()? + self.to.reserve()?;
        self.both.clear();
        self.both.reserve(found, GFP_KERNEL)?;
        Ok(())
    }

    /// Scans the ranges in the two files, see [`Referenced::scan`]. Returns how many of the first
    /// `n` blocks of the request are to be shared.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, as [`Referenced::scan`]; those of [`Room::before_referenced`].
    pub(super) fn scan(
        &mut self,
        request: &RemapRequest<'_>,
        (range, n): (&Blocks, u64),
        files: &LockedPair<'_, ReflinkFs>,
        (from_lock, to_lock): (BlocksLock<'_, '_>, BlocksLock<'_, '_>),
        [from_range, to_range]: [&Range<u64>; 2],
        room: &mut Room<'_>,
    ) -> Result<u64> {
        let (from, to) = (files.from(), files.to());
        let scanned = self
            .from
            .scan(from, from_lock, from_range, &range.from(n), room);
        self.to
            .scan(to, to_lock, to_range, &range.to(n), room)
            .and(scanned)?;
        let from = self.from.wanted.iter().map(|index| index - range.first);
        let to = self.to.wanted.iter().map(|index| index - range.to_first);
        self.both.clear();
        let (mut from, mut to) = (from.peekable(), to.peekable());
        while let Some(&least) = match (from.peek(), to.peek()) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        } {
            from.next_if_eq(&least);
            to.next_if_eq(&least);
            room.push(&mut self.both, least)?;
        }
        match self.both.first().copied() {
            first if request.only_shared => room.before_referenced(first, n),
            _ => Ok(n),
        }
    }
}

/// Returns whether block `at` is in `list`, which is in ascending order, and up to where, at most
/// `n`, the next ones are like it.
pub(super) fn stretch(list: &[u64], at: u64, n: u64) -> (bool, u64) {
    let (Ok(next) | Err(next)) = list.binary_search(&at);
    match list.get(next) {
        Some(&next) if next == at => (true, at + 1),
        Some(&next) => (false, next.min(n)),
        None => (false, n),
    }
}

/// Compares up to `max` blocks, and no more than `len` bytes, up to the end of a leaf of either
/// tree. Returns how many blocks, at least one.
///
/// # Errors
///
/// `EBADE` where they differ.
pub(super) fn compare(
    (a, i): (&Tree, u64),
    (b, j): (&Tree, u64),
    max: u64,
    len: u64,
) -> Result<u64> {
    fn at(tree: &Tree, index: u64) -> &[Option<BlockRef>] {
        match tree.blocks_at(index) {
            [] => &[None],
            blocks => blocks,
        }
    }
    let mut done = 0;
    let both = at(a, i).iter().zip(at(b, j));
    for (a, b) in both.take(max as usize) {
        let bytes = (len - done * BLOCK_SIZE as u64).min(BLOCK_SIZE as u64) as usize;
        if !equal(a, b, bytes)? {
            return Err(EBADE);
        }
        done += 1;
    }
    Ok(done)
}

fn equal(a: &Option<BlockRef>, b: &Option<BlockRef>, len: usize) -> Result<bool> {
    match (a, b) {
        (Some(a), Some(b)) => a.bytes_equal(b, len),
        (Some(block), None) | (None, Some(block)) => block.is_zero(0, len),
        (None, None) => Ok(true),
    }
}
