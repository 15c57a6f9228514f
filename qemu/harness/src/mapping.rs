// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Memory mapped from a file, or anonymous memory, for buffers with holes.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::failure::{Context, Errno, Outcome, Sys};
use crate::pattern::BLOCK;
use crate::sys::check;

pub const READ: i32 = libc::PROT_READ;
pub const WRITE: i32 = libc::PROT_WRITE;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: a `Mapping` owns address space, which any thread may use. Its bytes are shared with other
// processes anyway, and only accessed through raw pointers.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn try_new(
        file: &impl AsRawFd,
        offset: u64,
        len: usize,
        protection: i32,
        flags: i32,
    ) -> Sys<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                flags,
                file.as_raw_fd(),
                offset as i64,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Maps the first `len` bytes shared, to read and write.
    #[track_caller]
    pub fn shared(file: &impl AsRawFd, len: usize) -> Outcome<Self> {
        Self::try_new(file, 0, len, READ | WRITE, libc::MAP_SHARED).or_fail("mmap(MAP_SHARED)")
    }

    /// Maps the first `len` bytes shared, to read only.
    #[track_caller]
    pub fn shared_read(file: &impl AsRawFd, len: usize) -> Outcome<Self> {
        Self::try_new(file, 0, len, READ, libc::MAP_SHARED).or_fail("mmap(PROT_READ, MAP_SHARED)")
    }

    /// Maps the first `len` bytes private, to read and write.
    #[track_caller]
    pub fn private(file: &impl AsRawFd, len: usize) -> Outcome<Self> {
        Self::try_new(file, 0, len, READ | WRITE, libc::MAP_PRIVATE).or_fail("mmap(MAP_PRIVATE)")
    }

    /// Maps anonymous memory.
    #[track_caller]
    pub fn anonymous(len: usize) -> Outcome<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                READ | WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last()).or_fail("mmap(MAP_ANONYMOUS)");
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Maps a block of a file shared, in the place of a page.
    #[track_caller]
    pub fn put_block(
        &self,
        at: usize,
        file: &impl AsRawFd,
        offset: u64,
        protection: i32,
    ) -> Outcome {
        assert!(at % BLOCK == 0 && at < self.len);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: in the place of a page of this mapping.
        let mapped = unsafe {
            libc::mmap(
                self.at(at).cast(),
                BLOCK,
                protection,
                flags,
                file.as_raw_fd(),
                offset as i64,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(Errno::last()).or_fail("mmap(MAP_FIXED)");
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of an offset, which may be one past the end.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len);
        self.start.wrapping_add(offset)
    }

    /// Loads `len` bytes. A page that cannot be faulted in is a SIGBUS, as for any program.
    pub fn load(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        let mut bytes = vec![0; len];
        // SAFETY: in range; the bytes may change meanwhile, hence volatile-like copying by the
        // C library, which assumes nothing of them.
        unsafe { std::ptr::copy_nonoverlapping(self.at(offset), bytes.as_mut_ptr(), len) };
        bytes
    }

    pub fn load_all(&self) -> Vec<u8> {
        self.load(0, self.len)
    }

    pub fn load_byte(&self, offset: usize) -> u8 {
        assert!(offset < self.len);
        // SAFETY: in range.
        unsafe { self.at(offset).read_volatile() }
    }

    /// Stores bytes; the mapping must be writable.
    pub fn store(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        // SAFETY: in range.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len()) };
    }

    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.len && offset % 8 == 0);
        // SAFETY: in range, aligned, and every value is a valid u64.
        unsafe { &*self.at(offset).cast::<AtomicU64>() }
    }

    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.len && offset % 4 == 0);
        // SAFETY: in range, aligned, and every value is a valid u32.
        unsafe { &*self.at(offset).cast::<AtomicU32>() }
    }

    pub fn protect(&self, offset: usize, len: usize, protection: i32) -> Sys {
        assert!(offset + len <= self.len);
        // SAFETY: within this mapping.
        check(unsafe { libc::mprotect(self.at(offset).cast(), len, protection) }).map(|_| ())
    }

    pub fn advise(&self, advice: i32) -> Sys {
        // SAFETY: within this mapping.
        check(unsafe { libc::madvise(self.start.cast(), self.len, advice) }).map(|_| ())
    }

    pub fn sync(&self, flags: i32) -> Sys {
        // SAFETY: within this mapping.
        check(unsafe { libc::msync(self.start.cast(), self.len, flags) }).map(|_| ())
    }

    /// Unmaps the last pages, so that nothing is mapped after the new end.
    #[track_caller]
    pub fn unmap_from(&mut self, offset: usize) -> Outcome {
        assert!(offset % BLOCK == 0 && offset > 0 && offset < self.len);
        // SAFETY: within this mapping, and nothing refers to it.
        check(unsafe { libc::munmap(self.at(offset).cast(), self.len - offset) })
            .or_fail("munmap")?;
        self.len = offset;
        Ok(())
    }

    /// Makes the last pages PROT_NONE. Other mappings cannot take their place, unlike that of
    /// unmapped pages.
    #[track_caller]
    pub fn forbid_from(&mut self, offset: usize) -> Outcome {
        assert!(offset % BLOCK == 0 && offset < self.len);
        // SAFETY: within this mapping, and nothing refers to it.
        check(unsafe { libc::mprotect(self.at(offset).cast(), self.len - offset, libc::PROT_NONE) })
            .or_fail("mprotect")
            .map(|_| ())
    }

    /// Moves or resizes the mapping.
    #[track_caller]
    pub fn remap(&mut self, len: usize, flags: i32) -> Outcome {
        // SAFETY: this mapping, which nothing refers to.
        let start = unsafe { libc::mremap(self.start.cast(), self.len, len, flags) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last()).or_fail("mremap");
        }
        self.start = start.cast();
        self.len = len;
        Ok(())
    }

    /// Returns whether the kernel can read a byte: EFAULT where a load would be a SIGBUS.
    pub fn kernel_can_read(&self, offset: usize) -> Outcome<Sys<u8>> {
        let (output, input) = crate::sys::pipe()?;
        Ok(match crate::sys::write_from(&input, self.at(offset), 1) {
            Ok(_) => Ok(crate::sys::read_all(&output, 1)?[0]),
            Err(error) => Err(error),
        })
    }

    /// Lets the kernel store a byte: EFAULT where a store would be a SIGBUS.
    pub fn kernel_store(&self, offset: usize, byte: u8) -> Outcome<Sys> {
        let (output, input) = crate::sys::pipe()?;
        crate::sys::write_all(&input, &[byte])?;
        Ok(crate::sys::read_to(&output, self.at(offset), 1).map(|_| ()))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing can refer to the mapping any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
