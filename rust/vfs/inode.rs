// SPDX-License-Identifier: GPL-2.0

//! Inodes and `i_rwsem`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    inode_attrs::Time,
    inode_cache::InodeWithInfo,
    FileSystem,
    InodeAttrs,
    SuperBlock, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::AlwaysRefCounted,
    types::Opaque, //
};

/// An inode of a superblock of `T`: `struct inode`.
///
/// # Invariants
///
/// It is the `inode` of a live [`InodeWithInfo<T>`].
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: C changes the fields under its own locks; `InodeInfo` is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for Inode<T> {}

// SAFETY: C changes the fields under its own locks; `InodeInfo` is `Send` and `Sync`.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

// SAFETY: `i_count` keeps the inode alive; every inode has it.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: The inode is live, and the caller has a reference to it.
        unsafe { bindings::ihold(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { bindings::iput(obj.as_ref().as_raw()) };
    }
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` is an inode of a superblock of `T`, and stays so during `'a`.
    pub(crate) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // INVARIANT: Every inode of a superblock of `T` was allocated by
        // `inode_cache::alloc_inode`.
        // SAFETY: The caller guarantees that the inode is live; the types have the same layout.
        unsafe { &*inode.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Returns `i_mapping`, which is the inode's own `i_data` here.
    pub(crate) fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: The inode is live; only the field's address is taken.
        unsafe { &raw mut (*self.as_raw()).i_data }
    }

    /// Returns what the filesystem keeps with the inode.
    pub fn info(&self) -> &T::InodeInfo {
        // SAFETY: By the type invariant; it was initialised before the inode could be found.
        unsafe { &(*InodeWithInfo::<T>::container_of(self.as_raw())).info }
    }

    /// Returns the superblock.
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` does not change, and is a superblock of `T` that outlives the inode.
        unsafe { SuperBlock::from_raw((*self.as_raw()).i_sb) }
    }

    /// Returns the inode number, `i_ino`.
    pub fn ino(&self) -> u64 {
        // SAFETY: The inode is live, and its number does not change.
        unsafe { (*self.as_raw()).i_ino }
    }

    /// Returns `i_generation`.
    pub fn generation(&self) -> u32 {
        // SAFETY: The inode is live, and its generation does not change.
        unsafe { (*self.as_raw()).i_generation }
    }

    /// Returns `i_rdev`, the number of a device.
    pub fn rdev(&self) -> bindings::dev_t {
        // SAFETY: The inode is live, and its number does not change.
        unsafe { (*self.as_raw()).i_rdev }
    }

    /// Returns the size in bytes. Stable while the inode is locked.
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is live.
        unsafe { bindings::i_size_read(self.as_raw()) as u64 }
    }

    /// Returns the mode, file type included.
    pub fn mode(&self) -> u16 {
        // SAFETY: The inode is live.
        unsafe { (*self.as_raw()).i_mode }
    }

    /// Returns the file type, `S_IFMT` of the mode.
    pub fn file_type(&self) -> u32 {
        u32::from(self.mode()) & bindings::S_IFMT
    }

    /// Returns whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == bindings::S_IFDIR
    }

    /// Returns whether it is a regular file.
    pub fn is_reg(&self) -> bool {
        self.file_type() == bindings::S_IFREG
    }

    /// Returns `i_nlink`. Stable while the directories of the inode's names are locked.
    pub fn nlink(&self) -> u32 {
        // SAFETY: The inode is live.
        unsafe { (*self.as_raw()).__bindgen_anon_1.i_nlink }
    }

    fn has_flag(&self, flag: u32) -> bool {
        // SAFETY: The inode is live; `i_flags` may change at any time, as C reads it.
        unsafe { (&raw const (*self.as_raw()).i_flags).read_volatile() & flag != 0 }
    }

    /// Returns whether `chattr +i` forbids every change.
    pub fn is_immutable(&self) -> bool {
        self.has_flag(bindings::S_IMMUTABLE)
    }

    /// Returns whether `chattr +a` forbids every change but additions.
    pub fn is_append_only(&self) -> bool {
        self.has_flag(bindings::S_APPEND)
    }

    /// Returns whether the file is in use as swap space.
    pub fn is_swapfile(&self) -> bool {
        self.has_flag(bindings::S_SWAPFILE)
    }

    /// Returns whether it is known that the inode has neither set-id bits nor capabilities.
    pub fn is_nosec(&self) -> bool {
        self.has_flag(bindings::S_NOSEC)
    }

    /// Increments `i_version`, which NFS clients and IMA compare, after a change.
    pub fn inc_iversion(&self) {
        // SAFETY: The inode is live; the counter is atomic.
        unsafe { bindings::inode_inc_iversion(self.as_raw()) };
    }

    /// Sets the change time to now and increments `i_version`.
    ///
    /// The inode's lock is held, or that of the directory of a name that changes.
    pub fn set_ctime_current(&self) {
        self.set_ctime();
    }

    fn set_ctime(&self) -> bindings::timespec64 {
        // SAFETY: The inode is live.
        let now = unsafe { bindings::inode_set_ctime_current(self.as_raw()) };
        self.inc_iversion();
        now
    }

    /// Increments the link count. The VFS holds the locks of the inode and of the directory
    /// concerned.
    pub fn inc_nlink(&self) {
        // SAFETY: The inode is live.
        unsafe { bindings::inc_nlink(self.as_raw()) };
    }

    /// Decrements the link count. Locks as for [`Inode::inc_nlink`].
    pub fn drop_nlink(&self) {
        // SAFETY: The inode is live.
        unsafe { bindings::drop_nlink(self.as_raw()) };
    }

    /// Returns the attributes.
    pub fn attrs(&self) -> InodeAttrs {
        let raw = self.as_raw();
        // SAFETY: The inode is live.
        unsafe {
            InodeAttrs {
                mode: (*raw).i_mode,
                uid: (*raw).i_uid,
                gid: (*raw).i_gid,
                rdev: (*raw).i_rdev,
                generation: (*raw).i_generation,
                nlink: self.nlink(),
                size: self.size(),
                atime: Time::new(bindings::timespec64 {
                    tv_sec: (*raw).i_atime_sec,
                    tv_nsec: (*raw).i_atime_nsec as isize,
                }),
                mtime: Time::new(bindings::timespec64 {
                    tv_sec: (*raw).i_mtime_sec,
                    tv_nsec: (*raw).i_mtime_nsec as isize,
                }),
                ctime: Time::new(bindings::inode_get_ctime(raw)),
                version: bindings::inode_peek_iversion(raw),
            }
        }
    }

    /// Puts the names of the labels that security modules keep of the inode into `list`, each with
    /// a NUL behind it: `security_inode_listsecurity`. Returns them.
    ///
    /// # Errors
    ///
    /// `ERANGE` where they do not fit, and those of the security modules.
    pub fn listsecurity<'a>(&self, list: &'a mut [u8]) -> Result<&'a [u8]> {
        let (mut at, mut left) = (list.as_mut_ptr().cast(), list.len() as isize);
        // SAFETY: The inode is live; there is room for `left` bytes from `at` on.
        to_result(unsafe {
            bindings::security_inode_listsecurity(self.as_raw(), &mut at, &mut left)
        })?;
        list.get(..list.len().saturating_sub(left as usize))
            .ok_or(ERANGE)
    }

    fn rwsem(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: The inode is live; only the field's address is taken.
        unsafe { &raw mut (*self.as_raw()).i_rwsem }
    }

    /// Takes `i_rwsem` shared: nothing changes the file but page faults.
    pub fn lock_shared(&self) -> InodeSharedGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::down_read(self.rwsem()) };
        InodeSharedGuard(self)
    }

    /// Takes `i_rwsem` shared, if that can be done at once.
    pub fn try_lock_shared(&self) -> Option<InodeSharedGuard<'_, T>> {
        // SAFETY: The inode is live; the guard unlocks it.
        let locked = unsafe { bindings::down_read_trylock(self.rwsem()) };
        (locked != 0).then(|| InodeSharedGuard(self))
    }

    /// Takes `i_rwsem` exclusive, if that can be done at once.
    pub fn try_lock(&self) -> Option<InodeGuard<'_, T>> {
        // SAFETY: The inode is live; the guard unlocks it.
        let locked = unsafe { bindings::down_write_trylock(self.rwsem()) };
        (locked != 0).then(|| InodeGuard(self))
    }

    /// Takes `i_rwsem` exclusive.
    pub fn lock(&self) -> InodeGuard<'_, T> {
        // SAFETY: The inode is live; the guard unlocks it.
        unsafe { bindings::down_write(self.rwsem()) };
        InodeGuard(self)
    }
}

/// An inode whose `i_rwsem` the caller holds exclusive, or that nothing else refers to yet.
#[repr(transparent)]
pub struct LockedInode<T: FileSystem>(Inode<T>);

impl<T: FileSystem> LockedInode<T> {
    /// # Safety
    ///
    /// As for [`Inode::from_raw`] and [`LockedInode::assume`].
    pub(super) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: The caller guarantees it.
        unsafe { Self::assume(Inode::from_raw(inode)) }
    }

    /// # Safety
    ///
    /// The caller holds `i_rwsem` of `inode` exclusive during `'a`, or nothing else refers to the
    /// inode.
    pub(crate) unsafe fn assume(inode: &Inode<T>) -> &Self {
        // SAFETY: The types have the same layout.
        unsafe { &*(&raw const *inode).cast() }
    }

    /// Sets the size in bytes.
    pub fn set_size(&self, size: u64) {
        // SAFETY: `i_rwsem` is held exclusive, as writers of `i_size` need.
        unsafe { bindings::i_size_write(self.as_raw(), size as i64) };
    }

    /// Sets the mode. The file type stays.
    pub fn set_mode(&self, mode: u16) {
        // SAFETY: `i_rwsem` is held exclusive, as writers of `i_mode` need.
        unsafe { (*self.as_raw()).i_mode = mode };
    }

    /// Sets the owner.
    pub fn set_owner(&self, uid: bindings::kuid_t, gid: bindings::kgid_t) {
        // SAFETY: `i_rwsem` is held exclusive, as writers of these need.
        unsafe {
            (*self.as_raw()).i_uid = uid;
            (*self.as_raw()).i_gid = gid;
        }
    }

    /// Sets change and modification time to now and increments `i_version`.
    pub fn set_mtime_ctime_current(&self) {
        let now = self.set_ctime();
        // SAFETY: The inode is live, and locked for changes.
        unsafe { bindings::inode_set_mtime_to_ts(self.as_raw(), now) };
    }

    /// Sets those flags of `mask` in `i_flags` (`S_*`) that are in `flags`, and clears the others.
    pub fn set_flags(&self, flags: u32, mask: u32) {
        // SAFETY: The inode is live.
        unsafe { bindings::inode_set_flags(self.as_raw(), flags, mask) };
    }

    /// Checks a new size against `RLIMIT_FSIZE` and `s_maxbytes`: `inode_newsize_ok`.
    ///
    /// # Errors
    ///
    /// `EFBIG`, with `SIGXFSZ` for the limit; `ETXTBSY` for a swap file that would become shorter.
    pub fn newsize_ok(&self, size: u64) -> Result {
        // SAFETY: The inode is live and locked.
        to_result(unsafe { bindings::inode_newsize_ok(self.as_raw(), size as i64) })
    }
}

