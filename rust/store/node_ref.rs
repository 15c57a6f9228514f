// SPDX-License-Identifier: GPL-2.0

//! [`NodeRef`], a reference-counted pointer to a tree node, and the memory of nodes.
//!
//! [`kernel::sync::Arc`] cannot tell whether a reference is the only one, and just that decides
//! what may be changed in place. So a [`NodeRef`] is an `Arc` with [`NodeRef::get_mut`].
//!
//! Nodes have a slab cache of their own, [`Cache`]: a node takes half of what `kmalloc` takes for
//! it, and is not zeroed before it is filled.

use super::{
    accesses,
    block::Pool, //
};
use crate::bindings;
use core::{
    alloc::Layout,
    marker::PhantomData,
    mem::{
        align_of,
        size_of,
        ManuallyDrop, //
    },
    ops::Deref,
    ptr::{
        drop_in_place,
        null_mut,
        NonNull, //
    },
};
pub use kernel::alloc::Flags;
use kernel::{
    prelude::*,
    sync::atomic::{
        ordering::Full,
        Acquire,
        Atomic,
        Relaxed, //
    },
};

/// The cache that [`UninitNode::new`] allocates from; null if there is none.
static CACHE: Atomic<*mut bindings::kmem_cache> = Atomic::new(null_mut());

/// The size of the objects of [`CACHE`].
static SIZE: Atomic<usize> = Atomic::new(0);

/// The slab cache of all nodes. At most one exists, and it must outlive every node.
///
/// # Invariants
///
/// [`CACHE`] is a cache made by [`Cache::new`], of objects of [`SIZE`] bytes.
pub(super) struct Cache(());

