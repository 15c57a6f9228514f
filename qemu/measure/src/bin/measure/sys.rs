// SPDX-License-Identifier: GPL-2.0 OR MIT
//! System calls that the standard library does not have.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result as IoResult};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{bail, Context, Result};

const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;
const FIDEDUPERANGE: u64 = 0xc018_9436;
const FS_IOC_FIEMAP: u64 = 0xc020_660b;

fn check(result: impl Into<i64>) -> IoResult<u64> {
    let result = result.into();
    u64::try_from(result).map_err(|_| Error::last_os_error())
}

pub fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// Makes a file that is not there yet.
pub fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    file.with_context(|| format!("create {}", path.display()))
}

pub fn sync_filesystem(dir: &Path) -> Result<()> {
    let dir = File::open(dir)?;
    // SAFETY: takes a descriptor only.
    check(unsafe { libc::syncfs(dir.as_raw_fd()) }).context("syncfs")?;
    Ok(())
}

pub fn allocate(file: &File, offset: u64, len: u64) -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as i64, len as i64) })
        .context("fallocate")?;
    Ok(())
}

/// An ioctl whose argument is a number.
pub fn ioctl(file: &File, command: u64, argument: u64) -> Result<()> {
    // SAFETY: takes a descriptor and numbers.
    check(unsafe { libc::ioctl(file.as_raw_fd(), command, argument) }).context("ioctl")?;
    Ok(())
}

/// `to` becomes a clone of `from`.
pub fn clone(from: &File, to: &File) -> Result<()> {
    try_clone(from, to).context("FICLONE")
}

pub fn try_clone(from: &File, to: &File) -> IoResult<()> {
    // SAFETY: takes descriptors only.
    check(unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) })?;
    Ok(())
}

#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    source_length: u64,
    offset: u64,
}

pub fn clone_range(
    from: &File,
    from_offset: u64,
    len: u64,
    to: &File,
    to_offset: u64,
) -> Result<()> {
    let range = CloneRange {
        source: from.as_raw_fd().into(),
        source_offset: from_offset,
        source_length: len,
        offset: to_offset,
    };
    // SAFETY: `range` is a `struct file_clone_range`, which the kernel reads.
    check(unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &range) }).context("FICLONERANGE")?;
    Ok(())
}

#[repr(C)]
struct DedupeRange {
    source_offset: u64,
    source_length: u64,
    count: u16,
    reserved: [u16; 3],
    destination: i64,
    offset: u64,
    deduped: u64,
    status: i32,
    reserved_too: u32,
}

/// Makes `len` bytes of two files one, in as many calls as the kernel wants.
pub fn dedupe(from: &File, to: &File, len: u64) -> Result<()> {
    let mut done = 0;
    while done < len {
        let mut range = DedupeRange {
            source_offset: done,
            source_length: len - done,
            count: 1,
            reserved: [0; 3],
            destination: to.as_raw_fd().into(),
            offset: done,
            deduped: 0,
            status: 0,
            reserved_too: 0,
        };
        // SAFETY: `range` is a `struct file_dedupe_range` with one destination.
        check(unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE, &mut range) })
            .context("FIDEDUPERANGE")?;
        if range.status != 0 || range.deduped == 0 {
            bail!(
                "FIDEDUPERANGE at {done}: status {}, {} bytes",
                range.status,
                range.deduped
            );
        }
        done += range.deduped;
    }
    Ok(())
}

/// `copy_file_range(2)`, until `len` bytes are copied.
pub fn copy_range(
    from: &File,
    mut at: i64,
    to: &File,
    mut to_at: i64,
    len: u64,
    flags: u32,
) -> Result<()> {
    let mut left = len;
    while left > 0 {
        // SAFETY: the offsets are valid for the call.
        let copied = check(unsafe {
            libc::copy_file_range(
                from.as_raw_fd(),
                &mut at,
                to.as_raw_fd(),
                &mut to_at,
                left as usize,
                flags,
            )
        } as i64)
        .context("copy_file_range")?;
        if copied == 0 {
            bail!("copy_file_range: the source ended {left} bytes too early");
        }
        left -= copied;
    }
    Ok(())
}

/// How many extents a file has.
pub fn extents(file: &File) -> Result<u64> {
    // `struct fiemap` without room for extents: start, length, flags and mapped, count and reserved.
    let mut map: [u64; 4] = [0, u64::MAX, 1, 0];
    // SAFETY: the kernel reads and fills in 32 bytes.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, map.as_mut_ptr()) })
        .context("FIEMAP")?;
    Ok(map[2] >> 32)
}

/// A mapping of a whole file, shared, or of memory.
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(len: u64, write: bool, flags: i32, fd: i32) -> Result<Self> {
        let protection = if write {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let len = len as usize;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error()).context("mmap");
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    pub fn of_file(file: &File, len: u64, write: bool) -> Result<Self> {
        Self::new(len, write, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Memory in pages of 4 KiB, not there yet.
    pub fn memory(len: u64) -> Result<Self> {
        let memory = Self::new(len, true, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        memory.advise(libc::MADV_NOHUGEPAGE)?;
        Ok(memory)
    }

    fn advise(&self, advice: i32) -> Result<()> {
        // SAFETY: the whole mapping; no advice that is given changes what is in it.
        check(unsafe { libc::madvise(self.start.cast(), self.len, advice) }).context("madvise")?;
        Ok(())
    }

    /// Reads a byte of each page, or writes one, where the mapping is writable.
    pub fn use_each_page(&self, write: bool) {
        for offset in (0..self.len).step_by(4096) {
            // SAFETY: inside of the mapping; volatile, as nobody needs the byte.
            unsafe {
                let byte = self.start.add(offset);
                if write {
                    byte.write_volatile(offset as u8);
                } else {
                    byte.read_volatile();
                }
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody refers to the mapping any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
