// SPDX-License-Identifier: GPL-2.0

//! The names in a directory, in the order that they are listed in.

use super::{Dentry, FileSystem};
use crate::bindings;
use core::ops::Range;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::SpinLock,
};

/// A dentry in an [`Index`].
///
/// # Invariants
///
/// The dentry is persistent, and a child of the directory that the index is of.
#[derive(Clone, Copy)]
pub(super) struct Entry(pub(super) *mut bindings::dentry);

// SAFETY: The dentry is looked at only while the directory is locked, on whatever thread; otherwise
// this is but a number.
unsafe impl Send for Entry {}

struct Entries {
    by_cookie: RBTree<u64, Entry>,
    next: u64,
}

/// The names in a directory, by cookie.
///
/// Changed with the directory's `i_rwsem` held exclusive, read with it held at least shared; the
/// lock inside only makes that plain to the compiler, and is never contended but among readers.
///
/// When a mount goes away its dentries go before its inodes: what is here then is dropped, and
/// not looked at.
#[pin_data]
pub(in super::super) struct Index {
    #[pin]
    entries: SpinLock<Entries>,
}

/// Readdir positions 0 and 1 are "." and "..".
const FIRST_COOKIE: u64 = 2;

/// The memory for an entry of a directory.
pub struct Place(RBTreeNodeReservation<u64, Entry>);

impl Index {
    pub(in super::super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- new_spinlock!(Entries { by_cookie: RBTree::new(), next: FIRST_COOKIE }),
        })
    }

    pub(super) fn reserve() -> Result<Place> {
        Ok(Place(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }

    pub(super) fn insert<T: FileSystem>(&self, place: Place, name: &Dentry<T>) {
        let mut entries = self.entries.lock();
        let cookie = entries.next;
        entries.next += 1;
        name.set_cookie(cookie);
        // INVARIANT: The callers make the dentry persistent, or have found it so.
        entries
            .by_cookie
            .insert(place.0.into_node(cookie, Entry(name.as_raw())));
    }

    pub(super) fn remove<T: FileSystem>(&self, name: &Dentry<T>) {
        let node = self.entries.lock().by_cookie.remove_node(&name.cookie());
        drop(node);
    }

    /// Gives each of two names the other's cookie, which may be one of another directory: they are
    /// about to take each other's place.
    pub(super) fn exchange<T: FileSystem>(
        &self,
        name: &Dentry<T>,
        other_index: &Self,
        other: &Dentry<T>,
    ) {
        let (cookie, other_cookie) = (name.cookie(), other.cookie());
        self.set(cookie, other);
        other_index.set(other_cookie, name);
    }

    pub(super) fn set<T: FileSystem>(&self, cookie: u64, name: &Dentry<T>) {
        if let Some(entry) = self.entries.lock().by_cookie.get_mut(&cookie) {
            // INVARIANT: By what `exchange` is for.
            *entry = Entry(name.as_raw());
        }
        name.set_cookie(cookie);
    }

    /// Forgets all entries: for a directory that goes away with its mount, whose dentries are gone
    /// already. Otherwise it would be left to an RCU callback.
    pub(in super::super) fn clear(&self) {
        let old = core::mem::replace(&mut self.entries.lock().by_cookie, RBTree::new());
        drop(old);
    }

    /// The cookie that the next new entry gets. It is not 0.
    pub(super) fn end(&self) -> u64 {
        self.entries.lock().next
    }

    /// The first entries in `cookies`, as many as `found` has room for.
    pub(super) fn first(&self, cookies: Range<u64>, found: &mut [Option<(u64, Entry)>]) {
        let mut entries = self.entries.lock();
        let mut cursor = entries.by_cookie.cursor_lower_bound_mut(&cookies.start);
        for found in found {
            *found = cursor.as_ref().and_then(|cursor| {
                let (cookie, entry) = cursor.current();
                (*cookie < cookies.end).then_some((*cookie, *entry))
            });
            cursor = cursor.and_then(|cursor| cursor.move_next());
        }
    }
}
