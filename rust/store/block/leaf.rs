// SPDX-License-Identifier: GPL-2.0

//! Leaves, whose slots hold blocks.

use super::{
    page::{
        BlockRef,
        NewBlock,
        RawBlock, //
    },
    BlockCount,
    ContigBlocks,
    InPool,
    Pool,
    SpareSource, //
};
use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The slots of a leaf, at most 64. Each is empty or holds a block.
///
/// # Owned blocks
///
/// A slot's **owned** bit says that no other tree ever held the block, so that no reference to
/// its page exists that was obtained through another tree. The bit counts only in the tree's
/// present generation: see the [theory of operation](crate::store).
///
/// # Unwritten blocks
///
/// `fallocate(2)` allocates blocks of zeros that count as holes for `SEEK_DATA`. That a block is
/// unwritten is a property of the slot, so that nodes can count it; a slot that shares the block
/// takes it over. [`Slots::set_written`] ends it before anything is stored to the block.
///
/// # Numbers
///
/// A block gets its number with its first slot. A leaf takes a group of 64 numbers from the pool,
/// of which slot `i` gives the `i`-th to a new block. If that was given out before, the leaf takes
/// a new group.
pub struct Slots<B: ?Sized = [Option<RawBlock>]> {
    /// The generation of the owned bits.
    generation: u64,
    /// A bit for each slot whose block is owned.
    owned: u64,
    /// A bit for each slot whose block is unwritten; clear for empty slots.
    unwritten: u64,
    /// The first number of the leaf's group; 0 if it has none.
    group: u64,
    /// A bit for each slot whose number of the group was given to a block.
    spent: u64,
    blocks: B,
}

/// `N` slots, and the pool of their blocks. Only leaves own blocks.
///
/// Cloning a leaf shares every block, which gains a slot. The caller holds a spinning lock, and has
/// seen under it that [`Slots::spares_to_copy`] is 0.
///
/// # Invariants
///
/// Each block counts one slot for its slot here, and is of `pool`.
pub struct Leaf<const N: usize, P: InPool = Arc<Pool>> {
    pool: P,
    slots: Slots<[Option<RawBlock>; N]>,
}

// SAFETY: The last slot of a block may be released on any thread.
unsafe impl<const N: usize, P: InPool + Send> Send for Leaf<N, P> {}
// SAFETY: `&self` methods read the slots and take references, which are counted atomically.
unsafe impl<const N: usize, P: InPool + Sync> Sync for Leaf<N, P> {}

// An `Arc` does not move what it points to, but is not `Unpin` by itself.
impl<const N: usize, P: InPool> Unpin for Leaf<N, P> {}

