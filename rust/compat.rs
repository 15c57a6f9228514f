// SPDX-License-Identifier: GPL-2.0

//! What differs between the versions of Linux that the modules are built for.
//!
//! | item | wanted by | as |
//! |---|---|---|
//! | the errno constants | 7.2 | `kernel::error::code` has these from 7.3 on |
//! | [`raw_init`] | 7.2 | `pin_init` has it from 7.3 on |
//! | `create`'s last argument, `excl` (`vfs/inode_operations.rs`) | 7.2 | 7.3 took it away |
//! | `linux/swap.h` (`helpers/fault.c`) | 7.2 | its `leafops.h` does not include all that it uses |
//!
//! Kbuild sets `linux_7_2`. When 7.2 goes, this file does, and each of these with it.

// Each module uses some of it.
#![allow(unused_imports, dead_code)]

#[cfg(not(linux_7_2))]
pub(crate) use kernel::error::code::{
    EBADE,
    EDQUOT,
    ENAMETOOLONG,
    ENODATA,
    ENOTEMPTY,
    EOPNOTSUPP,
    ESTALE, //
};
#[cfg(not(linux_7_2))]
pub(crate) use pin_init::raw_init;

#[cfg(linux_7_2)]
pub(crate) use self::linux_7_2::*;

#[cfg(linux_7_2)]
mod linux_7_2 {
    use kernel::{bindings, prelude::*};

    /// Returns the [`Error`] of a number. `Error::from_errno` is no `const fn`.
    const fn error(errno: u32) -> Error {
        assert!(errno > 0 && errno <= bindings::MAX_ERRNO);
        // SAFETY: An `Error` is a negative errno and nothing else, by its documentation; the sizes
        // are equal, or this does not compile, and the line below compares one that the kernel has.
        unsafe { core::mem::transmute(-(errno as i32)) }
    }
    // SAFETY: As above.
    const _: () = assert!(unsafe { core::mem::transmute::<Error, i32>(EINVAL) } == -22);

    pub(crate) const EBADE: Error = error(bindings::EBADE);
    pub(crate) const EDQUOT: Error = error(bindings::EDQUOT);
    pub(crate) const ENAMETOOLONG: Error = error(bindings::ENAMETOOLONG);
    pub(crate) const ENODATA: Error = error(bindings::ENODATA);
    pub(crate) const ENOTEMPTY: Error = error(bindings::ENOTEMPTY);
    pub(crate) const EOPNOTSUPP: Error = error(bindings::EOPNOTSUPP);
    pub(crate) const ESTALE: Error = error(bindings::ESTALE);

    /// Initialises `slot`.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes, and is not moved before it is dropped.
    pub(crate) unsafe fn raw_init<T>(slot: *mut T, init: impl PinInit<T>) {
        // SAFETY: The caller guarantees what this asks for.
        match unsafe { init.__pinned_init(slot) } {
            Ok(()) => (),
            Err(never) => match never {},
        }
    }
}
