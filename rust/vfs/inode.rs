// SPDX-License-Identifier: GPL-2.0

//! Inodes: their memory, their locks, and making new ones.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    attributes::AttributeTables,
    directory::{DirectoryOperations, DirectoryTables, Index},
    file::{FileOperations, FileTables},
    filesystem::{FileSystem, Registration, SuperBlock},
    mapping::MappingTables,
    xattr::Attributes,
    MappingOperations,
};
use crate::{bindings, store::block::Mapped};
use core::{
    marker::PhantomData,
    mem::{size_of, ManuallyDrop},
    ops::Deref,
    ptr::null_mut,
};
use kernel::{error::to_result, prelude::*, str::CString, types::Opaque};

/// The memory of an inode: C's part, and ours.
///
/// # Invariants
///
/// Everything is initialised from [`alloc`] to [`free`]. `inode.i_private` points to `mapped`, once
/// [`NewInode::new`] has set it, and before any page carries the inode's mapping.
#[pin_data]
#[repr(C)]
struct Container<T: FileSystem> {
    /// First, because the cache's constructor sees only this.
    inode: Opaque<bindings::inode>,
    #[pin]
    mapped: Mapped,
    #[pin]
    index: Index,
    #[pin]
    attributes: Attributes,
    /// What `i_link` of a symbolic link points to.
    target: Option<CString>,
    #[pin]
    data: T::InodeData,
}

/// An inode.
///
/// # Invariants
///
/// It is the `inode` of a live `Container<T>`.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: What C changes is only touched under C's locks; the rest is `Send` and `Sync`.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` is an inode of a superblock of `T`, and stays so during `'a`.
    pub(super) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // INVARIANT: Every inode of such a superblock comes from `alloc`.
        // SAFETY: The types have the same layout.
        unsafe { &*inode.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    pub(super) fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: The inode is live; only the field's address is taken.
        unsafe { &raw mut (*self.as_raw()).i_data }
    }

    fn container(&self) -> &Container<T> {
        // SAFETY: By the type invariant; `inode` is the container's first field.
        unsafe { &*self.as_raw().cast() }
    }

    /// What the filesystem keeps with the inode.
    pub fn data(&self) -> &T::InodeData {
        &self.container().data
    }

    /// The blocks that carry this inode's mapping.
    pub fn mapped(&self) -> &Mapped {
        &self.container().mapped
    }

    /// The names in a directory, by cookie.
    pub(super) fn index(&self) -> &Index {
        &self.container().index
    }

    /// The extended attributes.
    pub(super) fn attributes(&self) -> &Attributes {
        &self.container().attributes
    }

    /// The superblock.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: An inode's superblock is of its type and outlives it.
        unsafe { SuperBlock::from_raw((*self.as_raw()).i_sb) }
    }

    /// The size in bytes. Stable while the inode is [`Locked`].
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is live.
        unsafe { bindings::shim_i_size_read(self.as_raw()) as u64 }
    }

    /// The file type, `S_IFMT` of the mode.
    pub fn file_type(&self) -> u32 {
        // SAFETY: The inode is live, and its type does not change.
        unsafe { u32::from((*self.as_raw()).i_mode) & bindings::S_IFMT }
    }

    /// How many names the inode has. Stable while their directories are locked.
    pub fn link_count(&self) -> u32 {
        // SAFETY: The inode is live.
        unsafe { (*self.as_raw()).__bindgen_anon_1.i_nlink }
    }

    /// Whether `chattr +i` forbids every change.
    pub fn is_immutable(&self) -> bool {
        // SAFETY: The inode is live.
        unsafe { bindings::shim_is_immutable(self.as_raw()) }
    }

    /// Whether the file is in use as swap space.
    pub fn is_swapfile(&self) -> bool {
        // SAFETY: The inode is live.
        unsafe { bindings::shim_is_swapfile(self.as_raw()) }
    }

    /// Takes `i_rwsem` shared: nothing changes the file but page faults.
    pub fn lock_shared(&self) -> SharedGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::shim_inode_lock_shared(self.as_raw()) };
        SharedGuard(self)
    }

    /// Takes `i_rwsem` exclusive.
    pub fn lock(&self) -> LockGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::shim_inode_lock(self.as_raw()) };
        LockGuard(self)
    }
}

