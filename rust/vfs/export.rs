// SPDX-License-Identifier: GPL-2.0

//! File handles, for knfsd and `open_by_handle_at(2)`.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h). Reference:
//! <https://docs.kernel.org/filesystems/nfs/exporting.html>. Compare `shmem_export_ops`.
//!
//! A handle names an inode by its number, which no other inode of the mount ever gets, and by its
//! generation, which tells mounts apart. It lives as long as the inode, and is stale afterwards.

use super::{filesystem::FileSystem, inode::Inode};
use crate::bindings;
use core::{marker::PhantomData, ptr::null_mut};
use kernel::prelude::*;

/// Generation, low and high half of the number: of an inode, or one after the other of it and of
/// its directory, for those who want to know a path.
type Handle = [u32; WORDS];
const WORDS: usize = 3;

/// The types of our handles. Opaque to others.
const ALONE: c_int = 1;
const WITH_PARENT: c_int = 2;

/// The callbacks in `struct export_operations`.
pub(super) struct ExportTable<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Inode<T> {
    fn handle(&self) -> Handle {
        // SAFETY: The inode is live; neither changes.
        let (number, generation) =
            unsafe { ((*self.as_raw()).i_ino, (*self.as_raw()).i_generation) };
        [generation, number as u32, (number >> 32) as u32]
    }

    /// The handle, after the inode was put into the kernel's hash of inodes. That is left until
    /// somebody asks for a handle, so that inodes that nobody exports do not meet there.
    fn findable_handle(&self) -> Handle {
        let handle = self.handle();
        // Held, so that it is done once only.
        let _guard = self.hashing().lock();
        // SAFETY: The reference keeps the inode. Only the holder of this lock hashes it.
        unsafe {
            if (*self.as_raw()).i_hash.pprev.is_null() {
                bindings::__insert_inode_hash(self.as_raw(), hash(&handle));
            }
        }
        handle
    }
}

/// Where the kernel's hash of inodes has the inode of a handle.
fn hash(handle: &Handle) -> u64 {
    let [generation, low, high] = handle.map(u64::from);
    (high << 32 | low).wrapping_add(generation)
}

impl<T: FileSystem> ExportTable<T> {
    pub(super) const TABLE: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `inode` is one of `T`, `words` has room for `*len` words, `parent` is null or its directory.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        words: *mut u32,
        len: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let (inodes, kind): (&[_], _) = if parent.is_null() {
            (&[inode], ALONE)
        } else {
            (&[inode, parent], WITH_PARENT)
        };
        let needed = (inodes.len() * WORDS) as c_int;
        // SAFETY: exportfs passes the address of a length of its own.
        let room = unsafe { core::mem::replace(&mut *len, needed) };
        if room < needed {
            return bindings::FILEID_INVALID;
        }
        for (i, inode) in inodes.iter().enumerate() {
            // SAFETY: exportfs holds both inodes, which are of `T`; there is room, as was just seen.
            unsafe {
                let handle = Inode::<T>::from_raw(*inode).findable_handle();
                words.cast::<Handle>().add(i).write_unaligned(handle);
            }
        }
        kind
    }

    /// # Safety
    ///
    /// `inode` is one of `T`, `handle` a [`Handle`].
    unsafe extern "C" fn has_handle(inode: *mut bindings::inode, handle: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { Inode::<T>::from_raw(inode).handle() == *handle.cast::<Handle>() }.into()
    }

    /// # Safety
    ///
    /// `sb` is a superblock of `T`, `fid` has `len` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut kernel::bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        if !matches!(kind, ALONE | WITH_PARENT) || (len as usize) < WORDS {
            return null_mut();
        }
        // SAFETY: By the safety requirements.
        unsafe { Self::find(sb, fid.cast::<Handle>().read_unaligned()) }
    }

    /// # Safety
    ///
    /// As for [`Self::fh_to_dentry`].
    unsafe extern "C" fn fh_to_parent(
        sb: *mut kernel::bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        if kind != WITH_PARENT || (len as usize) < 2 * WORDS {
            return null_mut();
        }
        // SAFETY: By the safety requirements.
        unsafe { Self::find(sb, fid.cast::<Handle>().add(1).read_unaligned()) }
    }

    /// A dentry of the inode with this handle, with a reference; null where there is none any more.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of `T`.
    unsafe fn find(
        sb: *mut kernel::bindings::super_block,
        mut handle: Handle,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements. `ilookup5` returns a reference, for us to drop.
        unsafe {
            let inode = bindings::ilookup5(
                sb,
                hash(&handle),
                Some(Self::has_handle),
                (&raw mut handle).cast(),
            );
            if inode.is_null() {
                return null_mut();
            }
            // A name that there still is, where there is one.
            let mut dentry = bindings::d_find_alias(inode);
            if dentry.is_null() {
                dentry = bindings::d_find_any_alias(inode);
            }
            bindings::iput(inode);
            dentry
        }
    }

    /// Never asked for: what has an inode has a dentry, connected to its directory.
    ///
    /// # Safety
    ///
    /// None: does not look at its argument.
    unsafe extern "C" fn get_parent(_child: *mut bindings::dentry) -> *mut bindings::dentry {
        ESTALE.to_ptr()
    }
}
