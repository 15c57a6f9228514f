// SPDX-License-Identifier: GPL-2.0

//! The attributes of an inode, as a value.

use crate::bindings;

/// A time, in less memory than `timespec64` takes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Time {
    sec: i64,
    nsec: u32,
}

impl Time {
    /// Returns one of a `timespec64`, whose nanoseconds are fewer than 10^9.
    pub fn new(time: bindings::timespec64) -> Self {
        Self {
            sec: time.tv_sec,
            nsec: time.tv_nsec as u32,
        }
    }

    /// Returns it as a `timespec64`.
    pub fn get(self) -> bindings::timespec64 {
        bindings::timespec64 {
            tv_sec: self.sec,
            tv_nsec: self.nsec as isize,
        }
    }
}

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
    /// The access time.
    pub atime: Time,
    /// The modification time.
    pub mtime: Time,
    /// The change time.
    pub ctime: Time,
    /// `i_version`.
    pub version: u64,
}

impl InodeAttrs {
    /// Returns whether modification and change time are the same.
    pub fn same_times(&self, other: &Self) -> bool {
        (self.mtime, self.ctime) == (other.mtime, other.ctime)
    }
}
