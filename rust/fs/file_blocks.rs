// SPDX-License-Identifier: GPL-2.0

//! A file's tree, and its lock.

use super::{
    events,
    Charge,
    Inode,
    ReflinkFs,
    Transaction, //
};
use crate::{
    dax::Owned,
    memfs::{
        inodes::is_exclusive,
        quota::has_quota,
        record::{
            ReadRecord,
            WriteRecord, //
        },
        transaction::Exclusive,
        Data, //
    },
    store::{
        block::{
            BlockBatch,
            BlockRef,
            ContigBlocks,
            NewBlock,
            Pool, //
        },
        BlockExtent,
        Lookup,
        Prealloc,
        StableRef,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        InvalidateGuard,
        InvalidateSharedGuard, //
    },
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The blocks of a file, to be looked at: its tree, which is in its record.
#[derive(Clone, Copy)]
pub(crate) struct FileBlocks<'a>(&'a Inode);

/// The blocks of a file, to be changed: a fork does not have the file's record, and none is made
/// meanwhile.
///
/// Modified only with `invalidate_lock` held exclusive ([`BlocksLock`]), through [`ChargedBlock`]
/// and [`ChargedTree`], which keep the quota charge equal to the block count;
/// [`BlocksLock::insert_uncharged`] is for superblocks without quotas. [`get_stable`] changes owned
/// bits only. Blocks become written with `invalidate_lock` held shared, or the inode's own lock:
/// the blocks are not shared then.
#[derive(Clone, Copy)]
pub(crate) struct OwnBlocks<'t>(Exclusive<'t, ReflinkFs>);

impl Data for Tree {
    fn try_clone(&self) -> Result<Self> {
        self.copy_shared()
    }
}

impl Inode {
    /// Returns the blocks of a regular file, to be looked at.
    pub(super) fn blocks(&self) -> FileBlocks<'_> {
        FileBlocks(self)
    }
}

/// Every block that a file can have.
pub(crate) const ALL: Range<u64> = 0..super::blocks_for(u64::MAX);

/// See [`FileBlocks::range_to_snapshot`]: 16 leaves.
const SNAPSHOT_RANGE_MAX_BLOCKS: u64 = 1024;

/// How many steps [`FileBlocks::is_same`] takes at most: those along the two sides of a tree, and
/// to spare.
const COMPARE_STEPS: u64 = 1024;

/// How many blocks an extent is followed under one hold of the lock.
const EXTENT_STEP_BLOCKS: u64 = 1024;

/// Defines functions of the tree, called with its lock held to read.
macro_rules! read_tree {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&self, $($arg: $type),*) -> $result {
            self.read().data.$name($($arg),*)
        }
    )*};
}

impl<'a> FileBlocks<'a> {
    read_tree! {
        /// See [`Tree::get_blocks`].
        fn get_blocks(index: u64, blocks: &mut [Option<BlockRef>]) -> usize;
        /// See [`Tree::is_unwritten`].
        fn is_unwritten(index: u64) -> bool;
        /// See [`Tree::next_written`].
        fn next_written(from: u64) -> Option<u64>;
        /// See [`Tree::next_not_written`].
        fn next_not_written(from: u64) -> u64;
        /// Returns the first index at or after `from` with a block.
        fn next_block(from: u64) -> Option<u64>;
        /// Returns the first index at or after `from` without a block.
        fn next_hole(from: u64) -> u64;
        /// See [`Tree::blocks_in`].
        fn blocks_in(range: Range<u64>) -> u64;
        /// See [`Tree::check_room_to_share`].
        fn check_room_to_share(range: Range<u64>, to: u64) -> Result;
        /// Returns an empty tree, whose blocks are this file's own once they are in its tree.
        fn edit_empty() -> Tree;
    }