impl Slots {
    /// Returns how many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, i: usize) -> Option<RawBlock> {
        self.blocks.get(i).copied().flatten()
    }

    /// Returns the blocks, which can be used as long as they are in their slots.
    pub fn blocks(&self) -> &[Option<BlockRef>] {
        let blocks: *const [Option<RawBlock>] = &self.blocks;
        // SAFETY: Both types are transparent, down to a `NonNull`. The slots own a reference to
        // each page, and nothing can be moved out of a borrow.
        unsafe { &*(blocks as *const [Option<BlockRef>]) }
    }

    /// Returns the blocks from slot `from` on, at most `max`, up to the first that is not owned
    /// in `generation`, has other slots, or is unwritten.
    pub fn owned_run(&self, from: usize, max: usize, generation: u64) -> &[Option<BlockRef>] {
        let owned = self.owned_in(generation) & !self.unwritten;
        let owned = owned & bits(from, from.saturating_add(max));
        let owned = (owned >> from).trailing_ones() as usize;
        let n = (from..from + owned).take_while(|&i| self.is_sole_holder(i));
        let n = n.count();
        self.blocks().get(from..from + n).unwrap_or_default()
    }

    /// Returns a reference to the block in slot `i`.
    pub fn get(&self, i: usize) -> Option<BlockRef> {
        self.block(i).map(BlockRef::new)
    }

    /// Returns whether slot `i` holds a block.
    pub fn is_some(&self, i: usize) -> bool {
        self.block(i).is_some()
    }

    /// Returns the number of the block in slot `i`.
    pub fn number(&self, i: usize) -> Option<u64> {
        self.block(i).map(RawBlock::number)
    }

    /// Returns whether the block in slot `i` is unwritten.
    pub fn is_unwritten(&self, i: usize) -> bool {
        self.unwritten & bit(i) != 0
    }

    /// Counts what slot `i` holds.
    pub fn count(&self, i: usize) -> BlockCount {
        BlockCount::of(self.is_some(i), self.is_unwritten(i))
    }

    /// Returns how many blocks are unwritten.
    pub fn unwritten(&self) -> u64 {
        self.unwritten.count_ones().into()
    }

    /// Makes the unwritten blocks in slots `from..to` written that are owned in `generation`
    /// and have no other slot. Returns how many more are written.
    pub fn set_written(&mut self, from: usize, to: usize, generation: u64) -> BlockCount {
        let before = self.unwritten;
        let mut left = before & self.owned_in(generation) & bits(from, to);
        while left != 0 {
            let i = left.trailing_zeros() as usize;
            if self.is_sole_holder(i) {
                self.unwritten &= !bit(i);
            }
            left &= left - 1;
        }
        BlockCount {
            blocks: 0,
            written: (before & !self.unwritten).count_ones().into(),
        }
    }

    /// Returns whether slot `i` holds a block that no other slot holds.
    ///
    /// Whether this leaf is shared, the tree knows; whether other references to the page may
    /// exist, the owned bit.
    pub fn is_sole_holder(&self, i: usize) -> bool {
        self.block(i).is_some_and(|block| block.slot_count() == 1)
    }

    /// Returns whether the owned bit of slot `i` is set in `generation`. That alone does not make
    /// the block [`Lookup::Owned`](crate::store::Lookup::Owned): other slots may hold it.
    pub fn has_owned_bit(&self, i: usize, generation: u64) -> bool {
        self.owned_in(generation) & bit(i) != 0
    }

    fn owned_in(&self, generation: u64) -> u64 {
        if self.generation == generation {
            self.owned
        } else {
            0
        }
    }

    /// Sets the owned bits of slots `from..to` in `generation`; bits of another generation are
    /// lost.
    pub fn set_owned(&mut self, from: usize, to: usize, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.owned = 0;
        }
        self.owned |= bits(from, to);
    }

    /// Clears the owned bits of slots `from..to`.
    pub fn clear_owned(&mut self, from: usize, to: usize) {
        self.owned &= !bits(from, to);
    }

    /// Returns whether slot `i` and slot `j` of `other` hold the same block, or none.
    pub fn same_block(&self, i: usize, other: &Slots, j: usize) -> bool {
        self.block(i) == other.block(j)
    }

    /// Returns how many spares it takes at most to copy these slots: one for each full block, where
    /// adjacent slots that hold the same block count once.
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
}

fn bit(i: usize) -> u64 {
    bits(i, i + 1)
}

/// Returns the bits of slots `from..to`.
fn bits(from: usize, to: usize) -> u64 {
    let below = |i: usize| 1u64.checked_shl(i as u32).map_or(u64::MAX, |bit| bit - 1);
    below(to) & !below(from)
}

impl<const N: usize, P: InPool> Deref for Leaf<N, P> {
    type Target = Slots;

    fn deref(&self) -> &Slots {
        &self.slots
    }
}

impl<const N: usize, P: InPool> DerefMut for Leaf<N, P> {
    fn deref_mut(&mut self) -> &mut Slots {
        &mut self.slots
    }
}

