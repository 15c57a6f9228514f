// SPDX-License-Identifier: GPL-2.0

//! Bindings of the C VFS, without policy: what `rust/kernel` may have some day.
//!
//! Each module turns a C structure into a type, or a table of C callbacks into a trait. A callback
//! converts its arguments, calls the trait, and turns an `Err` into an errno; what a trait does not
//! implement is not in the table. A filesystem implements [`FileSystem`], [`SuperOperations`] and
//! [`FsContextOperations`], registers with [`Registration`], and gives its inodes their tables when
//! it creates them ([`NewInode::set_iops`] and so on).
//!
//! | module | C |
//! |---|---|
//! | [`filesystem`], `file_system_type` | `struct file_system_type` |
//! | [`super_block`], [`new_super_block`] | `struct super_block` |
//! | [`super_operations`] | `struct super_operations` |
//! | [`fs_context`], [`path`], `registration` | `struct fs_context`, `struct fs_parameter_spec`, `struct path`, mounting |
//! | [`ids`] | `kuid_t`, `kgid_t` |
//! | [`inode`], [`new_inode`], [`inodes`], `inode_attrs`, `inode_cache` | `struct inode`, its lock, its life |
//! | [`tables`] | tables of operations, as values |
//! | [`inode_operations`] | `struct inode_operations` |
//! | [`dentry`] | `struct dentry` |
//! | [`attr`] | `struct iattr`, `struct kstat`, `struct file_kattr` |
//! | [`posix_acl`] | `struct posix_acl` |
//! | [`xattr`] | `struct xattr_handler` |
//! | [`exportfs`] | `struct export_operations` |
//! | [`dquot`] | `i_dquot` |
//! | [`mod@file`] | `struct file`, `struct kiocb`, `struct dir_context` |
//! | [`file_operations`] | `struct file_operations` |
//! | [`change`] | `file_modified` |
//! | [`remap`] | `generic_remap_file_range_prep`, the locks of two files |
//! | [`splice`] | `struct pipe_inode_info` |
//! | [`fiemap`] | `struct fiemap_extent_info` |
//! | [`address_space`] | `struct address_space_operations`, `invalidate_lock` |
//! | [`vm_fault`] | `struct vm_operations_struct`, `struct vm_fault` |
//! | [`rwlock`], [`rw_semaphore`] | `rwlock_t`, `struct rw_semaphore` |
//! | [`siphash`] | `siphash_key_t` |
//!
//! # Locks
//!
//! What a lock protects can be changed only with the value that stands for holding it:
//! [`LockedInode`] for `i_rwsem` held exclusive, [`Changing`] for the same, once everything that
//! must precede a change of data was done, [`InvalidateGuard`] and [`InvalidateSharedGuard`] for
//! `invalidate_lock`. `docs/design.md` has the order.

// As it would be in rust/kernel.
#![allow(unreachable_pub)]

pub mod address_space;
pub mod attr;
pub mod change;
pub mod dentry;
pub mod dquot;
pub mod exportfs;
pub mod fiemap;
pub mod file;
pub mod file_operations;
mod file_system_type;
pub mod filesystem;
pub mod fs_context;
pub mod ids;
pub mod inode;
mod inode_attrs;
mod inode_cache;
pub mod inode_operations;
pub mod inodes;
pub mod new_inode;
pub mod new_super_block;
pub mod path;
pub mod posix_acl;
mod registration;
pub mod remap;
pub mod rw_semaphore;
pub mod rwlock;
pub mod siphash;
pub mod splice;
pub mod super_block;
pub mod super_operations;
pub mod tables;
pub mod vm_fault;
pub mod xattr;

pub use crate::bindings::{
    SEEK_DATA,
    SEEK_HOLE, //
};

