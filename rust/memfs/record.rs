// SPDX-License-Identifier: GPL-2.0

//! Records: what a file is, independent of whether its inode is in the cache.

use super::{
    names::Names,
    xattr::Xattrs, //
};
use crate::{
    bindings,
    vfs::InodeAttrs, //
};
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            ordering::Full,
            Acquire,
            Atomic, //
        },
        Arc,
        Mutex,
        SpinLock, //
    }, //
};

/// What a file, directory or link is. `struct inode` is made of it when it is looked up, and
/// leaves the cache when the memory is wanted.
///
/// The record is in the table of the superblock's inodes as long as it has a name. Without one
/// only its inode refers to it.
#[pin_data]
pub(crate) struct Record<D> {
    /// The attributes that `struct inode` has, as they were when one was evicted: while there is
    /// one, that counts.
    #[pin]
    pub(super) attrs: SpinLock<InodeAttrs>,
    /// When the file was created.
    pub(super) btime: bindings::timespec64,
    /// `FS_*_FL`. Changed with `i_rwsem` held exclusive.
    pub(super) fsflags: Atomic<u32>,
    #[pin]
    pub(super) names: Mutex<Names>,
    /// The number of the directory that a directory is in.
    pub(super) parent: Atomic<u64>,
    /// The target of a symbolic link, with a NUL behind it.
    pub(super) target: Option<KVec<u8>>,
    #[pin]
    pub(super) xattrs: Xattrs,
    /// Whether it is in the table. If not, it is released with its inode.
    pub(super) has_name: Atomic<bool>,
    /// The data of a regular file.
    #[pin]
    pub(crate) data: D,
}

impl<D> Record<D> {
    /// Creates the record of a new inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(
        btime: bindings::timespec64,
        target: Option<&CStr>,
        data: impl PinInit<D>,
    ) -> Result<Arc<Self>> {
        let target = match target {
            Some(target) => {
                let mut bytes = KVec::new();
                bytes.extend_from_slice(target.to_bytes_with_nul(), GFP_KERNEL_ACCOUNT)?;
                Some(bytes)
            }
            None => None,
        };
        Arc::pin_init(
            pin_init!(Self {
                attrs <- new_spinlock!(InodeAttrs::default()),
                btime,
                fsflags: Atomic::new(0),
                names <- new_mutex!(Names::new()),
                parent: Atomic::new(0),
                target,
                xattrs <- Xattrs::new(),
                has_name: Atomic::new(false),
                data <- data,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

/// The place in an inode for its record.
///
/// # Invariants
///
/// It is null, or a counted reference.
pub(super) struct RecordCell<D> {
    record: Atomic<*mut Record<D>>,
    _owns: PhantomData<Arc<Record<D>>>,
}

// SAFETY: As for the `Arc` in it, which is `Send` and `Sync` where its content is.
unsafe impl<D: Send + Sync> Send for RecordCell<D> {}
// SAFETY: As for the `Arc` in it, which is `Send` and `Sync` where its content is.
unsafe impl<D: Send + Sync> Sync for RecordCell<D> {}

impl<D> RecordCell<D> {
    /// Makes an empty one.
    pub(super) fn new() -> Self {
        // INVARIANT: It is null.
        Self {
            record: Atomic::new(null_mut()),
            _owns: PhantomData,
        }
    }

    /// Sets the record. There is none yet.
    pub(super) fn set(&self, record: Arc<Record<D>>) {
        // INVARIANT: The reference passes to the cell.
        let old = self.record.xchg(Arc::into_raw(record).cast_mut(), Full);
        debug_assert!(old.is_null());
    }

    /// Returns the record.
    pub(super) fn get(&self) -> Option<&Record<D>> {
        // SAFETY: By the type invariant there is a reference, which only `clear` gives up, whose
        // caller guarantees that no result of this is in use, and `drop`.
        unsafe { self.record.load(Acquire).as_ref() }
    }

    /// Returns another reference to the record.
    pub(super) fn to_arc(&self) -> Option<Arc<Record<D>>> {
        let record = self.record.load(Acquire);
        // SAFETY: By the type invariant this is a reference from `Arc::into_raw`. It is not
        // dropped here.
        (!record.is_null()).then(|| unsafe {
            (*core::mem::ManuallyDrop::new(Arc::from_raw(record.cast_const()))).clone()
        })
    }

    /// Drops the reference.
    ///
    /// # Safety
    ///
    /// Nothing uses a result of [`RecordCell::get`], and nothing calls it any more.
    pub(super) unsafe fn clear(&self) {
        let record = self.record.xchg(null_mut(), Full);
        if !record.is_null() {
            // SAFETY: By the type invariant this is a reference from `Arc::into_raw`.
            drop(unsafe { Arc::from_raw(record.cast_const()) });
        }
    }
}

impl<D> Drop for RecordCell<D> {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to `self` any more.
        unsafe { self.clear() };
    }
}
