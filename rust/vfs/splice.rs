// SPDX-License-Identifier: GPL-2.0

//! Pipes that a file is spliced into.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h).

use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// A value that owns a reference to a page.
///
/// # Safety
///
/// `into_page` returns a page with a reference that the caller owns then.
pub unsafe trait IntoPage {
    /// Returns the page, with the reference.
    fn into_page(self) -> *mut bindings::page;
}

/// A pipe, locked: `struct pipe_inode_info`.
pub struct Pipe<'a>(*mut bindings::pipe_inode_info, PhantomData<&'a mut ()>);

impl Pipe<'_> {
    /// # Safety
    ///
    /// `pipe` is valid and locked during the lifetime of the result.
    pub(super) unsafe fn from_raw(pipe: *mut bindings::pipe_inode_info) -> Self {
        Self(pipe, PhantomData)
    }

    /// Adds `len` bytes of a page, from `offset` on. They must not change afterwards, as the pipe's
    /// reader reads them later. It cannot steal the page (`nosteal_pipe_buf_ops`).
    ///
    /// # Errors
    ///
    /// `EAGAIN` where the pipe is full, `EPIPE` (with `SIGPIPE`) where it has no reader.
    pub fn add_page(&mut self, page: impl IntoPage, offset: usize, len: usize) -> Result {
        let mut buffer = bindings::pipe_buffer {
            page: page.into_page(),
            offset: offset as c_uint,
            len: len as c_uint,
            ops: &raw const bindings::nosteal_pipe_buf_ops,
            flags: 0,
            private: 0,
        };
        // SAFETY: The pipe is valid and locked, by the promise of `from_raw`. It takes the buffer's
        // reference to the page, or drops it.
        let added = unsafe { bindings::add_to_pipe(self.0, &mut buffer) };
        if added < 0 {
            return Err(Error::from_errno(added as c_int));
        }
        Ok(())
    }
}
