// SPDX-License-Identifier: GPL-2.0

//! [`Prealloc`]: nodes and spare blocks, allocated before a change that must not sleep.

use super::{
    block::{
        NodeCharge,
        Pool,
        Spare,
        SpareSource,
        GFP_NO_RECLAIM,
        MAX_OVERCOMMIT_BLOCKS, //
    },
    node::{
        Node,
        NodeRef, //
    },
    node_ref::UninitNode, //
};
use crate::bindings;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Nodes, and blocks for duplicates, for changes to a [`Tree`](super::Tree) under a spinning lock.
///
/// A change first asks whether there are enough. If not, the caller drops the lock, fills the
/// `Prealloc` and tries again.
///
/// # Examples
///
/// ```
/// use crate::{
///     store::{block::{NewBlock, Pool}, Prealloc, Tree},
///     vfs::RwLock,
/// };
/// use kernel::{prelude::*, static_lock_class, sync::Arc};
///
/// fn insert(
///     lock: &RwLock<Tree>,
///     pool: &Arc<Pool>,
///     index: u64,
///     block: NewBlock<'_>,
/// ) -> Result {
///     let mut prealloc = Prealloc::new();
///     loop {
///         {
///             let mut tree = lock.write();
///             if tree.can_insert(index, &mut prealloc) {
///                 return tree.insert(index, block, &mut prealloc);
///             }
///         }
///         // May sleep, and fail.
///         prealloc.fill(pool)?;
///     }
/// }
///
/// let pool = Pool::new(None)?;
/// let lock = RwLock::new(Tree::new(pool.clone()), c"example", static_lock_class!());
/// let lock = KBox::pin_init(lock, GFP_KERNEL)?;
/// insert(&lock, &pool, 1 << 20, pool.alloc()?)?;
/// assert_eq!(lock.read().next_block(0), Some(1 << 20));
/// # Ok::<(), Error>(())
/// ```
///
/// A change of a tree that no lock protects, while the caller holds a lock for which others wait,
/// takes one made by [`Prealloc::no_reclaim`] and is done again, without the lock in between:
///
/// ```text
/// loop {
///     {
///         let _guard = lock();
///         match change(&mut prealloc) {
///             Err(_) if prealloc.is_short() => (),
///             result => return result,
///         }
///     }
///     prealloc.refill(pool)?;                 // may sleep and fail
/// }
/// ```
#[derive(Default)]
pub struct Prealloc {
    /// `None` at first: even dropping an empty vector calls the allocator.
    nodes: Option<KVec<PreallocNode>>,
    /// How many nodes the last change needs.
    wanted: usize,
    /// How many more the changes after it will need, probably.
    extra: usize,
    /// Blocks for duplicates of full blocks.
    spares: Option<KVec<Spare>>,
    /// How many of them the last change needs.
    wanted_spares: usize,
    /// How many were used.
    duplicated: u64,
    source: NodeSource,
    /// What was used since the last [`Prealloc::refill`]: nodes, spares.
    used: [usize; 2],
    /// What was missing: a node, a spare.
    short: [bool; 2],
}

const NODE: usize = 0;
const SPARE: usize = 1;

/// Memory for a node, charged to the pool.
struct PreallocNode {
    memory: UninitNode<Node>,
    charge: NodeCharge,
}

impl PreallocNode {
    fn new(charge: NodeCharge, flags: bindings::gfp_t) -> Result<Self> {
        Ok(Self {
            memory: UninitNode::new(flags)?,
            charge,
        })
    }
}

/// Where nodes and spare blocks come from.
#[derive(Default, PartialEq, Eq)]
enum NodeSource {
    /// What [`Prealloc::fill`] allocated.
    #[default]
    Prealloc,
    /// The allocator, within the pool's limit.
    Alloc,
    /// What [`Prealloc::refill`] allocated, then the allocator without waiting.
    NoReclaim {
        /// By how many blocks the pool's limit may be exceeded.
        overcommit: u64,
    },
}

impl NodeSource {
    fn overcommit(&self) -> u64 {
        match *self {
            Self::Prealloc | Self::Alloc => 0,
            Self::NoReclaim { overcommit } => overcommit,
        }
    }
}

impl Prealloc {
    /// Makes an empty one, to be filled when a change needs nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that allocates whenever a node is needed: for a tree that no lock protects and no
    /// other thread can reach.
    pub fn on_demand() -> Self {
        Self {
            source: NodeSource::Alloc,
            ..Self::default()
        }
    }

    /// Makes one that allocates whenever a node is needed, but does not wait for memory: see
    /// [`Prealloc`].
    pub fn no_reclaim() -> Self {
        Self {
            source: NodeSource::NoReclaim { overcommit: 0 },
            ..Self::default()
        }
    }

    /// Sets whether one made by [`Prealloc::no_reclaim`] may exceed the pool's limit.
    pub fn set_overcommit(&mut self, overcommit: bool) {
        let overcommit = if overcommit { MAX_OVERCOMMIT_BLOCKS } else { 0 };
        self.source = NodeSource::NoReclaim { overcommit };
    }

    /// Returns whether a change that takes nodes may sleep, and must hold no spinning lock.
    pub fn may_sleep(&self) -> bool {
        self.source == NodeSource::Alloc
    }

    /// Returns whether a change failed because it would have had to wait for memory.
    pub fn is_short(&self) -> bool {
        self.short != [false; 2]
    }

