// SPDX-License-Identifier: GPL-2.0

//! Places that hold blocks.

use super::{
    page::{BlockRef, NewBlock, RawBlock},
    BlockCount, ContigBlocks, Pool, SpareSource,
};
use kernel::{prelude::*, sync::Arc};

/// What belongs to a pool for as long as it lives.
pub trait InPool {
    /// The pool.
    fn pool(&self) -> &Arc<Pool>;
}

impl InPool for Arc<Pool> {
    fn pool(&self) -> &Arc<Pool> {
        self
    }
}

/// `N` slots, at most 64, each empty or with a block. The only owners of blocks.
///
/// Cloning shares every block: each gains an owner. The caller has seen with a spinning lock held that
/// none [is full](Leaf::spares_to_copy), and holds it.
///
/// # Marks
///
/// That a slot is the only one that holds a block does not say that nobody else has a reference
/// to its page: a pipe, or a `read` under way, may have got one through another file that held
/// the block until just now, and must not see what is written to it next. So a slot is **marked**
/// with the generation of the tree that put a new block in. A tree's generation changes when all of it is
/// cloned, and no two files' trees have the same: with that every mark made before is void. What
/// is marked with the tree's present generation was never reachable through another file.
///
/// # Unwritten blocks
///
/// A block that `fallocate(2)` put there is one of zeros, and counts as a hole for those who look for
/// data. That is a fact about the slot, so that nodes can count it: those that share the block take
/// it over with it. It ends by [`Leaf::set_written`], before anything is stored to the block.
///
/// # Invariants
///
/// Each block here counts one slot for it, and is of `pool`.
pub struct Leaf<const N: usize, P: InPool = Arc<Pool>> {
    pool: P,
    /// The generation of the marks.
    generation: u64,
    /// A bit for each slot that is marked.
    exclusive: u64,
    /// A bit for each slot whose block is unwritten; none for an empty slot.
    unwritten: u64,
    /// The first of the numbers that are for blocks that come into these slots, one for each; 0 for none.
    group: u64,
    /// A bit for each slot whose number of the group was given to a block.
    spent: u64,
    blocks: [Option<RawBlock>; N],
}

// SAFETY: Blocks may be let go of on any thread.
unsafe impl<const N: usize, P: InPool + Send> Send for Leaf<N, P> {}
// SAFETY: `&self` methods only read the slots and take references, which count atomically.
unsafe impl<const N: usize, P: InPool + Sync> Sync for Leaf<N, P> {}

// `Arc` does not say so itself, though what it points to stays where it is when it moves.
impl<const N: usize, P: InPool> Unpin for Leaf<N, P> {}

impl<const N: usize, P: InPool> Leaf<N, P> {
    /// Empty slots for blocks of the pool of `pool`.
    pub fn new(pool: P) -> Self {
        const { assert!(N <= u64::BITS as usize) };
        Self {
            pool,
            generation: 0,
            exclusive: 0,
            unwritten: 0,
            group: 0,
            spent: 0,
            blocks: [None; N],
        }
    }

    /// The blocks, to be used as long as they are in their slots.
    pub fn blocks(&self) -> &[Option<BlockRef>; N] {
        // SAFETY: Both types are transparent, down to a `NonNull`. The slots own a reference to each page,
        // and nothing can be moved out of what is borrowed.
        unsafe { &*(&raw const self.blocks).cast() }
    }

    /// Of the blocks from slot `from` on, at most `max`, those up to the first that has other owners, or
    /// no mark of `generation`, or is unwritten.
    pub fn exclusive_run(&self, from: usize, max: usize, generation: u64) -> &[Option<BlockRef>] {
        let exclusive = self.exclusive_in(generation) & !self.unwritten;
        let exclusive = exclusive & Self::bits(from, from.saturating_add(max));
        let exclusive = (exclusive >> from).trailing_ones() as usize;
        let n = (from..from + exclusive).take_while(|&i| self.is_sole_owner(i));
        let n = n.count();
        self.blocks().get(from..from + n).unwrap_or_default()
    }