impl<T: FileSystem> Deref for LockedInode<T> {
    type Target = Inode<T>;

    fn deref(&self) -> &Inode<T> {
        &self.0
    }
}

/// `i_rwsem` held exclusive until this is dropped.
#[must_use]
pub struct InodeGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Deref for InodeGuard<'_, T> {
    type Target = LockedInode<T>;

    fn deref(&self) -> &LockedInode<T> {
        // SAFETY: The guard holds the lock.
        unsafe { LockedInode::assume(self.0) }
    }
}

impl<T: FileSystem> Drop for InodeGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock` or `Inode::try_lock` took it.
        unsafe { bindings::up_write(self.0.rwsem()) };
    }
}

/// `i_rwsem` held shared until this is dropped.
#[must_use]
pub struct InodeSharedGuard<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Drop for InodeSharedGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock_shared` or `Inode::try_lock_shared` took it.
        unsafe { bindings::up_read(self.0.rwsem()) };
    }
}

/// A mount's mapping of user and group ids, `struct mnt_idmap`.
#[derive(Clone, Copy)]
pub struct IdMap<'a>(*mut bindings::mnt_idmap, PhantomData<&'a ()>);

impl IdMap<'_> {
    /// # Safety
    ///
    /// `idmap` is valid during the lifetime of the result.
    pub(crate) unsafe fn from_raw(idmap: *mut bindings::mnt_idmap) -> Self {
        Self(idmap, PhantomData)
    }

    pub(crate) fn as_raw(self) -> *mut bindings::mnt_idmap {
        self.0
    }

    /// Returns the mapping that maps nothing, `nop_mnt_idmap`.
    pub fn nop() -> IdMap<'static> {
        IdMap(&raw mut bindings::nop_mnt_idmap, PhantomData)
    }
}