    fn read(&self) -> ReadRecord<'a, Tree> {
        self.0.info().record()
    }

    /// Returns how many blocks there are.
    pub(crate) fn count(&self) -> u64 {
        self.read().data.blocks()
    }

    /// Returns the pool that the blocks are of.
    pub(crate) fn pool(&self) -> &'a Arc<Pool> {
        &self.0.super_block().info().pool
    }

    /// Returns the block at `index`. Where a fork has the record none is owned.
    pub(crate) fn lookup(&self, index: u64) -> Lookup {
        let found = self.read().data.lookup(index);
        match found {
            Lookup::Owned(block) | Lookup::Unwritten(block) | Lookup::WasShared(block)
                if !is_exclusive(self.0) =>
            {
                Lookup::Shared(block)
            }
            _ => found,
        }
    }

    /// See [`Tree::len_to_alloc`].
    pub(crate) fn len_to_alloc(&self, index: u64, max: usize) -> usize {
        if is_exclusive(self.0) {
            self.read().data.len_to_alloc(index, max)
        } else {
            max
        }
    }

    /// Calls `f` with the blocks from `index` on, at least one; `None` is a hole. Holds the tree's
    /// lock meanwhile: `f` must not sleep.
    pub(crate) fn with_blocks<R>(&self, index: u64, f: impl FnOnce(&[Option<BlockRef>]) -> R) -> R {
        let record = self.read();
        match record.data.blocks_at(index) {
            [] => f(&[None]),
            blocks => f(blocks),
        }
    }

    /// Allocates the nodes for inserting blocks from `first` to `last`, as far as memory allows:
    /// before `invalidate_lock` is taken, so that no fault waits while this waits for memory.
    pub(crate) fn prealloc(&self, first: u64, last: u64, prealloc: &mut Prealloc) {
        let nodes = self.read().data.nodes_for(first, last);
        prealloc.try_fill(nodes, self.pool());
    }

    /// Returns the first extent at or after `from`, of any length; a part of it if a fatal signal
    /// is pending.
    ///
    /// Takes a step for each of its blocks. As their numbers differ, these are different blocks:
    /// there are no more steps than blocks in memory, however long the file is.
    pub(crate) fn extent(&self, from: u64) -> Option<BlockExtent> {
        let extent = |from| {
            let extent = self.read().data.extent(from, EXTENT_STEP_BLOCKS);
            extent.map(|extent| BlockExtent {
                shared: extent.shared || !is_exclusive(self.0),
                ..extent
            })
        };
        let mut found = extent(from)?;
        loop {
            if cond_resched_killable().is_err() {
                return Some(found);
            }
            let next = extent(found.index + found.len);
            if !next.is_some_and(|next| found.join(&next)) {
                return Some(found);
            }
        }
    }

    /// Returns the blocks that are not written in place any more when the `n` at `first` become
    /// shared: just these where they are few, otherwise all of the file, which is done in O(1).
    pub(crate) fn range_to_snapshot(first: u64, n: u64) -> Range<u64> {
        if n <= SNAPSHOT_RANGE_MAX_BLOCKS {
            first..first + n
        } else {
            ALL
        }
    }

    /// Returns whether the blocks in `range` are those of `tree`. May return false where they are.
    pub(crate) fn is_same(&self, tree: &Tree, range: Range<u64>) -> bool {
        let (mut steps, len) = (COMPARE_STEPS, range.end - range.start);
        let current = self.read();
        let same = current
            .data
            .same_len(range.start, tree, range.start, len, &mut steps);
        same == len
    }

    /// Allocates what [`ChargedBlock::insert`] needs at `index`, as things are now.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more nodes, `ENOMEM`.
    pub(crate) fn prepare_insert(&self, index: u64, prealloc: &mut Prealloc) -> Result {
        if self.read().data.can_insert(index, prealloc) {
            return Ok(());
        }
        prealloc.fill(self.pool())
    }
}

/// See [`Tree::get_stable`].
pub(crate) fn get_stable(inode: &Inode, index: u64) -> StableRef {
    let record = inode.info().record();
    let first = record.data.blocks_at(index).first().cloned().flatten();
    let Some(block) = first else {
        return StableRef::Hole;
    };
    // With the record's lock held it stays the same one: nothing changes what a fork has, too.
    if !is_exclusive(inode) {
        return StableRef::Block(block);
    }
    drop(record);
    let Some(transaction) = Transaction::try_begin([inode]) else {
        return StableRef::NeedsCopy(block);
    };
    let transaction = transaction.of_data();
    let [inode] = transaction.each();
    let stable = inode.write().data.get_stable(index);
    stable
}

