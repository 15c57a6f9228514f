// SPDX-License-Identifier: GPL-2.0

//! The nodes of the tree, and what can be done below one.
//!
//! All functions here take indexes relative to the node: `0..span(height)`.

use super::{
    block::{BlockCount, ContigBlocks, InPool, Leaf, NodeCache, NodeCharge, NodeRef, Pool},
    Prealloc,
};
use kernel::{prelude::*, sync::Arc};

/// The logarithm of [`FANOUT`].
pub(super) const FANOUT_SHIFT: u32 = 6;

/// How many children a node has.
pub(super) const FANOUT: usize = 1 << FANOUT_SHIFT;

/// How many blocks a node of height `height` covers; a leaf has height 1, a block 0.
pub(super) const fn span(height: u32) -> u64 {
    1 << (FANOUT_SHIFT * height)
}

// The largest file has 2^51 blocks, so that no height is over 9 and no span overflows.
const _: () = assert!(FANOUT_SHIFT * 9 >= 63 - super::block::BLOCK_SHIFT);

/// The slot of a node of height `height` that covers block `index`.
pub(super) const fn child_index(height: u32, index: u64) -> usize {
    (index >> (FANOUT_SHIFT * (height - 1))) as usize % FANOUT
}

/// The slots of a leaf, which own its charge.
pub(super) type NodeLeaf = Leaf<FANOUT, NodeCharge>;

/// A node of the tree, charged to its pool for as long as it lives.
pub(super) enum Node {
    /// Height 1: blocks, and how many.
    Leaf { blocks: u64, slots: NodeLeaf },
    /// Height 2 and more: nodes, each one lower, and what is below them.
    Inner {
        count: BlockCount,
        children: [Option<NodeRef<Node>>; FANOUT],
        _charge: NodeCharge,
    },
}

/// Makes the cache for the memory of nodes, for as long as there are trees.
///
/// # Errors
///
/// Those of [`NodeCache::new`].
pub fn node_cache(name: &'static CStr) -> Result<NodeCache> {
    NodeCache::new::<Node>(name)
}

// Seven fit into a page, and so they are counted.
const _: () = assert!(NodeRef::<Node>::BYTES <= 576);

impl Node {
    fn leaf(charge: NodeCharge) -> Self {
        Self::Leaf {
            blocks: 0,
            slots: Leaf::new(charge),
        }
    }

    /// A leaf that has what `from` had as its first.
    pub(super) fn leaf_with(from: &mut Leaf<1>, charge: NodeCharge) -> Self {
        let mut leaf = Self::leaf(charge);
        if let Self::Leaf { blocks, slots } = &mut leaf {
            *blocks = slots.take_over(from).blocks;
        }
        leaf
    }

    fn inner(charge: NodeCharge) -> Self {
        Self::Inner {
            count: BlockCount::default(),
            children: [const { None }; FANOUT],
            _charge: charge,
        }
    }

    /// A node whose first child is `node`.
    pub(super) fn inner_above(node: &NodeRef<Node>, charge: NodeCharge) -> Self {
        let mut above = Self::inner(charge);
        if let Self::Inner {
            count, children, ..
        } = &mut above
        {
            *count = node.count();
            children[0] = Some(node.clone());
        }
        above
    }

    /// An empty node of height `height`.
    fn empty(height: u32, charge: NodeCharge) -> Self {
        if height == 1 {
            Self::leaf(charge)
        } else {
            Self::inner(charge)
        }
    }

    /// A node with the same children, each of which gains an owner. Of blocks that are full there are
    /// copies, see [`Leaf::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of [`Prealloc::node`] and [`Leaf::copy_from`].
    fn copy(&self, pool: &Arc<Pool>, prealloc: &mut Prealloc) -> Result<NodeRef<Node>> {
        match self {
            Self::Leaf {
                blocks: from,
                slots: from_slots,
                ..
            } => {
                let mut copy = prealloc.node(pool, Self::leaf)?;
                if let Some(Self::Leaf { blocks, slots, .. }) = copy.get_mut() {
                    slots.copy_from(from_slots, prealloc)?;
                    *blocks = *from;
                }
                Ok(copy)
            }
            Self::Inner {
                count, children, ..
            } => prealloc.node(pool, |charge| Self::Inner {
                count: *count,
                children: children.clone(),
                _charge: charge,
            }),
        }
    }

    /// The blocks below.
    pub(super) fn count(&self) -> BlockCount {
        match self {
            Self::Leaf { blocks, slots, .. } => BlockCount {
                blocks: *blocks,
                written: blocks.saturating_sub(slots.unwritten()),
            },
            Self::Inner { count, .. } => *count,
        }
    }