impl Cache {
    /// Creates the cache, for nodes of type `T`. No other cache in the kernel has this name.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if there is a cache already.
    pub(super) fn new<T>(name: &'static CStr) -> Result<Self> {
        if !CACHE.load(Relaxed).is_null() {
            return Err(EBUSY);
        }
        let layout = Layout::new::<NodeInner<T>>();
        // What a node is charged is what it takes.
        const {
            let line = bindings::SMP_CACHE_BYTES as usize;
            assert!(size_of::<NodeInner<T>>().next_multiple_of(line) <= Pool::NODE_SIZE)
        };
        let mut args = bindings::kmem_cache_args {
            align: layout.align() as u32,
            // Inside the free object, which then takes no more memory. A cache with a constructor
            // must say so.
            freeptr_offset: 0,
            use_freeptr_offset: true,
            // With a constructor the kernel does not zero objects that are about to be filled.
            ctor: Some(noop_ctor),
            ..Default::default()
        };
        // SAFETY: The name is static, and `args` is only used during the call.
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
        // INVARIANT: Made above.
        SIZE.store(layout.size(), Relaxed);
        CACHE.store(cache, Relaxed);
        Ok(Self(()))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let cache = CACHE.load(Relaxed);
        CACHE.store(null_mut(), Relaxed);
        // SAFETY: By the type invariant it is a cache; no node is left, as the type demands.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// # Safety
///
/// None: the argument is not used.
unsafe extern "C" fn noop_ctor(_memory: *mut c_void) {}

struct NodeInner<T> {
    /// How many references there are. Each is a pointer of eight bytes, so that 64 bits do not
    /// overflow; what a saturated `refcount_t` counts is never freed.
    refs: Atomic<u64>,
    node: T,
}

/// Memory for a node.
///
/// # Invariants
///
/// The pointer is to uninitialised memory of [`CACHE`] for a `NodeInner`, which this value owns.
pub(super) struct UninitNode<T>(NonNull<NodeInner<T>>);

// SAFETY: The memory is owned, and not initialised.
unsafe impl<T> Send for UninitNode<T> {}
// SAFETY: A `&UninitNode` gives access to nothing.
unsafe impl<T> Sync for UninitNode<T> {}

impl<T> UninitNode<T> {
    /// Allocates memory for a node, charged to the caller's cgroup. `flags` say whether it may
    /// wait.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also without a [`Cache`] for nodes of this type.
    pub(super) fn new(flags: bindings::gfp_t) -> Result<Self> {
        // The objects of a cache are aligned to a word at least.
        const { assert!(align_of::<NodeInner<T>>() <= align_of::<u64>()) };
        let cache = CACHE.load(Relaxed);
        if cache.is_null() || SIZE.load(Relaxed) != size_of::<NodeInner<T>>() {
            return Err(ENOMEM);
        }
        // SAFETY: A cache that is not null is live, see `Cache`.
        let memory = unsafe { bindings::kmem_cache_alloc(cache, flags) };
        // INVARIANT: The objects of the cache have the size and alignment of a `NodeInner`.
        Ok(Self(NonNull::new(memory.cast()).ok_or(ENOMEM)?))
    }

    /// Initialises the memory with what `node` returns, in place: a node is too large to be moved.
    #[inline]
    pub(super) fn init(self, node: impl FnOnce() -> T) -> NodeRef<T> {
        let ptr = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariant the memory is owned and fits. (Nothing unwinds in the
        // kernel.)
        unsafe {
            ptr.write(NodeInner {
                refs: Atomic::new(1),
                node: node(),
            })
        };
        // INVARIANT: The one reference is the new value.
        NodeRef {
            ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for UninitNode<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the memory is owned; `kfree` takes objects of any cache.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

/// A counted reference to a node, held by a slot of another node or by the root of a tree.
///
/// # Invariants
///
/// The pointer is to a live `NodeInner` made by [`UninitNode::init`] or [`NodeRef::new`], and counted
/// in its `refs`.
pub struct NodeRef<T> {
    ptr: NonNull<NodeInner<T>>,
    _owns: PhantomData<NodeInner<T>>,
}

// SAFETY: As for `Arc`: a `NodeRef` gives `&T` to several threads, and drops the `T` on any of
// them.
unsafe impl<T: Send + Sync> Send for NodeRef<T> {}
// SAFETY: As for `Arc`: a `&NodeRef` can be cloned, and so gives no more than a `NodeRef`.
unsafe impl<T: Send + Sync> Sync for NodeRef<T> {}

// The node does not move with the pointer.
impl<T> Unpin for NodeRef<T> {}

impl<T> NodeRef<T> {
    /// Makes a node that is not in the cache.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(node: T, flags: Flags) -> Result<Self> {
        let inner = NodeInner {
            refs: Atomic::new(1),
            node,
        };
        // INVARIANT: The one reference is the new value. `drop` frees memory of `kmalloc`, too.
        Ok(Self {
            ptr: NonNull::from(KBox::leak(KBox::new(inner, flags)?)),
            _owns: PhantomData,
        })
    }

    fn inner(&self) -> &NodeInner<T> {
        accesses::count_node();
        // SAFETY: By the type invariant it is live. Only `get_mut` makes a `&mut` to it, which
        // borrows the only reference.
        unsafe { self.ptr.as_ref() }
    }

    /// Returns whether this is the only reference.
    ///
    /// `Acquire` pairs with the release of the reference that was dropped last: its holder's reads
    /// are over before the caller begins to write. References are only made from references, so
    /// the answer holds until `self` is cloned.
    pub(super) fn is_unique(&self) -> bool {
        self.inner().refs.load(Acquire) == 1
    }

    /// Returns the node, to be changed in place, if this is the only reference.
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: There is no other reference, see `is_unique`, and this one is borrowed mutably.
        Some(unsafe { &mut self.ptr.as_mut().node })
    }

    /// Returns whether both refer to the same node.
    pub(super) fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.ptr == b.ptr
    }
}

impl<T> Deref for NodeRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().node
    }
}

impl<T> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        self.inner().refs.add(1, Relaxed);
        // INVARIANT: Counted above.
        Self {
            ptr: self.ptr,
            _owns: PhantomData,
        }
    }
}

impl<T> Drop for NodeRef<T> {
    fn drop(&mut self) {
        // Full ordering: all accesses by other holders are over before the node is dropped.
        if self.inner().refs.fetch_sub(1, Full) == 1 {
            // SAFETY: This was the last reference. By the type invariant the memory is of a cache, or
            // of `kmalloc`; `kfree` takes both.
            unsafe {
                drop_in_place(self.ptr.as_ptr());
                bindings::kfree(self.ptr.as_ptr().cast());
            }
        }
    }
}
