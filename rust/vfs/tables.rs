// SPDX-License-Identifier: GPL-2.0

//! Tables of operations, as values that an inode is given.

use super::FileSystem;
use crate::bindings;
use core::marker::PhantomData;

/// A table of inode operations for inodes of `T`. Made by `new`, see
/// [`InodeOperations`](super::InodeOperations).
pub struct InodeOps<T: FileSystem>(bindings::inode_operations, PhantomData<T>);

impl<T: FileSystem> InodeOps<T> {
    /// Returns the callbacks are for inodes of `T`.
    pub(super) const fn from_raw(table: bindings::inode_operations) -> Self {
        Self(table, PhantomData)
    }

    pub(super) const fn as_raw(&self) -> *const bindings::inode_operations {
        &raw const self.0
    }
}

/// A table of file operations for files of `T`. Made by `new`, see
/// [`FileOperations`](super::FileOperations).
pub struct FileOps<T: FileSystem>(bindings::file_operations, PhantomData<T>);

impl<T: FileSystem> FileOps<T> {
    /// Returns the callbacks are for files of `T`.
    pub(super) const fn from_raw(table: bindings::file_operations) -> Self {
        Self(table, PhantomData)
    }

    pub(super) const fn as_raw(&self) -> *const bindings::file_operations {
        &raw const self.0
    }
}

/// A table of address space operations for inodes of `T`. Made by `new`, see
/// [`AddressSpaceOperations`](super::AddressSpaceOperations).
pub struct AddressSpaceOps<T: FileSystem>(bindings::address_space_operations, PhantomData<T>);

impl<T: FileSystem> AddressSpaceOps<T> {
    /// Returns the callbacks are for inodes of `T`.
    pub(super) const fn from_raw(table: bindings::address_space_operations) -> Self {
        Self(table, PhantomData)
    }

    pub(super) const fn as_raw(&self) -> *const bindings::address_space_operations {
        &raw const self.0
    }
}
