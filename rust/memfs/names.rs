// SPDX-License-Identifier: GPL-2.0

//! Values by name: the names in a directory, and the extended attributes of an inode.
//!
//! They are in a persistent map, by **position**: a hash of the name, and a number that tells names
//! with the same hash apart. The caller hashes, with a secret that no user knows. readdir reports the
//! position. So one structure serves lookups and listings, and the position of a name does not
//! depend on what other names come and go. ext4 and XFS list by a hash, too.
//!
//! The map is persistent so that a directory can be shared between forks of a filesystem. It is
//! changed under a spinlock, with nodes that were allocated before.

use crate::store::{
    Map,
    MapNodes,
    NewItem,
    Prefix, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

/// How many bits of a position a 32-bit program does not see, whose `off_t` has 31.
pub(super) const LOW_BITS: u32 = 32;

/// The first position of a name, of which the higher bits are not 0 or 1 either: these are "." and
/// "..".
pub(super) const FIRST_POSITION: u64 = 2 << LOW_BITS;

/// How many bits of a position are a number that tells names with the same hash apart.
const NUMBER_BITS: u32 = 6;

/// How many bits of a position are the hash. A position is an `loff_t`, and not negative.
const HASH_BITS: u32 = 63 - NUMBER_BITS;

/// How many bytes of a name are kept in its entry.
const INLINE_BYTES: usize = 30;

/// A name, without a NUL.
pub(super) enum Name {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Allocated(KVec<u8>),
}

impl Name {
    /// Returns a copy of `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(name: &[u8]) -> Result<Self> {
        let mut bytes = [0; INLINE_BYTES];
        if let Some(to) = bytes.get_mut(..name.len()) {
            to.copy_from_slice(name);
            let len = name.len() as u8;
            return Ok(Self::Inline { len, bytes });
        }
        let mut allocated = KVec::with_capacity(name.len(), GFP_KERNEL_ACCOUNT)?;
        allocated.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::Allocated(allocated))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len).min(INLINE_BYTES)],
            Self::Allocated(bytes) => bytes,
        }
    }
}

/// A value with a name.
pub(super) trait Named {
    /// Returns the name.
    fn name(&self) -> &[u8];
}

/// What a name in a directory leads to.
pub(super) struct Entry {
    name: Name,
    /// The number of the inode.
    pub(super) ino: u64,
    /// The file type, `S_IFMT` of the mode.
    pub(super) file_type: u32,
}

impl Entry {
    /// Returns one, for a name that is to lead to an inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(name: &[u8], ino: u64, file_type: u32) -> Result<Self> {
        Ok(Self {
            name: Name::new(name)?,
            ino,
            file_type,
        })
    }
}

impl Named for Entry {
    fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// Values by name. A clone costs nothing. `C` is the charge of a node.
pub(super) struct Names<V, C> {
    by_position: Map<V, C>,
}

impl<V, C> Clone for Names<V, C> {
    fn clone(&self) -> Self {
        Self {
            by_position: self.by_position.clone(),
        }
    }
}

impl<V: Named, C> Names<V, C> {
    pub(super) const fn new() -> Self {
        Self {
            by_position: Map::new(),
        }
    }

    /// Returns whether there are no names.
    pub(super) fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }

    /// Returns the position of `name`, of which this is the hash, and its value, if it is there; or
    /// else a free position for it.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none: 2^[`NUMBER_BITS`] names have its hash.
    fn find(&self, hash: u64, name: &[u8]) -> Result<(u64, Option<&V>)> {
        let hash = (hash >> (u64::BITS - HASH_BITS)).max(FIRST_POSITION >> NUMBER_BITS);
        let first = hash << NUMBER_BITS;
        match self.by_position.find_prefix(first, NUMBER_BITS) {
            Prefix::None => return Ok((first, None)),
            Prefix::One(item) if item.value().name() == name => {
                return Ok((item.key(), Some(item.value())));
            }
            _ => (),
        }
        self.find_among_equals(hash, name)
    }

    /// As [`Names::find`], where there are names with this hash.
    fn find_among_equals(&self, hash: u64, name: &[u8]) -> Result<(u64, Option<&V>)> {
        let first = hash << NUMBER_BITS;
        let (mut position, mut free, mut entry) = (first, None, None);
        self.by_position.for_each_from(first, |item| {
            if item.key() >> NUMBER_BITS != hash {
                return ControlFlow::Break(());
            }
            if item.value().name() == name {
                (position, entry) = (item.key(), Some(item.value()));
                return ControlFlow::Break(());
            }
            if item.key() != position && free.is_none() {
                free = Some(position);
            }
            position = item.key() + 1;
            ControlFlow::Continue(())
        });
        if entry.is_some() {
            return Ok((position, entry));
        }
        let position = free.unwrap_or(position);
        if position >> NUMBER_BITS != hash {
            return Err(ENOSPC);
        }
        Ok((position, None))
    }

    /// Returns the value of a name.
    pub(super) fn get(&self, hash: u64, name: &[u8]) -> Option<&V> {
        self.find(hash, name).ok()?.1
    }

    /// Returns the position that a name has, or would get.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none.
    pub(super) fn position_to_set(&self, hash: u64, name: &[u8]) -> Result<u64> {
        Ok(self.find(hash, name)?.0)
    }

    /// Returns the position of a name, if it is there.
    pub(super) fn position(&self, hash: u64, name: &[u8]) -> Option<u64> {
        let (position, value) = self.find(hash, name).ok()?;
        value.map(|_| position)
    }

    /// Returns how many nodes [`Names::set`] needs.
    pub(super) fn nodes_to_set(&self, position: u64) -> usize {
        self.by_position.nodes_to_insert(position)
    }

    /// Sets the value at [`Names::position_to_set`] of its name. Returns the one that was there, to
    /// be dropped without a lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Names::nodes_to_set`].
    pub(super) fn set(
        &mut self,
        position: u64,
        value: NewItem<V, C>,
        nodes: &mut MapNodes<V, C>,
    ) -> Result<Option<NewItem<V, C>>> {
        self.by_position.insert(position, value, nodes)
    }

    /// Returns how many nodes [`Names::remove`] needs: none where none are shared.
    pub(super) fn nodes_to_remove(&self, position: u64) -> usize {
        self.by_position.nodes_to_remove(position)
    }

    /// Removes the value at a position. Returns it, to be dropped without a lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are fewer than [`Names::nodes_to_remove`].
    pub(super) fn remove(
        &mut self,
        position: u64,
        nodes: &mut MapNodes<V, C>,
    ) -> Result<Option<NewItem<V, C>>> {
        self.by_position.remove(position, nodes)
    }

    /// Calls `f` with the position of each name from `position` on and its value, in the order of
    /// positions, until it breaks.
    pub(super) fn for_each(&self, position: u64, mut f: impl FnMut(u64, &V) -> ControlFlow<()>) {
        self.by_position
            .for_each_from(position, |item| f(item.key(), item.value()));
    }
}
