// SPDX-License-Identifier: GPL-2.0

//! A pointer to a tree node, counted by the slots that hold it.
//!
//! [`kernel::sync::Arc`] cannot say that it is the only one, and what may be written in place is
//! decided by just that. So this is an `Arc` with [`NodeRef::get_mut`].
//!
//! The memory is that of a cache of its own, a [`NodeCache`]: half of what `kmalloc` takes for a node,
//! and not cleared first.

use super::accesses;
use crate::bindings;
use core::{
    alloc::Layout,
    marker::PhantomData,
    mem::{align_of, size_of, ManuallyDrop},
    ptr::{drop_in_place, null_mut, NonNull},
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering::Full, Acquire, Atomic, Relaxed},
};

/// What is in the cache begins at a multiple of this.
const CACHE_LINE: usize = bindings::SMP_CACHE_BYTES as usize;

/// The cache that [`UninitNode::new`] takes memory from; null where there is none.
static CACHE: Atomic<*mut bindings::kmem_cache> = Atomic::new(null_mut());

/// The size of what is in [`CACHE`].
static SIZE: Atomic<usize> = Atomic::new(0);

/// Memory for values of one type behind a [`NodeRef`]. One at a time may exist, and must outlive all
/// of those values.
///
/// # Invariants
///
/// [`CACHE`] is a cache made by [`NodeCache::new`].
pub struct NodeCache(());

impl NodeCache {
    /// Makes the cache, for values of type `T`. No other cache in the kernel has this name.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` where there is one already.
    pub fn new<T>(name: &'static CStr) -> Result<Self> {
        if !CACHE.load(Relaxed).is_null() {
            return Err(EBUSY);
        }
        let layout = Layout::new::<NodeInner<T>>();
        let mut args = bindings::kmem_cache_args {
            align: layout.align() as u32,
            // Within what is free, which is no bigger by it. With a constructor it has to be said.
            freeptr_offset: 0,
            use_freeptr_offset: true,
            // With one, the kernel does not clear what is about to be filled in.
            ctor: Some(noop_ctor),
            ..Default::default()
        };
        // SAFETY: The name is static, and `args` only needed during the call.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                kernel::str::as_char_ptr_in_const_context(name),
                layout.size() as u32,
                &mut args,
                bindings::SLAB_ACCOUNT | bindings::SLAB_HWCACHE_ALIGN,
            )
        };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        SIZE.store(layout.size(), Relaxed);
        CACHE.store(cache, Relaxed);
        Ok(Self(()))
    }
}

impl Drop for NodeCache {
    fn drop(&mut self) {
        let cache = CACHE.load(Relaxed);
        CACHE.store(null_mut(), Relaxed);
        // SAFETY: By the type invariant; nothing of it is in use, as the type asks.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// # Safety
///
/// None: does not look at its argument.
unsafe extern "C" fn noop_ctor(_memory: *mut c_void) {}

struct NodeInner<T> {
    /// As each owner is a pointer of eight bytes somewhere, this cannot overflow; a `refcount_t` could,
    /// and what it counts is never freed then.
    owners: Atomic<u64>,
    value: T,
}

/// Memory for a `T` behind a [`NodeRef`], with nothing in it yet.
///
/// # Invariants
///
/// The pointer is to memory for a `NodeInner`, of [`CACHE`] or of `kmalloc`, and nobody else has it.
pub struct UninitNode<T>(NonNull<NodeInner<T>>);

// SAFETY: Nothing is in it yet.
unsafe impl<T> Send for UninitNode<T> {}
// SAFETY: As above.
unsafe impl<T> Sync for UninitNode<T> {}

impl<T> UninitNode<T> {
    /// Allocates memory, charged to the caller's cgroup.
    pub fn new() -> Result<Self> {
        // What is in a cache is aligned to a word at least.
        const { assert!(align_of::<NodeInner<T>>() <= align_of::<u64>()) };
        let cache = CACHE.load(Relaxed);
        let ptr = if cache.is_null() || SIZE.load(Relaxed) != size_of::<NodeInner<T>>() {
            let memory = KBox::<NodeInner<T>>::new_uninit(GFP_KERNEL_ACCOUNT)?;
            NonNull::from(KBox::leak(memory)).cast()
        } else {
            // SAFETY: A cache that is not null is live, see `NodeCache`. May sleep, as above.
            let memory = unsafe { bindings::kmem_cache_alloc(cache, bindings::GFP_KERNEL_ACCOUNT) };
            NonNull::new(memory.cast()).ok_or(ENOMEM)?
        };
        // INVARIANT: What is in the cache has the size of this, and the alignment, see above.
        Ok(Self(ptr))
    }

    /// Puts in what `value` makes: right there, so that an empty node is not moved.
    #[inline]
    pub fn fill(self, value: impl FnOnce() -> T) -> NodeRef<T> {
        let ptr = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariant. (Nothing unwinds in the kernel.)
        unsafe {
            ptr.write(NodeInner {
                owners: Atomic::new(1),
                value: value(),
            })
        };
        // INVARIANT: The one owner is the new value.
        NodeRef {
            ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for UninitNode<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; `kfree` takes what is of a cache, too.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

/// A counted pointer to a `T` that tells whether it is the only one.
///
/// # Invariants
///
/// The pointer is to a live `NodeInner` made by [`UninitNode::fill`], and counted in its `owners`.
pub struct NodeRef<T> {
    ptr: NonNull<NodeInner<T>>,
    _owns: PhantomData<NodeInner<T>>,
}

// SAFETY: As for `Arc`: a `NodeRef` gives `&T` to several threads, and drops the `T` on any.
unsafe impl<T: Send + Sync> Send for NodeRef<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for NodeRef<T> {}

// The value is behind a pointer, and stays where it is when that moves.
impl<T> Unpin for NodeRef<T> {}

impl<T> NodeRef<T> {
    /// How many bytes of its cache it takes.
    pub const BYTES: usize = size_of::<NodeInner<T>>().next_multiple_of(CACHE_LINE);

    fn inner(&self) -> &NodeInner<T> {
        accesses::count_node();
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
        self.inner().owners.load(Acquire) == 1
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

impl<T> core::ops::Deref for NodeRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        self.inner().owners.add(1, Relaxed);
        // INVARIANT: NodeInner above.
        Self {
            ptr: self.ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for NodeRef<T> {
    fn drop(&mut self) {
        // Fully ordered: what the others did with the value is over before it goes.
        if self.inner().owners.fetch_sub(1, Full) == 1 {
            // SAFETY: This was the last owner, so nobody else has the pointer, whose memory is of a cache
            // or of `kmalloc` by the type invariant: `kfree` takes both.
            unsafe {
                drop_in_place(self.ptr.as_ptr());
                bindings::kfree(self.ptr.as_ptr().cast());
            }
        }
    }
}
