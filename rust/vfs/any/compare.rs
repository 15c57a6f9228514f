// SPDX-License-Identifier: GPL-2.0

//! Comparing ranges of files through their page caches, as `vfs_dedupe_file_range_compare` does.

use super::{AnyFile, Range};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{error::from_err_ptr, page::PAGE_SIZE, prelude::*};

/// A reference to a folio of a page cache that is up to date.
struct Folio(NonNull<bindings::folio>);

impl Folio {
    /// The one that holds the byte at `pos`, which lies within the file.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the file has no page cache, `EINVAL` where it has become shorter, and those
    /// of reading.
    fn read(file: &AnyFile, pos: u64) -> Result<Self> {
        if !file.has_page_cache() {
            return Err(EOPNOTSUPP);
        }
        // A filesystem that is about to move blocks empties the page cache first, and holds this
        // lock so that nobody fills it with what the old blocks hold.
        let _guard = InvalidateShared::new(file);
        if pos >= file.size() {
            return Err(EINVAL);
        }
        // SAFETY: The file is open, has a page cache that can be read into, and its
        // `invalidate_lock` is held.
        let folio = unsafe { bindings::shim_read_mapping_folio(file.as_raw(), pos as i64) };
        NonNull::new(from_err_ptr(folio)?).map(Self).ok_or(EIO)
    }
}

/// `invalidate_lock` of a file's mapping, held shared.
struct InvalidateShared<'a>(&'a AnyFile);

impl<'a> InvalidateShared<'a> {
    fn new(file: &'a AnyFile) -> Self {
        // SAFETY: The file is open, and has a mapping; the guard unlocks it.
        unsafe { bindings::shim_filemap_invalidate_lock_shared(file.mapping()) };
        Self(file)
    }
}

impl Drop for InvalidateShared<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` took it.
        unsafe { bindings::shim_filemap_invalidate_unlock_shared(self.0.mapping()) };
    }
}

impl Drop for Folio {
    fn drop(&mut self) {
        // SAFETY: We have a reference.
        unsafe { bindings::shim_folio_put(self.0.as_ptr()) };
    }
}

impl AnyFile {
    /// Whether its data goes through the page cache.
    pub fn has_page_cache(&self) -> bool {
        // SAFETY: The file is open.
        unsafe { bindings::shim_has_page_cache(self.as_raw()) }
    }
}

impl Range<'_> {
    /// Whether both files hold the same bytes. Nothing is locked: who
    /// needs to be certain asks again when it is.
    ///
    /// # Errors
    ///
    /// Those of reading; `EOPNOTSUPP` where a file has no page cache.
    pub fn is_equal(&self) -> Result<bool> {
        let page = PAGE_SIZE as u64;
        let mut done = 0;
        while done < self.len {
            let (from_pos, to_pos) = (self.from_pos + done, self.to_pos + done);
            let len = (self.len - done)
                .min(page - from_pos % page)
                .min(page - to_pos % page);
            let from = Folio::read(self.from, from_pos)?;
            let to = Folio::read(self.to, to_pos)?;
            // SAFETY: Both folios hold these positions, and neither range leaves its page.
            let differ = unsafe {
                bindings::shim_folio_memcmp(
                    from.0.as_ptr(),
                    from_pos as i64,
                    to.0.as_ptr(),
                    to_pos as i64,
                    len as usize,
                )
            };
            if differ != 0 {
                return Ok(false);
            }
            done += len;
        }
        Ok(true)
    }
}