// What changes a slot returns by how much the number of blocks in the leaf changed.
impl<const N: usize, P: InPool> Leaf<N, P> {
    /// Makes an empty leaf for blocks of the pool of `pool`.
    pub fn new(pool: P) -> Self {
        const { assert!(N <= u64::BITS as usize) };
        Self {
            pool,
            slots: Slots {
                generation: 0,
                owned: 0,
                unwritten: 0,
                group: 0,
                spent: 0,
                blocks: [None; N],
            },
        }
    }

    /// Puts a new block into slot `i`, owned in `generation`, and releases what was there.
    pub fn insert(&mut self, i: usize, block: NewBlock<'_>, generation: u64) -> BlockCount {
        debug_assert!(core::ptr::eq(block.pool(), &**self.pool.pool()));
        let unwritten = block.is_unwritten();
        let number = self.take_numbers(i, i + 1);
        // INVARIANT: The slot count is that of the new block, whose pool the assertion names.
        let delta = self.replace(i, Some(block.into_slot(number)), unwritten);
        self.set_owned(i, i + 1, generation);
        delta
    }

    /// Puts the first `n` of `blocks` into the slots from `first` on, owned in `generation`.
    ///
    /// The slots are empty: what they hold would be lost.
    pub fn insert_run(
        &mut self,
        first: usize,
        n: usize,
        blocks: &mut ContigBlocks<'_>,
        generation: u64,
    ) -> BlockCount {
        debug_assert!(core::ptr::eq(blocks.pool(), &**self.pool.pool()));
        let end = N.min(first + n.min(blocks.len()));
        if end <= first {
            return BlockCount::default();
        }
        let number = self.take_numbers(first, end);
        let Some(slots) = self.slots.blocks.get_mut(first..end) else {
            return BlockCount::default();
        };
        let blocks = blocks.take_for_slots(end - first, number);
        for (slot, block) in slots.iter_mut().zip(blocks) {
            debug_assert!(slot.is_none());
            // INVARIANT: As in `insert`.
            *slot = Some(block);
        }
        self.set_owned(first, end, generation);
        BlockCount::written(end - first)
    }

    /// Returns the first of the numbers for new blocks in slots `from..to`; 0 if none are left.
    fn take_numbers(&mut self, from: usize, to: usize) -> u64 {
        let (slots, numbers) = (&mut self.slots, &self.pool.pool().numbers);
        let bits = bits(from, to);
        if slots.group == 0 || slots.spent & bits != 0 {
            let Some(group) = numbers.alloc_group() else {
                slots.group = 0;
                return numbers.alloc((to - from) as u64);
            };
            (slots.group, slots.spent) = (group, 0);
        }
        slots.spent |= bits;
        slots.group + from as u64
    }

    /// Makes slot `i` share the block that slot `j` of `other` holds, which is of the same pool. A
    /// full block is duplicated in a spare.
    ///
    /// # Errors
    ///
    /// Those of `spares`; `EIO` if a full block is poisoned. The slot is unchanged.
    pub fn share_slot(
        &mut self,
        i: usize,
        other: &Slots,
        j: usize,
        spares: &mut impl SpareSource,
    ) -> Result<BlockCount> {
        let block = match other.block(j) {
            Some(block) if !block.try_get_slot() => Some(self.duplicate_full(i, block, spares)?),
            block => block,
        };
        // INVARIANT: The slot was counted above; both are of one pool.
        Ok(self.replace(i, block, other.is_unwritten(j)))
    }

    /// Returns what slot `i` is to hold for the full `block`: a duplicate, or, if `spares` says so,
    /// the block, which counts the slot.
    fn duplicate_full(
        &mut self,
        i: usize,
        block: RawBlock,
        spares: &mut impl SpareSource,
    ) -> Result<RawBlock> {
        match spares.take_spare(self.pool.pool())? {
            Some(spare) => {
                let number = self.take_numbers(i, i + 1);
                spare.into_duplicate_of(block, number)
            }
            None => {
                block.get_slot();
                Ok(block)
            }
        }
    }

