// SPDX-License-Identifier: GPL-2.0

//! Filesystem types: `struct file_system_type`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::bindings;
use kernel::prelude::*;

/// Multigrain timestamps, finer than a timer tick once they were read: `FS_MGTIME`.
pub const FS_MGTIME: u32 = bindings::FS_MGTIME;

/// May be mounted in user namespaces, `FS_USERNS_MOUNT`.
pub const FS_USERNS_MOUNT: u32 = bindings::FS_USERNS_MOUNT;

/// May be mounted with mapped ids, `FS_ALLOW_IDMAP`.
pub const FS_ALLOW_IDMAP: u32 = bindings::FS_ALLOW_IDMAP;

/// A filesystem type: what it is called, and what it keeps.
///
/// Its operations are [`SuperOperations`](super::SuperOperations) and
/// [`FsContextOperations`](super::FsContextOperations).
///
/// # Examples
///
/// ```
/// use crate::vfs::{filesystem::FS_USERNS_MOUNT, FileSystem};
/// use kernel::{prelude::*, sync::atomic::Atomic};
///
/// struct ExampleFs;
///
/// impl FileSystem for ExampleFs {
///     const NAME: &'static CStr = c"example";
///     const MAGIC: usize = u32::from_be_bytes(*b"exam") as usize;
///     const FS_FLAGS: u32 = FS_USERNS_MOUNT;
///
///     type TypeData = ();
///     // The number of the last inode.
///     type SbInfo = Atomic<u64>;
///     type InodeInfo = ();
/// }
/// ```
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The name, as in `mount -t NAME`.
    const NAME: &'static CStr;

    /// What `statfs(2)` reports in `f_type`.
    const MAGIC: usize;

    /// `FS_*` of `struct file_system_type`.
    const FS_FLAGS: u32;

    /// What is kept with the type while it is registered.
    type TypeData: Send + Sync;

    /// What is kept with each superblock, `s_fs_info`.
    type SbInfo: Send + Sync;

    /// What is kept with each inode, of any file type.
    type InodeInfo: Send + Sync;
}