impl<'t> OwnBlocks<'t> {
    /// Returns those of the inode of a transaction.
    pub(crate) fn of(exclusive: Exclusive<'t, ReflinkFs>) -> Self {
        Self(exclusive)
    }

    /// Returns them, to be looked at.
    pub(crate) fn all(self) -> FileBlocks<'t> {
        FileBlocks(self.0.inode())
    }

    fn read(self) -> ReadRecord<'t, Tree> {
        self.0.read()
    }

    fn write(self) -> WriteRecord<'t, Tree> {
        self.0.write()
    }

    /// Returns the block at `index`.
    pub(crate) fn lookup(self, index: u64) -> Lookup {
        self.read().data.lookup(index)
    }

    /// See [`Tree::owns_path`].
    pub(crate) fn owns_path(self, index: u64) -> bool {
        self.read().data.owns_path(index)
    }

    /// Returns whether there is a block at `index` that may be written in place:
    /// [`Lookup::Owned`].
    pub(crate) fn is_owned(self, index: u64) -> bool {
        matches!(self.lookup(index), Lookup::Owned(_))
    }

    /// Returns those of the `n` blocks from `index` on, at most `N`, that are [`Lookup::Owned`] and
    /// `wanted`. They stay so while the result holds the tree's lock.
    pub(crate) fn owned<const N: usize>(
        self,
        index: u64,
        n: usize,
        wanted: impl Fn(&BlockRef) -> bool,
    ) -> OwnedBlocks<'t, N> {
        let mut blocks = [const { None }; N];
        let record = self.read();
        let mut i = 0;
        while i < n.min(N) {
            let own = record.data.owned_run(index + i as u64, n - i);
            for (block, own) in blocks[i..].iter_mut().zip(own) {
                *block = own.as_ref().filter(|own| wanted(own)).cloned();
            }
            // Skips one that is not owned.
            i += own.len().max(1);
        }
        OwnedBlocks {
            blocks,
            _record: record,
        }
    }

    /// Calls `f` with up to `max` blocks from `index` on, as far as they can be written in place;
    /// with none if that at `index` cannot. What was [`Lookup::Unwritten`] becomes written. Holds
    /// the tree's lock meanwhile: `f` must not sleep.
    pub(crate) fn with_owned_blocks<R>(
        self,
        index: u64,
        max: usize,
        f: impl FnOnce(&[Option<BlockRef>]) -> R,
    ) -> R {
        let mut record = self.read();
        let mut own = record.data.owned_run(index, max);
        if own.is_empty() && record.data.is_unwritten(index) {
            drop(record);
            self.set_written(index, max);
            record = self.read();
            own = record.data.owned_run(index, max);
        }
        f(own)
    }

    /// See [`Tree::set_written`].
    pub(crate) fn set_written(self, index: u64, n: usize) -> u64 {
        self.write().data.set_written(index, n)
    }

    /// See [`Tree::restore_owned`].
    pub(crate) fn restore_owned<'a>(self, indexes: impl Iterator<Item = &'a u64>) {
        for &index in indexes {
            self.write().data.restore_owned(index);
        }
    }

    /// Returns a tree with the blocks in `range`, which [`FileBlocks::range_to_snapshot`] gave, for
    /// another file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `prealloc` has not the nodes for a part of the file, or for a file
    /// of one block that is full.
    pub(crate) fn snapshot(self, range: &Range<u64>, prealloc: &mut Prealloc) -> Result<Tree> {
        let mut record = self.write_shareable(prealloc)?;
        if *range == ALL {
            Ok(record.data.snapshot())
        } else {
            record.data.snapshot_range(range.clone(), prealloc)
        }
    }

    /// Locks the tree, whose root may be shared then: see [`Tree::make_shareable`].
    fn write_shareable(self, prealloc: &mut Prealloc) -> Result<WriteRecord<'t, Tree>> {
        debug_assert!(!prealloc.may_sleep());
        let mut record = self.write();
        record.data.make_shareable(prealloc)?;
        Ok(record)
    }

    /// Returns a tree with the same blocks, in O(1): to be changed without the lock, and put in
    /// place as a [`ChargedTree`]. While it lives, everything counts as shared.
    ///
    /// # Errors
    ///
    /// As [`OwnBlocks::snapshot`].
    pub(crate) fn edit(self, prealloc: &mut Prealloc) -> Result<Tree> {
        Ok(self.write_shareable(prealloc)?.data.edit())
    }

    /// As [`OwnBlocks::edit`], with the blocks from `first` on only: the others do not count as
    /// shared.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `prealloc` has not the nodes.
    pub(crate) fn edit_from(self, first: u64, prealloc: &mut Prealloc) -> Result<Tree> {
        let record = self.write_shareable(prealloc)?;
        record.data.edit_range(first..ALL.end, prealloc)
    }

    /// Replaces the tree. Returns the old one.
    fn replace(self, tree: Tree) -> Tree {
        core::mem::replace(&mut self.write().data, tree)
    }
}

