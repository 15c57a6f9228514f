// SPDX-License-Identifier: GPL-2.0

//! A spinning lock for many readers or one writer, `rwlock_t`: as `kernel::sync::SpinLock`
//! is `spinlock_t`. (The kernel crate has none.)
//!
//! C header: [`include/linux/rwlock.h`](srctree/include/linux/rwlock.h)

use crate::bindings;
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    ops::{
        Deref,
        DerefMut, //
    },
    pin::Pin, //
};
use kernel::{
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::LockClassKey,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// A value that several tasks may read at a time, or one change. A task that holds the lock must
/// not sleep.
///
/// # Examples
///
/// ```
/// use crate::vfs::RwLock;
/// use kernel::{prelude::*, static_lock_class};
///
/// let range = RwLock::new(0..10, c"example", static_lock_class!());
/// let range = KBox::pin_init(range, GFP_KERNEL)?;
///
/// range.write().end = 20;
///
/// assert_eq!(range.read().end, 20);
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
pub struct RwLock<T> {
    #[pin]
    raw: Opaque<bindings::rwlock_t>,
    #[pin]
    _pin: PhantomPinned,
    value: UnsafeCell<T>,
}

// SAFETY: Owns the value.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: Gives `&T` to several threads at a time, and `&mut T` to any, one at a time.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A lock around `value`, known to lockdep by these.
    pub fn new(
        value: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and pinned; name and key are static.
            raw <- Opaque::ffi_init(|slot| unsafe {
                bindings::__rwlock_init(slot, as_char_ptr_in_const_context(name), key.as_ptr())
            }),
            _pin: PhantomPinned,
            value: UnsafeCell::new(value),
        })
    }

    /// Takes the lock to read.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: `new` initialised it. The guard unlocks it.
        unsafe { bindings::read_lock(self.raw.get()) };
        ReadGuard(self, NotThreadSafe)
    }

    /// Takes the lock to change the value.
    pub fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: `new` initialised it. The guard unlocks it.
        unsafe { bindings::write_lock(self.raw.get()) };
        WriteGuard(self, NotThreadSafe)
    }
}

/// The lock, held to read.
#[must_use]
pub struct ReadGuard<'a, T>(&'a RwLock<T>, NotThreadSafe);

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The lock is held, and there is no `WriteGuard`.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `RwLock::read` took it.
        unsafe { bindings::read_unlock(self.0.raw.get()) };
    }
}

/// The lock, held to write.
#[must_use]
pub struct WriteGuard<'a, T>(&'a RwLock<T>, NotThreadSafe);

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The lock is held, and there is no other guard.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held, there is no other guard, and this one is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `RwLock::write` took it.
        unsafe { bindings::write_unlock(self.0.raw.get()) };
    }
}