/// An inode whose `i_rwsem` the caller holds exclusive.
#[repr(transparent)]
pub struct Locked<T: FileSystem>(Inode<T>);

impl<T: FileSystem> Locked<T> {
    /// # Safety
    ///
    /// The caller holds `i_rwsem` of `inode` exclusive during `'a`.
    pub(super) unsafe fn assume(inode: &Inode<T>) -> &Self {
        // SAFETY: The types have the same layout.
        unsafe { &*(&raw const *inode).cast() }
    }

    /// Sets the size in bytes.
    pub fn set_size(&self, size: u64) {
        // SAFETY: `i_rwsem` is held exclusive, which is what writers of `i_size` need.
        unsafe { bindings::shim_i_size_write(self.as_raw(), size as i64) };
    }

    /// Sets the change time to now.
    pub fn touch_status(&self) {
        // SAFETY: The inode is live, and locked for changes.
        unsafe { bindings::inode_set_ctime_current(self.as_raw()) };
    }

    /// Sets change and modification time to now.
    pub fn touch(&self) {
        // SAFETY: The inode is live, and locked for changes.
        unsafe {
            bindings::inode_set_ctime_current(self.as_raw());
            bindings::shim_inode_set_mtime_to_ctime(self.as_raw());
        }
    }
}

impl<T: FileSystem> Deref for Locked<T> {
    type Target = Inode<T>;

    fn deref(&self) -> &Inode<T> {
        &self.0
    }
}

/// `i_rwsem` held exclusive until this is dropped.
#[must_use]
pub struct LockGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Deref for LockGuard<'_, T> {
    type Target = Locked<T>;

    fn deref(&self) -> &Locked<T> {
        // SAFETY: The guard holds the lock.
        unsafe { Locked::assume(self.0) }
    }
}

impl<T: FileSystem> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock` took it.
        unsafe { bindings::shim_inode_unlock(self.0.as_raw()) };
    }
}

/// `i_rwsem` held shared until this is dropped.
#[must_use]
pub struct SharedGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Drop for SharedGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock_shared` took it.
        unsafe { bindings::shim_inode_unlock_shared(self.0.as_raw()) };
    }
}

/// A mount's mapping of user and group ids.
#[derive(Clone, Copy)]
pub struct IdMap<'a>(*mut bindings::mnt_idmap, PhantomData<&'a ()>);

impl IdMap<'_> {
    /// # Safety
    ///
    /// `idmap` is valid during the lifetime of the result.
    pub(super) unsafe fn from_raw(idmap: *mut bindings::mnt_idmap) -> Self {
        Self(idmap, PhantomData)
    }
}

/// An inode that was just made and has no name yet. Dropping it gives it up.
///
/// # Invariants
///
/// Owns a reference to the inode.
pub struct NewInode<'a, T: FileSystem>(&'a Inode<T>);