    fn add_count(&mut self, delta: BlockCount) {
        match self {
            Self::Leaf { blocks, .. } => *blocks = blocks.wrapping_add(delta.blocks),
            Self::Inner { count, .. } => *count += delta,
        }
    }

    /// The child that covers block `index` of a node of height `height`.
    fn child(&self, height: u32, index: u64) -> Option<&NodeRef<Node>> {
        match self {
            Self::Leaf { .. } => None,
            Self::Inner { children, .. } => children[child_index(height, index)].as_ref(),
        }
    }

    /// The slots of a leaf.
    pub(super) fn slots(&self) -> Option<&NodeLeaf> {
        match self {
            Self::Leaf { slots, .. } => Some(slots),
            Self::Inner { .. } => None,
        }
    }
}

/// A subtree: what one slot of a node holds.
pub(super) type Subtree = Option<NodeRef<Node>>;

/// The blocks in a subtree.
pub(super) fn count(subtree: &Subtree) -> BlockCount {
    subtree
        .as_ref()
        .map_or_else(BlockCount::default, |node| node.count())
}

/// The node of height `at` that covers block `index`, below `node` of height `height`, and
/// whether every node on the way, itself included, has one owner.
pub(super) fn descend(
    node: &NodeRef<Node>,
    mut height: u32,
    at: u32,
    index: u64,
) -> Option<(&NodeRef<Node>, bool)> {
    let mut node = node;
    let mut unique = node.is_unique();
    while height > at {
        node = node.child(height, index)?;
        unique &= node.is_unique();
        height -= 1;
    }
    Some((node, unique))
}

/// The slots that hold `index`, below `node` of height `height`.
pub(super) fn find_leaf(node: &Node, height: u32, index: u64) -> Option<&NodeLeaf> {
    let (mut node, mut height) = (node, height);
    while height > 1 {
        node = node.child(height, index)?;
        height -= 1;
    }
    node.slots()
}

/// A root, its height, and a block index below it.
type Cursor<'a> = (&'a NodeRef<Node>, u32, u64);

/// How many nodes of height `at` are the same in two trees, as far as their parents reach: from those
/// on that begin at the two indexes.
pub(super) fn same_run((a, a_top, i): Cursor<'_>, (b, b_top, j): Cursor<'_>, at: u32) -> u64 {
    if a_top == at || b_top == at {
        let pair = descend(a, a_top, at, i).zip(descend(b, b_top, at, j));
        return pair
            .is_some_and(|((a, _), (b, _))| NodeRef::ptr_eq(a, b))
            .into();
    }
    let parents = descend(a, a_top, at + 1, i).zip(descend(b, b_top, at + 1, j));
    let Some(((a, _), (b, _))) = parents else {
        return 0;
    };
    match (&**a, &**b) {
        (Node::Inner { children: a, .. }, Node::Inner { children: b, .. }) => {
            let (i, j) = (child_index(at + 1, i), child_index(at + 1, j));
            let same = |(a, b): &(&Subtree, &Subtree)| match (a, b) {
                (Some(a), Some(b)) => NodeRef::ptr_eq(a, b),
                _ => false,
            };
            a[i..].iter().zip(&b[j..]).take_while(same).count() as u64
        }
        // Only leaves have nothing but blocks below them.
        _ => 0,
    }
}

/// How many nodes [`insert`] allocates: those that are missing, and those with several owners or
/// below one that has.
pub(super) fn nodes_to_insert(node: &NodeRef<Node>, height: u32, index: u64) -> usize {
    let mut node = node;
    let mut height = height;
    loop {
        if !node.is_unique() {
            return height as usize;
        }
        match node.child(height, index) {
            _ if height == 1 => return 0,
            None => return height as usize - 1,
            Some(child) => node = child,
        }
        height -= 1;
    }
}

/// The node in `subtree`, to be changed in place: made if it is missing, copied if it has other
/// owners. Copying shares every child.
///
/// Not inlined: a node passes over the stack here, and the callers are recursive.
#[inline(never)]
pub(super) fn make_mut<'a>(
    subtree: &'a mut Subtree,
    height: u32,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> Result<&'a mut Node> {
    match subtree {
        Some(node) if node.is_unique() => (),
        Some(node) => *subtree = Some(node.copy(pool, prealloc)?),
        None => *subtree = Some(prealloc.node(pool, |charge| Node::empty(height, charge))?),
    }
    // It was found or made to have one owner just now.
    subtree.as_mut().and_then(NodeRef::get_mut).ok_or(EINVAL)
}

