// SPDX-License-Identifier: GPL-2.0

//! The blocks of one file: a persistent radix tree.

use super::{
    block::{BlockRef, NewBlock, Piece, Pool, Shared, Slots},
    node::{self, span, Node, Subtree, FANOUT},
    Reserve,
};
use core::ops::Range;
use kernel::{prelude::*, sync::Arc};

/// The blocks of a file, by block index. No entry for a hole.
///
/// The tree is persistent: [`Tree::snapshot`] shares all of it in O(1), and a change to one of
/// the two copies the nodes on its way that have several owners, and those alone.
///
/// # What may be written in place
///
/// A node or a block with one owner, reached from the root through nodes with one owner each,
/// belongs to this tree alone. That is a fact about the path, found anew by each walk, and cannot
/// go stale: the count of what lies on such a path can only be raised by way of this tree, whose
/// lock the walker holds. Below a node with several owners everything is shared, whatever its own
/// count says: another tree may be about to copy that node, and raise the counts below it.
///
/// A count may *fall* to one at any time, when another tree lets go. Then the walk that still
/// read two copies a node it need not have copied, which is harmless.
///
/// A block that other trees held until then is not written in place all the same, but copied once
/// more ([`Lookup::Unshared`]): there may still be references to its page that were got through
/// them, see [`Slots`].
pub struct Tree {
    pool: Arc<Pool>,
    /// What new blocks are marked with, see [`Slots`].
    epoch: u64,
    /// Whether there may be unwritten blocks. Where there never were any, data is found without
    /// a look at each block.
    unwritten: bool,
    root: Root,
}

// As for `Slots`: the `Arc` keeps it from being so by itself.
impl Unpin for Tree {}

#[derive(Clone)]
enum Root {
    /// Block 0 and nothing else: most files are this small.
    One(Slots<1>),
    /// A node of this height, at least 1: a tree of `span(height)` blocks. Without a node the
    /// height is 0, and there is no block.
    Node { node: Subtree, height: u32 },
}

const EMPTY: Root = Root::Node {
    node: None,
    height: 0,
};

/// What a tree holds at an index.
pub enum Lookup {
    /// Nothing: reads as zeros.
    Hole,
    /// A block of this tree alone: it may be written while the tree cannot be cloned.
    Private(BlockRef),
    /// A block that other trees may hold too: to be copied, never written.
    Shared(BlockRef),
    /// A block of this tree alone that others held once: to be copied, too, as somebody may still
    /// look at it. The copy takes no room, since the block goes.
    Unshared(BlockRef),
}

impl Lookup {
    /// Whether there is nothing.
    pub fn is_hole(&self) -> bool {
        matches!(self, Self::Hole)
    }

    /// The block, whosever it is.
    pub fn as_block(&self) -> Option<&BlockRef> {
        match self {
            Self::Hole => None,
            Self::Private(block) | Self::Shared(block) | Self::Unshared(block) => Some(block),
        }
    }

    /// As [`Lookup::as_block`], by itself.
    pub fn block(self) -> Option<BlockRef> {
        match self {
            Self::Hole => None,
            Self::Private(block) | Self::Shared(block) | Self::Unshared(block) => Some(block),
        }
    }
}

/// What [`Tree::lend`] gives.
pub enum Loan {
    /// Nothing: reads as zeros.
    Hole,
    /// The block: this tree will not write it in place any more.
    Block(BlockRef),
    /// The block, to be copied, as this tree may.
    Unsteady(BlockRef),
}

/// A run of blocks with consecutive numbers, all of them shared or none, and all written or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The index in the file of the first block.
    pub index: u64,
    /// The number of the first block.
    pub number: u64,
    /// How many blocks.
    pub len: u64,
    /// Whether other slots hold these blocks too.
    pub shared: bool,
    /// Whether these are zeros that were never written.
    pub unwritten: bool,
}

impl Extent {
    /// Makes the extent longer by `next` if that continues it.
    pub fn join(&mut self, next: &Extent) -> bool {
        let joins = next.index == self.index + self.len
            && next.number == self.number + self.len
            && next.shared == self.shared
            && next.unwritten == self.unwritten;
        if joins {
            self.len += next.len;
        }
        joins
    }
}