impl<'a, T: FileSystem> NewInode<'a, T> {
    /// Makes an inode of mode `mode`, type included, in directory `dir`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there may be no more, `ENOMEM`.
    pub(super) fn new(
        sb: &SuperBlock<T>,
        idmap: IdMap<'_>,
        dir: Option<&Inode<T>>,
        mode: u16,
    ) -> Result<Self> {
        let number = T::admit_inode(sb)?;
        // SAFETY: The superblock is live.
        let inode = unsafe { bindings::new_inode(sb.as_raw()) };
        if inode.is_null() {
            T::dismiss_inode(sb);
            return Err(ENOMEM);
        }
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            (*inode).i_ino = number;
            (*inode).i_private = (&raw mut (*inode.cast::<Container<T>>()).mapped).cast();
            bindings::inode_init_owner(
                idmap.0,
                inode,
                dir.map_or(null_mut(), Inode::as_raw).cast_const(),
                mode,
            );
            bindings::simple_inode_init_ts(inode);
        }
        // INVARIANT: The reference is that of `new_inode`.
        // SAFETY: `alloc` made it.
        Ok(Self(unsafe { Inode::from_raw(inode) }))
    }

    /// Makes the inode a directory.
    pub(super) fn directory(self) -> Self
    where
        T: DirectoryOperations,
    {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &DirectoryTables::<T>::INODE;
            (*inode).__bindgen_anon_3.i_fop = &DirectoryTables::<T>::FILE;
            // One for ".".
            bindings::set_nlink(inode, 2);
            bindings::shim_lockdep_annotate_inode_mutex_key(inode);
        }
        self
    }

    /// Makes the inode a regular file.
    pub(super) fn regular(self) -> Self
    where
        T: FileOperations + MappingOperations,
    {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &FileTables::<T>::INODE;
            (*inode).__bindgen_anon_3.i_fop = &FileTables::<T>::FILE;
            (*inode).i_data.a_ops = &MappingTables::<T>::ADDRESS_SPACE;
            bindings::shim_mapping_set_unevictable(&raw mut (*inode).i_data);
        }
        self
    }

    /// Makes the inode a symbolic link to `target`.
    pub(super) fn symlink(self, target: &CStr) -> Result<Self> {
        let target = CString::try_from(target)?;
        // SAFETY: Nobody else has the inode yet. `target` is freed with the inode, after a grace
        // period, as path walks that use it need.
        unsafe {
            let inode = self.0.as_raw();
            let container = inode.cast::<Container<T>>();
            let target: &CString = (*container).target.insert(target);
            let len = target.to_bytes().len();
            (*inode).i_op = &AttributeTables::<T>::SYMLINK;
            (*inode).i_size = len as i64;
            bindings::shim_inode_set_cached_link(
                inode,
                target.as_char_ptr().cast_mut(),
                len as i32,
            );
        }
        Ok(self)
    }

    /// Makes the inode a device node, FIFO or socket.
    pub(super) fn special(self, device: bindings::dev_t) -> Self {
        // SAFETY: Nobody else has the inode yet.
        unsafe {
            let inode = self.0.as_raw();
            (*inode).i_op = &AttributeTables::<T>::SPECIAL;
            bindings::init_special_inode(inode, (*inode).i_mode, device);
        }
        self
    }

    /// Tells the security modules of the inode, which is new in `dir`, under `name` if that is not
    /// null.
    pub(super) fn init_security(&self, dir: &Inode<T>, name: *const bindings::qstr) -> Result {
        // SAFETY: The inode is new, the directory live, the name valid or null.
        to_result(unsafe {
            bindings::security_inode_init_security(
                self.0.as_raw(),
                dir.as_raw(),
                name,
                None,
                null_mut(),
            )
        })
    }

    /// The inode.
    pub(super) fn inode(&self) -> &'a Inode<T> {
        self.0
    }

    /// The inode, with its reference.
    pub(super) fn into_raw(self) -> *mut bindings::inode {
        ManuallyDrop::new(self).0.as_raw()
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The reference is owned by the type invariant. Without a link the inode is
        // evicted with it.
        unsafe {
            bindings::set_nlink(self.0.as_raw(), 0);
            bindings::iput(self.0.as_raw());
        }
    }
}

