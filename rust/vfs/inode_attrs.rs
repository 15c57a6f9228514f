// SPDX-License-Identifier: GPL-2.0

//! The attributes of an inode, as a value.

use crate::bindings;

/// The attributes of an inode, to make another one of them when it has left the cache.
#[derive(Clone, Copy, Default)]
pub struct InodeAttrs {
    /// `i_mode`, file type included.
    pub mode: u16,
    /// `i_uid`.
    pub uid: bindings::kuid_t,
    /// `i_gid`.
    pub gid: bindings::kgid_t,
    /// `i_rdev`, of a device.
    pub rdev: bindings::dev_t,
    /// `i_generation`.
    pub generation: u32,
    /// `i_nlink`.
    pub nlink: u32,
    /// `i_size`, in bytes.
    pub size: u64,
    /// What quotas charge, in bytes: `inode_get_bytes`.
    pub bytes: u64,
    /// The access time.
    pub atime: bindings::timespec64,
    /// The modification time.
    pub mtime: bindings::timespec64,
    /// The change time.
    pub ctime: bindings::timespec64,
    /// `i_version`.
    pub version: u64,
}
