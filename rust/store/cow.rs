// SPDX-License-Identifier: GPL-2.0

//! The walks down from a node that change what is below: copy on write.

use super::{
    block::{
        BlockCount,
        Pool, //
    },
    node::{
        child_index,
        count,
        span,
        LeafNode,
        Node,
        NodeRef,
        Subtree, //
    },
    Prealloc, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

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
        let (pool, prealloc) = (self.pool, &mut *self.prealloc);
        match subtree {
            Some(node) if node.is_unique() => (),
            Some(node) => *subtree = Some(copy(node, pool, prealloc)?),
            None if height == 1 => *subtree = Some(prealloc.node(pool, Node::leaf)?),
            None => *subtree = Some(prealloc.node(pool, Node::inner)?),
        }
        // It has a single reference.
        subtree.as_mut().and_then(NodeRef::get_mut).ok_or(EINVAL)
    }
}

/// Makes a node that shares every child of `node`. Full blocks are duplicated, see
/// [`Leaf::copy_from`](super::block::Leaf::copy_from).
///
/// # Errors
///
/// Those of [`Prealloc::node`] and `Leaf::copy_from`.
fn copy(node: &Node, pool: &Arc<Pool>, prealloc: &mut Prealloc) -> Result<NodeRef> {
    match node {
        Node::Leaf(from) => {
            let mut copy = prealloc.node(pool, Node::leaf)?;
            if let Some(Node::Leaf(LeafNode { blocks, leaf })) = copy.get_mut() {
                leaf.copy_from(&from.leaf, prealloc)?;
                *blocks = from.blocks;
            }
            Ok(copy)
        }
        Node::Inner {
            count, children, ..
        } => prealloc.node(pool, |charge| Node::Inner {
            count: *count,
            children: children.clone(),
            _charge: charge,
        }),
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