/// Calls `put` with the slots that hold `index`, and its place there: they are made where they are
/// missing, and copied where they have other owners. `put` returns by how much the number of blocks
/// grew; so does this.
///
/// # Errors
///
/// `ENOMEM` where `prealloc` has too few nodes; the tree is as it was, but for nodes that were
/// copied.
pub(super) fn update_leaf(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
    put: impl FnOnce(&mut NodeLeaf, usize) -> BlockCount,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> Result<BlockCount> {
    let node = make_mut(subtree, height, pool, prealloc)?;
    let i = child_index(height, index);
    let delta = match node {
        Node::Leaf { slots, .. } => put(slots, i),
        Node::Inner { children, .. } => {
            update_leaf(&mut children[i], height - 1, index, put, pool, prealloc)?
        }
    };
    node.add_count(delta);
    Ok(delta)
}

/// Blocks for [`insert_run`]: the first `left` of a piece, to be marked with an generation.
pub(super) struct RunInsertion<'a, 'pool> {
    pub(super) piece: &'a mut ContigBlocks<'pool>,
    pub(super) left: usize,
    pub(super) generation: u64,
}

/// Puts blocks in from `index` on, as [`insert`] does, as far as they lie in `subtree`; those are not
/// `left` any more. Returns by how much the number of blocks grew, and what kept it from going on.
pub(super) fn insert_run(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
    blocks: &mut RunInsertion<'_, '_>,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> (BlockCount, Result) {
    let node = match make_mut(subtree, height, pool, prealloc) {
        Ok(node) => node,
        Err(err) => return (BlockCount::default(), Err(err)),
    };
    let first = child_index(height, index);
    let (mut delta, mut result) = (BlockCount::default(), Ok(()));
    match node {
        Node::Leaf {
            blocks: before,
            slots,
            ..
        } => {
            let n = blocks.left.min(FANOUT - first);
            // Otherwise all slots are empty, as each block in one is counted.
            if *before > 0 {
                delta += slots.remove_run(first, first + n);
            }
            delta += slots.insert_run(first, n, blocks.piece, blocks.generation);
            blocks.left -= n;
        }
        Node::Inner { children, .. } => {
            let mut index = index;
            for child in &mut children[first..] {
                let left = blocks.left;
                let (by, so_far) = insert_run(child, height - 1, index, blocks, pool, prealloc);
                delta += by;
                result = so_far;
                if blocks.left == 0 || result.is_err() {
                    break;
                }
                index += (left - blocks.left) as u64;
            }
        }
    }
    node.add_count(delta);
    (delta, result)
}

/// Calls `change` with the slots that hold `index`, and its place there, where each node on the way is
/// there and has one owner. `change` returns by how much the number of blocks grew; so does this, if
/// it was called.
pub(super) fn update_leaf_in_place(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
    change: impl FnOnce(&mut NodeLeaf, usize) -> BlockCount,
) -> Option<BlockCount> {
    let node = subtree.as_mut()?.get_mut()?;
    let i = child_index(height, index);
    let delta = match node {
        Node::Leaf { slots, .. } => change(slots, i),
        Node::Inner { children, .. } => {
            update_leaf_in_place(&mut children[i], height - 1, index, change)?
        }
    };
    node.add_count(delta);
    Some(delta)
}

/// The slots that hold `index`, to be changed in place, where each node on the way has one owner.
pub(super) fn exclusive_leaf(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
) -> Option<&mut NodeLeaf> {
    match subtree.as_mut()?.get_mut()? {
        Node::Leaf { slots, .. } => Some(slots),
        Node::Inner { children, .. } => {
            exclusive_leaf(&mut children[child_index(height, index)], height - 1, index)
        }
    }
}

/// Empties `from..to`. Returns by how much the number of blocks grew: 0 or less.
///
/// # Errors
///
/// `ENOMEM`, as [`insert`]; some of the range may be empty already.
pub(super) fn remove(
    subtree: &mut Subtree,
    height: u32,
    from: u64,
    to: u64,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> Result<BlockCount> {
    let Some(node) = subtree else {
        return Ok(BlockCount::default());
    };
    if from == 0 && to >= span(height) {
        let before = node.count();
        *subtree = None;
        return Ok(BlockCount::default() - before);
    }
    let node = make_mut(subtree, height, pool, prealloc)?;
    let step = span(height - 1);
    let mut delta = BlockCount::default();
    for i in (from / step)..to.min(span(height)).div_ceil(step) {
        delta += match node {
            Node::Leaf { slots, .. } => slots.remove(i as usize),
            Node::Inner { children, .. } => {
                let start = i * step;
                let from = from.saturating_sub(start);
                let to = (to - start).min(step);
                remove(
                    &mut children[i as usize],
                    height - 1,
                    from,
                    to,
                    pool,
                    prealloc,
                )?
            }
        };
    }
    node.add_count(delta);
    if node.count().blocks == 0 {
        *subtree = None;
    }
    Ok(delta)
}

/// Puts `content`, of height `at`, in at `index`, a multiple of `span(at)`. Returns by how much
/// the number of blocks grew.
///
/// # Errors
///
/// `ENOMEM`, as [`insert`].
pub(super) fn graft(
    subtree: &mut Subtree,
    height: u32,
    at: u32,
    index: u64,
    content: NodeRef<Node>,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> Result<BlockCount> {
    if height == at {
        let before = count(subtree);
        let after = content.count();
        *subtree = Some(content);
        return Ok(after - before);
    }
    let node = make_mut(subtree, height, pool, prealloc)?;
    let i = child_index(height, index);
    let delta = match node {
        // A leaf has height 1, and no content is lower than that.
        Node::Leaf { .. } => BlockCount::default(),
        Node::Inner { children, .. } => graft(
            &mut children[i],
            height - 1,
            at,
            index,
            content,
            pool,
            prealloc,
        )?,
    };
    node.add_count(delta);
    Ok(delta)
}

/// Shares `len` of the slots `from`, beginning at `from_slot`, into the leaf that covers `index`.
/// Both runs must lie within one leaf. Returns by how much the number of blocks grew.
///
/// # Errors
///
/// `ENOMEM`, as [`insert`].
pub(super) fn share_run<const M: usize, Q: InPool>(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
    (from, from_slot): (&Leaf<M, Q>, usize),
    len: usize,
    pool: &Arc<Pool>,
    prealloc: &mut Prealloc,
) -> Result<BlockCount> {
    let node = make_mut(subtree, height, pool, prealloc)?;
    let i = child_index(height, index);
    let mut delta = BlockCount::default();
    match node {
        Node::Leaf { slots, .. } => {
            for k in 0..len {
                delta += slots.share(i + k, from, from_slot + k, prealloc)?;
            }
        }
        Node::Inner { children, .. } => {
            delta = share_run(
                &mut children[i],
                height - 1,
                index,
                (from, from_slot),
                len,
                pool,
                prealloc,
            )?;
        }
    }
    node.add_count(delta);
    Ok(delta)
}

/// How many blocks there are in `from..to`. Looks at the children of two nodes on each level at most.
pub(super) fn blocks_in(node: &Node, height: u32, from: u64, to: u64) -> u64 {
    if from == 0 && to >= span(height) {
        return node.count().blocks;
    }
    let step = span(height - 1);
    let mut blocks = 0;
    for i in (from / step)..to.min(span(height)).div_ceil(step) {
        let start = i * step;
        blocks += match node {
            Node::Leaf { slots, .. } => u64::from(slots.is_some(i as usize)),
            Node::Inner { children, .. } => children[i as usize].as_ref().map_or(0, |child| {
                let to = (to - start).min(step);
                blocks_in(child, height - 1, from.saturating_sub(start), to)
            }),
        };
    }
    blocks
}

/// What can be looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A block.
    Block,
    /// No block.
    Hole,
    /// A block that is not unwritten.
    Written,
    /// No block, or one that is unwritten.
    NotWritten,
}

impl Wanted {
    /// Whether it is among `span` places with so many blocks.
    pub(super) fn is_in(self, count: BlockCount, span: u64) -> bool {
        match self {
            Self::Block => count.blocks > 0,
            Self::Hole => count.blocks < span,
            Self::Written => count.written > 0,
            Self::NotWritten => count.written < span,
        }
    }
}

/// The first index at or after `from` with what is wanted.
///
/// Looks at the children of two nodes on each level at most: those of the one that covers `from`, and
/// of the first after it that must have it, as its counts say.
pub(super) fn find(node: &Node, height: u32, from: u64, wanted: Wanted) -> Option<u64> {
    if !wanted.is_in(node.count(), span(height)) {
        return None;
    }
    let first = child_index(height, from);
    let children = match node {
        Node::Leaf { slots, .. } => {
            let is_wanted = |&i: &usize| wanted.is_in(slots.count(i), 1);
            return (first..FANOUT).find(is_wanted).map(|i| i as u64);
        }
        Node::Inner { children, .. } => children,
    };
    let step = span(height - 1);
    for (i, child) in children.iter().enumerate().skip(first) {
        let start = i as u64 * step;
        let within = from.saturating_sub(start);
        let found = match child {
            Some(child) => find(child, height - 1, within, wanted),
            None => wanted.is_in(BlockCount::default(), step).then_some(within),
        };
        if let Some(found) = found {
            return Some(start + found);
        }
    }
    None
}