/// `invalidate_lock` of a file, held exclusive, and the transaction in which its blocks change.
#[derive(Clone, Copy)]
pub(crate) struct BlocksLock<'l, 'a> {
    lock: &'l InvalidateGuard<'a, ReflinkFs>,
    own: OwnBlocks<'l>,
}

impl<'l, 'a> BlocksLock<'l, 'a> {
    /// Returns that of a lock and a transaction of the same inode.
    pub(crate) fn of(
        lock: &'l InvalidateGuard<'a, ReflinkFs>,
        exclusive: Exclusive<'l, ReflinkFs>,
    ) -> Self {
        debug_assert!(core::ptr::eq(lock.inode(), exclusive.inode()));
        Self {
            lock,
            own: OwnBlocks(exclusive),
        }
    }

    /// Returns the blocks.
    pub(crate) fn blocks(self) -> OwnBlocks<'l> {
        self.own
    }

    /// Puts blocks in from `index` on, as far as `prealloc` has the nodes; those are `contig`'s no
    /// more. Where some are left the caller drops the lock and fills `prealloc`. Not where owners
    /// are charged: see [`ChargedBlock::uncharged`].
    ///
    /// # Errors
    ///
    /// Those of [`Tree::insert_run`].
    pub(crate) fn insert_uncharged(
        self,
        index: u64,
        contig: &mut ContigBlocks<'_>,
        prealloc: &mut Prealloc,
    ) -> Result {
        debug_assert!(!has_quota(self.inode().super_block()));
        let duplicated = {
            let mut record = self.own.write();
            record.data.insert_run(index, contig, prealloc)?;
            record.data.take_duplicated()
        };
        unmap_duplicated(self.lock, duplicated);
        Ok(())
    }
}

impl<'a> Deref for BlocksLock<'_, 'a> {
    type Target = InvalidateGuard<'a, ReflinkFs>;

    fn deref(&self) -> &InvalidateGuard<'a, ReflinkFs> {
        self.lock
    }
}

/// As [`BlocksLock`], until it is dropped.
#[must_use]
pub(crate) struct BlocksGuard<'a> {
    // Dropped in this order.
    lock: InvalidateGuard<'a, ReflinkFs>,
    transaction: Transaction<'a>,
}

impl<'a> BlocksGuard<'a> {
    /// Begins a transaction, and takes `invalidate_lock`.
    ///
    /// # Errors
    ///
    /// Those of [`Transaction::begin`].
    pub(crate) fn lock(inode: &'a Inode) -> Result<Self> {
        Ok(Self::within(Transaction::begin([inode])?.of_data(), inode))
    }

    /// Takes `invalidate_lock` in a transaction of the inode.
    pub(crate) fn within(transaction: Transaction<'a>, inode: &'a Inode) -> Self {
        Self {
            lock: inode.invalidate_lock(),
            transaction,
        }
    }

