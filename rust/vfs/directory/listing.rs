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
        unsafe { bindings::generic_file_llseek_size(file, offset, whence, i64::MAX, 0) }
    }

    /// Where the listing that `file` is at ends: a cookie. It is noted in `private_data`, which is
    /// null before the first read, and anew by a read of the start.
    ///
    /// Not by opening or seeking: what is made between these and the first read is listed.
    ///
    /// # Safety
    ///
    /// `file` is an open directory of `T` whose lock and `f_pos_lock` are held.
    unsafe fn end_of_listing(file: *mut bindings::file, dir: &Inode<T>, pos: u64) -> u64 {
        // SAFETY: By the safety requirements: `f_pos_lock` keeps others from `private_data`.
        unsafe {
            if pos == 0 || (*file).private_data.is_null() {
                (*file).private_data = dir.index().end() as *mut c_void;
            }
            (*file).private_data as u64
        }
    }

    /// # Safety
    ///
    /// `file` is an open directory of `T` whose lock is held at least shared, and whose `f_pos_lock`
    /// is held or which no other task has; `ctx` is valid.
    pub(super) unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: The VFS has the directory open and locked, and `f_pos_lock` held; `ctx` is valid until
        // the call is over.
        let (dir, end, ctx) = unsafe {
            let dir = Inode::<T>::from_raw((*file).f_inode);
            let end = Self::end_of_listing(file, dir, (*ctx).pos as u64);
            if !bindings::dir_emit_dots(file, ctx) {
                return 0;
            }
            (dir, end, &mut *ctx)
        };
        loop {
            let mut found = [None; LISTED];
            dir.index().first(ctx.pos as u64..end, &mut found);
            // The directory's lock keeps the entries what they are.
            for (cookie, entry) in found.iter().flatten() {
                ctx.pos = *cookie as i64;
                // SAFETY: The VFS holds the lock of this directory, which the entry is of.
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
            let qstr = (*dentry).__bindgen_anon_1.d_name;
            let len = qstr.__bindgen_anon_1.__bindgen_anon_1.len;
            let inode = (*dentry).d_inode;
            let kind = u32::from((*inode).i_mode) >> 12 & 15;
            bindings::dir_emit(ctx, qstr.name.cast(), len as c_int, (*inode).i_ino, kind)
        }
    }
}