    /// Fills this empty leaf with the blocks of `other`, and their bits. Full blocks are
    /// duplicated in spares, without the owned bit: page tables may map the original.
    ///
    /// # Errors
    ///
    /// Those of [`Leaf::share_slot`]; some slots may be filled.
    pub fn copy_from(&mut self, other: &Self, spares: &mut impl SpareSource) -> Result {
        debug_assert!(Arc::ptr_eq(other.pool.pool(), self.pool.pool()));
        (self.slots.generation, self.slots.owned) = (other.generation, other.owned);
        self.slots.unwritten = other.unwritten;
        // The last full block and its duplicate, as adjacent slots may hold the same block.
        let mut last: Option<(RawBlock, RawBlock)> = None;
        for (i, &block) in other.slots.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let mut held = block;
            if !block.try_get_slot() {
                held = match last.filter(|(full, _)| *full == block) {
                    Some((_, duplicate)) if duplicate.try_get_slot() => duplicate,
                    _ => self.duplicate_full(i, block, spares)?,
                };
                if held != block {
                    last = Some((block, held));
                    self.slots.owned &= !bit(i);
                }
            }
            if let Some(slot) = self.slots.blocks.get_mut(i) {
                // INVARIANT: Counted above; both are of one pool.
                *slot = Some(held);
            }
        }
        Ok(())
    }

    /// Moves the block in slot 0 of `other`, a leaf of the same pool, to the empty slot 0, with its
    /// bits and the group of numbers.
    pub fn take_first(&mut self, other: &mut Slots) -> BlockCount {
        let block = other.blocks.first_mut().and_then(Option::take);
        let unwritten = core::mem::take(&mut other.unwritten) != 0;
        // INVARIANT: The slot count is the same; both are of one pool.
        let delta = self.replace(0, block, unwritten);
        (self.slots.generation, self.slots.owned) = (other.generation, other.owned);
        (self.slots.group, self.slots.spent) = (other.group, other.spent);
        delta
    }

    /// Empties slot `i`.
    pub fn remove(&mut self, i: usize) -> BlockCount {
        self.replace(i, None, false)
    }

    /// Empties slots `from..to`.
    pub fn remove_run(&mut self, from: usize, to: usize) -> BlockCount {
        let mut delta = BlockCount::default();
        for i in from..to.min(N) {
            delta += self.remove(i);
        }
        delta
    }

    /// Puts `block`, which counts the slot, into slot `i`, without the owned bit.
    fn replace(&mut self, i: usize, block: Option<RawBlock>, unwritten: bool) -> BlockCount {
        let Some(slot) = self.slots.blocks.get_mut(i) else {
            // There is no such slot.
            if let Some(block) = block {
                block.release_slot(self.pool.pool());
            }
            return BlockCount::default();
        };
        let old = core::mem::replace(slot, block);
        let was_unwritten = self.is_unwritten(i);
        self.slots.owned &= !bit(i);
        self.slots.unwritten &= !bit(i);
        if unwritten {
            self.slots.unwritten |= bit(i);
        }
        if let Some(old) = old {
            old.release_slot(self.pool.pool());
        }
        BlockCount::of(block.is_some(), unwritten) - BlockCount::of(old.is_some(), was_unwritten)
    }
}

impl<const N: usize> Clone for Leaf<N> {
    fn clone(&self) -> Self {
        for block in self.slots.blocks.iter().flatten() {
            block.get_slot();
        }
        // INVARIANT: Each block was counted once more above.
        Self {
            pool: self.pool.clone(),
            slots: Slots {
                group: 0,
                spent: 0,
                ..self.slots
            },
        }
    }
}

impl<const N: usize, P: InPool> Drop for Leaf<N, P> {
    fn drop(&mut self) {
        for block in self.slots.blocks.iter().flatten() {
            block.release_slot(self.pool.pool());
        }
    }
}
