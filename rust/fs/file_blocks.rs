// SPDX-License-Identifier: GPL-2.0

//! A file's tree, and its lock.

use super::{
    events,
    Charge,
    Inode,
    ReflinkFs, //
};
use crate::{
    dax::Owned,
    memfs::quota::has_quota,
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
        rwlock::{
            ReadGuard,
            WriteGuard, //
        },
        InvalidateGuard,
        RwLock, //
    },
};
use core::ops::Range;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// The blocks of a file.
///
/// Modified only with `invalidate_lock` held exclusive, through [`ChargedBlock`] and
/// [`ChargedTree`], which keep the quota charge equal to the block count;
/// [`FileBlocks::insert_uncharged`] is for superblocks without quotas. [`FileBlocks::get_stable`]
/// changes owned bits only. Blocks become written with `invalidate_lock` held shared, or the
/// inode's own lock: the blocks are not shared then.
#[pin_data]
pub(crate) struct FileBlocks {
    pool: Arc<Pool>,
    #[pin]
    tree: RwLock<Tree>,
    /// How many blocks the tree has, to be read without the lock; set with the lock held.
    count: Atomic<u64>,
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
            self.tree.read().$name($($arg),*)
        }
    )*};
}

impl FileBlocks {
    read_tree! {
        /// Returns the block at `index`.
        fn lookup(index: u64) -> Lookup;
        /// See [`Tree::owns_path`].
        fn owns_path(index: u64) -> bool;
        /// See [`Tree::get_blocks`].
        fn get_blocks(index: u64, blocks: &mut [Option<BlockRef>]) -> usize;
        /// See [`Tree::is_unwritten`].
        fn is_unwritten(index: u64) -> bool;
        /// See [`Tree::len_to_alloc`].
        fn len_to_alloc(index: u64, max: usize) -> usize;
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

    /// Returns an initialiser for an empty tree, for blocks of `pool`.
    pub(crate) fn new(pool: Arc<Pool>) -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- RwLock::new(Tree::new(pool.clone()), c"reflinkfs_tree", static_lock_class!()),
            count: Atomic::new(0),
            pool,
        })
    }

    /// Returns how many blocks there are.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Updates [`FileBlocks::count`] after a change of the tree.
    fn set_count(&self, tree: &Tree) {
        self.count.store(tree.blocks(), Relaxed);
    }

    /// Returns the pool that the blocks are of.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns whether there is a block at `index` that may be written in place:
    /// [`Lookup::Owned`].
    pub(crate) fn is_owned(&self, index: u64) -> bool {
        matches!(self.lookup(index), Lookup::Owned(_))
    }

    /// Returns those of the `n` blocks from `index` on, at most `N`, that are [`Lookup::Owned`] and
    /// `wanted`. They stay so while the result holds the tree's lock.
    pub(crate) fn owned<const N: usize>(
        &self,
        index: u64,
        n: usize,
        wanted: impl Fn(&BlockRef) -> bool,
    ) -> OwnedBlocks<'_, N> {
        let mut blocks = [const { None }; N];
        let tree = self.tree.read();
        let mut i = 0;
        while i < n.min(N) {
            let own = tree.owned_run(index + i as u64, n - i);
            for (block, own) in blocks[i..].iter_mut().zip(own) {
                *block = own.as_ref().filter(|own| wanted(own)).cloned();
            }
            // Skips one that is not owned.
            i += own.len().max(1);
        }
        OwnedBlocks {
            blocks,
            _tree: tree,
        }
    }

    /// Fills `found` with what the tree holds from `index` on, which is about to be written to.
    /// What was [`Lookup::Unwritten`] becomes written.
    pub(crate) fn lookup_to_write(&self, index: u64, found: &mut [Lookup]) {
        self.tree.read().lookup_run(index, found);
        if found.iter().any(|old| matches!(old, Lookup::Unwritten(_))) {
            self.set_written(index, found.len());
            self.tree.read().lookup_run(index, found);
        }
    }

    /// Calls `f` with the blocks from `index` on, at least one; `None` is a hole. Holds the tree's
    /// lock meanwhile: `f` must not sleep.
    pub(crate) fn with_blocks<R>(&self, index: u64, f: impl FnOnce(&[Option<BlockRef>]) -> R) -> R {
        let tree = self.tree.read();
        match tree.blocks_at(index) {
            [] => f(&[None]),
            blocks => f(blocks),
        }
    }

    /// As [`FileBlocks::with_blocks`], with up to `max` blocks, as far as they can be written in
    /// place; with none if that at `index` cannot.
    pub(crate) fn with_owned_blocks<R>(
        &self,
        index: u64,
        max: usize,
        f: impl FnOnce(&[Option<BlockRef>]) -> R,
    ) -> R {
        let mut tree = self.tree.read();
        let mut own = tree.owned_run(index, max);
        if own.is_empty() && tree.is_unwritten(index) {
            drop(tree);
            self.set_written(index, max);
            tree = self.tree.read();
            own = tree.owned_run(index, max);
        }
        f(own)
    }

    /// See [`Tree::set_written`].
    pub(crate) fn set_written(&self, index: u64, n: usize) -> u64 {
        self.tree.write().set_written(index, n)
    }

    /// See [`Tree::get_stable`].
    pub(crate) fn get_stable(&self, index: u64) -> StableRef {
        self.tree.write().get_stable(index)
    }

    /// Allocates the nodes for inserting blocks from `first` to `last`, as far as memory allows:
    /// before `invalidate_lock` is taken, so that no fault waits while this waits for memory.
    pub(crate) fn prealloc(&self, first: u64, last: u64, prealloc: &mut Prealloc) {
        let nodes = self.tree.read().nodes_for(first, last);
        prealloc.try_fill(nodes, &self.pool);
    }

    /// Returns the first extent at or after `from`, of any length; a part of it if a fatal signal
    /// is pending.
    ///
    /// Takes a step for each of its blocks. As their numbers differ, these are different blocks:
    /// there are no more steps than blocks in memory, however long the file is.
    pub(crate) fn extent(&self, from: u64) -> Option<BlockExtent> {
        let mut extent = self.tree.read().extent(from, EXTENT_STEP_BLOCKS)?;
        loop {
            if cond_resched_killable().is_err() {
                return Some(extent);
            }
            let end = extent.index + extent.len;
            let next = self.tree.read().extent(end, EXTENT_STEP_BLOCKS);
            if !next.is_some_and(|next| extent.join(&next)) {
                return Some(extent);
            }
        }
    }

    /// Returns a tree with the blocks in `range`, which [`FileBlocks::range_to_snapshot`] gave, for
    /// another file.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `prealloc` has not the nodes for a part of the file, or for a file
    /// of one block that is full.
    pub(crate) fn snapshot(&self, range: &Range<u64>, prealloc: &mut Prealloc) -> Result<Tree> {
        let mut tree = self.write_shareable(prealloc)?;
        if *range == ALL {
            Ok(tree.snapshot())
        } else {
            tree.snapshot_range(range.clone(), prealloc)
        }
    }

    /// Locks the tree, whose root may be shared then: see [`Tree::make_shareable`].
    fn write_shareable(&self, prealloc: &mut Prealloc) -> Result<WriteGuard<'_, Tree>> {
        debug_assert!(!prealloc.may_sleep());
        let mut tree = self.tree.write();
        tree.make_shareable(prealloc)?;
        Ok(tree)
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

    /// Returns a tree with the same blocks, in O(1): to be changed without the lock, and put in
    /// place as a [`ChargedTree`]. While it lives, everything counts as shared.
    ///
    /// # Errors
    ///
    /// As [`FileBlocks::snapshot`].
    pub(crate) fn edit(&self, prealloc: &mut Prealloc) -> Result<Tree> {
        Ok(self.write_shareable(prealloc)?.edit())
    }

    /// As [`FileBlocks::edit`], with the blocks from `first` on only: the others do not count as
    /// shared.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `prealloc` has not the nodes.
    pub(crate) fn edit_from(&self, first: u64, prealloc: &mut Prealloc) -> Result<Tree> {
        let tree = self.write_shareable(prealloc)?;
        tree.edit_range(first..ALL.end, prealloc)
    }

    /// Returns whether the blocks in `range` are those of `tree`. May return false where they are.
    pub(crate) fn is_same(&self, tree: &Tree, range: Range<u64>) -> bool {
        let (mut steps, len) = (COMPARE_STEPS, range.end - range.start);
        let current = self.tree.read();
        current.same_len(range.start, tree, range.start, len, &mut steps) == len
    }

    /// See [`Tree::restore_owned`].
    pub(crate) fn restore_owned<'a>(&self, indexes: impl Iterator<Item = &'a u64>) {
        for &index in indexes {
            self.tree.write().restore_owned(index);
        }
    }

    /// Replaces the tree.
    fn replace(&self, tree: Tree) {
        // The old tree may be large: it is dropped after the lock.
        let old = {
            let mut current = self.tree.write();
            self.set_count(&tree);
            core::mem::replace(&mut *current, tree)
        };
        drop(old);
    }

    /// Puts blocks in from `index` on, as far as `prealloc` has the nodes; those are `contig`'s no
    /// more. Where some are left the caller drops the lock and fills `prealloc`. Not where owners
    /// are charged: see [`ChargedBlock::uncharged`].
    ///
    /// # Errors
    ///
    /// Those of [`Tree::insert_run`].
    pub(crate) fn insert_uncharged(
        lock: &InvalidateGuard<'_, ReflinkFs>,
        index: u64,
        contig: &mut ContigBlocks<'_>,
        prealloc: &mut Prealloc,
    ) -> Result {
        debug_assert!(!has_quota(lock.inode().super_block()));
        let file_blocks = lock.inode().info().blocks();
        let duplicated = {
            let mut tree = file_blocks.tree.write();
            let result = tree.insert_run(index, contig, prealloc);
            file_blocks.set_count(&tree);
            result?;
            tree.take_duplicated()
        };
        unmap_duplicated(lock, duplicated);
        Ok(())
    }

    /// Allocates what [`ChargedBlock::insert`] needs at `index`, as things are now.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more nodes, `ENOMEM`.
    pub(crate) fn prepare_insert(&self, index: u64, prealloc: &mut Prealloc) -> Result {
        if self.tree.read().can_insert(index, prealloc) {
            return Ok(());
        }
        prealloc.fill(&self.pool)
    }
}

