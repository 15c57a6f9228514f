// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the C VFS, for filesystems that keep their files' data in pages of their own.
//!
//! A filesystem implements [`FileSystem`], and for its inodes [`DirectoryOperations`],
//! [`FileOperations`] and [`MappingOperations`]; it registers with [`Registration`]. Each module
//! here turns one table of C callbacks into one trait: the callback converts its arguments,
//! calls the trait, turns an `Err` into an errno, and does nothing else.
//!
//! | module | C |
//! |---|---|
//! | [`filesystem`] | `struct file_system_type`, `struct super_operations` |
//! | [`context`] | `struct fs_context_operations` |
//! | [`inode`] | `struct inode`, its locks, and making new ones |
//! | [`directory`] | `struct inode_operations` of a directory; names kept in the dcache, as libfs does |
//! | [`attributes`] | `getattr`, `setattr` |
//! | [`acl`] | POSIX access control lists |
//! | [`change`] | `file_modified` |
//! | [`flags`] | `fileattr_get`, `fileattr_set` |
//! | [`export`] | `struct export_operations` |
//! | [`file`] | `struct file_operations` of a regular file |
//! | [`remap`] | `copy_file_range`, `remap_file_range`, and the locks of two files |
//! | [`fallocate`] | `fallocate` |
//! | [`splice`] | `splice_read` |
//! | [`mapping`] | `struct vm_operations_struct`, `invalidate_lock` |
//! | [`extents`] | `fiemap` |
//! | [`xattr`] | `struct xattr_handler` |
//! | [`quota`] | `struct dquot`, `struct quota_format_type` |
//! | [`rwlock`] | `rwlock_t` |
//! | [`debugfs`], [`summary`] | files in debugfs; that of a mount |
//! | [`any`] | `struct file` of any filesystem, and ranges of them |
//!
//! The module copy_fr takes [`debugfs`] and [`any`] without the rest.
//!
//! # Locks
//!
//! What a lock protects can be changed only with the value that stands for holding it:
//! [`Locked`] for `i_rwsem` held exclusive, [`Changing`] for the same with all done that a change of
//! data owes, [`Invalidate`] and [`mapping::InvalidateShared`] for
//! `invalidate_lock`.
//!
//! 1. freeze protection (`sb_start_write`, taken by the VFS; `sb_start_pagefault`, by
//!    [`Fault::start_write`])
//! 2. `i_rwsem` of directories, then of files (`lock_two_nondirectories`)
//! 3. `mmap_lock`, or the lock of the VMA
//! 4. `invalidate_lock` (`filemap_invalidate_lock_two`)
//! 5. what the filesystem has

pub mod acl;
pub mod any;
pub mod attributes;
pub mod change;
pub mod context;
mod debugfs;
pub mod directory;
pub mod export;
pub mod extents;
pub mod fallocate;
pub mod file;
pub mod filesystem;
pub mod flags;
pub mod inode;
pub mod mapping;
pub mod quota;
pub mod remap;
pub mod rwlock;
pub mod splice;
mod summary;
pub mod xattr;

pub use self::{
    change::Changing,
    context::{Context, Parameter},
    directory::{Dentry, DirectoryOperations, New},
    extents::Extent,
    fallocate::Fallocate,
    file::FileOperations,
    filesystem::{FileSystem, Registration, Statistics, SuperBlock},
    inode::{IdMap, Inode, Locked},
    mapping::{Fault, FaultResult, Invalidate, MappingOperations},
    quota::Charge,
    remap::{LockedPair, Remap, RemapKind},
    rwlock::RwLock,
};

use crate::bindings;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The largest offset in a file, `MAX_LFS_FILESIZE` of a 64-bit kernel.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// Turns the result of an operation into what C expects of a callback.
fn to_errno(result: Result) -> c_int {
    result.map_or_else(|err| err.to_errno(), |()| 0)
}

/// For long loops, without a spinlock held: lets others run.
///
/// # Errors
///
/// `EINTR` where a signal is pending that ends the process.
pub fn go_on() -> Result {
    // SAFETY: May sleep: callers hold no spinlock.
    unsafe { bindings::cond_resched() };
    // SAFETY: The task is the current one, and so is there.
    if unsafe { bindings::fatal_signal_pending(bindings::get_current()) } != 0 {
        return Err(EINTR);
    }
    Ok(())
}

/// How many pages of memory the machine has.
pub fn total_ram_pages() -> u64 {
    // SAFETY: The kernel only changes it atomically.
    let pages: &Atomic<i64> =
        unsafe { Atomic::from_ptr(&raw mut bindings::_totalram_pages.counter) };
    pages.load(Relaxed) as u64
}
