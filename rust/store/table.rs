// SPDX-License-Identifier: GPL-2.0

//! [`Table`]: a persistent map from dense numbers to values.

use super::node_ref::{
    self,
    Flags, //
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

enum Node<V> {
    /// Height 1.
    Leaf([Option<V>; FANOUT]),
    /// Height 2 and more.
    Inner([Link<V>; FANOUT]),
}

type NodeRef<V> = node_ref::NodeRef<Node<V>>;
type Link<V> = Option<NodeRef<V>>;

/// Nodes for changes of a [`Table`] under a lock with which nothing is to be allocated.
///
/// A change takes them. Where there are too few it does nothing: the caller drops the lock, fills
/// this and tries again.
#[derive(Default)]
pub struct TableNodes<V> {
    nodes: KVec<NodeRef<V>>,
    /// How many the last change needs.
    wanted: usize,
}

impl<V> TableNodes<V> {
    /// Returns an empty one.
    pub const fn new() -> Self {
        Self {
            nodes: KVec::new(),
            wanted: 0,
        }
    }

    /// Allocates what the last change needs. May sleep, if `flags` say so.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn fill(&mut self, flags: Flags) -> Result {
        while self.nodes.len() < self.wanted {
            self.nodes.push(inner(flags)?, flags)?;
        }
        Ok(())
    }

    fn has(&mut self, wanted: usize) -> bool {
        self.wanted = wanted;
        self.nodes.len() >= wanted
    }

    /// Makes a node of one that was allocated.
    fn node(&mut self, content: Node<V>) -> Result<NodeRef<V>> {
        let mut node = self.nodes.pop().ok_or(ENOMEM)?;
        // It has a single reference.
        *node.get_mut().ok_or(EINVAL)? = content;
        Ok(node)
    }
}

/// A persistent map from numbers, most of which up to the highest have one, to values.
///
/// It is a radix tree of [`FANOUT`] children each, no higher than the highest number that it has had
/// needs.
///
/// A clone shares all nodes, in O(1). A change copies the shared nodes on its path, with clones of
/// the values in a shared leaf, and changes the others in place.
///
/// # Examples
///
/// ```
/// use crate::store::{Table, TableNodes};
/// use kernel::prelude::*;
///
/// fn insert(table: &mut Table<&'static str>, number: u64, value: &'static str) -> Result {
///     let mut nodes = TableNodes::new();
///     while !table.can_insert(number, &mut nodes) {
///         // Without the lock that protects the table, if there is one.
///         nodes.fill(GFP_KERNEL)?;
///     }
///     table.insert(number, value, &mut nodes)
/// }
///
/// let mut table = Table::new();
/// insert(&mut table, 1, "one")?;
/// insert(&mut table, 1000, "thousand")?;
/// let clone = table.clone();
/// let mut nodes = TableNodes::new();
/// while !table.can_remove(1, &mut nodes) {
///     nodes.fill(GFP_KERNEL)?;
/// }
/// assert_eq!(table.remove(1, &mut nodes)?, Some("one"));
/// assert!(table.get(1).is_none());
/// assert_eq!(clone.get(1), Some(&"one"));
/// # Ok::<(), Error>(())
/// ```
pub struct Table<V> {
    root: Link<V>,
    /// The height of the root; 0 without one.
    height: u32,
}

// The nodes do not move with the table.
impl<V> Unpin for Table<V> {}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            height: self.height,
        }
    }
}

