// SPDX-License-Identifier: GPL-2.0

//! Nodes, and walks down from one that read.

use super::{
    block::{
        BlockCount,
        Leaf,
        NodeCharge,
        Slots, //
    },
    node_ref::{
        self,
        Cache, //
    },
};
use kernel::prelude::*;

const FANOUT_SHIFT: u32 = 6;

/// How many children a node has.
pub const FANOUT: usize = 1 << FANOUT_SHIFT;

/// Returns how many blocks a node of height `height` covers. A leaf has height 1, a block 0.
pub(super) const fn span(height: u32) -> u64 {
    1 << (FANOUT_SHIFT * height)
}

/// The most nodes on a path. The largest file has 2^51 blocks, so that no tree is higher, and no
/// span overflows.
pub const MAX_HEIGHT: u32 = 9;
const _: () = assert!(FANOUT_SHIFT * MAX_HEIGHT >= 63 - super::block::BLOCK_SHIFT);

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

/// A counted reference to a node.
pub(super) type NodeRef = node_ref::NodeRef<Node>;

/// A child of a node.
pub(super) type Subtree = Option<NodeRef>;

/// The slab cache of nodes. It must outlive all of them.
pub struct NodeCache {
    _cache: Cache,
}

impl NodeCache {
    /// Creates the cache. No other cache in the kernel has this name.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if there is a cache already.
    pub fn new(name: &'static CStr) -> Result<Self> {
        Ok(Self {
            _cache: Cache::new::<Node>(name)?,
        })
    }
}

impl Node {
    pub(super) fn leaf(charge: NodeCharge) -> Self {
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

    pub(super) fn inner(charge: NodeCharge) -> Self {
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

    pub(super) fn add_count(&mut self, delta: BlockCount) {
        match self {
            Self::Leaf(LeafNode { blocks, .. }) => *blocks = blocks.wrapping_add(delta.blocks),
            Self::Inner { count, .. } => *count += delta,
        }
    }

    /// Returns the child of a node of height `height` that covers block `index`.
    pub(super) fn child(&self, height: u32, index: u64) -> Option<&NodeRef> {
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
