// SPDX-License-Identifier: GPL-2.0

//! `splice(2)` and `sendfile(2)` from a file, without copying: a reference to the block goes into
//! the pipe.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h). Compare
//! `shmem_file_splice_read`.

use super::{file::FileOperations, inode::Inode};
use crate::bindings;
use kernel::{
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};

/// # Safety
///
/// `file` is an open regular file of `T`, `pos` valid for writes, `pipe` valid and locked.
pub(super) unsafe extern "C" fn splice_read<T: FileOperations>(
    file: *mut bindings::file,
    pos: *mut bindings::loff_t,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    _flags: c_uint,
) -> isize {
    // SAFETY: The VFS has the file open, and `pos` is its own.
    let (inode, start) = unsafe { (Inode::<T>::from_raw((*file).f_inode), *pos as u64) };
    let mut done = 0;
    while done < len {
        let at = start + done as u64;
        if at >= inode.size() {
            break;
        }
        let (block, size) = match T::get_stable(inode, at >> PAGE_SHIFT) {
            Ok(lent) => lent,
            Err(err) if done == 0 => return err.to_errno() as isize,
            Err(_) => break,
        };
        let offset = at as usize % PAGE_SIZE;
        let left = size.saturating_sub(at).min((len - done) as u64) as usize;
        let n = left.min(PAGE_SIZE - offset);
        if n == 0 {
            break;
        }
        let mut buffer = bindings::pipe_buffer {
            page: block.into_page(),
            offset: offset as c_uint,
            len: n as c_uint,
            ops: &raw const bindings::nosteal_pipe_buf_ops,
            flags: 0,
            private: 0,
        };
        // SAFETY: The caller says that the pipe is valid and locked. It takes the buffer's reference to
        // the page, or drops it.
        let added = unsafe { bindings::add_to_pipe(pipe, &mut buffer) };
        if added < 0 {
            // It is full, or nobody reads any more.
            if done == 0 {
                return added;
            }
            break;
        }
        done += n;
    }
    // SAFETY: The VFS has the file open, and `pos` is its own.
    unsafe {
        *pos = (start + done as u64) as i64;
        bindings::file_accessed(file);
    }
    done as isize
}