    /// Returns both.
    pub(crate) fn get(&self) -> BlocksLock<'_, 'a> {
        let [exclusive] = self.transaction.each();
        BlocksLock::of(&self.lock, exclusive)
    }

    /// Makes `invalidate_lock` shared: what is true of the blocks stays so.
    pub(crate) fn downgrade(self) -> SharedBlocksGuard<'a> {
        SharedBlocksGuard {
            lock: self.lock.downgrade(),
            transaction: self.transaction,
        }
    }
}

impl<'a> Deref for BlocksGuard<'a> {
    type Target = InvalidateGuard<'a, ReflinkFs>;

    fn deref(&self) -> &InvalidateGuard<'a, ReflinkFs> {
        &self.lock
    }
}

/// As [`BlocksGuard`], with `invalidate_lock` held shared: blocks may be mapped writable.
#[must_use]
pub(crate) struct SharedBlocksGuard<'a> {
    // Dropped in this order.
    lock: InvalidateSharedGuard<'a, ReflinkFs>,
    transaction: Transaction<'a>,
}

impl<'a> SharedBlocksGuard<'a> {
    /// Begins a transaction, and takes `invalidate_lock` shared.
    ///
    /// # Errors
    ///
    /// Those of [`Transaction::begin`].
    pub(crate) fn lock(inode: &'a Inode) -> Result<Self> {
        let transaction = Transaction::begin([inode])?.of_data();
        Ok(Self {
            lock: inode.invalidate_lock_shared(),
            transaction,
        })
    }

    /// Returns the blocks.
    pub(crate) fn blocks(&self) -> OwnBlocks<'_> {
        let [exclusive] = self.transaction.each();
        OwnBlocks(exclusive)
    }

    /// Ends the transaction.
    pub(crate) fn into_lock(self) -> InvalidateSharedGuard<'a, ReflinkFs> {
        self.lock
    }
}

impl<'a> Deref for SharedBlocksGuard<'a> {
    type Target = InvalidateSharedGuard<'a, ReflinkFs>;

    fn deref(&self) -> &InvalidateSharedGuard<'a, ReflinkFs> {
        &self.lock
    }
}

/// Blocks that may be written in place, with the lock of their tree.
pub(crate) struct OwnedBlocks<'a, const N: usize> {
    blocks: [Option<BlockRef>; N],
    _record: ReadRecord<'a, Tree>,
}

impl<const N: usize> Owned<N> for OwnedBlocks<'_, N> {
    fn blocks(&self) -> &[Option<BlockRef>; N] {
        &self.blocks
    }

    fn unlock(self) -> [Option<BlockRef>; N] {
        self.blocks
    }
}

/// Unmaps the file if full blocks were duplicated, as page tables may map the originals. With the
/// lock held nothing is stored to those meanwhile.
fn unmap_duplicated(lock: &InvalidateGuard<'_, ReflinkFs>, duplicated: u64) {
    if duplicated > 0 {
        lock.unmap(ALL);
    }
}

/// A new block for a file, for which its owner is charged.
pub(crate) struct ChargedBlock<'a> {
    block: NewBlock<'a>,
    charge: Charge<'a>,
}

impl<'a> ChargedBlock<'a> {
    /// Returns a new block to replace `old`. Its bytes are undefined until they are written.
    /// `advance` is what the owner is charged already.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, though to replace [`Lookup::WasShared`], whose block is freed in turn, only if the
    /// limit is exceeded already ([`Pool::alloc_overcommit`]); `EDQUOT` to replace a hole;
    /// `ENOMEM`.
    pub(crate) fn new(inode: &'a Inode, old: &Lookup, advance: Charge<'a>) -> Result<Self> {
        let n = u64::from(!matches!(old, Lookup::WasShared(_)));
        Self::from_batch(
            &mut inode.blocks().pool().alloc_batch(n),
            inode,
            old,
            advance,
        )
    }

