// SPDX-License-Identifier: GPL-2.0

//! Tables of operations, as values that an inode, a mapping or a superblock is given, and the
//! callbacks in them.

use crate::bindings;
use core::marker::PhantomData;

/// A table `R` of operations, for what is of the filesystem `T`. Made by `new`, see the traits.
pub struct OpsTable<R, T>(R, PhantomData<T>);

/// A table of the operations of inodes, see [`InodeOperations`](super::InodeOperations).
pub type InodeOps<T> = OpsTable<bindings::inode_operations, T>;

/// A table of the operations of files, see [`FileOperations`](super::FileOperations).
pub type FileOps<T> = OpsTable<bindings::file_operations, T>;

/// A table of the operations of address spaces, see
/// [`AddressSpaceOperations`](super::AddressSpaceOperations).
pub type AddressSpaceOps<T> = OpsTable<bindings::address_space_operations, T>;

/// A table of the operations of mappings, see [`VmOperations`](super::VmOperations).
pub type VmOps<T> = OpsTable<bindings::vm_operations_struct, T>;

/// A table of export operations, see [`ExportOperations`](super::ExportOperations).
pub type ExportOps<T> = OpsTable<bindings::export_operations, T>;

impl<R, T> OpsTable<R, T> {
    /// Returns a table whose callbacks are for what is of `T`.
    pub(super) const fn from_raw(table: R) -> Self {
        Self(table, PhantomData)
    }

    pub(super) const fn as_raw(&self) -> &R {
        &self.0
    }
}

/// Defines callbacks for a table. Each converts its arguments as it says behind the `=>`, calls the
/// function of this name of `U`, and returns what `to_c` makes of the result.
///
/// The documentation of each is what C guarantees for its arguments, which the conversions ask for.
macro_rules! callbacks {
    (
        $to_c:ident -> $result:ty;
        $(
            $(#[$doc:meta])*
            fn $name:ident($($(#[$attr:meta])* $arg:ident: $type:ty),* $(,)?)
                => ($($value:expr),* $(,)?);
        )*
    ) => {$(
        /// # Safety
        ///
        $(#[$doc])*
        unsafe extern "C" fn $name($($(#[$attr])* $arg: $type),*) -> $result {
            // SAFETY: The caller guarantees what the documentation says.
            $to_c(unsafe { U::$name($($value),*) })
        }
    )*};
}
pub(super) use callbacks;