    /// Allocates what the last change took, and what it was short of; more nodes than that, if they
    /// can be had. So a change that is short again takes more, and each is done in the end.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the pool's limit, `ENOMEM`.
    pub fn refill(&mut self, pool: &Arc<Pool>) -> Result {
        let used = core::mem::take(&mut self.used);
        let short = core::mem::take(&mut self.short);
        let wanted = |kind: usize| if short[kind] { used[kind] + 1 } else { 0 };
        (self.wanted, self.extra) = (wanted(NODE), wanted(NODE));
        self.wanted_spares = wanted(SPARE);
        self.fill(pool)
    }

    /// Allocates what the last change needs, and as much as possible of what the next ones may
    /// need.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the pool's limit, `ENOMEM`.
    pub fn fill(&mut self, pool: &Arc<Pool>) -> Result {
        let missing = (self.wanted + self.extra).saturating_sub(self.len());
        if missing > 0 {
            let nodes = self.nodes.get_or_insert_with(KVec::new);
            nodes.reserve(missing, GFP_KERNEL)?;
        }
        while self.len() < self.wanted {
            self.add(pool)?;
        }
        while self.len() < self.wanted + self.extra && self.add(pool).is_ok() {}
        while self.spares() < self.wanted_spares {
            let spare = Spare::new(pool, self.source.overcommit())?;
            let spares = self.spares.get_or_insert_with(KVec::new);
            spares.push(spare, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Allocates up to `n` nodes in advance of taking a contended lock. If fewer can be allocated,
    /// the change that needs them asks again.
    pub fn try_fill(&mut self, n: usize, pool: &Arc<Pool>) {
        (self.wanted, self.extra) = (0, n);
        let _ = self.fill(pool);
    }

    fn add(&mut self, pool: &Arc<Pool>) -> Result {
        let node = self.alloc(pool, bindings::GFP_KERNEL_ACCOUNT)?;
        let nodes = self.nodes.get_or_insert_with(KVec::new);
        nodes.push(node, GFP_KERNEL)?;
        Ok(())
    }

    fn alloc(&self, pool: &Arc<Pool>, flags: bindings::gfp_t) -> Result<PreallocNode> {
        let charge = NodeCharge::new(pool.clone(), self.source.overcommit())?;
        PreallocNode::new(charge, flags)
    }

    fn spares(&self) -> usize {
        self.spares.as_ref().map_or(0, KVec::len)
    }

    fn len(&self) -> usize {
        self.nodes.as_ref().map_or(0, KVec::len)
    }

    /// Returns whether there are `n` nodes. Records for [`Prealloc::fill`] that `n` are needed, and
    /// that the next changes may need `extra` more.
    pub(super) fn require(&mut self, n: usize, extra: usize) -> bool {
        (self.wanted, self.extra) = (n, extra);
        self.source != NodeSource::Prealloc || self.len() >= n
    }

    /// Returns whether there are `n` spare blocks. Records for [`Prealloc::fill`] that they are
    /// needed.
    pub(super) fn require_spares(&mut self, n: usize) -> bool {
        self.wanted_spares = n;
        self.source != NodeSource::Prealloc || self.spares() >= n
    }

    /// Returns whether the extra nodes of the last [`Prealloc::require`] are there, too.
    pub(super) fn has_extra(&self) -> bool {
        self.source != NodeSource::Prealloc || self.len() >= self.wanted + self.extra
    }

    /// Returns how many full blocks were duplicated since the last call.
    pub(super) fn take_duplicated(&mut self) -> u64 {
        core::mem::take(&mut self.duplicated)
    }

    /// Makes a node of `pool`, initialised with what `content` makes of its charge.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there are too few nodes, which [`Prealloc::require`] tells in advance. On
    /// demand: `ENOMEM`, and `ENOSPC` at the pool's limit.
    #[inline]
    pub(super) fn node(
        &mut self,
        pool: &Arc<Pool>,
        content: impl FnOnce(NodeCharge) -> Node,
    ) -> Result<NodeRef> {
        let PreallocNode { memory, charge } = self.take_node(pool)?;
        Ok(memory.init(|| content(charge)))
    }

    fn take_node(&mut self, pool: &Arc<Pool>) -> Result<PreallocNode> {
        let node = match self.nodes.as_mut().and_then(KVec::pop) {
            Some(node) => node,
            None => match self.source {
                NodeSource::Prealloc => return Err(ENOMEM),
                NodeSource::NoReclaim { .. } => self
                    .alloc(pool, GFP_NO_RECLAIM)
                    .inspect_err(|&err| self.short[NODE] = err == ENOMEM)?,
                NodeSource::Alloc => self.alloc(pool, bindings::GFP_KERNEL_ACCOUNT)?,
            },
        };
        self.used[NODE] += 1;
        Ok(node)
    }
}

impl SpareSource for Prealloc {
    /// Returns `None` if it has none and may not allocate: when the block became full after
    /// [`Prealloc::require_spares`], under the same hold of the tree's lock.
    fn take_spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>> {
        let prepared = self.spares.as_mut().and_then(KVec::pop);
        let spare = match (prepared, &self.source) {
            (Some(spare), _) => Some(spare),
            (None, NodeSource::Prealloc) => None,
            (None, NodeSource::Alloc) => Some(Spare::new(pool, 0)?),
            (None, &NodeSource::NoReclaim { overcommit }) => {
                let spare = Spare::no_reclaim(pool, overcommit)
                    .inspect_err(|&err| self.short[SPARE] = err == ENOMEM)?;
                Some(spare)
            }
        };
        self.used[SPARE] += usize::from(spare.is_some());
        self.duplicated += u64::from(spare.is_some());
        Ok(spare)
    }
}
