// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs that keep the module loaded while they are open.
//!
//! Those of `kernel::debugfs` do not: closing one after the module has gone calls what was in it.
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h).

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    prelude::*,
    seq_file::SeqFile, //
};

/// A value that a file shows.
pub(crate) trait Show: Sync {
    /// Prints it.
    fn show(&self, to: &SeqFile);
}

/// A directory of debugfs with files in it, until it is dropped. If debugfs fails there is none,
/// and no error, as with all users of debugfs.
pub(crate) struct Directory(*mut bindings::dentry);

// SAFETY: debugfs has locks of its own.
unsafe impl Send for Directory {}
// SAFETY: debugfs has locks of its own.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes a directory.
    pub(crate) fn new(name: &CStr) -> Self {
        // SAFETY: The name is copied.
        Self(unsafe { bindings::debugfs_create_dir(name.as_char_ptr(), null_mut()) })
    }

    /// Adds a file that shows `what` to root.
    pub(crate) fn add<T: Show + 'static>(&self, name: &CStr, what: &'static T) {
        // SAFETY: The name is copied; the directory is one, or an error, which debugfs knows. What
        // the file refers to is static, and the file is removed before the module goes.
        unsafe {
            bindings::debugfs_create_file_full(
                name.as_char_ptr(),
                0o400,
                self.0,
                core::ptr::from_ref(what).cast_mut().cast(),
                core::ptr::null(),
                &ShowTable::<T>::TABLE.0,
            )
        };
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: The directory is one, or an error, which debugfs knows.
        unsafe { bindings::debugfs_remove(self.0) };
    }
}

struct Table(bindings::file_operations);

// SAFETY: It is constant.
unsafe impl Sync for Table {}

struct ShowTable<T: Show>(PhantomData<T>);

impl<T: Show> ShowTable<T> {
    const TABLE: &'static Table = &Table(bindings::file_operations {
        owner: (&raw const bindings::__this_module).cast_mut(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    });

    /// # Safety
    ///
    /// `inode` is that of a file which [`Directory::add`] made for a `T`, `file` is being
    /// opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: debugfs passes the inode of the file, whose `i_private` is what `add` gave it,
        // and the file that it is opening.
        unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// `seq` is that of a file which [`ShowTable::open`] opened.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: `open` gave `seq` the `T` of the file as `private`. It is there until the file is
        // removed, which waits for this call. `seq` is valid during the call.
        unsafe {
            let what = &*(*seq).private.cast::<T>();
            what.show(SeqFile::from_raw(seq));
        }
        0
    }
}
