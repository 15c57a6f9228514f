// SPDX-License-Identifier: GPL-2.0

//! [`Map`]: a persistent map from sparse keys, such as hashes, to values.

use super::node_ref::{
    self,
    Flags, //
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

enum Node<V> {
    Item { key: u64, value: V },
    Inner([Link<V>; FANOUT]),
}

type NodeRef<V> = node_ref::NodeRef<Node<V>>;
type Link<V> = Option<NodeRef<V>>;

/// A persistent map from sparse keys to values, in the order of the keys.
///
/// It is a radix tree of [`FANOUT`] children each, from the keys' highest bits down. A key with
/// which no other begins has no nodes of its own, so that the height is logarithmic where the keys
/// are random. It has the shape that its keys alone determine.
///
/// A clone shares all nodes, in O(1). A change copies the shared nodes on its path, and changes the
/// others in place.
///
/// # Examples
///
/// ```
/// use crate::store::{Map, NewItem};
/// use core::ops::ControlFlow;
/// use kernel::prelude::*;
///
/// let mut map = Map::new();
/// map.insert(7, NewItem::new("seven", GFP_KERNEL)?, GFP_KERNEL)?;
/// map.insert(1 << 63, NewItem::new("large", GFP_KERNEL)?, GFP_KERNEL)?;
/// let clone = map.clone();
/// map.remove(7, GFP_KERNEL)?;
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
pub struct Map<V> {
    root: Link<V>,
}

// The nodes do not move with the map.
impl<V> Unpin for Map<V> {}

impl<V> Clone for Map<V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
        }
    }
}

/// A value in memory of its own, to be inserted.
pub struct NewItem<V>(NodeRef<V>);

impl<V> NewItem<V> {
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
            Node::Inner(_) => None,
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

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Map<V> {
    /// Returns an empty map.
    pub const fn new() -> Self {
        Self { root: None }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Returns the value of a key.
    pub fn get(&self, key: u64) -> Option<&V> {
        let mut link = &self.root;
        let mut shift = ROOT_SHIFT;
        loop {
            match &**link.as_ref()? {
                Node::Item { key: found, value } => return (*found == key).then_some(value),
                Node::Inner(children) => link = &children[child_index(shift, key)],
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
                Node::Inner(_) if at < shift => return Prefix::Many,
                Node::Inner(children) => link = &children[child_index(at, key)],
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

    /// Sets the value of a key. Returns whether there was one. If there was, and no node is shared,
    /// this allocates nothing. May sleep, if `flags` say so.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the map is as it was.
    pub fn insert(&mut self, key: u64, item: NewItem<V>, flags: Flags) -> Result<bool> {
        let mut node = item.0;
        if let Some(Node::Item { key: place, .. }) = node.get_mut() {
            *place = key;
        }
        let mut new = Some(node);
        insert(&mut self.root, ROOT_SHIFT, key, &mut new, flags)
    }

    /// Removes a key. Returns whether it was there. Allocates only where nodes are shared.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the map is as it was.
    pub fn remove(&mut self, key: u64, flags: Flags) -> Result<bool> {
        if self.get(key).is_none() {
            return Ok(false);
        }
        remove(&mut self.root, ROOT_SHIFT, key, flags)?;
        Ok(true)
    }
}

/// Calls `f` with the items below `link`, whose lowest key may be `base`.
fn for_each_from<'a, V>(
    link: &'a Link<V>,
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
        Node::Inner(children) => {
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
fn make_mut<V>(link: &mut Link<V>, flags: Flags) -> Result<&mut [Link<V>; FANOUT]> {
    if let Some(node) = link {
        match &**node {
            Node::Inner(children) if !node.is_unique() => {
                *node = NodeRef::new(Node::Inner(children.clone()), flags)?;
            }
            _ => (),
        }
    }
    match link.as_mut().and_then(NodeRef::get_mut) {
        Some(Node::Inner(children)) => Ok(children),
        _ => Err(EINVAL),
    }
}

fn insert<V>(
    link: &mut Link<V>,
    shift: u32,
    key: u64,
    new: &mut Link<V>,
    flags: Flags,
) -> Result<bool> {
    let below = shift.saturating_sub(FANOUT_SHIFT);
    let other = match link.as_deref() {
        None => None,
        Some(&Node::Item { key: other, .. }) if other != key => Some(other),
        Some(Node::Item { .. }) => {
            *link = new.take();
            return Ok(true);
        }
        Some(Node::Inner(_)) => {
            let child = &mut make_mut(link, flags)?[child_index(shift, key)];
            return insert(child, below, key, new, flags);
        }
    };
    let Some(other) = other else {
        *link = new.take();
        return Ok(false);
    };
    // Both go below a new node.
    let mut children = [const { None }; FANOUT];
    children[child_index(shift, other)] = link.clone();
    let mut split = NodeRef::new(Node::Inner(children), flags)?;
    if let Some(Node::Inner(children)) = split.get_mut() {
        insert(
            &mut children[child_index(shift, key)],
            below,
            key,
            new,
            flags,
        )?;
    }
    *link = Some(split);
    Ok(false)
}

/// Removes `key`, which is there. A node that one item is left of is replaced by that.
fn remove<V>(link: &mut Link<V>, shift: u32, key: u64, flags: Flags) -> Result {
    if let Some(Node::Item { .. }) = link.as_deref() {
        *link = None;
        return Ok(());
    }
    let children = make_mut(link, flags)?;
    let below = shift.saturating_sub(FANOUT_SHIFT);
    remove(&mut children[child_index(shift, key)], below, key, flags)?;
    let mut left = children.iter_mut().filter(|child| child.is_some());
    if let (Some(last), None) = (left.next(), left.next()) {
        if let Some(Node::Item { .. }) = last.as_deref() {
            *link = last.take();
        }
    }
    Ok(())
}
