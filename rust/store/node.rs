// SPDX-License-Identifier: GPL-2.0

//! Nodes, and the walks down from one: those that read, and [`update_leaf`] and [`replace`], which
//! change.

use super::{
    block::{BlockCount, Leaf, NodeCharge, Pool, Slots},
    node_ref::NodeRef,
    Prealloc,
};
use core::ops::Range;
use kernel::{prelude::*, sync::Arc};

const FANOUT_SHIFT: u32 = 6;

/// How many children a node has.
pub(super) const FANOUT: usize = 1 << FANOUT_SHIFT;

/// Returns how many blocks a node of height `height` covers. A leaf has height 1, a block 0.
pub(super) const fn span(height: u32) -> u64 {
    1 << (FANOUT_SHIFT * height)
}

// The largest file has 2^51 blocks, so that no height exceeds 9 and no span overflows.
const _: () = assert!(FANOUT_SHIFT * 9 >= 63 - super::block::BLOCK_SHIFT);

/// Returns which child of a node of height `height` covers block `index`.
pub(super) const fn child_index(height: u32, index: u64) -> usize {
    (index >> (FANOUT_SHIFT * (height - 1))) as usize % FANOUT
}

/// The blocks of a leaf, and how many there are.
pub(super) struct LeafNode {
    pub(super) blocks: u64,
    pub(super) leaf: Leaf<FANOUT, NodeCharge>,
}

/// A node, charged to its pool.
pub(super) enum Node {
    /// Height 1.
    Leaf(LeafNode),
    /// Height 2 and more: children of the next lower height, and how many blocks are below them.
    Inner {
        count: BlockCount,
        children: [Subtree; FANOUT],
        _charge: NodeCharge,
    },
}

/// A child of a node.
pub(super) type Subtree = Option<NodeRef>;

// Seven fit into a page, which is how they are charged.
const _: () = assert!(NodeRef::BYTES <= 576);

impl Node {
    fn leaf(charge: NodeCharge) -> Self {
        Self::Leaf(LeafNode {
            blocks: 0,
            leaf: Leaf::new(charge),
        })
    }

    /// Makes a leaf whose first block is that of `from`.
    pub(super) fn leaf_with(from: &mut Slots, charge: NodeCharge) -> Self {
        let mut node = Self::leaf(charge);
        if let Self::Leaf(LeafNode { blocks, leaf }) = &mut node {
            *blocks = leaf.take_first(from).blocks;
        }
        node
    }

    fn inner(charge: NodeCharge) -> Self {
        Self::Inner {
            count: BlockCount::default(),
            children: [const { None }; FANOUT],
            _charge: charge,
        }
    }

