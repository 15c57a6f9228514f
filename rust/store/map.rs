// SPDX-License-Identifier: GPL-2.0

//! [`Map`]: a persistent map from sparse keys, such as hashes, to values.

use super::{
    node_ref::{
        self,
        Flags, //
    },
    spare_nodes::{
        EmptyNode,
        SpareNodes, //
    }, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

const FANOUT_SHIFT: u32 = 2;
const FANOUT: usize = 1 << FANOUT_SHIFT;

/// How far the key is shifted for the place in the root.
const ROOT_SHIFT: u32 = u64::BITS - FANOUT_SHIFT;

/// Returns which child of a node covers `key`.
fn child_index(shift: u32, key: u64) -> usize {
    (key >> shift) as usize % FANOUT
}

/// A node of a [`Map`].
pub enum Node<V, C> {
    /// A value, in the place of a node all of whose keys but one are not there.
    Item {
        /// The key.
        key: u64,
        /// The value.
        value: V,
    },
    /// Children.
    Inner {
        /// By the next bits of the key.
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

/// Nodes for changes of a [`Map`].
pub type MapNodes<V, C> = SpareNodes<Node<V, C>, C>;

type NodeRef<V, C> = node_ref::NodeRef<Node<V, C>>;
type Link<V, C> = Option<NodeRef<V, C>>;

/// A persistent map from sparse keys to values, in the order of the keys.
///
/// It is a radix tree of [`FANOUT`] children each, from the keys' highest bits down. A key with
/// which no other begins has no nodes of its own, so that the height is logarithmic where the keys
/// are random. It has the shape that its keys alone determine.
///
/// A clone shares all nodes, in O(1). A change copies the shared nodes on its path, and changes the
/// others in place. Each node has a charge, a `C`, which is dropped with it.
///
/// # Examples
///
/// ```
/// use crate::store::{Map, MapNodes, NewItem};
/// use core::ops::ControlFlow;
/// use kernel::prelude::*;
///
/// fn insert(map: &mut Map<&'static str, ()>, key: u64, value: &'static str) -> Result {
///     let mut nodes = MapNodes::new();
///     while !nodes.has(map.nodes_to_insert(key)) {
///         // Without the lock that protects the map, if there is one.
///         nodes.fill(GFP_KERNEL, || Ok(()))?;
///     }
///     map.insert(key, NewItem::new(value, GFP_KERNEL)?, &mut nodes)?;
///     Ok(())
/// }
///
/// let mut map = Map::new();
/// insert(&mut map, 7, "seven")?;
/// insert(&mut map, 1 << 63, "large")?;
/// let clone = map.clone();
/// let mut nodes = MapNodes::new();
/// while !nodes.has(map.nodes_to_remove(7)) {
///     nodes.fill(GFP_KERNEL, || Ok(()))?;
/// }
/// map.remove(7, &mut nodes)?;
/// assert!(map.get(7).is_none());
/// assert_eq!(clone.get(7), Some(&"seven"));
/// let mut keys = KVec::new();
/// clone.for_each_from(0, |item| {
///     let _ = keys.push(item.key(), GFP_KERNEL);
///     ControlFlow::Continue(())
/// });
/// assert_eq!(keys.as_slice(), [7, 1 << 63]);
/// # Ok::<(), Error>(())
/// ```
pub struct Map<V, C> {
    root: Link<V, C>,
}

// The nodes do not move with the map.
impl<V, C> Unpin for Map<V, C> {}

impl<V, C> Clone for Map<V, C> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
        }
    }
}

/// A value in memory of its own, to be inserted.
pub struct NewItem<V, C>(NodeRef<V, C>);

impl<V, C> NewItem<V, C> {
    /// Allocates one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(value: V, flags: Flags) -> Result<Self> {
        Ok(Self(NodeRef::new(Node::Item { key: 0, value }, flags)?))
    }

    /// Returns the value.
    pub fn value(&self) -> Option<&V> {
        match &*self.0 {
            Node::Item { value, .. } => Some(value),
            Node::Inner { .. } => None,
        }
    }
}

/// A key and its value.
pub struct Item<'a, V> {
    key: u64,
    value: &'a V,
}