/// Blocks that may be written in place, with the lock of their tree.
pub(crate) struct OwnedBlocks<'a, const N: usize> {
    blocks: [Option<BlockRef>; N],
    _tree: ReadGuard<'a, Tree>,
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
            &mut inode.info().blocks().pool().alloc_batch(n),
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
            Lookup::WasShared(_) => inode.info().blocks().pool().alloc_overcommit(),
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
        lock: &InvalidateGuard<'_, ReflinkFs>,
        index: u64,
        prealloc: &mut Prealloc,
    ) -> Result<Option<Self>> {
        let Self { block, mut charge } = self;
        let file_blocks = lock.inode().info().blocks();
        // With the lock held this stays so.
        let more =
            u64::from(has_quota(lock.inode().super_block()) && file_blocks.lookup(index).is_hole());
        charge.reserve(more)?;
        let mut tree = file_blocks.tree.write();
        let mut result = Ok(());
        if let Err(block) = tree.insert_in_place(index, block) {
            if !tree.can_insert(index, prealloc) {
                return Ok(Some(Self { block, charge }));
            }
            result = tree.insert(index, block, prealloc);
        }
        file_blocks.set_count(&tree);
        let duplicated = tree.take_duplicated();
        drop(tree);
        unmap_duplicated(lock, duplicated);
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
    lock: &'lock InvalidateGuard<'a, ReflinkFs>,
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
    pub(crate) fn new(lock: &'lock InvalidateGuard<'a, ReflinkFs>, tree: Tree) -> Result<Self> {
        let inode = lock.inode();
        let before = inode.info().blocks().count();
        Ok(Self {
            charge: Charge::new(inode, tree.blocks().saturating_sub(before))?,
            lock,
            tree,
            before,
        })
    }

    /// Replaces the file's tree. Returns the charge of the blocks that the file has no longer.
    pub(crate) fn commit(mut self) -> Charge<'a> {
        let inode = self.lock.inode();
        unmap_duplicated(self.lock, self.tree.take_duplicated());
        let (before, after) = (self.before, self.tree.blocks());
        inode.info().blocks().replace(self.tree);
        self.charge.commit(after.saturating_sub(before));
        Charge::freed(inode, before.saturating_sub(after))
    }
}