/// Makes the root directory's inode.
pub(super) fn new_root<T: DirectoryOperations>(
    sb: &SuperBlock<T>,
    (mode, uid, gid): (u16, bindings::kuid_t, bindings::kgid_t),
) -> Result<*mut bindings::inode> {
    // SAFETY: The idmap that maps nothing is static.
    let idmap = unsafe { IdMap::from_raw(&raw mut bindings::nop_mnt_idmap) };
    let inode = NewInode::new(sb, idmap, None, bindings::S_IFDIR as u16 | mode)?.directory();
    // SAFETY: Nobody else has the inode yet.
    unsafe {
        (*inode.inode().as_raw()).i_uid = uid;
        (*inode.inode().as_raw()).i_gid = gid;
    }
    Ok(inode.into_raw())
}

/// Makes the cache that [`alloc`] takes inodes from.
pub(super) fn new_cache<T: FileSystem>() -> Result<*mut bindings::kmem_cache> {
    let mut args = bindings::kmem_cache_args {
        align: core::mem::align_of::<Container<T>>() as u32,
        ctor: Some(init_once),
        ..Default::default()
    };
    // SAFETY: The name is static, and `args` only needed during the call.
    let cache = unsafe {
        bindings::__kmem_cache_create_args(
            kernel::str::as_char_ptr_in_const_context(T::NAME),
            size_of::<Container<T>>() as u32,
            &mut args,
            bindings::SHIM_SLAB_INODE,
        )
    };
    if cache.is_null() {
        return Err(ENOMEM);
    }
    Ok(cache)
}

/// # Safety
///
/// `container` is memory for a `Container`.
unsafe extern "C" fn init_once(container: *mut c_void) {
    // SAFETY: The inode is the first field.
    unsafe { bindings::inode_init_once(container.cast()) };
}

/// # Safety
///
/// `sb` is a superblock of `T`.
pub(super) unsafe extern "C" fn alloc<T: FileSystem>(
    sb: *mut bindings::super_block,
) -> *mut bindings::inode {
    // SAFETY: By the safety requirements.
    let memory = unsafe { bindings::shim_alloc_inode_sb(sb, Registration::<T>::cache_of(sb)) };
    let container: *mut Container<T> = memory.cast();
    if container.is_null() {
        return null_mut();
    }
    // SAFETY: The memory is for a container. The fields are pinned, as C never moves an inode;
    // `inode` was initialised by `init_once`, and `new_inode` does the rest. No initialiser fails.
    unsafe {
        pin_init::raw_init(&raw mut (*container).mapped, Mapped::new());
        pin_init::raw_init(&raw mut (*container).index, Index::new());
        pin_init::raw_init(&raw mut (*container).attributes, Attributes::new());
        (&raw mut (*container).target).write(None);
        pin_init::raw_init(
            &raw mut (*container).data,
            T::inode_data(SuperBlock::from_raw(sb)),
        );
    }
    container.cast()
}

/// # Safety
///
/// `inode` was made by [`alloc`], nobody uses it, and a grace period has passed.
pub(super) unsafe extern "C" fn free<T: FileSystem>(inode: *mut bindings::inode) {
    let container: *mut Container<T> = inode.cast();
    // SAFETY: By the safety requirements and the container's invariants. `kfree` takes memory of
    // any cache.
    unsafe {
        core::ptr::drop_in_place(&raw mut (*container).mapped);
        core::ptr::drop_in_place(&raw mut (*container).index);
        core::ptr::drop_in_place(&raw mut (*container).attributes);
        core::ptr::drop_in_place(&raw mut (*container).target);
        core::ptr::drop_in_place(&raw mut (*container).data);
        bindings::kfree(container.cast());
    }
}

/// # Safety
///
/// `inode` is an inode of `T` that nobody uses any more.
pub(super) unsafe extern "C" fn evict<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: By the safety requirements. The page cache is empty, and stays so.
    let inode = unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
        Inode::<T>::from_raw(inode)
    };
    T::evict(inode);
    inode.mapped().release_all();
    inode.index().clear();
    let blocks = inode.attributes().clear();
    // Cannot fail: it counts less.
    let _ = T::recount(inode.super_block(), blocks, 0);
    T::dismiss_inode(inode.super_block());
}
