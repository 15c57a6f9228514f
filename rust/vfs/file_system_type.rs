// SPDX-License-Identifier: GPL-2.0

//! Registered filesystem types: `struct file_system_type`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{inode_cache::InodeCache, FileSystem, SuperBlock};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    container_of,
    prelude::*,
    types::Opaque, //
};

/// A filesystem type, registered until this is dropped.
///
/// # Invariants
///
/// `fs_type` is registered.
#[pin_data(PinnedDrop)]
pub struct Registration<T: FileSystem> {
    #[pin]
    pub(super) fs_type: Opaque<bindings::file_system_type>,
    #[pin]
    pub(super) data: T::TypeData,
    /// Goes when there are no superblocks any more.
    pub(super) inode_cache: InodeCache<T>,
    pub(super) _type: PhantomData<T>,
}

// SAFETY: Registering and unregistering may happen on any thread.
unsafe impl<T: FileSystem> Send for Registration<T> {}
// SAFETY: What `&self` gives access to is `Sync`.
unsafe impl<T: FileSystem> Sync for Registration<T> {}

impl<T: FileSystem> Registration<T> {
    /// Returns the registration of a superblock's type.
    pub(super) fn of(sb: &SuperBlock<T>) -> &Self {
        // SAFETY: `s_type` is the `fs_type` of a `Registration<T>`, which lives as long as
        // superblocks of it.
        unsafe {
            let fs_type: *mut Opaque<bindings::file_system_type> = (*sb.as_raw()).s_type.cast();
            &*container_of!(fs_type, Self, fs_type)
        }
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Returns what is kept with the filesystem type.
    pub fn type_data(&self) -> &T::TypeData {
        &Registration::of(self).data
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariant. The module's reference count keeps it loaded
        // while a superblock exists, so there is none.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
    }
}