    /// Makes a node whose first child is `node`.
    pub(super) fn inner_above(node: &NodeRef, charge: NodeCharge) -> Self {
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

    fn empty(height: u32, charge: NodeCharge) -> Self {
        if height == 1 {
            Self::leaf(charge)
        } else {
            Self::inner(charge)
        }
    }

    /// Makes a node that shares every child. Full blocks are copied, see [`Leaf::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of [`Prealloc::node`] and [`Leaf::copy_from`].
    fn copy(&self, pool: &Arc<Pool>, prealloc: &mut Prealloc) -> Result<NodeRef> {
        match self {
            Self::Leaf(from) => {
                let mut copy = prealloc.node(pool, Self::leaf)?;
                if let Some(Self::Leaf(LeafNode { blocks, leaf })) = copy.get_mut() {
                    leaf.copy_from(&from.leaf, prealloc)?;
                    *blocks = from.blocks;
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

    /// Counts the blocks below.
    pub(super) fn count(&self) -> BlockCount {
        match self {
            Self::Leaf(LeafNode { blocks, leaf }) => BlockCount {
                blocks: *blocks,
                written: blocks.saturating_sub(leaf.unwritten()),
            },
            Self::Inner { count, .. } => *count,
        }
    }

    fn add_count(&mut self, delta: BlockCount) {
        match self {
            Self::Leaf(LeafNode { blocks, .. }) => *blocks = blocks.wrapping_add(delta.blocks),
            Self::Inner { count, .. } => *count += delta,
        }
    }

    /// Returns the child of a node of height `height` that covers block `index`.
    fn child(&self, height: u32, index: u64) -> Option<&NodeRef> {
        match self {
            Self::Leaf(_) => None,
            Self::Inner { children, .. } => children[child_index(height, index)].as_ref(),
        }
    }

    /// Returns the slots of a leaf.
    pub(super) fn slots(&self) -> Option<&Slots> {
        match self {
            Self::Leaf(LeafNode { leaf, .. }) => Some(leaf),
            Self::Inner { .. } => None,
        }
    }
}

/// Counts the blocks in a subtree.
pub(super) fn count(subtree: &Subtree) -> BlockCount {
    subtree
        .as_ref()
        .map_or_else(BlockCount::default, |node| node.count())
}

/// Returns the node of height `at` that covers block `index`, below `node` of height `height`, and
/// whether each node on the path, both ends included, has a single reference.
pub(super) fn descend(
    node: &NodeRef,
    mut height: u32,
    at: u32,
    index: u64,
) -> Option<(&NodeRef, bool)> {
    let mut node = node;
    let mut unique = node.is_unique();
    while height > at {
        node = node.child(height, index)?;
        unique &= node.is_unique();
        height -= 1;
    }
    Some((node, unique))
}

/// Returns the slots of the leaf that covers `index`, below `node` of height `height`.
pub(super) fn find_leaf(node: &Node, height: u32, index: u64) -> Option<&Slots> {
    let (mut node, mut height) = (node, height);
    while height > 1 {
        node = node.child(height, index)?;
        height -= 1;
    }
    node.slots()
}

/// A root, its height, and the index of a block below it.
type Cursor<'a> = (&'a NodeRef, u32, u64);

/// Returns how many adjacent nodes of height `at` are the same in two trees, from those on that
/// cover the two indexes, as far as both parents reach.
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
        // Leaves have no nodes below them.
        _ => 0,
    }
}

/// Returns how many nodes [`update_leaf`] takes at `index`: those that are missing, and those that
/// are shared or below a shared one.
pub(super) fn nodes_to_update(node: &NodeRef, height: u32, index: u64) -> usize {
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

/// How a change gets a node that it may change.
pub(super) trait MakeMut {
    /// Returns the node in `subtree`, of height `height`, to be changed in place.
    fn make_mut<'n>(&mut self, subtree: &'n mut Subtree, height: u32) -> Result<&'n mut Node>;
}

/// Only changes what is there and not shared: fails with `EAGAIN` elsewhere.
pub(super) struct InPlace;

impl MakeMut for InPlace {
    fn make_mut<'n>(&mut self, subtree: &'n mut Subtree, _height: u32) -> Result<&'n mut Node> {
        subtree.as_mut().and_then(NodeRef::get_mut).ok_or(EAGAIN)
    }
}

/// Makes nodes that are missing, and copies those that are shared; copying shares every child.
pub(super) struct CopyOnWrite<'a> {
    pub(super) pool: &'a Arc<Pool>,
    pub(super) prealloc: &'a mut Prealloc,
}

impl MakeMut for CopyOnWrite<'_> {
    /// Not inlined: a node passes over the stack here, and the callers are recursive.
    #[inline(never)]
    fn make_mut<'n>(&mut self, subtree: &'n mut Subtree, height: u32) -> Result<&'n mut Node> {
        match subtree {
            Some(node) if node.is_unique() => (),
            Some(node) => *subtree = Some(node.copy(self.pool, self.prealloc)?),
            None => {
                let empty = |charge| Node::empty(height, charge);
                *subtree = Some(self.prealloc.node(self.pool, empty)?);
            }
        }
        // It has a single reference.
        subtree.as_mut().and_then(NodeRef::get_mut).ok_or(EINVAL)
    }
}