    /// A reference to the block in slot `i`.
    pub fn get(&self, i: usize) -> Option<BlockRef> {
        self.blocks.get(i).copied().flatten().map(BlockRef::new)
    }

    /// Whether slot `i` holds a block.
    pub fn is_some(&self, i: usize) -> bool {
        self.blocks.get(i).is_some_and(Option::is_some)
    }

    /// The number of the block in slot `i`.
    pub fn number(&self, i: usize) -> Option<u64> {
        self.blocks.get(i).copied().flatten().map(RawBlock::number)
    }

    /// Whether the block in slot `i` is unwritten.
    pub fn is_unwritten(&self, i: usize) -> bool {
        self.unwritten & Self::bit(i) != 0
    }

    /// What slot `i` holds, as a number of blocks.
    pub fn count(&self, i: usize) -> BlockCount {
        BlockCount::of(self.is_some(i), self.is_unwritten(i))
    }

    /// How many blocks here are unwritten.
    pub fn unwritten(&self) -> u64 {
        self.unwritten.count_ones().into()
    }

    /// Makes those of the blocks in slots `from..to` written that have a mark of `generation` and no other
    /// owner. Returns by how much the number of those here grew.
    pub fn set_written(&mut self, from: usize, to: usize, generation: u64) -> BlockCount {
        let before = self.unwritten;
        let mut left = before & self.exclusive_in(generation) & Self::bits(from, to);
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            if self.is_sole_owner(i) {
                self.unwritten &= !Self::bit(i);
            }
            left &= left - 1;
        }
        BlockCount {
            blocks: 0,
            written: (before & !self.unwritten).count_ones().into(),
        }
    }

    /// Whether no other slot anywhere holds the block in slot `i`. False for an empty slot.
    ///
    /// Whether the slot itself is reached through one owner only is for the tree to know, and
    /// whether there may be other references to the page is for the mark.
    pub fn is_sole_owner(&self, i: usize) -> bool {
        self.blocks
            .get(i)
            .copied()
            .flatten()
            .is_some_and(|block| block.slot_count() == 1)
    }

    /// Whether slot `i` is marked with `generation`.
    pub fn is_exclusive(&self, i: usize, generation: u64) -> bool {
        self.exclusive_in(generation) & Self::bit(i) != 0
    }

    /// The bits of the slots that are marked with `generation`.
    fn exclusive_in(&self, generation: u64) -> u64 {
        if self.generation == generation {
            self.exclusive
        } else {
            0
        }
    }

    /// Marks slot `i` with `generation`; marks of other generations are void then.
    pub fn set_exclusive(&mut self, i: usize, generation: u64) {
        self.set_exclusive_run(i, i + 1, generation);
    }

    fn set_exclusive_run(&mut self, from: usize, to: usize, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.exclusive = 0;
        }
        self.exclusive |= Self::bits(from, to);
    }

    /// Takes the marks of slots `from..to` away.
    pub fn clear_exclusive(&mut self, from: usize, to: usize) {
        self.exclusive &= !Self::bits(from, to);
    }

    fn bit(i: usize) -> u64 {
        Self::bits(i, i + 1)
    }

    /// Those from `from` on, up to but without `to`.
    fn bits(from: usize, to: usize) -> u64 {
        let below = |i: usize| 1u64.checked_shl(i as u32).map_or(u64::MAX, |bit| bit - 1);
        below(to) & !below(from)
    }

    /// Whether slot `i` holds the block that slot `j` of `other` holds, or both hold none.
    pub fn same_block<const M: usize, Q: InPool>(
        &self,
        i: usize,
        other: &Leaf<M, Q>,
        j: usize,
    ) -> bool {
        self.blocks.get(i).copied().flatten() == other.blocks.get(j).copied().flatten()
    }

    /// Puts a new block into slot `i`, marks it with `generation`, and lets go of what was there.
    ///
    /// Returns by how much the number of blocks here grew.
    pub fn insert(&mut self, i: usize, block: NewBlock<'_>, generation: u64) -> BlockCount {
        debug_assert!(core::ptr::eq(block.pool(), &**self.pool.pool()));
        let unwritten = block.is_unwritten();
        let number = self.take_numbers(i, i + 1);
        // INVARIANT: The slot count is that of the new block, whose pool the assertion names.
        let delta = self.replace(i, Some(block.into_slot(number)), unwritten);
        self.set_exclusive(i, generation);
        delta
    }

    /// Puts the first `n` blocks of `piece` into the slots from `first` on, and marks them with `generation`.
    /// Returns by how much the number of blocks here grew.
    ///
    /// All of the slots are empty: what was in one would be lost.
    pub fn insert_run(
        &mut self,
        first: usize,
        n: usize,
        piece: &mut ContigBlocks<'_>,
        generation: u64,
    ) -> BlockCount {
        debug_assert!(core::ptr::eq(piece.pool(), &**self.pool.pool()));
        let end = N.min(first + n.min(piece.len()));
        if end <= first {
            return BlockCount::default();
        }
        let number = self.take_numbers(first, end);
        let Some(slots) = self.blocks.get_mut(first..end) else {
            return BlockCount::default();
        };
        let blocks = piece.take_for_slots(end - first, number);
        for (slot, block) in slots.iter_mut().zip(blocks) {
            debug_assert!(slot.is_none());
            // INVARIANT: As in `insert`.
            *slot = Some(block);
        }
        self.set_exclusive_run(first, end, generation);
        BlockCount::written(end - first)
    }

    /// The first number for blocks that come into slots `from..to`, one for each; 0 where there are none.
    fn take_numbers(&mut self, from: usize, to: usize) -> u64 {
        let bits = Self::bits(from, to);
        if self.group == 0 || self.spent & bits != 0 {
            let Some(group) = self.pool.pool().numbers.alloc_group() else {
                self.group = 0;
                return self.pool.pool().numbers.alloc((to - from) as u64);
            };
            (self.group, self.spent) = (group, 0);
        }
        self.spent |= bits;
        self.group + from as u64
    }

    /// Makes slot `i` share what slot `j` of `other` holds, without a mark; where that is full it is a
    /// copy in a spare.
    ///
    /// Returns by how much the number of blocks here grew.
    ///
    /// # Errors
    ///
    /// Those of `spares`; `EIO` where it would be the copy of a poisoned block. The slot is as it was.
    pub fn share<const M: usize, Q: InPool>(
        &mut self,
        i: usize,
        other: &Leaf<M, Q>,
        j: usize,
        spares: &mut impl SpareSource,
    ) -> Result<BlockCount> {
        debug_assert!(Arc::ptr_eq(other.pool.pool(), self.pool.pool()));
        let block = match other.blocks.get(j).copied().flatten() {
            Some(block) if !block.try_get_slot() => Some(self.copy_full(i, block, spares)?),
            block => block,
        };
        // INVARIANT: The slot was counted above; both are of one pool.
        Ok(self.replace(i, block, other.is_unwritten(j)))
    }

    /// What slot `i` is to hold for `block`, which is full. Counts the slot.
    fn copy_full(
        &mut self,
        i: usize,
        block: RawBlock,
        spares: &mut impl SpareSource,
    ) -> Result<RawBlock> {
        match spares.take_spare(self.pool.pool())? {
            Some(spare) => {
                let number = self.take_numbers(i, i + 1);
                spare.into_copy_of(block, number)
            }
            None => {
                block.get_slot();
                Ok(block)
            }
        }
    }

    /// Makes these slots, which are empty, hold what those of `other` do, with their marks. Where a
    /// block is full it is a copy in a spare, which has no mark, as it is not what may be mapped.
    ///
    /// # Errors
    ///
    /// Those of [`Leaf::share`]; some of the slots may be empty.
    pub fn copy_from(&mut self, other: &Self, spares: &mut impl SpareSource) -> Result {
        debug_assert!(Arc::ptr_eq(other.pool.pool(), self.pool.pool()));
        (self.generation, self.exclusive) = (other.generation, other.exclusive);
        self.unwritten = other.unwritten;
        // The last block that was copied, and its copy: one may be in many slots.
        let mut last: Option<(RawBlock, RawBlock)> = None;
        for (i, &block) in other.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let mut held = block;
            if !block.try_get_slot() {
                held = match last.filter(|(full, _)| *full == block) {
                    Some((_, copy)) if copy.try_get_slot() => copy,
                    _ => self.copy_full(i, block, spares)?,
                };
                if held != block {
                    last = Some((block, held));
                    self.exclusive &= !Self::bit(i);
                }
            }
            if let Some(slot) = self.blocks.get_mut(i) {
                // INVARIANT: Counted above; both are of one pool.
                *slot = Some(held);
            }
        }
        Ok(())
    }

    /// Moves what slot 0 of `other` holds to slot 0, which is empty, with its mark, and the numbers
    /// for what comes next. Returns by how much the number of blocks here grew.
    pub fn take_over<const M: usize, Q: InPool>(&mut self, other: &mut Leaf<M, Q>) -> BlockCount {
        debug_assert!(Arc::ptr_eq(other.pool.pool(), self.pool.pool()));
        let block = other.blocks.first_mut().and_then(Option::take);
        (self.generation, self.exclusive) = (other.generation, other.exclusive);
        (self.group, self.spent) = (other.group, other.spent);
        let unwritten = core::mem::take(&mut other.unwritten) != 0;
        let exclusive = self.exclusive;
        // INVARIANT: The slot count is the same; both are of one pool.
        let delta = self.replace(0, block, unwritten);
        self.exclusive = exclusive;
        delta
    }

    /// How many spares it takes at most to copy these slots: for blocks that are full, with several
    /// slots in a row that hold the same counted once.
    pub fn spares_to_copy(&self) -> usize {
        let mut last = None;
        let mut full = 0;
        for &block in self.blocks.iter().flatten() {
            if block.is_full() && last != Some(block) {
                last = Some(block);
                full += 1;
            }
        }
        full
    }

    /// Empties slot `i`. Returns by how much the number of blocks here grew: 0 or less.
    pub fn remove(&mut self, i: usize) -> BlockCount {
        self.replace(i, None, false)
    }

    /// Empties slots `from..to`. Returns by how much the number of blocks here grew: 0 or less.
    pub fn remove_run(&mut self, from: usize, to: usize) -> BlockCount {
        let mut delta = BlockCount::default();
        for i in from..to.min(N) {
            delta += self.remove(i);
        }
        delta
    }

    fn replace(&mut self, i: usize, block: Option<RawBlock>, unwritten: bool) -> BlockCount {
        let Some(slot) = self.blocks.get_mut(i) else {
            // Out of range: nothing was stored, so the count is given back.
            if let Some(block) = block {
                block.release_slot(self.pool.pool());
            }
            return BlockCount::default();
        };
        let bit = Self::bit(i);
        let was_unwritten = self.unwritten & bit != 0;
        self.exclusive &= !bit;
        self.unwritten &= !bit;
        if unwritten {
            self.unwritten |= bit;
        }
        let old = core::mem::replace(slot, block);
        if let Some(old) = old {
            old.release_slot(self.pool.pool());
        }
        BlockCount::of(block.is_some(), unwritten) - BlockCount::of(old.is_some(), was_unwritten)
    }
}

impl<const N: usize> Clone for Leaf<N> {
    fn clone(&self) -> Self {
        for block in self.blocks.iter().flatten() {
            block.get_slot();
        }
        // INVARIANT: Each block was counted once more above.
        Self {
            pool: self.pool.clone(),
            generation: self.generation,
            exclusive: self.exclusive,
            unwritten: self.unwritten,
            group: 0,
            spent: 0,
            blocks: self.blocks,
        }
    }
}

impl<const N: usize, P: InPool> Drop for Leaf<N, P> {
    fn drop(&mut self) {
        for block in self.blocks.iter().flatten() {
            block.release_slot(self.pool.pool());
        }
    }
}