impl<'a, V> Item<'a, V> {
    /// Returns the key.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Returns the value.
    pub fn value(&self) -> &'a V {
        self.value
    }
}

/// The result of [`Map::find_prefix`].
pub enum Prefix<'a, V> {
    /// No key begins so.
    None,
    /// One does.
    One(Item<'a, V>),
    /// Several do.
    Many,
}

impl<V, C> Default for Map<V, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, C> Map<V, C> {
    /// Returns an empty map.
    pub const fn new() -> Self {
        Self { root: None }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Returns the value of a key.
    #[cfg(reflinkfs_count)]
    pub fn get(&self, key: u64) -> Option<&V> {
        let mut link = &self.root;
        let mut shift = ROOT_SHIFT;
        loop {
            match &**link.as_ref()? {
                Node::Item { key: found, value } => return (*found == key).then_some(value),
                Node::Inner { children, .. } => link = &children[child_index(shift, key)],
            }
            shift = shift.saturating_sub(FANOUT_SHIFT);
        }
    }

    /// Looks for keys whose bits from `shift` on, an even number, are those of `key`.
    pub fn find_prefix(&self, key: u64, shift: u32) -> Prefix<'_, V> {
        let mut link = &self.root;
        let mut at = ROOT_SHIFT;
        while let Some(node) = link {
            match &**node {
                &Node::Item {
                    key: found,
                    ref value,
                } => {
                    return match found >> shift == key >> shift {
                        true => Prefix::One(Item { key: found, value }),
                        false => Prefix::None,
                    }
                }
                Node::Inner { .. } if at < shift => return Prefix::Many,
                Node::Inner { children, .. } => link = &children[child_index(at, key)],
            }
            at = at.saturating_sub(FANOUT_SHIFT);
        }
        Prefix::None
    }

    /// Calls `f` with the items whose keys are not below `from`, in ascending order, until it
    /// breaks.
    pub fn for_each_from<'a>(
        &'a self,
        from: u64,
        mut f: impl FnMut(Item<'a, V>) -> ControlFlow<()>,
    ) {
        let _ = for_each_from(&self.root, ROOT_SHIFT, 0, from, &mut f);
    }

    /// Returns how many nodes [`Map::insert`] needs.
    pub fn nodes_to_insert(&self, key: u64) -> usize {
        let (copies, new) = self.nodes_to_change(key);
        copies + new
    }

    /// Returns how many nodes on the path to a key are shared, and how many go above it where another
    /// key is in their place.
    fn nodes_to_change(&self, key: u64) -> (usize, usize) {
        let (mut copies, mut new) = (0, 0);
        let mut link = &self.root;
        let (mut shift, mut unique) = (ROOT_SHIFT, true);
        while let Some(node) = link {
            match &**node {
                Node::Item { key: other, .. } => {
                    if *other != key {
                        // Those down to the one in which the two part.
                        let parts = (key ^ other).ilog2() / FANOUT_SHIFT * FANOUT_SHIFT;
                        new = ((shift - parts) / FANOUT_SHIFT + 1) as usize;
                    }
                    return (copies, new);
                }
                Node::Inner { children, .. } => {
                    unique &= node.is_unique();
                    copies += usize::from(!unique);
                    link = &children[child_index(shift, key)];
                }
            }
            shift = shift.saturating_sub(FANOUT_SHIFT);
        }
        (copies, new)
    }

    /// Sets the value of a key. Returns the one that was there; the caller may drop it without the
    /// lock that protects the map. If there was one, and no node is shared, this needs no node.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Map::nodes_to_insert`]: the map may be spoilt.
    pub fn insert(
        &mut self,
        key: u64,
        item: NewItem<V, C>,
        nodes: &mut MapNodes<V, C>,
    ) -> Result<Option<NewItem<V, C>>> {
        let mut node = item.0;
        if let Some(Node::Item { key: place, .. }) = node.get_mut() {
            *place = key;
        }
        let old = insert(&mut self.root, ROOT_SHIFT, key, node, nodes)?;
        Ok(old.map(NewItem))
    }

    /// Returns how many nodes [`Map::remove`] needs; none where none are shared.
    pub fn nodes_to_remove(&self, key: u64) -> usize {
        self.nodes_to_change(key).0
    }

