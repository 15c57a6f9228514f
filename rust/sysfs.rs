// SPDX-License-Identifier: GPL-2.0

//! Directories of sysfs, each with attributes that are numbers.
//!
//! C headers: [`include/linux/kobject.h`](srctree/include/linux/kobject.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h).

use crate::bindings;
use core::{
    ops::Deref,
    ptr::null, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    sync::Completion,
    types::Opaque, //
};

/// The attributes of a directory.
pub(crate) trait Attributes: Send + Sync + Sized + 'static {
    /// All of them.
    const ATTRIBUTES: &'static [Attribute<Self>];
}

/// A file with a number, `struct attribute`, for root to read.
#[repr(C)]
pub(crate) struct Attribute<T> {
    attr: bindings::attribute,
    value: fn(&T) -> u64,
}

// SAFETY: It is constant. With lockdep, sysfs uses the address of the key in it.
unsafe impl<T> Sync for Attribute<T> {}

impl<T> Attribute<T> {
    /// Makes one that shows what `value` returns.
    // `skey` exists only with CONFIG_DEBUG_LOCK_ALLOC.
    #[allow(clippy::needless_update)]
    pub(crate) const fn new(name: &'static CStr, value: fn(&T) -> u64) -> Self {
        Self {
            attr: bindings::attribute {
                name: kernel::str::as_char_ptr_in_const_context(name),
                mode: 0o400,
                ..pin_init::zeroed()
            },
            value,
        }
    }
}

/// A directory in `/sys/fs`, without attributes, until it is dropped.
pub(crate) struct Root(*mut bindings::kobject);

// SAFETY: A kobject's references are counted atomically, and nothing else is done with it.
unsafe impl Send for Root {}
// SAFETY: As above.
unsafe impl Sync for Root {}

impl Root {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also where the name exists.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is copied; `fs_kobj` was made at boot.
        let kobj =
            unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), bindings::fs_kobj) };
        if kobj.is_null() {
            return Err(ENOMEM);
        }
        Ok(Self(kobj))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // SAFETY: The reference is that of `new`. The kernel frees the kobject.
        unsafe {
            bindings::kobject_del(self.0);
            bindings::kobject_put(self.0);
        }
    }
}

#[pin_data]
struct Inner<T> {
    #[pin]
    kobj: Opaque<bindings::kobject>,
    /// Completed by the release of the last reference.
    #[pin]
    released: Completion,
    #[pin]
    data: T,
}

/// A directory with the attributes of a `T`, until it is dropped.
///
/// # Invariants
///
/// `kobj` is initialised, with [`Directory::TYPE`].
pub(crate) struct Directory<T: Attributes>(Pin<KBox<Inner<T>>>);

// SAFETY: As for `Root`; `T` is `Send`.
unsafe impl<T: Attributes> Send for Directory<T> {}
// SAFETY: As for `Root`; `T` is `Sync`.
unsafe impl<T: Attributes> Sync for Directory<T> {}

impl<T: Attributes> Directory<T> {
    const OPS: &'static bindings::sysfs_ops = &bindings::sysfs_ops {
        show: Some(Self::show),
        ..pin_init::zeroed()
    };

    const TYPE: &'static bindings::kobj_type = &bindings::kobj_type {
        release: Some(Self::release),
        sysfs_ops: Self::OPS,
        ..pin_init::zeroed()
    };

    /// Makes one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EEXIST` where the name exists.
    pub(crate) fn new<E>(parent: &Root, name: &CStr, data: impl PinInit<T, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        let init = try_pin_init!(Inner {
            kobj <- Opaque::zeroed(),
            released <- Completion::new(),
            data <- data,
        }? Error);
        let inner = KBox::pin_init::<Error>(init, GFP_KERNEL)?;
        let kobj = inner.kobj.get();
        // SAFETY: It is zeroed; the table is static.
        unsafe { bindings::kobject_init(kobj, Self::TYPE) };
        // INVARIANT: Initialised above.
        let this = Self(inner);
        // SAFETY: The kobject is initialised, and the parent is live. The name is copied.
        to_result(unsafe {
            bindings::kobject_add(kobj, parent.0, c"%s".as_char_ptr(), name.as_char_ptr())
        })?;
        for attribute in T::ATTRIBUTES {
            // SAFETY: The kobject was added; the attribute is static.
            to_result(unsafe { bindings::sysfs_create_file_ns(kobj, &attribute.attr, null()) })?;
        }
        Ok(this)
    }

    /// # Safety
    ///
    /// `kobj` is that of a [`Directory`] of `T`.
    unsafe fn inner<'a>(kobj: *mut bindings::kobject) -> &'a Inner<T> {
        let kobj = kobj.cast::<Opaque<bindings::kobject>>();
        // SAFETY: The caller guarantees that it is in an `Inner`. That is freed after the release.
        unsafe { &*container_of!(kobj, Inner<T>, kobj) }
    }

    /// # Safety
    ///
    /// Only for [`Directory::OPS`]: `attr` is of the directory whose kobject `kobj` is, and `buf`
    /// has a page.
    unsafe extern "C" fn show(
        kobj: *mut bindings::kobject,
        attr: *mut bindings::attribute,
        buf: *mut c_char,
    ) -> isize {
        // SAFETY: sysfs passes an attribute that `new` made, which is the first field of an
        // `Attribute`, and its kobject.
        let value = unsafe {
            let attribute = &*attr.cast::<Attribute<T>>();
            (attribute.value)(&Self::inner(kobj).data)
        };
        // SAFETY: `buf` is that of the reader.
        unsafe { bindings::sysfs_emit(buf, c"%llu\n".as_char_ptr(), value) as isize }
    }

    /// # Safety
    ///
    /// Only for [`Directory::TYPE`]: `kobj` is that of a [`Directory`] of `T`.
    unsafe extern "C" fn release(kobj: *mut bindings::kobject) {
        // SAFETY: The caller guarantees whose it is. `drop` frees it after this call.
        unsafe { Self::inner(kobj) }.released.complete_all();
    }
}

impl<T: Attributes> Deref for Directory<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.data
    }
}

impl<T: Attributes> Drop for Directory<T> {
    /// Removes the files, and waits for readers of them.
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is initialised, and the reference is that of
        // `kobject_init`.
        unsafe {
            bindings::kobject_del(self.0.kobj.get());
            bindings::kobject_put(self.0.kobj.get());
        }
        self.0.released.wait_for_completion();
    }
}
