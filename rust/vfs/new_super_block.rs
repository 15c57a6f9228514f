// SPDX-License-Identifier: GPL-2.0

//! New superblocks.

use super::{
    ExportOps,
    FileSystem,
    SuperBlock,
    XattrHandlers, //
};
use crate::bindings;
use core::ops::Deref;
use kernel::prelude::*;

/// A superblock that is being made, and that nothing else accesses.
pub struct NewSuperBlock<'a, T: FileSystem>(&'a SuperBlock<T>);

impl<'a, T: FileSystem> NewSuperBlock<'a, T> {
    /// # Safety
    ///
    /// Nothing else accesses the superblock.
    pub(super) unsafe fn assume(sb: &'a SuperBlock<T>) -> Self {
        Self(sb)
    }

    /// Sets the largest size of a file, in bytes, and the most names of one.
    pub fn set_limits(&self, max_bytes: u64, max_links: u32) {
        // SAFETY: `assume` was promised that nothing else accesses the superblock.
        unsafe {
            (*self.as_raw()).s_maxbytes = max_bytes as i64;
            (*self.as_raw()).s_max_links = max_links;
        }
    }

    /// Makes the block size that of a page, and timestamps count nanoseconds.
    pub fn set_granularity(&self) {
        // SAFETY: `assume` was promised that nothing else accesses the superblock.
        unsafe {
            (*self.as_raw()).s_blocksize = kernel::page::PAGE_SIZE;
            (*self.as_raw()).s_blocksize_bits = kernel::page::PAGE_SHIFT as u8;
            (*self.as_raw()).s_time_gran = 1;
        }
    }

    /// Sets flags of `s_flags` and of `s_iflags`.
    pub fn set_flags(&self, flags: usize, iflags: usize) {
        // SAFETY: `assume` was promised that nothing else accesses the superblock.
        unsafe {
            (*self.as_raw()).s_flags |= flags;
            (*self.as_raw()).s_iflags |= iflags as c_ulong;
        }
    }

    /// Gives it a random UUID.
    pub fn set_random_uuid(&self) {
        let mut uuid = bindings::uuid_t::default();
        // SAFETY: `assume` was promised that nothing else accesses the superblock; `uuid` is valid
        // for writes, and copied.
        unsafe {
            bindings::uuid_gen(&mut uuid);
            bindings::super_set_uuid(self.as_raw(), uuid.b.as_ptr(), uuid.b.len() as c_uint);
        }
    }

    /// Sets the name of its directory in `/sys/fs/`, below that of the type, which
    /// `FS_IOC_GETFSSYSFSPATH` returns: `s_sysfs_name`. A longer one is cut off.
    pub fn set_sysfs_name(&self, name: &CStr) {
        // SAFETY: `assume` was promised that nothing else accesses the superblock.
        let to = unsafe { &mut (*self.as_raw()).s_sysfs_name };
        // The last byte stays 0.
        let len = name.to_bytes().len().min(to.len() - 1);
        for (to, from) in to[..len].iter_mut().zip(name.to_bytes()) {
            *to = *from as c_char;
        }
    }

    /// Sets `s_export_op`.
    pub fn set_export_ops(&self, ops: &'static ExportOps<T>) {
        // `kernel::bindings` only has the type's name.
        // SAFETY: `assume` was promised that nothing else accesses the superblock; the table is
        // static, and of `T`.
        unsafe { (*self.as_raw()).s_export_op = (&raw const *ops.as_raw()).cast() };
    }

    /// Sets `s_xattr`.
    pub fn set_xattr_handlers(&self, handlers: &'static XattrHandlers<T>) {
        // SAFETY: `assume` was promised that nothing else accesses the superblock; the table is
        // static, and of `T`.
        unsafe { (*self.as_raw()).s_xattr = handlers.as_raw() };
    }
}

impl<T: FileSystem> Deref for NewSuperBlock<'_, T> {
    type Target = SuperBlock<T>;

    fn deref(&self) -> &SuperBlock<T> {
        self.0
    }
}