impl Tree {
    /// An empty tree of blocks of `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        let epoch = pool.new_epoch();
        Self {
            pool,
            epoch,
            unwritten: false,
            root: EMPTY,
        }
    }

    /// The pool that the blocks are of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A tree with the same blocks, in O(1), for another file. From now on this tree writes none of
    /// the blocks in place that it has.
    pub fn snapshot(&mut self) -> Self {
        self.epoch = self.pool.new_epoch();
        self.edit_with_new_epoch()
    }

    /// As [`Tree::snapshot`], of which another file gets only the blocks in `range`, and only for
    /// these it matters. Takes a step for each leaf.
    pub fn snapshot_range(&mut self, range: Range<u64>) -> Self {
        let mut index = range.start;
        while index < range.end {
            let leaf_end = (index - index % FANOUT as u64).saturating_add(FANOUT as u64);
            let end = leaf_end.min(range.end);
            match &mut self.root {
                Root::One(slots) if index == 0 => slots.unmark(0, 1),
                Root::Node { node, height } if index < span(*height) => {
                    // A leaf that is shared already has no marks that count.
                    if let Some(slots) = node::own_slots(node, *height, index) {
                        let first = node::slot(1, index);
                        slots.unmark(first, first + (end - index) as usize);
                    }
                }
                _ => break,
            }
            index = end;
        }
        self.edit_with_new_epoch()
    }

    fn edit_with_new_epoch(&self) -> Self {
        Self {
            epoch: self.pool.new_epoch(),
            ..self.edit()
        }
    }

    /// A tree with the same blocks, in O(1), to be changed and then put in the place of this one.
    pub fn edit(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            epoch: self.epoch,
            unwritten: self.unwritten,
            root: self.root.clone(),
        }
    }

    /// Lets this tree write the block at `index` in place, if no other slot holds it.
    ///
    /// The caller knows that no reference to its page was got through another tree, or by
    /// [`Tree::lend`]: as it was [`Lookup::Private`] until just now.
    pub fn keep_private(&mut self, index: u64) {
        fn keep<const N: usize>(slots: &mut Slots<N>, i: usize, epoch: u64) {
            // What several slots hold may be lent through one that has no mark.
            if slots.is_sole_owner(i) {
                slots.mark(i, epoch);
            }
        }
        let epoch = self.epoch;
        match &mut self.root {
            Root::One(slots) if index == 0 => keep(slots, 0, epoch),
            Root::Node { node, height } if index < span(*height) => {
                if let Some(slots) = node::own_slots(node, *height, index) {
                    keep(slots, node::slot(1, index), epoch);
                }
            }
            _ => (),
        }
    }

    /// The block at `index`, for somebody who looks at it later, when the file may have been written
    /// to: its mark goes, so that it is copied then, as one is that others held once. That is of no
    /// use for a block that is mapped writable, nor while the tree is being edited, as the edited
    /// one has the mark, too.
    pub fn lend(&mut self, index: u64) -> Loan {
        let epoch = self.epoch;
        let slots = match &mut self.root {
            Root::One(slots) if index == 0 => return Self::lend_from(slots, 0, epoch),
            Root::Node { node, height } if index < span(*height) => {
                node::own_slots(node, *height, index)
            }
            _ => return Loan::Hole,
        };
        let i = node::slot(1, index);
        if let Some(slots) = slots {
            return Self::lend_from(slots, i, epoch);
        }
        match self.slots_for(index) {
            Some((slots, i, _)) => match slots.get(i) {
                None => Loan::Hole,
                Some(block) if slots.is_marked(i, epoch) => Loan::Unsteady(block),
                Some(block) => Loan::Block(block),
            },
            None => Loan::Hole,
        }
    }

    fn lend_from<const N: usize>(slots: &mut Slots<N>, i: usize, epoch: u64) -> Loan {
        match slots.get(i) {
            None => Loan::Hole,
            Some(block) if !slots.is_marked(i, epoch) => Loan::Block(block),
            Some(block) if !slots.is_sole_owner(i) || block.is_mapped_writable() => {
                Loan::Unsteady(block)
            }
            Some(block) => {
                slots.unmark(i, i + 1);
                Loan::Block(block)
            }
        }
    }

    /// The number of blocks, shared or not; a block is counted as often as it occurs.
    pub fn blocks(&self) -> u64 {
        match &self.root {
            Root::One(_) => 1,
            Root::Node { node, .. } => node.as_ref().map_or(0, |node| node.blocks()),
        }
    }

    /// The root and its height, where it has a node and room for `index`.
    fn root_for(&self, index: u64) -> Option<(&Shared<Node>, u32)> {
        match &self.root {
            Root::Node {
                node: Some(node),
                height,
            } if index < span(*height) => Some((node, *height)),
            _ => None,
        }
    }

    /// The slots that hold `index`, its place there, and whether the way has one owner all along.
    fn slots_for(&self, index: u64) -> Option<(&Slots<FANOUT>, usize, bool)> {
        let (root, height) = self.root_for(index)?;
        let (leaf, unique) = node::descend(root, height, 1, index)?;
        Some((leaf.slots()?, node::slot(1, index), unique))
    }

    /// The block at `index`.
    pub fn lookup(&self, index: u64) -> Lookup {
        match &self.root {
            Root::One(slots) if index == 0 => self.lookup_in(slots, 0, true),
            _ => match self.slots_for(index) {
                Some((slots, i, unique)) => self.lookup_in(slots, i, unique),
                None => Lookup::Hole,
            },
        }
    }

    fn lookup_in<const N: usize>(&self, slots: &Slots<N>, i: usize, unique: bool) -> Lookup {
        match slots.get(i) {
            None => Lookup::Hole,
            Some(block) if !unique || !slots.is_sole_owner(i) => Lookup::Shared(block),
            Some(block) if slots.is_marked(i, self.epoch) => Lookup::Private(block),
            Some(block) => Lookup::Unshared(block),
        }
    }

    /// Fills `found` with what lies at `index` and after it, as [`Tree::lookup`] says.
    pub fn lookup_run(&self, index: u64, found: &mut [Lookup]) {
        let mut done = 0;
        while done < found.len() {
            let at = index + done as u64;
            let first = node::slot(1, at);
            let n = (found.len() - done).min(FANOUT - first);
            let found = &mut found[done..done + n];
            match self.slots_for(at) {
                Some((slots, _, unique)) => {
                    for (i, found) in found.iter_mut().enumerate() {
                        *found = self.lookup_in(slots, first + i, unique);
                    }
                }
                None => {
                    found.fill_with(|| Lookup::Hole);
                    found[0] = self.lookup(at);
                }
            }
            done += n;
        }
    }

    /// How many blocks from `index` on, up to `max` or to the end of a leaf, are not this tree's own:
    /// [`Lookup::Hole`] or [`Lookup::Shared`], so that writing takes new ones.
    pub fn run_of_others(&self, index: u64, max: usize) -> usize {
        let first = node::slot(1, index);
        let end = FANOUT.min(first + max);
        match self.slots_for(index) {
            Some((slots, _, unique)) => (first..end)
                .take_while(|&i| !(slots.is_some(i) && unique && slots.is_sole_owner(i)))
                .count(),
            None => match self.lookup(index) {
                Lookup::Hole | Lookup::Shared(_) => end - first,
                Lookup::Private(_) | Lookup::Unshared(_) => 0,
            },
        }
    }

    /// The blocks at `index` and after it, up to the end of a leaf; `None` among them is a hole. None
    /// at all where there is no leaf: then there is a hole at `index`.
    pub fn blocks_at(&self, index: u64) -> &[Option<BlockRef>] {
        let leaf = self
            .root_for(index)
            .and_then(|(root, height)| node::leaf_slots(root, height, index));
        match (leaf, &self.root) {
            (Some(slots), _) => &slots.blocks()[node::slot(1, index)..],
            (None, Root::One(slots)) if index == 0 => slots.blocks(),
            _ => &[],
        }
    }

    /// Fills `blocks` with what lies at `index` and after it. Returns how many entries of
    /// `blocks` are valid, at least one: `None` among them is a hole.
    pub fn read(&self, index: u64, blocks: &mut [Option<BlockRef>]) -> usize {
        let found = self.blocks_at(index);
        if found.is_empty() {
            blocks.iter_mut().take(1).for_each(|block| *block = None);
            return blocks.len().min(1);
        }
        let n = blocks.len().min(found.len());
        blocks[..n].clone_from_slice(&found[..n]);
        n
    }

    /// Whether some of the blocks may be unwritten.
    pub fn may_have_unwritten(&self) -> bool {
        self.unwritten
    }

    /// The first index at or after `from` with a block.
    pub fn next_block(&self, from: u64) -> Option<u64> {
        match &self.root {
            Root::One(_) => (from == 0).then_some(0),
            Root::Node { .. } => {
                let (root, height) = self.root_for(from)?;
                node::find(root, height, from, false)
            }
        }
    }

    /// The first index at or after `from` without a block.
    pub fn next_hole(&self, from: u64) -> u64 {
        match &self.root {
            Root::One(_) => from.max(1),
            Root::Node { .. } => match self.root_for(from) {
                Some((root, height)) => {
                    node::find(root, height, from, true).unwrap_or(span(height))
                }
                None => from,
            },
        }
    }

    /// The first extent at or after `from`, of at most about `max` blocks.
    pub fn extent(&self, from: u64, max: u64) -> Option<Extent> {
        let mut extent = self.extent_in_leaf(self.next_block(from)?)?;
        while extent.len < max {
            match self.extent_in_leaf(extent.index + extent.len) {
                Some(next) if extent.join(&next) => (),
                _ => break,
            }
        }
        Some(extent)
    }

    /// The extent that begins at `index`, as far as its leaf reaches.
    fn extent_in_leaf(&self, index: u64) -> Option<Extent> {
        fn run<const N: usize>(
            (slots, first, unique): (&Slots<N>, usize, bool),
            index: u64,
        ) -> Option<Extent> {
            let one = |i: usize| {
                Some(Extent {
                    index: index + i as u64,
                    number: slots.number(first + i)?,
                    len: 1,
                    shared: !unique || !slots.is_sole_owner(first + i),
                    unwritten: slots.is_unwritten(first + i),
                })
            };
            let mut extent = one(0)?;
            while one(extent.len as usize).is_some_and(|next| extent.join(&next)) {}
            Some(extent)
        }
        match &self.root {
            Root::One(slots) if index == 0 => run((slots, 0, true), 0),
            _ => run(self.slots_for(index)?, index),
        }
    }

    /// Whether [`Tree::insert`] at `index` finds the nodes it needs in `reserve`; if not, they
    /// are noted there.
    pub fn can_insert(&self, index: u64, reserve: &mut Reserve) -> bool {
        reserve.has(self.nodes_to_insert(index))
    }

    fn nodes_to_insert(&self, index: u64) -> usize {
        let needed = height_for(index);
        match &self.root {
            _ if self.is_at_root(index) => 0,
            // A leaf for the block that there is, nodes above it, and the way to the new one.
            Root::One(_) => (2 * needed - 1) as usize,
            Root::Node { node: None, .. } => needed as usize,
            Root::Node {
                node: Some(node),
                height,
            } if needed <= *height => node::nodes_to_insert(node, *height, index),
            // A new root for each level, and from the topmost down to the new block.
            Root::Node { height, .. } => (needed - height + needed - 1) as usize,
        }
    }

    /// Whether a block at `index` is kept in the root itself.
    fn is_at_root(&self, index: u64) -> bool {
        index == 0 && matches!(&self.root, Root::One(_) | Root::Node { node: None, .. })
    }

    /// As [`Tree::insert`], where all nodes on the way are there, and this tree's own: no others are
    /// needed then. Otherwise gives the block back.
    pub fn insert_in_place<'p>(
        &mut self,
        index: u64,
        block: NewBlock<'p>,
    ) -> Result<(), NewBlock<'p>> {
        let (epoch, unwritten) = (self.epoch, block.bytes().is_unwritten());
        let mut block = Some(block);
        self.change_in_place(index, |slots, i| {
            block
                .take()
                .map_or(0, |block| slots.insert(i, block, epoch))
        });
        match block {
            Some(back) => Err(back),
            None => {
                self.unwritten |= unwritten;
                Ok(())
            }
        }
    }

    /// As [`Tree::insert_in_place`], of blocks from `index` on, up to the end of the leaf. Those that
    /// were put in are `piece`'s no more.
    pub fn insert_piece_in_place(&mut self, index: u64, piece: &mut Piece<'_>) {
        let epoch = self.epoch;
        self.change_in_place(index, |slots, i| slots.insert_piece(i, piece, epoch));
    }

    fn change_in_place(
        &mut self,
        index: u64,
        change: impl FnOnce(&mut Slots<FANOUT>, usize) -> i64,
    ) {
        if let Root::Node { node, height } = &mut self.root {
            if index < span(*height) {
                node::change_in_place(node, *height, index, change);
            }
        }
    }

    /// Puts a new block in at `index`, in place of what was there.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where `reserve` has too few nodes, which [`Tree::can_insert`] tells in advance:
    /// the blocks of the tree are as they were.
    pub fn insert(&mut self, index: u64, block: NewBlock<'_>, reserve: &mut Reserve) -> Result {
        self.unwritten |= block.bytes().is_unwritten();
        if self.is_at_root(index) {
            let mut slots = Slots::new(self.pool.clone());
            slots.insert(0, block, self.epoch);
            self.root = Root::One(slots);
            return Ok(());
        }
        let marked = (block, self.epoch);
        let (root, height, pool) = self.grow(height_for(index), reserve)?;
        node::insert(root, height, index, marked, pool, reserve)?;
        Ok(())
    }

    /// Makes the root a node of at least this height. Returns it, its height, and the pool.
    fn grow(
        &mut self,
        needed: u32,
        reserve: &mut Reserve,
    ) -> Result<(&mut Subtree, u32, &Arc<Pool>)> {
        if let Root::One(slots) = &self.root {
            let leaf = Node::leaf_with(slots, self.pool.clone(), self.epoch);
            let leaf = reserve.node(leaf, &self.pool)?;
            self.root = Root::Node {
                node: Some(leaf),
                height: 1,
            };
        }
        match &mut self.root {
            Root::One(_) => Err(EINVAL),
            Root::Node { node, height } => {
                while *height < needed {
                    if let Some(top) = node {
                        let above = Node::inner_above(top, self.pool.clone());
                        *node = Some(reserve.node(above, &self.pool)?);
                    }
                    *height += 1;
                }
                Ok((node, *height, &self.pool))
            }
        }
    }

    /// Empties `from..to`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` where `reserve` has too few nodes; some of the range may be empty then.
    /// So this is for a tree got from [`Tree::edit`], which is thrown away on an error.
    pub fn remove(&mut self, from: u64, to: u64, reserve: &mut Reserve) -> Result {
        if from >= to {
            return Ok(());
        }
        match &mut self.root {
            Root::One(_) if from == 0 => self.root = EMPTY,
            Root::One(_) => (),
            Root::Node { node, height } if from < span(*height) => {
                node::remove(node, *height, from, to, &self.pool, reserve)?;
                if node.is_none() {
                    *height = 0;
                }
            }
            Root::Node { .. } => (),
        }
        Ok(())
    }

    /// Makes the `len` blocks at `index` those at `from_index` of `from`, holes included, by
    /// sharing them: whole subtrees where both indexes are multiples of a subtree's span, single
    /// blocks elsewhere.
    ///
    /// `from` may be a snapshot of this tree. Both must be of one pool. `go_on` is asked before each
    /// step, of which there may be many.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, as [`Tree::remove`]; what `go_on` says.
    pub fn share(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: u64,
        reserve: &mut Reserve,
        go_on: impl Fn() -> Result,
    ) -> Result {
        self.unwritten |= from.unwritten;
        let mut done = 0;
        while done < len {
            go_on()?;
            let (to, at, left) = (index + done, from_index + done, len - done);
            let next = from.next_block(at).unwrap_or(u64::MAX);
            if next > at {
                let hole = left.min(next - at);
                self.remove(to, to + hole, reserve)?;
                done += hole;
                continue;
            }
            done += if let Some((content, height)) = from.subtree_for(at, to, left) {
                let content = content.clone();
                let needed = height_for(to + span(height) - 1);
                let (root, top, pool) = self.grow(needed, reserve)?;
                node::graft(root, top, height, to, content, pool, reserve)?;
                span(height)
            } else {
                // As far as both leaves reach; a block in the root has no leaf.
                let run = match &from.root {
                    Root::One(_) => 1,
                    Root::Node { .. } => left
                        .min(FANOUT as u64 - at % FANOUT as u64)
                        .min(FANOUT as u64 - to % FANOUT as u64),
                };
                self.share_run(to, from, at, run as usize, reserve)?;
                run
            };
        }
        Ok(())
    }

    /// The highest node that begins at `at`, fits `left`, and may stand at `to` too.
    fn subtree_for(&self, at: u64, to: u64, left: u64) -> Option<(&Shared<Node>, u32)> {
        let (root, top) = self.root_for(at)?;
        let fits = |height: &u32| {
            at % span(*height) == 0 && to % span(*height) == 0 && left >= span(*height)
        };
        let height = (1..=top).rev().find(fits)?;
        let (node, _) = node::descend(root, top, height, at)?;
        Some((node, height))
    }

    /// As [`Tree::share`], within one leaf on both sides.
    fn share_run(
        &mut self,
        index: u64,
        from: &Tree,
        from_index: u64,
        len: usize,
        reserve: &mut Reserve,
    ) -> Result {
        if let (Root::One(slots), true, 0) = (&from.root, self.is_at_root(index), from_index) {
            self.root = Root::One(slots.clone());
            return Ok(());
        }
        let (root, height, pool) = self.grow(height_for(index), reserve)?;
        match &from.root {
            Root::One(slots) => {
                node::share_run(root, height, index, (slots, 0), len, pool, reserve)?;
            }
            Root::Node { .. } => {
                let (slots, i, _) = from.slots_for(from_index).ok_or(EINVAL)?;
                node::share_run(root, height, index, (slots, i), len, pool, reserve)?;
            }
        }
        Ok(())
    }

    /// How many of the `len` blocks at `index` are known to be those at `other_index` of `other`,
    /// from the first on, without looking at a byte. Whole subtrees are compared by pointer.
    pub fn same(&self, index: u64, other: &Tree, other_index: u64, len: u64) -> u64 {
        if let (Root::Node { node: Some(a), .. }, Root::Node { node: Some(b), .. }) =
            (&self.root, &other.root)
        {
            if index == other_index && Shared::ptr_eq(a, b) {
                return len;
            }
        }
        let mut done = 0;
        while done < len {
            let (a, b, left) = (index + done, other_index + done, len - done);
            let step = match (self.next_block(a), other.next_block(b)) {
                (Some(next), Some(other_next)) if next == a && other_next == b => {
                    self.same_here(a, other, b, left)
                }
                (next, other_next) => {
                    // A hole on both sides, as far as it reaches.
                    let hole = next.unwrap_or(u64::MAX) - a;
                    hole.min(other_next.unwrap_or(u64::MAX) - b).min(left)
                }
            };
            if step == 0 {
                break;
            }
            done += step;
        }
        done
    }

    /// The length of adjacent subtrees, or the number of blocks in a leaf, that are the same at `a`
    /// here and at `b` in `other`, where both hold a block.
    fn same_here(&self, a: u64, other: &Tree, b: u64, left: u64) -> u64 {
        if let (Some((root, top)), Some((other_root, other_top))) =
            (self.root_for(a), other.root_for(b))
        {
            for height in (1..=top.min(other_top)).rev() {
                let span = span(height);
                if a % span != 0 || b % span != 0 || left < span {
                    continue;
                }
                let same = node::same_run((root, top, a), (other_root, other_top, b), height);
                if same > 0 {
                    return span * same.min(left / span);
                }
            }
        }
        match (&self.root, &other.root) {
            (Root::One(x), Root::One(y)) => x.same_block(0, y, 0).into(),
            (Root::One(x), _) => other
                .slots_for(b)
                .is_some_and(|(y, j, _)| x.same_block(0, y, j))
                .into(),
            (_, Root::One(y)) => self
                .slots_for(a)
                .is_some_and(|(x, i, _)| x.same_block(i, y, 0))
                .into(),
            _ => match (self.slots_for(a), other.slots_for(b)) {
                (Some((x, i, _)), Some((y, j, _))) => {
                    let most = (FANOUT - i.max(j)).min(left as usize);
                    (0..most)
                        .take_while(|k| x.same_block(i + k, y, j + k))
                        .count() as u64
                }
                _ => 0,
            },
        }
    }
}

/// The height of a tree that has room for `index`.
fn height_for(index: u64) -> u32 {
    let mut height = 1;
    while index >= span(height) {
        height += 1;
    }
    height
}
