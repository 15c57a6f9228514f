// SPDX-License-Identifier: GPL-2.0

//! [`Table`]: a persistent map from dense numbers to values.

use super::{
    node_ref,
    spare_nodes::{
        EmptyNode,
        SpareNodes, //
    }, //
};
use kernel::prelude::*;

/// A node fits into 192 bytes, which is what one takes for a number far from others.
const FANOUT_SHIFT: u32 = 4;
const FANOUT: usize = 1 << FANOUT_SHIFT;

/// Returns how many numbers a node of height `height` covers; `None` for all.
fn span(height: u32) -> Option<u64> {
    1u64.checked_shl(FANOUT_SHIFT * height)
}

/// Returns which child of a node of height `height`, which is at least 1, covers `number`.
fn child_index(height: u32, number: u64) -> usize {
    (number >> (FANOUT_SHIFT * (height - 1))) as usize % FANOUT
}

/// A node of a [`Table`].
pub enum Node<V, C> {
    /// Height 1.
    Leaf {
        /// The values.
        values: [Option<V>; FANOUT],
        /// None in one that is not used yet.
        _charge: Option<C>,
    },
    /// Height 2 and more.
    Inner {
        /// The children.
        children: [Link<V, C>; FANOUT],
        /// None in one that is not used yet.
        _charge: Option<C>,
    },
}

impl<V, C> EmptyNode for Node<V, C> {
    fn empty() -> Self {
        Self::Inner {
            children: [const { None }; FANOUT],
            _charge: None,
        }
    }
}

impl<V, C> Node<V, C> {
    fn inner(children: [Link<V, C>; FANOUT], charge: C) -> Self {
        Self::Inner {
            children,
            _charge: Some(charge),
        }
    }
}

/// Nodes for changes of a [`Table`].
pub type TableNodes<V, C> = SpareNodes<Node<V, C>, C>;

type NodeRef<V, C> = node_ref::NodeRef<Node<V, C>>;
type Link<V, C> = Option<NodeRef<V, C>>;

/// A persistent map from numbers, most of which up to the highest have one, to values.
///
/// It is a radix tree of [`FANOUT`] children each, no higher than the highest number that it has had
/// needs.
///
/// A clone shares all nodes, in O(1). A change copies the shared nodes on its path, with clones of
/// the values in a shared leaf, and changes the others in place. Each node has a charge, a `C`,
/// which is dropped with it.
///
/// # Examples
///
/// ```
/// use crate::store::{Table, TableNodes};
/// use kernel::prelude::*;
///
/// fn insert(table: &mut Table<&'static str, ()>, number: u64, value: &'static str) -> Result {
///     let mut nodes = TableNodes::new();
///     while !nodes.has(table.nodes_to_insert(number)) {
///         // Without the lock that protects the table, if there is one.
///         nodes.fill(GFP_KERNEL, || Ok(()))?;
///     }
///     table.insert(number, value, &mut nodes)?;
///     Ok(())
/// }
///
/// let mut table = Table::new();
/// insert(&mut table, 1, "one")?;
/// insert(&mut table, 1000, "thousand")?;
/// let clone = table.clone();
/// let mut nodes = TableNodes::new();
/// while !nodes.has(table.nodes_to_remove(1)) {
///     nodes.fill(GFP_KERNEL, || Ok(()))?;
/// }
/// assert_eq!(table.remove(1, &mut nodes)?, Some("one"));
/// assert!(table.get(1).is_none());
/// assert_eq!(clone.get(1), Some(&"one"));
/// # Ok::<(), Error>(())
/// ```
pub struct Table<V, C> {
    root: Link<V, C>,
    /// The height of the root; 0 without one.
    height: u32,
}

// The nodes do not move with the table.
impl<V, C> Unpin for Table<V, C> {}

impl<V, C> Clone for Table<V, C> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            height: self.height,
        }
    }
}

impl<V: Clone, C> Default for Table<V, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone, C> Table<V, C> {
    /// Returns an empty table.
    pub const fn new() -> Self {
        Self {
            root: None,
            height: 0,
        }
    }

    fn covers(&self, number: u64) -> bool {
        span(self.height).is_none_or(|span| number < span)
    }

    /// Returns the value of a number.
    pub fn get(&self, number: u64) -> Option<&V> {
        if !self.covers(number) {
            return None;
        }
        let mut link = &self.root;
        for height in (1..=self.height).rev() {
            let i = child_index(height, number);
            match &**link.as_ref()? {
                Node::Inner { children, .. } => link = &children[i],
                Node::Leaf { values, .. } => return values[i].as_ref(),
            }
        }
        None
    }

    /// Returns how many nodes on the path to a number are shared, and how many are missing, below a
    /// root of the height of this one.
    fn nodes_to_change(&self, number: u64) -> (usize, usize) {
        let (mut copies, mut missing) = (0, 0);
        let mut link = &self.root;
        let mut unique = true;
        for height in (1..=self.height).rev() {
            let Some(node) = link else {
                missing = height as usize;
                break;
            };
            unique &= node.is_unique();
            copies += usize::from(!unique);
            if let Node::Inner { children, .. } = &**node {
                link = &children[child_index(height, number)];
            }
        }
        (copies, missing)
    }