    /// Removes a key. Returns its value, if it was there; the caller may drop it without the lock
    /// that protects the map.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Map::nodes_to_remove`]: the map may be spoilt.
    pub fn remove(
        &mut self,
        key: u64,
        nodes: &mut MapNodes<V, C>,
    ) -> Result<Option<NewItem<V, C>>> {
        let old = remove(&mut self.root, ROOT_SHIFT, key, nodes)?;
        Ok(old.map(NewItem))
    }
}

/// Calls `f` with the items below `link`, whose lowest key may be `base`.
fn for_each_from<'a, V, C>(
    link: &'a Link<V, C>,
    shift: u32,
    base: u64,
    from: u64,
    f: &mut impl FnMut(Item<'a, V>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some(node) = link else {
        return ControlFlow::Continue(());
    };
    match &**node {
        Node::Item { key, .. } if *key < from => ControlFlow::Continue(()),
        &Node::Item { key, ref value } => f(Item { key, value }),
        Node::Inner { children, .. } => {
            let first = if from > base {
                child_index(shift, from)
            } else {
                0
            };
            for (i, child) in children.iter().enumerate().skip(first) {
                let base = base | (i as u64) << shift;
                let shift = shift.saturating_sub(FANOUT_SHIFT);
                for_each_from(child, shift, base, from.max(base), f)?;
            }
            ControlFlow::Continue(())
        }
    }
}

/// Returns the children of the inner node in `link`, to be changed: of a copy, if it is shared.
fn make_mut<'a, V, C>(
    link: &'a mut Link<V, C>,
    nodes: &mut MapNodes<V, C>,
) -> Result<&'a mut [Link<V, C>; FANOUT]> {
    if let Some(node) = link {
        match &**node {
            Node::Inner { children, .. } if !node.is_unique() => {
                let children = children.clone();
                *node = nodes.node(|charge| Node::Inner {
                    children,
                    _charge: Some(charge),
                })?;
            }
            _ => (),
        }
    }
    match link.as_mut().and_then(NodeRef::get_mut) {
        Some(Node::Inner { children, .. }) => Ok(children),
        _ => Err(EINVAL),
    }
}

/// Puts the item `new` at `key`, below `link`. Returns the one that was there.
fn insert<V, C>(
    link: &mut Link<V, C>,
    shift: u32,
    key: u64,
    new: NodeRef<V, C>,
    nodes: &mut MapNodes<V, C>,
) -> Result<Link<V, C>> {
    let below = shift.saturating_sub(FANOUT_SHIFT);
    match link.as_deref() {
        None => {
            *link = Some(new);
            Ok(None)
        }
        Some(&Node::Item { key: other, .. }) if other != key => {
            // Both go below a new node.
            let mut children = [const { None }; FANOUT];
            children[child_index(shift, other)] = link.take();
            insert(
                &mut children[child_index(shift, key)],
                below,
                key,
                new,
                nodes,
            )?;
            *link = Some(nodes.node(|charge| Node::Inner {
                children,
                _charge: Some(charge),
            })?);
            Ok(None)
        }
        Some(Node::Item { .. }) => Ok(link.replace(new)),
        Some(Node::Inner { .. }) => {
            let child = &mut make_mut(link, nodes)?[child_index(shift, key)];
            insert(child, below, key, new, nodes)
        }
    }
}

/// Removes `key`, if it is there. A node that one item is left of is replaced by that.
fn remove<V, C>(
    link: &mut Link<V, C>,
    shift: u32,
    key: u64,
    nodes: &mut MapNodes<V, C>,
) -> Result<Link<V, C>> {
    match link.as_deref() {
        None => return Ok(None),
        Some(Node::Item { key: other, .. }) if *other != key => return Ok(None),
        Some(Node::Item { .. }) => return Ok(link.take()),
        Some(Node::Inner { .. }) => (),
    }
    let children = make_mut(link, nodes)?;
    let below = shift.saturating_sub(FANOUT_SHIFT);
    let old = remove(&mut children[child_index(shift, key)], below, key, nodes)?;
    let mut left = children.iter_mut().filter(|child| child.is_some());
    if let (Some(last), None) = (left.next(), left.next()) {
        if let Some(Node::Item { .. }) = last.as_deref() {
            *link = last.take();
        }
    }
    Ok(old)
}
