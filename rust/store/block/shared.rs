// SPDX-License-Identifier: GPL-2.0

//! A pointer to a tree node, counted by the slots that hold it.
//!
//! [`kernel::sync::Arc`] cannot say that it is the only one, and what may be written in place is
//! decided by just that. So this is an `Arc` with [`Shared::get_mut`].

use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::{atomic::Acquire, Refcount},
};

struct Counted<T> {
    owners: Refcount,
    value: T,
}

/// A counted pointer to a `T` that tells whether it is the only one.
///
/// # Invariants
///
/// The pointer is to a live `Counted` made by [`Shared::new`], and counted in its `owners`.
pub struct Shared<T> {
    ptr: NonNull<Counted<T>>,
    _owns: PhantomData<Counted<T>>,
}

// SAFETY: As for `Arc`: a `Shared` gives `&T` to several threads, and drops the `T` on any.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

// The value is behind a pointer, and stays where it is when that moves.
impl<T> Unpin for Shared<T> {}

impl<T> Shared<T> {
    /// Allocates a `T` with one owner, charged to the caller's cgroup.
    pub fn new(value: T) -> Result<Self> {
        let counted = KBox::new(
            Counted {
                owners: Refcount::new(1),
                value,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // INVARIANT: The one owner is the new value.
        Ok(Self {
            ptr: KBox::leak(counted).into(),
            _owns: PhantomData,
        })
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: By the type invariant it is live; a `&mut` to it is only made by `get_mut`,
        // which borrows the only owner.
        unsafe { self.ptr.as_ref() }
    }

    /// Whether this is the only owner.
    ///
    /// With `Acquire`: it pairs with the release of the owner that let go last, so that its reads
    /// are over before ours begin to write. Nobody can become an owner but through an existing
    /// one, so the answer stays true as long as `self` is not cloned.
    pub fn is_unique(&self) -> bool {
        self.counted().owners.as_atomic().load(Acquire) == 1
    }

    /// The value, to be changed in place, if this is the only owner.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: There is no other owner, see `is_unique`, and this one is borrowed mutably.
        Some(unsafe { &mut self.ptr.as_mut().value })
    }

    /// Whether both point to the same value.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.ptr == b.ptr
    }
}

impl<T> core::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // A `refcount_t` saturates rather than overflows: the value is then never freed.
        self.counted().owners.inc();
        // INVARIANT: Counted above.
        Self {
            ptr: self.ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.counted().owners.dec_and_test() {
            // SAFETY: This was the last owner, so nobody else has the pointer, which came from a
            // `KBox` by the type invariant.
            drop(unsafe { KBox::from_raw(self.ptr.as_ptr()) });
        }
    }
}