impl<V: Clone> Default for Table<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone> Table<V> {
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
                Node::Inner(children) => link = &children[i],
                Node::Leaf(values) => return values[i].as_ref(),
            }
        }
        None
    }

    /// Returns how many nodes on the path to a number are missing or shared, below a root of the
    /// height of this one.
    fn nodes_to_change(&self, number: u64) -> usize {
        let mut link = &self.root;
        let mut height = self.height;
        while height > 0 {
            match link {
                Some(node) if node.is_unique() => match &**node {
                    Node::Inner(children) => link = &children[child_index(height, number)],
                    Node::Leaf(_) => return 0,
                },
                // What is below it is missing or shared, too.
                _ => return height as usize,
            }
            height -= 1;
        }
        0
    }

    /// Returns whether `nodes` suffice for [`Table::insert`].
    pub fn can_insert(&self, number: u64, nodes: &mut TableNodes<V>) -> bool {
        if self.height > 0 && self.covers(number) {
            return nodes.has(self.nodes_to_change(number));
        }
        // All of a new path, and nodes above the root, which covers the number 0.
        let height = height_for(number).max(self.height) as usize;
        nodes.has(2 * height)
    }

    /// Sets the value of a number, which has none, or another.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where [`Table::can_insert`] is false; the values are as they were.
    pub fn insert(&mut self, number: u64, value: V, nodes: &mut TableNodes<V>) -> Result {
        if !self.can_insert(number, nodes) {
            return Err(ENOMEM);
        }
        while self.height == 0 || !self.covers(number) {
            if self.root.is_some() {
                let mut children = [const { None }; FANOUT];
                children[0] = self.root.take();
                self.root = Some(nodes.node(Node::Inner(children))?);
            }
            self.height += 1;
        }
        insert(&mut self.root, self.height, number, value, nodes)
    }

    /// Returns whether `nodes` suffice for [`Table::remove`]; none are needed where none are
    /// shared.
    pub fn can_remove(&self, number: u64, nodes: &mut TableNodes<V>) -> bool {
        self.get(number).is_none() || nodes.has(self.nodes_to_change(number))
    }

    /// Removes the value of a number. Returns it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where [`Table::can_remove`] is false; the values are as they were.
    pub fn remove(&mut self, number: u64, nodes: &mut TableNodes<V>) -> Result<Option<V>> {
        if self.get(number).is_none() {
            return Ok(None);
        }
        if !self.can_remove(number, nodes) {
            return Err(ENOMEM);
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
fn make_mut<'a, V: Clone>(
    link: &'a mut Link<V>,
    height: u32,
    nodes: &mut TableNodes<V>,
) -> Result<&'a mut Node<V>> {
    let made = match link.as_ref() {
        Some(node) if node.is_unique() => None,
        Some(node) => Some(match &**node {
            Node::Leaf(values) => Node::Leaf(values.clone()),
            Node::Inner(children) => Node::Inner(children.clone()),
        }),
        None if height == 1 => Some(Node::Leaf([const { None }; FANOUT])),
        None => Some(Node::Inner([const { None }; FANOUT])),
    };
    if let Some(content) = made {
        *link = Some(nodes.node(content)?);
    }
    // It has a single reference.
    link.as_mut().and_then(NodeRef::get_mut).ok_or(EINVAL)
}

fn inner<V>(flags: Flags) -> Result<NodeRef<V>> {
    NodeRef::new(Node::Inner([const { None }; FANOUT]), flags)
}

fn insert<V: Clone>(
    link: &mut Link<V>,
    height: u32,
    number: u64,
    value: V,
    nodes: &mut TableNodes<V>,
) -> Result {
    let i = child_index(height, number);
    match make_mut(link, height, nodes)? {
        Node::Leaf(values) => {
            values[i] = Some(value);
            Ok(())
        }
        Node::Inner(children) => insert(&mut children[i], height - 1, number, value, nodes),
    }
}

/// Removes the value of `number`, which is there, and nodes that have become empty.
fn remove<V: Clone>(
    link: &mut Link<V>,
    height: u32,
    number: u64,
    nodes: &mut TableNodes<V>,
) -> Result<Option<V>> {
    let i = child_index(height, number);
    let (value, is_empty) = match make_mut(link, height, nodes)? {
        Node::Leaf(values) => (values[i].take(), values.iter().all(Option::is_none)),
        Node::Inner(children) => {
            let value = remove(&mut children[i], height - 1, number, nodes)?;
            (value, children.iter().all(Option::is_none))
        }
    };
    if is_empty {
        *link = None;
    }
    Ok(value)
}

fn clear<V>(link: &mut Link<V>, step: &mut impl FnMut()) {
    if let Some(Node::Inner(children)) = link.as_mut().and_then(NodeRef::get_mut) {
        for child in children {
            clear(child, step);
        }
    }
    *link = None;
    step();
}
