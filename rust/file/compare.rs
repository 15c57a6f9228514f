// SPDX-License-Identifier: GPL-2.0

//! Comparing ranges of files through their page caches, as `vfs_dedupe_file_range_compare` does.

use super::{
    AnyFile,
    Range, //
};
use crate::{
    bindings,
    compat::EOPNOTSUPP, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A reference to a folio of a page cache that is up to date.
struct Folio(NonNull<bindings::folio>);

impl Folio {
    /// Returns the folio that holds the byte at `pos`, which lies within the file.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the file has no page cache, `EINVAL` where it has become shorter, and
    /// those of reading.
    fn read(file: &AnyFile, pos: u64) -> Result<Self> {
        if !file.has_page_cache() {
            return Err(EOPNOTSUPP);
        }
        // A filesystem that is about to move blocks empties the page cache first, and holds this
        // lock so that it is not filled from the old blocks.
        let _guard = InvalidateShared::new(file);
        if pos >= file.size() {
            return Err(EINVAL);
        }
        let index = pos as usize >> PAGE_SHIFT;
        // SAFETY: The file is open, has a page cache that can be read into, and its
        // `invalidate_lock` is held.
        let folio = unsafe { bindings::read_mapping_folio(file.mapping(), index, file.as_raw()) };
        NonNull::new(from_err_ptr(folio)?).map(Self).ok_or(EIO)
    }

    /// Calls `f` with the address of the byte at `pos`, which the folio holds.
    fn with_bytes<R>(&self, pos: u64, f: impl FnOnce(*const c_void) -> R) -> R {
        let folio = self.0.as_ptr();
        // SAFETY: We have a reference to the folio. What is mapped last is unmapped first.
        unsafe {
            let bytes = bindings::kmap_local_folio(folio, bindings::offset_in_folio(folio, pos));
            let result = f(bytes);
            bindings::kunmap_local(bytes);
            result
        }
    }
}

/// `invalidate_lock` of a file's mapping, held shared.
struct InvalidateShared<'a>(&'a AnyFile);

impl<'a> InvalidateShared<'a> {
    fn new(file: &'a AnyFile) -> Self {
        // SAFETY: The open file holds its mapping; the guard unlocks it.
        unsafe { bindings::down_read(&raw mut (*file.mapping()).invalidate_lock) };
        Self(file)
    }
}

impl Drop for InvalidateShared<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` took it.
        unsafe { bindings::up_read(&raw mut (*self.0.mapping()).invalidate_lock) };
    }
}

impl Drop for Folio {
    fn drop(&mut self) {
        // SAFETY: We have a reference.
        unsafe { bindings::folio_put(self.0.as_ptr()) };
    }
}

impl Range<'_> {
    /// Returns whether both files hold the same bytes. Nothing is locked: the answer holds only if
    /// it is given again under locks.
    ///
    /// # Errors
    ///
    /// Those of reading; `EOPNOTSUPP` where a file has no page cache.
    pub(crate) fn is_equal(&self) -> Result<bool> {
        let page = PAGE_SIZE as u64;
        let mut done = 0;
        while done < self.len {
            let (from_pos, to_pos) = (self.from_pos + done, self.to_pos + done);
            let len = (self.len - done)
                .min(page - from_pos % page)
                .min(page - to_pos % page);
            let from = Folio::read(self.from, from_pos)?;
            let to = Folio::read(self.to, to_pos)?;
            let difference = from.with_bytes(from_pos, |from| {
                to.with_bytes(to_pos, |to| {
                    // SAFETY: Both folios hold these positions, and neither range leaves its page.
                    // Concurrent writes may be seen or not.
                    unsafe { bindings::memcmp(from, to, len as usize) }
                })
            });
            if difference != 0 {
                return Ok(false);
            }
            done += len;
        }
        Ok(true)
    }
}