    /// As [`ChargedBlock::new`], with a block of `run`, except to replace [`Lookup::WasShared`].
    pub(crate) fn from_batch(
        run: &mut BlockBatch<'a>,
        inode: &'a Inode,
        old: &Lookup,
        advance: Charge<'a>,
    ) -> Result<Self> {
        let mut charge = advance;
        let block = match old {
            Lookup::WasShared(_) => inode.blocks().pool().alloc_overcommit(),
            _ => run.take(),
        };
        let block = block.map_err(|err| events::alloc_failed(inode, err))?;
        charge.reserve(old.is_hole().into())?;
        Ok(Self { block, charge })
    }

    /// Makes it an unwritten block of zeros.
    pub(crate) fn fill_unwritten(&mut self) {
        self.block.fill_unwritten();
    }

    /// See [`NewBlock::zero_around`].
    pub(crate) fn zero_around(&self, offset: usize, len: usize) {
        self.block.zero_around(offset, len);
    }

    /// Returns the block, to be written to.
    pub(crate) fn bytes(&self) -> &BlockRef {
        self.block.bytes()
    }

    /// Puts it in at `index`, in place of what is there. Gives it back where `prealloc` does not
    /// have what that takes: the caller drops the lock and fills it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EDQUOT` where there is a hole that is not charged for yet. The file is as it was.
    pub(crate) fn insert(
        self,
        lock: BlocksLock<'_, '_>,
        index: u64,
        prealloc: &mut Prealloc,
    ) -> Result<Option<Self>> {
        let Self { block, mut charge } = self;
        let own = lock.blocks();
        // With the lock held this stays so.
        let more = u64::from(has_quota(lock.inode().super_block()) && own.lookup(index).is_hole());
        charge.reserve(more)?;
        let mut record = own.write();
        let tree = &mut record.data;
        let mut result = Ok(());
        if let Err(block) = tree.insert_in_place(index, block) {
            if !tree.can_insert(index, prealloc) {
                return Ok(Some(Self { block, charge }));
            }
            result = tree.insert(index, block, prealloc);
        }
        let duplicated = tree.take_duplicated();
        drop(record);
        unmap_duplicated(&lock, duplicated);
        result?;
        charge.commit(more);
        Ok(None)
    }

    /// Returns a block that is not charged for yet: [`ChargedBlock::insert`] does it.
    pub(crate) fn uncharged(inode: &'a Inode, block: NewBlock<'a>) -> Self {
        Self {
            block,
            charge: Charge::empty(inode),
        }
    }
}

/// A new tree for a file, for whose blocks its owner is charged.
#[must_use]
pub(crate) struct ChargedTree<'lock, 'a> {
    lock: BlocksLock<'lock, 'a>,
    tree: Tree,
    /// How many blocks the file has, which stays so with the lock held.
    before: u64,
    charge: Charge<'a>,
}

impl<'lock, 'a> ChargedTree<'lock, 'a> {
    /// Charges the owner for the blocks that are more than the file has.
    ///
    /// # Errors
    ///
    /// `EDQUOT`. Not where there are no more.
    pub(crate) fn new(lock: BlocksLock<'lock, 'a>, tree: Tree) -> Result<Self> {
        let inode = lock.inode();
        let before = inode.blocks().count();
        Ok(Self {
            charge: Charge::new(inode, tree.blocks().saturating_sub(before))?,
            lock,
            tree,
            before,
        })
    }

    /// Replaces the file's tree. Returns what the file has no longer.
    pub(crate) fn commit(mut self) -> Replaced<'a> {
        let inode = self.lock.inode();
        unmap_duplicated(&self.lock, self.tree.take_duplicated());
        let (before, after) = (self.before, self.tree.blocks());
        let old = self.lock.blocks().replace(self.tree);
        self.charge.commit(after.saturating_sub(before));
        Replaced {
            tree: old,
            charge: Charge::freed(inode, before.saturating_sub(after)),
        }
    }
}

/// What a file had. It may be large: it is dropped without a lock.
#[must_use]
pub(crate) struct Replaced<'a> {
    /// The tree.
    pub(crate) tree: Tree,
    /// The charge of the blocks that are fewer now.
    pub(crate) charge: Charge<'a>,
}