/// Calls `change` with the leaf that covers `index`, below a subtree of height `height`, and with
/// the place of `index` in it. `change` returns by how much it changed the number of blocks, which
/// is added on the path, and returned.
///
/// # Errors
///
/// Those of `nodes` and of `change`. If `nodes` fails, nothing has changed but that nodes were
/// copied; if `change` does, it has changed nothing, or the tree is dropped.
pub(super) fn update_leaf<M: MakeMut>(
    subtree: &mut Subtree,
    height: u32,
    index: u64,
    nodes: &mut M,
    change: impl FnOnce(&mut LeafNode, usize, &mut M) -> Result<BlockCount>,
) -> Result<BlockCount> {
    let node = nodes.make_mut(subtree, height)?;
    let i = child_index(height, index);
    let delta = match node {
        Node::Leaf(leaf) => change(leaf, i, nodes)?,
        Node::Inner { children, .. } => {
            update_leaf(&mut children[i], height - 1, index, nodes, change)?
        }
    };
    node.add_count(delta);
    Ok(delta)
}

/// Puts `content` in the place of what is in `range`, below a subtree of height `height`: a node
/// that covers just `range`, or `None`, which empties it. Returns by how much that changed the
/// number of blocks.
///
/// # Errors
///
/// Those of `nodes`. Some of the range may be empty then, and nodes count wrongly: the tree is to
/// be dropped.
pub(super) fn replace(
    subtree: &mut Subtree,
    height: u32,
    range: Range<u64>,
    content: &mut Subtree,
    nodes: &mut impl MakeMut,
) -> Result<BlockCount> {
    if range.end - range.start == span(height) {
        let delta = count(content) - count(subtree);
        *subtree = content.take();
        return Ok(delta);
    }
    if subtree.is_none() && content.is_none() {
        return Ok(BlockCount::default());
    }
    let node = nodes.make_mut(subtree, height)?;
    let first = child_index(height, range.start);
    let mut delta = BlockCount::default();
    match node {
        Node::Leaf(LeafNode { leaf, .. }) => {
            delta = leaf.remove_run(first, first + (range.end - range.start) as usize);
        }
        Node::Inner { children, .. } => {
            let step = span(height - 1);
            let mut start = range.start;
            for child in &mut children[first..] {
                let end = range.end.min((start / step + 1) * step);
                delta += replace(child, height - 1, start..end, content, nodes)?;
                start = end;
                if start == range.end {
                    break;
                }
            }
        }
    }
    node.add_count(delta);
    if node.count().blocks == 0 {
        *subtree = None;
    }
    Ok(delta)
}

/// Counts the blocks in `from..to`, relative to the node. Visits the children of at most two nodes
/// on each level.
pub(super) fn blocks_in(node: &Node, height: u32, from: u64, to: u64) -> u64 {
    if from == 0 && to >= span(height) {
        return node.count().blocks;
    }
    let step = span(height - 1);
    let mut blocks = 0;
    for i in (from / step)..to.min(span(height)).div_ceil(step) {
        let start = i * step;
        blocks += match node {
            Node::Leaf(LeafNode { leaf, .. }) => u64::from(leaf.is_some(i as usize)),
            Node::Inner { children, .. } => children[i as usize].as_ref().map_or(0, |child| {
                let to = (to - start).min(step);
                blocks_in(child, height - 1, from.saturating_sub(start), to)
            }),
        };
    }
    blocks
}

/// What to look for.
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
    /// Returns whether it is among `span` slots that hold `count` blocks.
    pub(super) fn is_in(self, count: BlockCount, span: u64) -> bool {
        match self {
            Self::Block => count.blocks > 0,
            Self::Hole => count.blocks < span,
            Self::Written => count.written > 0,
            Self::NotWritten => count.written < span,
        }
    }
}

/// Returns the first index at or after `from`, relative to the node, with what is wanted.
///
/// Visits the children of at most two nodes on each level: of the one that covers `from`, and of
/// the first after it that has it by its count.
pub(super) fn find(node: &Node, height: u32, from: u64, wanted: Wanted) -> Option<u64> {
    if !wanted.is_in(node.count(), span(height)) {
        return None;
    }
    let first = child_index(height, from);
    let children = match node {
        Node::Leaf(LeafNode { leaf, .. }) => {
            let is_wanted = |&i: &usize| wanted.is_in(leaf.count(i), 1);
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
