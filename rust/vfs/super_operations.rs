// SPDX-License-Identifier: GPL-2.0

//! `struct super_operations`.
//!
//! C header: [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h). Reference:
//! <https://docs.kernel.org/filesystems/vfs.html#struct-super-operations>

use super::{
    inode_cache::free_inode,
    to_errno,
    Dquots,
    FileSystem,
    Inode,
    Registration,
    SuperBlock, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    seq_file::SeqFile, //
};

/// What `statfs(2)` reports, in blocks and inodes. A limit of `None` shows as 0.
pub struct StatFs {
    /// The most blocks, and those in use.
    pub blocks: (Option<u64>, u64),
    /// The most inodes, and those in use.
    pub inodes: (Option<u64>, u64),
}

/// The operations of superblocks.
pub trait SuperOperations: FileSystem {
    /// Called before a superblock goes, first of all.
    fn kill_sb(_sb: &SuperBlock<Self>) {}

    /// Called when the inodes are gone, with `s_umount` held.
    fn put_super(_sb: &SuperBlock<Self>) {}

    /// Writes the options to a line of `/proc/mounts`, each with a comma before it.
    fn show_options(sb: &SuperBlock<Self>, line: &SeqFile);

    /// Returns the numbers for `statfs(2)`.
    fn statfs(sb: &SuperBlock<Self>) -> StatFs;

    /// Returns whether the caller may freeze or thaw a superblock; `by_user` tells an ioctl from
    /// the kernel's own doing. The VFS has checked for `CAP_SYS_ADMIN` in the user namespace of the
    /// mount.
    fn may_freeze(_by_user: bool) -> bool {
        true
    }

    /// Called when a superblock is frozen, and the VFS keeps writers out.
    fn freeze_fs(sb: &SuperBlock<Self>) -> Result;

    /// Returns an initialiser for what is kept with a new inode. Its file type is not known yet.
    fn alloc_inode(sb: &SuperBlock<Self>) -> impl PinInit<Self::InodeInfo>;

    /// Called when an inode leaves the cache: it has neither users nor mappings any more, and no
    /// links, or the memory is wanted. The data is dropped a grace period later. Must neither
    /// allocate nor wait, as memory reclaim calls it.
    fn evict_inode(inode: &Inode<Self>);

    /// Returns the dquots of an inode.
    fn dquots(inode: &Inode<Self>) -> &Dquots;
}

/// The callbacks in `struct super_operations`.
pub(super) struct Table<T: SuperOperations>(PhantomData<T>);

impl<T: SuperOperations> Table<T> {
    pub(super) const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        free_inode: Some(free_inode::<T>),
        evict_inode: Some(Self::evict_inode),
        get_dquots: Some(Self::get_dquots),
        put_super: Some(Self::put_super),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        freeze_super: Some(Self::freeze_super),
        thaw_super: Some(Self::thaw_super),
        freeze_fs: Some(Self::freeze_fs),
        unfreeze_fs: Some(Self::unfreeze_fs),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `sb` is a superblock of `T`.
    unsafe extern "C" fn alloc_inode(sb: *mut bindings::super_block) -> *mut bindings::inode {
        // SAFETY: The VFS passes a superblock of `T`. Its `s_fs_info` is set, as `fill_super` sets
        // it before an inode is allocated.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        Registration::of(sb)
            .inode_cache
            .alloc_inode(sb, T::alloc_inode(sb))
    }

    /// # Safety
    ///
    /// `inode` is an inode of `T` to which there are no more references.
    unsafe extern "C" fn evict_inode(inode: *mut bindings::inode) {
        // SAFETY: The VFS passes an inode of `T` without references, as
        // `truncate_inode_pages_final` and `clear_inode` ask. The page cache is empty, and stays
        // so.
        let inode = unsafe {
            bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
            bindings::clear_inode(inode);
            Inode::<T>::from_raw(inode)
        };
        T::evict_inode(inode);
    }