    /// Returns how many nodes [`Table::insert`] needs.
    pub fn nodes_to_insert(&self, number: u64) -> usize {
        if self.height > 0 && self.covers(number) {
            let (copies, missing) = self.nodes_to_change(number);
            return copies + missing;
        }
        // All of a new path, and nodes above the root, which covers the number 0.
        let height = height_for(number).max(self.height) as usize;
        2 * height
    }

    /// Sets the value of a number. Returns the one that was there.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Table::nodes_to_insert`]: the table may be spoilt.
    pub fn insert(
        &mut self,
        number: u64,
        value: V,
        nodes: &mut TableNodes<V, C>,
    ) -> Result<Option<V>> {
        while self.height == 0 || !self.covers(number) {
            if self.root.is_some() {
                let mut children = [const { None }; FANOUT];
                children[0] = self.root.take();
                self.root = Some(nodes.node(|charge| Node::inner(children, charge))?);
            }
            self.height += 1;
        }
        insert(&mut self.root, self.height, number, value, nodes)
    }

    /// Returns how many nodes [`Table::remove`] needs; none where none are shared.
    pub fn nodes_to_remove(&self, number: u64) -> usize {
        match self.nodes_to_change(number) {
            (copies, 0) if self.covers(number) => copies,
            // Nothing is there.
            _ => 0,
        }
    }

    /// Removes the value of a number. Returns it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Table::nodes_to_remove`]: the table may be spoilt.
    pub fn remove(&mut self, number: u64, nodes: &mut TableNodes<V, C>) -> Result<Option<V>> {
        if self.get(number).is_none() {
            return Ok(None);
        }
        let value = remove(&mut self.root, self.height, number, nodes)?;
        if self.root.is_none() {
            self.height = 0;
        }
        Ok(value)
    }

    /// Drops all values, with a call of `step` after the sixteen of a leaf at most.
    pub fn clear(&mut self, mut step: impl FnMut()) {
        clear(&mut self.root, &mut step);
        self.height = 0;
    }
}

/// Returns the height of a table that covers `number`.
fn height_for(number: u64) -> u32 {
    let mut height = 1;
    while span(height).is_some_and(|span| number >= span) {
        height += 1;
    }
    height
}

/// Returns the node in `link`, to be changed: a new one, or a copy if it is shared.
fn make_mut<'a, V: Clone, C>(
    link: &'a mut Link<V, C>,
    height: u32,
    nodes: &mut TableNodes<V, C>,
) -> Result<&'a mut Node<V, C>> {
    let made = match link.as_ref() {
        Some(node) if node.is_unique() => None,
        Some(node) => Some(match &**node {
            Node::Leaf { values, .. } => {
                let values = values.clone();
                nodes.node(|charge| Node::Leaf {
                    values,
                    _charge: Some(charge),
                })?
            }
            Node::Inner { children, .. } => {
                let children = children.clone();
                nodes.node(|charge| Node::inner(children, charge))?
            }
        }),
        None if height == 1 => Some(nodes.node(|charge| Node::Leaf {
            values: [const { None }; FANOUT],
            _charge: Some(charge),
        })?),
        None => Some(nodes.node(|charge| Node::inner([const { None }; FANOUT], charge))?),
    };
    if let Some(made) = made {
        *link = Some(made);
    }
    // It has a single reference.
    link.as_mut().and_then(NodeRef::get_mut).ok_or(EINVAL)
}

fn insert<V: Clone, C>(
    link: &mut Link<V, C>,
    height: u32,
    number: u64,
    value: V,
    nodes: &mut TableNodes<V, C>,
) -> Result<Option<V>> {
    let i = child_index(height, number);
    match make_mut(link, height, nodes)? {
        Node::Leaf { values, .. } => Ok(values[i].replace(value)),
        Node::Inner { children, .. } => insert(&mut children[i], height - 1, number, value, nodes),
    }
}

/// Removes the value of `number`, which is there, and nodes that have become empty.
fn remove<V: Clone, C>(
    link: &mut Link<V, C>,
    height: u32,
    number: u64,
    nodes: &mut TableNodes<V, C>,
) -> Result<Option<V>> {
    let i = child_index(height, number);
    let (value, is_empty) = match make_mut(link, height, nodes)? {
        Node::Leaf { values, .. } => (values[i].take(), values.iter().all(Option::is_none)),
        Node::Inner { children, .. } => {
            let value = remove(&mut children[i], height - 1, number, nodes)?;
            (value, children.iter().all(Option::is_none))
        }
    };
    if is_empty {
        *link = None;
    }
    Ok(value)
}

fn clear<V, C>(link: &mut Link<V, C>, step: &mut impl FnMut()) {
    if let Some(Node::Inner { children, .. }) = link.as_mut().and_then(NodeRef::get_mut) {
        for child in children {
            clear(child, step);
        }
    }
    *link = None;
    step();
}
