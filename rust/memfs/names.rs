// SPDX-License-Identifier: GPL-2.0

//! The names in a directory.
//!
//! They are in a persistent map, by **position**: a hash of the name, and a number that tells names
//! with the same hash apart. The caller hashes, with a secret that no user knows. readdir reports the
//! position. So one structure serves lookups and listings, and the position of a name does not
//! depend on what other names come and go. ext4 and XFS list by a hash, too.
//!
//! The map is persistent so that a directory can be shared between forks of a filesystem.

use crate::store::{
    Map,
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
enum Name {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Allocated(KVec<u8>),
}

impl Name {
    fn new(name: &[u8]) -> Result<Self> {
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

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len).min(INLINE_BYTES)],
            Self::Allocated(bytes) => bytes,
        }
    }
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
    /// Returns the name.
    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// An entry that is to be set.
pub(super) struct NewEntry(NewItem<Entry>);

impl NewEntry {
    /// Allocates one, for a name that is to lead to an inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(name: &[u8], ino: u64, file_type: u32) -> Result<Self> {
        let entry = Entry {
            name: Name::new(name)?,
            ino,
            file_type,
        };
        Ok(Self(NewItem::new(entry, GFP_KERNEL_ACCOUNT)?))
    }

    /// Returns the name.
    pub(super) fn name(&self) -> &[u8] {
        self.0.value().map_or(&[], Entry::name)
    }
}

/// The names in a directory. Changed with the directory's `i_rwsem` held exclusive, read with it
/// held at least shared. A clone costs nothing.
#[derive(Clone)]
pub(super) struct Names {
    by_position: Map<Entry>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self {
            by_position: Map::new(),
        }
    }

    /// Returns whether there are no names.
    pub(super) fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }

    /// Returns the position of `name`, of which this is the hash, and what it leads to, if it is
    /// there; or else a free position for it.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none: 2^[`NUMBER_BITS`] names have its hash.
    fn find(&self, hash: u64, name: &[u8]) -> Result<(u64, Option<&Entry>)> {
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
    fn find_among_equals(&self, hash: u64, name: &[u8]) -> Result<(u64, Option<&Entry>)> {
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

    /// Returns the number of the inode that a name leads to.
    pub(super) fn lookup(&self, hash: u64, name: &[u8]) -> Option<u64> {
        Some(self.find(hash, name).ok()?.1?.ino)
    }

    /// Has a name lead to an inode, whether it leads to another one or not. Where it does,
    /// and the directory is not shared, this does not fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`; nothing has changed.
    pub(super) fn set(&mut self, hash: u64, entry: NewEntry) -> Result {
        let name = entry.name();
        let (position, _) = self.find(hash, name)?;
        self.by_position
            .insert(position, entry.0, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Removes `name`, if it is there.
    ///
    /// # Errors
    ///
    /// `ENOMEM` where the directory is shared; nothing has changed.
    pub(super) fn remove(&mut self, hash: u64, name: &[u8]) -> Result {
        if let (position, Some(_)) = self.find(hash, name)? {
            self.by_position.remove(position, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// Calls `f` with the position of each name from `position` on and what it leads to, in the
    /// order of positions, until it breaks.
    pub(super) fn for_each(
        &self,
        position: u64,
        mut f: impl FnMut(u64, &Entry) -> ControlFlow<()>,
    ) {
        self.by_position
            .for_each_from(position, |item| f(item.key(), item.value()));
    }
}