    /// # Safety
    ///
    /// `inode` is an inode of `T`.
    unsafe extern "C" fn get_dquots(inode: *mut bindings::inode) -> *mut *mut bindings::dquot {
        // SAFETY: The quota code passes an inode of `T` that its caller has a reference to.
        T::dquots(unsafe { Inode::from_raw(inode) }).as_raw()
    }

    /// Called with `s_umount` held.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of `T` that is going away.
    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: `generic_shutdown_super` passes a superblock of `T` whose `s_fs_info` is set, as
        // it has a root.
        T::put_super(unsafe { SuperBlock::from_raw(sb) });
    }

    /// # Safety
    ///
    /// `dentry` is of a superblock of `T`, `buf` valid for writes.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        // SAFETY: `statfs_by_dentry` passes a dentry of a superblock of `T` that its caller has a
        // reference to, and a buffer of its own. `kernel::bindings` only has the type's name.
        let (sb, buf) = unsafe {
            bindings::simple_statfs(dentry, buf);
            (
                SuperBlock::<T>::from_raw((*dentry).d_sb),
                &mut *buf.cast::<bindings::kstatfs>(),
            )
        };
        // SAFETY: The superblock is live.
        buf.f_fsid = unsafe { bindings::uuid_to_fsid((*sb.as_raw()).s_uuid.b.as_mut_ptr()) };
        let stat = T::statfs(sb);
        if let (Some(limit), used) = stat.blocks {
            buf.f_blocks = limit;
            buf.f_bfree = limit.saturating_sub(used);
            buf.f_bavail = buf.f_bfree;
        }
        if let (Some(limit), used) = stat.inodes {
            buf.f_files = limit;
            buf.f_ffree = limit.saturating_sub(used);
        }
        0
    }

    /// # Safety
    ///
    /// `root` is of a superblock of `T`, `seq` valid.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: The VFS passes the root of a mount of `T` to which it has a reference, and a
        // valid file.
        unsafe {
            T::show_options(SuperBlock::from_raw((*root).d_sb), SeqFile::from_raw(seq));
        }
        0
    }

    fn may_freeze(holder: bindings::freeze_holder) -> bool {
        T::may_freeze(holder & bindings::freeze_holder_FREEZE_HOLDER_USERSPACE != 0)
    }

    /// # Safety
    ///
    /// `sb` is a live superblock of `T` to which the caller has a reference.
    unsafe extern "C" fn freeze_super(
        sb: *mut bindings::super_block,
        holder: bindings::freeze_holder,
        owner: *const c_void,
    ) -> c_int {
        if !Self::may_freeze(holder) {
            return EPERM.to_errno();
        }
        // SAFETY: The caller has a reference to the superblock, as `freeze_super` asks.
        unsafe { bindings::freeze_super(sb, holder, owner) }
    }

    /// Ends a freeze. The emergency thaw does not call it.
    ///
    /// # Safety
    ///
    /// As for [`Self::freeze_super`].
    unsafe extern "C" fn thaw_super(
        sb: *mut bindings::super_block,
        holder: bindings::freeze_holder,
        owner: *const c_void,
    ) -> c_int {
        if !Self::may_freeze(holder) {
            return EPERM.to_errno();
        }
        // SAFETY: The caller has a reference to the superblock, as `thaw_super` asks.
        unsafe { bindings::thaw_super(sb, holder, owner) }
    }

    /// # Safety
    ///
    /// `sb` is a superblock of `T`.
    unsafe extern "C" fn freeze_fs(sb: *mut bindings::super_block) -> c_int {
        // SAFETY: The caller passes a superblock of `T` to which it has a reference.
        to_errno(T::freeze_fs(unsafe { SuperBlock::from_raw(sb) }))
    }

    /// # Safety
    ///
    /// None: does not look at its argument.
    unsafe extern "C" fn unfreeze_fs(_sb: *mut bindings::super_block) -> c_int {
        0
    }
}
