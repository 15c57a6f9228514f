// SPDX-License-Identifier: GPL-2.0

//! The names in a directory, in the order in which they are listed.
//!
//! Every name is a dentry that `d_make_persistent` pins. Besides, each directory has its dentries
//! by **offset**: a number that an entry gets when it is created, that no other entry of the
//! directory gets later, and that readdir reports as its position. Compare `simple_offset_*` of
//! `fs/libfs.c`, which modules cannot call.

use crate::{
    bindings,
    vfs::{
        Dentry,
        FileSystem,
        Inode, //
    },
};
use core::ops::Range;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::SpinLock, //
};

/// A dentry in a [`DirOffsets`].
///
/// # Invariants
///
/// The dentry is persistent, and a child of the directory that it is in the offsets of.
#[derive(Clone, Copy)]
pub(super) struct Entry(*mut bindings::dentry);

// SAFETY: The dentry is accessed only while the directory is locked, on any thread; otherwise
// this is only an address.
unsafe impl Send for Entry {}

impl Entry {
    /// Returns the dentry.
    ///
    /// # Safety
    ///
    /// The directory is of `T` and locked, at least shared, during `'a`.
    pub(super) unsafe fn dentry<'a, T: FileSystem>(self) -> &'a Dentry<T> {
        // SAFETY: By the type invariant the dentry stays while the directory is locked.
        unsafe { Dentry::from_raw(self.0) }
    }
}

struct Entries {
    by_offset: RBTree<u64, Entry>,
    next: u64,
}

/// The names in a directory, by offset.
///
/// Changed with the directory's `i_rwsem` held exclusive, read with it held at least shared. The
/// lock inside tells the compiler; only readers contend for it.
///
/// When a superblock goes away its dentries go before its inodes: what is here then is dropped
/// without a look.
#[pin_data]
pub(super) struct DirOffsets {
    #[pin]
    entries: SpinLock<Entries>,
}

/// Positions 0 and 1 are "." and "..".
const FIRST_OFFSET: u64 = 2;

/// The memory for an entry.
pub(super) struct Reservation(RBTreeNodeReservation<u64, Entry>);

impl Reservation {
    /// Allocates it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}

/// Returns the offset of a name in a [`DirOffsets`].
pub(super) fn offset_of<T: FileSystem>(name: &Dentry<T>) -> u64 {
    name.fsdata() as u64
}

impl DirOffsets {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_spinlock!(Entries { by_offset: RBTree::new(), next: FIRST_OFFSET }),
        })
    }

    /// Gives a name, which is or becomes persistent, a new offset.
    pub(super) fn insert<T: FileSystem>(&self, reservation: Reservation, name: &Dentry<T>) {
        let mut entries = self.entries.lock();
        let offset = entries.next;
        entries.next += 1;
        name.set_fsdata(offset as usize);
        // INVARIANT: The caller passes a dentry of this directory that is, or becomes, persistent.
        let node = reservation.0.into_node(offset, Entry(name.as_raw()));
        entries.by_offset.insert(node);
    }

    /// Removes a name.
    pub(super) fn remove<T: FileSystem>(&self, name: &Dentry<T>) {
        let node = self.entries.lock().by_offset.remove_node(&offset_of(name));
        drop(node);
    }

    /// Exchanges the offsets of two names, one of which may be in another directory: they are about
    /// to take each other's place.
    pub(super) fn exchange<T: FileSystem>(
        &self,
        name: &Dentry<T>,
        other_offsets: &Self,
        other: &Dentry<T>,
    ) {
        let (offset, other_offset) = (offset_of(name), offset_of(other));
        self.replace(offset, other);
        other_offsets.replace(other_offset, name);
    }

    /// Gives `name` the offset of another name, which it is about to take the place of.
    pub(super) fn replace<T: FileSystem>(&self, offset: u64, name: &Dentry<T>) {
        if let Some(entry) = self.entries.lock().by_offset.get_mut(&offset) {
            // INVARIANT: The caller passes a persistent dentry that moves to this directory.
            *entry = Entry(name.as_raw());
        }
        name.set_fsdata(offset as usize);
    }

    /// Forgets all names: for a directory that goes away with its superblock, whose dentries are
    /// gone already. Otherwise an RCU callback would have to.
    pub(super) fn clear(&self) {
        let old = core::mem::replace(&mut self.entries.lock().by_offset, RBTree::new());
        drop(old);
    }

    /// Returns the offset that the next new name gets. It is not 0.
    pub(super) fn end(&self) -> u64 {
        self.entries.lock().next
    }

    /// Puts the first names in `offsets` into `found`, as many as that has room for.
    pub(super) fn first(&self, offsets: Range<u64>, found: &mut [Option<(u64, Entry)>]) {
        let mut entries = self.entries.lock();
        let mut cursor = entries.by_offset.cursor_lower_bound_mut(&offsets.start);
        for found in found {
            *found = cursor.as_ref().and_then(|cursor| {
                let (offset, entry) = cursor.current();
                (*offset < offsets.end).then_some((*offset, *entry))
            });
            cursor = cursor.and_then(|cursor| cursor.move_next());
        }
    }
}

/// Returns the names of a directory.
pub(super) fn of<T: super::MemFs>(dir: &Inode<T>) -> &DirOffsets {
    &T::info(dir).dir_offsets
}
