// SPDX-License-Identifier: GPL-2.0

//! A sleeping lock for many readers or one writer, `struct rw_semaphore`. (The kernel crate has
//! none.)
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use crate::bindings;
use core::{
    marker::PhantomPinned,
    pin::Pin, //
};
use kernel::{
    error::to_result,
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::LockClassKey,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// A lock that protects no value of its own.
#[pin_data]
pub struct RwSemaphore {
    #[pin]
    raw: Opaque<bindings::rw_semaphore>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Any thread may take the lock.
unsafe impl Send for RwSemaphore {}
// SAFETY: Any thread may take the lock.
unsafe impl Sync for RwSemaphore {}

impl RwSemaphore {
    /// Returns an initialiser for one that lockdep knows by these.
    pub fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and pinned; name and key are static.
            raw <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_rwsem(slot, as_char_ptr_in_const_context(name), key.as_ptr())
            }),
            _pin: PhantomPinned,
        })
    }

    /// Takes the lock shared, `down_read`.
    pub fn read(&self) -> SharedGuard<'_> {
        // SAFETY: `new` initialised it. The guard unlocks it.
        unsafe { bindings::down_read(self.raw.get()) };
        SharedGuard(self, NotThreadSafe)
    }

    /// Takes the lock shared, if that can be done at once: `down_read_trylock`.
    pub fn try_read(&self) -> Option<SharedGuard<'_>> {
        // SAFETY: `new` initialised it. The guard unlocks it.
        let locked = unsafe { bindings::down_read_trylock(self.raw.get()) };
        (locked != 0).then(|| SharedGuard(self, NotThreadSafe))
    }

    /// Takes the lock exclusive, `down_write_killable`.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal is pending.
    pub fn write_killable(&self) -> Result<ExclusiveGuard<'_>> {
        // SAFETY: `new` initialised it. The guard unlocks it.
        to_result(unsafe { bindings::down_write_killable(self.raw.get()) })?;
        Ok(ExclusiveGuard(self, NotThreadSafe))
    }
}

/// The lock, held shared until this is dropped.
#[must_use]
pub struct SharedGuard<'a>(&'a RwSemaphore, NotThreadSafe);

impl Drop for SharedGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `RwSemaphore::read` or `RwSemaphore::try_read` took it.
        unsafe { bindings::up_read(self.0.raw.get()) };
    }
}

/// The lock, held exclusive until this is dropped.
#[must_use]
pub struct ExclusiveGuard<'a>(&'a RwSemaphore, NotThreadSafe);

impl Drop for ExclusiveGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `RwSemaphore::write_killable` took it.
        unsafe { bindings::up_write(self.0.raw.get()) };
    }
}
