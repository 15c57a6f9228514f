// SPDX-License-Identifier: GPL-2.0

//! Tree nodes, and spare blocks, allocated ahead of a change that must not fail or sleep.

use super::{
    block::{NodeCharge, Pool, Shared, Spare, Spares, Vacant},
    node::Node,
};
use kernel::{prelude::*, sync::Arc};

/// Nodes for a change to a [`Tree`](super::Tree): reserve, then lock, then change.
///
/// ```text
/// loop {
///     reserve.fill()?;                       // may sleep and fail
///     let mut tree = tree.lock();
///     match tree.insert(index, block, &mut reserve) { .. }
/// }
/// ```
#[derive(Default)]
pub struct Reserve {
    /// None at first, as even a vector that is empty goes by way of the allocator.
    nodes: Option<KVec<Place>>,
    /// How many nodes the last change wanted.
    wanted: usize,
    /// How many more the changes after that one want, perhaps.
    ahead: usize,
    /// Blocks to be copies of those that no more slots may hold; none at first.
    spares: Option<KVec<Spare>>,
    /// How many of them the last change wanted.
    wanted_spares: usize,
    /// How many of them were taken.
    copied: u64,
    source: Source,
}

/// Room for a node: memory, and the pool's count of it.
struct Place {
    memory: Vacant<Node>,
    charge: NodeCharge,
}

impl Place {
    fn new(charge: NodeCharge) -> Result<Self> {
        Ok(Self {
            memory: Vacant::new()?,
            charge,
        })
    }
}

/// Where a node comes from when one is asked for.
#[derive(Default, PartialEq, Eq)]
enum Source {
    /// The reserve.
    #[default]
    Reserve,
    /// An allocation, within the pool's limit.
    Allocation,
    /// An allocation.
    AllocationOverLimit,
}

impl Reserve {
    /// An empty reserve: a change that needs a node says so, for [`Reserve::fill`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A reserve that allocates when a node is asked for: for changes to a tree that no lock
    /// protects and nobody else sees.
    pub fn on_demand() -> Self {
        Self {
            source: Source::Allocation,
            ..Self::default()
        }
    }

    /// As [`Reserve::on_demand`], but goes over the pool's limit of nodes where it must, as
    /// [`Pool::alloc_over`] does.
    pub fn on_demand_over() -> Self {
        Self {
            source: Source::AllocationOverLimit,
            ..Self::default()
        }
    }

    /// Allocates what the last change wanted, and, if they can be had, what may be wanted soon.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more nodes, `ENOMEM`.
    pub fn fill(&mut self, pool: &Arc<Pool>) -> Result {
        let missing = (self.wanted + self.ahead).saturating_sub(self.len());
        if missing > 0 {
            let nodes = self.nodes.get_or_insert_with(KVec::new);
            nodes.reserve(missing, GFP_KERNEL)?;
        }
        while self.len() < self.wanted {
            self.add(pool)?;
        }
        while self.len() < self.wanted + self.ahead && self.add(pool).is_ok() {}
        while self.spares() < self.wanted_spares {
            let spare = Spare::new(pool)?;
            let spares = self.spares.get_or_insert_with(KVec::new);
            spares.push(spare, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Allocates as many as can be had until there are `n`, for a change that is about to take a lock for
    /// which others wait. What is missing then is asked for when it is needed.
    pub fn prepare(&mut self, n: usize, pool: &Arc<Pool>) {
        (self.wanted, self.ahead) = (0, n);
        let _ = self.fill(pool);
    }

    fn add(&mut self, pool: &Arc<Pool>) -> Result {
        let place = Place::new(NodeCharge::new(pool.clone())?)?;
        let nodes = self.nodes.get_or_insert_with(KVec::new);
        nodes.push(place, GFP_KERNEL)?;
        Ok(())
    }

    fn spares(&self) -> usize {
        self.spares.as_ref().map_or(0, KVec::len)
    }

    fn len(&self) -> usize {
        self.nodes.as_ref().map_or(0, KVec::len)
    }

    /// Whether `n` nodes can be had; if not, they are noted for [`Reserve::fill`], and that `ahead` more
    /// may be wanted soon.
    pub(super) fn has(&mut self, n: usize, ahead: usize) -> bool {
        (self.wanted, self.ahead) = (n, ahead);
        self.source != Source::Reserve || self.len() >= n
    }

    /// Whether `n` spares can be had; if not, they are noted for [`Reserve::fill`].
    pub(super) fn has_spares(&mut self, n: usize) -> bool {
        self.wanted_spares = n;
        self.source != Source::Reserve || self.spares() >= n
    }

    /// How many blocks were copied as no more slots may hold them, since the last call.
    pub(super) fn take_copied(&mut self) -> u64 {
        core::mem::take(&mut self.copied)
    }

    /// Whether those that were to be wanted soon can be had, too.
    pub(super) fn has_ahead(&self) -> bool {
        self.source != Source::Reserve || self.len() >= self.wanted + self.ahead
    }

    /// A node of `pool`, for which this was filled: what `content` makes of the pool's count of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless [`Reserve::has`] said otherwise and the reserve is not on demand;
    /// `ENOSPC` on demand, where there may be no more nodes.
    #[inline]
    pub(super) fn node(
        &mut self,
        pool: &Arc<Pool>,
        content: impl FnOnce(NodeCharge) -> Node,
    ) -> Result<Shared<Node>> {
        let Place { memory, charge } = self.place(pool)?;
        Ok(memory.fill(|| content(charge)))
    }

    fn place(&mut self, pool: &Arc<Pool>) -> Result<Place> {
        if let Some(place) = self.nodes.as_mut().and_then(KVec::pop) {
            return Ok(place);
        }
        match self.source {
            Source::Reserve => Err(ENOMEM),
            Source::Allocation => Place::new(NodeCharge::new(pool.clone())?),
            Source::AllocationOverLimit => Place::new(NodeCharge::over(pool.clone())?),
        }
    }
}

impl Spares for Reserve {
    /// None where the reserve is not on demand, and [`Reserve::has_spares`] was asked for fewer: as the
    /// block became full since, while the tree is locked.
    fn spare(&mut self, pool: &Arc<Pool>) -> Result<Option<Spare>> {
        let spare = match self.source {
            Source::Reserve => self.spares.as_mut().and_then(KVec::pop),
            Source::Allocation => Some(Spare::new(pool)?),
            Source::AllocationOverLimit => Some(Spare::over(pool)?),
        };
        self.copied += u64::from(spare.is_some());
        Ok(spare)
    }
}
