// SPDX-License-Identifier: GPL-2.0

//! File handles: `struct export_operations`.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h). Reference:
//! <https://docs.kernel.org/filesystems/nfs/exporting.html>

use super::{
    Dentry,
    ExportOps,
    FileSystem,
    Inode,
    SuperBlock, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef,
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

impl<T: FileSystem> ExportOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: ExportOperations<T>>() -> &'static Self {
        &Table::<T, U>::TABLE
    }
}

/// File handles of `WORDS` words for each inode.
pub trait ExportOperations<T: FileSystem> {
    /// The handle of an inode.
    type Handle: AsBytes + Copy + FromBytes + PartialEq;

    /// The type of a handle of an inode, `enum fid_type`.
    const FILEID: u8;

    /// The type of a handle of an inode and, behind it, one of its directory.
    const FILEID_WITH_PARENT: u8;

    /// Returns the handle of an inode.
    fn encode(inode: &Inode<T>) -> Self::Handle;

    /// Returns the inode of a handle.
    ///
    /// # Errors
    ///
    /// `ESTALE` if there is none any more, `ENOMEM`.
    fn find(sb: &SuperBlock<T>, handle: Self::Handle) -> Result<ARef<Inode<T>>>;

    /// Returns the directory that a directory is in.
    ///
    /// # Errors
    ///
    /// `ESTALE` if it has no name any more, `ENOMEM`.
    fn get_parent(dir: &Inode<T>) -> Result<ARef<Inode<T>>>;
}

/// Converts arguments, calls `U`, converts the result.
struct Table<T, U>(PhantomData<(T, U)>);

impl<T: FileSystem, U: ExportOperations<T>> Table<T, U> {
    const TABLE: ExportOps<T> = ExportOps::from_raw(bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    });

    /// How many words a handle has.
    const WORDS: usize = {
        assert!(size_of::<U::Handle>() % size_of::<u32>() == 0);
        size_of::<U::Handle>() / size_of::<u32>()
    };

    /// # Safety
    ///
    /// `inode` is an inode of the filesystem, `words` has room for `*len` words, `parent` is null
    /// or its directory.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        words: *mut u32,
        len: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let (inodes, kind): (&[_], _) = if parent.is_null() {
            (&[inode], U::FILEID)
        } else {
            (&[inode, parent], U::FILEID_WITH_PARENT)
        };
        let needed = (inodes.len() * Self::WORDS) as c_int;
        // SAFETY: The caller passes a length of its own.
        let room = unsafe { core::mem::replace(&mut *len, needed) };
        if room < needed {
            return bindings::FILEID_INVALID;
        }
        for (i, inode) in inodes.iter().enumerate() {
            // SAFETY: The caller passes inodes of the filesystem to which it has references, and
            // room for as many words as was just checked.
            unsafe {
                let handle = U::encode(Inode::from_raw(*inode));
                words.cast::<U::Handle>().add(i).write_unaligned(handle);
            }
        }
        kind.into()
    }

    /// # Safety
    ///
    /// `sb` is a superblock of the filesystem, `fid` has `len` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut kernel::bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        let known = kind == U::FILEID.into() || kind == U::FILEID_WITH_PARENT.into();
        if !known || (len as usize) < Self::WORDS {
            return null_mut();
        }
        // SAFETY: The caller passes a live superblock of the filesystem and `len` words; the handle
        // is the first `WORDS` of them.
        unsafe { Self::find(sb, fid.cast()) }
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
        if kind != U::FILEID_WITH_PARENT.into() || (len as usize) < 2 * Self::WORDS {
            return null_mut();
        }
        // SAFETY: The caller passes a live superblock of the filesystem and `len` words; the handle
        // is the second `WORDS` of them.
        unsafe { Self::find(sb, fid.cast::<U::Handle>().add(1)) }
    }

    /// Returns a dentry of the inode with this handle, with a reference, or an error.
    ///
    /// # Safety
    ///
    /// `sb` is a superblock of the filesystem, `handle` valid for reads.
    unsafe fn find(
        sb: *mut kernel::bindings::super_block,
        handle: *const U::Handle,
    ) -> *mut bindings::dentry {
        // SAFETY: The caller guarantees that the superblock is live and of the filesystem, and that
        // the handle can be read. Any bytes are a `Handle`, as it is `FromBytes`.
        let inode = unsafe { U::find(SuperBlock::from_raw(sb), handle.read_unaligned()) };
        alias(inode)
    }

    /// # Safety
    ///
    /// `child` is of a directory of the filesystem.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The caller passes a dentry to which it has a reference, of a directory.
        alias(U::get_parent(unsafe { Inode::from_raw((*child).d_inode) }))
    }
}

/// Returns a dentry of the inode, with a reference, or the error.
fn alias<T: FileSystem>(inode: Result<ARef<Inode<T>>>) -> *mut bindings::dentry {
    match inode.and_then(Dentry::obtain_alias) {
        Ok(dentry) => ARef::into_raw(dentry).as_ptr().cast(),
        Err(err) => err.to_ptr(),
    }
}