pub use self::{
    address_space::{
        AddressSpaceOperations,
        InvalidateGuard,
        InvalidateSharedGuard, //
    },
    attr::{
        FileKattr,
        Iattr,
        Kstat,
        UpdateTime, //
    },
    change::Changing,
    dentry::Dentry,
    dquot::Dquots,
    exportfs::ExportOperations,
    fiemap::{
        FiemapExtent,
        FiemapExtentInfo, //
    },
    file::{
        DirContext,
        File,
        Kiocb,
        TmpFile, //
    },
    file_operations::FileOperations,
    file_system_type::Registration,
    filesystem::FileSystem,
    fs_context::{
        FsContext,
        FsContextOperations,
        FsParameter,
        FsParameterSpec, //
    },
    inode::{
        IdMap,
        Inode,
        InodeGuard,
        LockedInode, //
    },
    inode_attrs::{
        InodeAttrs,
        Time, //
    },
    inode_operations::InodeOperations,
    new_inode::NewInode,
    new_super_block::NewSuperBlock,
    path::Path,
    posix_acl::{
        AclType,
        PosixAcl, //
    },
    remap::{
        FileRange,
        LockedPair, //
    },
    rw_semaphore::RwSemaphore,
    rwlock::RwLock,
    siphash::SiphashKey,
    splice::{
        IntoPage,
        Pipe, //
    },
    super_block::SuperBlock,
    super_operations::{
        StatFs,
        SuperOperations, //
    },
    tables::{
        AddressSpaceOps,
        ExportOps,
        FileOps,
        InodeOps,
        VmOps, //
    },
    vm_fault::{
        Fault,
        NewVma,
        PageRef,
        VmFault,
        VmOperations, //
    },
    xattr::{
        XattrHandler,
        XattrHandlers, //
    },
};

use crate::bindings;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The largest offset in a file, `MAX_LFS_FILESIZE` of a 64-bit kernel.
pub const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;

/// Lets other tasks run, in a long loop, without a spinlock held.
///
/// # Errors
///
/// `EINTR` if a fatal signal is pending.
pub fn cond_resched_killable() -> Result {
    cond_resched();
    // SAFETY: The task is the current one, and so is there.
    if unsafe { bindings::fatal_signal_pending(bindings::get_current()) } != 0 {
        return Err(EINTR);
    }
    Ok(())
}

/// Lets other tasks run, in a long loop, without a spinlock held.
pub fn cond_resched() {
    // SAFETY: May sleep: callers hold no spinlock.
    unsafe { bindings::cond_resched() };
}

/// Returns whether any signal is pending.
pub fn signal_pending() -> bool {
    current!().signal_pending()
}

/// Returns whether the caller is in a system call of a 32-bit program: `in_compat_syscall`.
pub fn in_compat_syscall() -> bool {
    // SAFETY: Only looks at the current task.
    unsafe { bindings::in_compat_syscall() }
}

/// Returns how many pages of memory the machine has.
pub fn totalram_pages() -> u64 {
    // SAFETY: The kernel only changes it atomically.
    let pages: &Atomic<i64> =
        unsafe { Atomic::from_ptr(&raw mut bindings::_totalram_pages.counter) };
    pages.load(Relaxed) as u64
}

/// Returns whether the caller has `CAP_SYS_ADMIN` in the initial user namespace, without an entry
/// in the audit log where `audit` is false.
pub fn capable_sys_admin(audit: bool) -> bool {
    let cap = bindings::CAP_SYS_ADMIN as c_int;
    // SAFETY: Only looks at the current task; the initial namespace is static.
    unsafe {
        if audit {
            bindings::capable(cap)
        } else {
            bindings::ns_capable_noaudit(&raw mut bindings::init_user_ns, cap)
        }
    }
}

/// Returns what a callback reports that returns an `int`: 0, or a negative errno.
fn to_errno(result: Result) -> c_int {
    result.map_or_else(|err| err.to_errno(), |()| 0)
}

/// Returns what a callback reports that returns a number of bytes: that, or a negative errno.
fn to_ssize(result: Result<usize>) -> isize {
    result.map_or_else(|err| err.to_errno() as isize, |bytes| bytes as isize)
}

/// Returns the buffer of `len` bytes at `start`; an empty one if that is null.
///
/// # Safety
///
/// `start` is valid for `len` bytes that nothing else accesses during `'a`, or null and `len` 0.
unsafe fn slice_mut<'a>(start: *mut c_void, len: usize) -> &'a mut [u8] {
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: It is not null, so the caller guarantees `len` bytes which nothing else accesses; any
    // bytes are valid as `u8`.
    unsafe { core::slice::from_raw_parts_mut(start.cast(), len) }
}
