// SPDX-License-Identifier: GPL-2.0

//! Inodes and their locks. How one is made is in `new.rs`, what it consists of in `memory.rs`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

mod memory;
mod new;

pub use self::new::NewInode;
pub(super) use self::{
    memory::{alloc, evict, free, new_cache},
    new::new_root,
};

use self::memory::Container;
use super::{
    directory::Index,
    filesystem::{FileSystem, SuperBlock},
    quota::Dquots,
    xattr::Attributes,
};
use crate::{bindings, store::block::MappedBlocks};
use core::{marker::PhantomData, ops::Deref};
use kernel::{
    sync::{
        atomic::{Atomic, Relaxed},
        SpinLock,
    },
    types::Opaque,
};

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
    pub fn mapped(&self) -> &MappedBlocks {
        &self.container().mapped
    }

    /// Whether anybody has ever mapped the file into memory. Where not, and with `invalidate_lock` held
    /// exclusive, no page table has any of its blocks, and no fault changes them.
    pub fn was_mapped(&self) -> bool {
        self.container().was_mapped.load(Relaxed)
    }

    /// Notes that the file is about to be mapped. Who faults then takes `invalidate_lock`, and so does
    /// who wants to know, after that.
    pub(super) fn set_mapped(&self) {
        self.container().was_mapped.store(true, Relaxed);
    }

    /// The names in a directory, by cookie.
    pub(super) fn index(&self) -> &Index {
        &self.container().index
    }

    /// The extended attributes.
    pub(super) fn attributes(&self) -> &Attributes {
        &self.container().attributes
    }

    /// What `chattr(1)` set, for [`super::flags`].
    pub(super) fn flags(&self) -> &Atomic<u32> {
        &self.container().flags
    }

    /// When the inode was made.
    pub(super) fn btime(&self) -> bindings::timespec64 {
        self.container().btime
    }

    pub(super) fn hashing(&self) -> &SpinLock<()> {
        &self.container().hashing
    }

    /// Who is charged for it.
    pub(super) fn dquots(&self) -> &Dquots {
        &self.container().dquots
    }

    /// The superblock.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: An inode's superblock is of its type and outlives it.
        unsafe { SuperBlock::from_raw((*self.as_raw()).i_sb) }
    }

    /// The size in bytes. Stable while the inode is [`Locked`].
    pub fn size(&self) -> u64 {
        // SAFETY: The reference keeps the inode; the size may change meanwhile, as the function allows.
        unsafe { bindings::i_size_read(self.as_raw()) as u64 }
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

    fn has_flag(&self, flag: u32) -> bool {
        // SAFETY: The reference keeps the inode. Others may change its flags at any time, as in C.
        unsafe { (&raw const (*self.as_raw()).i_flags).read_volatile() & flag != 0 }
    }

    /// Whether `chattr +i` forbids every change.
    pub fn is_immutable(&self) -> bool {
        self.has_flag(bindings::S_IMMUTABLE)
    }

    /// Whether `chattr +a` forbids every change but additions.
    pub fn is_append_only(&self) -> bool {
        self.has_flag(bindings::S_APPEND)
    }

    /// Whether the file is in use as swap space.
    pub fn is_swapfile(&self) -> bool {
        self.has_flag(bindings::S_SWAPFILE)
    }

    /// Changes `i_version`, which NFS clients and IMA compare. The change itself came before.
    pub(super) fn count_change(&self) {
        // SAFETY: The reference keeps the inode; the counter is atomic.
        unsafe { bindings::inode_inc_iversion(self.as_raw()) };
    }

    fn rwsem(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: The reference keeps the inode; only the field's address is taken.
        unsafe { &raw mut (*self.as_raw()).i_rwsem }
    }

    /// Takes `i_rwsem` shared: nothing changes the file but page faults.
    pub fn lock_shared(&self) -> SharedGuard<'_, T> {
        // SAFETY: The semaphore is that of a live inode; the guard unlocks it.
        unsafe { bindings::down_read(self.rwsem()) };
        SharedGuard(self)
    }

    /// Takes `i_rwsem` shared, if that can be done at once.
    pub fn try_lock_shared(&self) -> Option<SharedGuard<'_, T>> {
        // SAFETY: The semaphore is that of a live inode; the guard unlocks it.
        let locked = unsafe { bindings::down_read_trylock(self.rwsem()) };
        (locked != 0).then(|| SharedGuard(self))
    }

    /// Takes `i_rwsem` exclusive, if that can be done at once.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        // SAFETY: The semaphore is that of a live inode; the guard unlocks it.
        let locked = unsafe { bindings::down_write_trylock(self.rwsem()) };
        (locked != 0).then(|| LockGuard(self))
    }

    /// Takes `i_rwsem` exclusive.
    pub fn lock(&self) -> LockGuard<'_, T> {
        // SAFETY: The semaphore is that of a live inode; the guard unlocks it.
        unsafe { bindings::down_write(self.rwsem()) };
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
        unsafe { bindings::i_size_write(self.as_raw(), size as i64) };
    }

    /// Sets the change time to now.
    pub fn touch_status(&self) {
        self.set_ctime();
    }

    /// Sets change and modification time to now.
    pub fn touch(&self) {
        let now = self.set_ctime();
        // SAFETY: The type says that `i_rwsem` is held exclusive, which keeps other writers away.
        unsafe { bindings::inode_set_mtime_to_ts(self.as_raw(), now) };
    }

    fn set_ctime(&self) -> bindings::timespec64 {
        // SAFETY: The type says that `i_rwsem` is held exclusive, which keeps other writers away.
        let now = unsafe { bindings::inode_set_ctime_current(self.as_raw()) };
        self.count_change();
        now
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
        unsafe { bindings::up_write(self.0.rwsem()) };
    }
}

/// `i_rwsem` held shared until this is dropped.
#[must_use]
pub struct SharedGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Drop for SharedGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock_shared` took it.
        unsafe { bindings::up_read(self.0.rwsem()) };
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
