// SPDX-License-Identifier: GPL-2.0

//! `getdents(2)` and `lseek(2)` of a directory.

use super::{index::Entry, DirectoryOperations, DirectoryTables, Inode};
use crate::bindings;
use kernel::prelude::*;

/// How many entries are listed under one hold of an index's lock.
const LISTED: usize = 16;

impl<T: DirectoryOperations> DirectoryTables<T> {
    /// # Safety
    ///
    /// `file` is an open directory of `T`.
    pub(super) unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // Positions are cookies, and have no end.
        if !matches!(whence as u32, bindings::SEEK_SET | bindings::SEEK_CUR) {
            return EINVAL.to_errno().into();
        }
        // SAFETY: By the safety requirements.
        unsafe {
            let pos = bindings::generic_file_llseek_size(file, offset, whence, i64::MAX, 0);
            if pos == 0 {
                Self::begin_listing(file);
            }
            pos
        }
    }

    /// # Safety
    ///
    /// `file` is a directory of `T` that is being opened.
    pub(super) unsafe extern "C" fn open(
        _inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { Self::begin_listing(file) };
        0
    }

    /// Notes in `private_data` where a listing that begins now ends.
    ///
    /// # Safety
    ///
    /// `file` is an open directory of `T`, and nobody else changes `private_data`.
    unsafe fn begin_listing(file: *mut bindings::file) {
        // SAFETY: By the safety requirements.
        unsafe {
            let dir = Inode::<T>::from_raw((*file).f_inode);
            (*file).private_data = dir.index().end() as *mut c_void;
        }
    }

    /// # Safety
    ///
    /// `file` is an open directory of `T` whose lock is held at least shared, `ctx` is valid.
    pub(super) unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (dir, end, ctx) = unsafe {
            if !bindings::shim_dir_emit_dots(file, ctx) {
                return 0;
            }
            let end = (*file).private_data as u64;
            (Inode::<T>::from_raw((*file).f_inode), end, &mut *ctx)
        };
        loop {
            let mut found = [None; LISTED];
            dir.index().first(ctx.pos as u64..end, &mut found);
            // The directory's lock keeps the entries what they are.
            for (cookie, entry) in found.iter().flatten() {
                ctx.pos = *cookie as i64;
                // SAFETY: By the safety requirements; an entry of this directory.
                if !unsafe { Self::emit(ctx, *entry) } {
                    return 0;
                }
                ctx.pos += 1;
            }
            if found[LISTED - 1].is_none() {
                return 0;
            }
        }
    }

    /// Tells of an entry. Returns whether it was taken.
    ///
    /// # Safety
    ///
    /// The lock of the directory that the entry is of is held at least shared, `ctx` is valid.
    unsafe fn emit(ctx: &mut bindings::dir_context, Entry(dentry): Entry) -> bool {
        // SAFETY: The dentry is one of the directory's names by the invariant of `Entry`, has an inode,
        // and neither changes.
        unsafe {
            let mut len = 0;
            let name = bindings::shim_dentry_name(dentry, &mut len);
            let inode = (*dentry).d_inode;
            let kind = u32::from((*inode).i_mode) >> 12 & 15;
            bindings::shim_dir_emit(ctx, name, len as c_int, (*inode).i_ino, kind)
        }
    }
}
