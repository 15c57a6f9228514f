// SPDX-License-Identifier: GPL-2.0 OR MIT
//! System calls that the standard library lacks.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Error, Result as IoResult};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{bail, Context, Result};
use reflink_sys::FileDedupeRangeInfo;

fn check(result: impl Into<i64>) -> IoResult<u64> {
    let result = result.into();
    u64::try_from(result).map_err(|_| Error::last_os_error())
}

pub fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// Creates a new file.
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

/// Makes an ioctl whose argument is a number.
pub fn ioctl(file: &File, command: u64, argument: u64) -> Result<()> {
    // SAFETY: takes a descriptor and numbers.
    check(unsafe { libc::ioctl(file.as_raw_fd(), command, argument) }).context("ioctl")?;
    Ok(())
}

/// Makes `to` a clone of `from`.
pub fn clone(from: &File, to: &File) -> Result<()> {
    try_clone(from, to).context("FICLONE")
}

pub fn try_clone(from: &File, to: &File) -> IoResult<()> {
    reflink_sys::ficlone(to, from)
}

pub fn clone_range(
    from: &File,
    from_offset: u64,
    len: u64,
    to: &File,
    to_offset: u64,
) -> Result<()> {
    reflink_sys::ficlonerange(to, to_offset, from, from_offset, len).context("FICLONERANGE")
}

/// Deduplicates `len` bytes of two files, in as many calls as the kernel needs.
pub fn dedupe(from: &File, to: &File, len: u64) -> Result<()> {
    let mut done = 0;
    while done < len {
        let mut range = [FileDedupeRangeInfo::new(to, done)];
        reflink_sys::fideduperange(from, done, len - done, &mut range).context("FIDEDUPERANGE")?;
        let [range] = range;
        if range.status != 0 || range.bytes_deduped == 0 {
            bail!(
                "FIDEDUPERANGE at {done}: status {}, {} bytes",
                range.status,
                range.bytes_deduped
            );
        }
        done += range.bytes_deduped;
    }
    Ok(())
}

/// Calls `copy_file_range(2)` until `len` bytes are copied.
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
        let copied = reflink_sys::copy_file_range(
            from,
            Some(&mut at),
            to,
            Some(&mut to_at),
            left as usize,
            flags,
        )
        .context("copy_file_range")? as u64;
        if copied == 0 {
            bail!("copy_file_range: the source ended {left} bytes too early");
        }
        left -= copied;
    }
    Ok(())
}

/// Returns the number of extents of a file.
pub fn extents(file: &File) -> Result<u64> {
    let (mapped, _) = reflink_sys::fiemap(file, 0, u64::MAX, reflink_sys::FIEMAP_FLAG_SYNC, 0)
        .context("FIEMAP")?;
    Ok(mapped.into())
}

/// A shared mapping of a whole file, or anonymous memory.
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

    /// Maps anonymous memory in pages of 4 KiB, not allocated yet.
    pub fn memory(len: u64) -> Result<Self> {
        let memory = Self::new(len, true, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        memory.advise(libc::MADV_NOHUGEPAGE)?;
        Ok(memory)
    }

    fn advise(&self, advice: i32) -> Result<()> {
        // SAFETY: the whole mapping; no advice that callers give changes its contents.
        check(unsafe { libc::madvise(self.start.cast(), self.len, advice) }).context("madvise")?;
        Ok(())
    }

    /// Reads a byte of each page, or writes one if the mapping is writable.
    pub fn use_each_page(&self, write: bool) {
        for offset in (0..self.len).step_by(4096) {
            // SAFETY: inside of the mapping; volatile, as the byte is not used.
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
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

fn c_string(text: impl Into<Vec<u8>>) -> Result<CString> {
    Ok(CString::new(text)?)
}

pub fn mount(filesystem: &str, at: &Path, options: &str) -> Result<()> {
    let (filesystem, options) = (c_string(filesystem)?, c_string(options)?);
    let path = c_string(at.as_os_str().as_encoded_bytes())?;
    // SAFETY: NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(
            c"none".as_ptr(),
            path.as_ptr(),
            filesystem.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    })
    .with_context(|| format!("mount on {}", at.display()))?;
    Ok(())
}

pub fn unmount(at: &Path) -> Result<()> {
    let path = c_string(at.as_os_str().as_encoded_bytes())?;
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount(path.as_ptr()) })
        .with_context(|| format!("umount {}", at.display()))?;
    Ok(())
}

/// Unmounts what a row has mounted in its directory.
pub fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<_> = paths
        .map(Path::new)
        .filter(|at| at.starts_with(dir))
        .collect();
    below.into_iter().rev().try_for_each(unmount)
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolumeArguments {
    fd: i64,
    name: [u8; 4088],
}

const BTRFS_IOC_SNAP_CREATE: libc::c_ulong = 0x5000_9401;
const BTRFS_IOC_SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const BTRFS_IOC_SNAP_DESTROY: libc::c_ulong = 0x5000_940f;

fn btrfs(request: libc::c_ulong, dir: &Path, name: &str, fd: i64) -> Result<()> {
    let mut arguments = VolumeArguments {
        fd,
        name: [0; 4088],
    };
    arguments.name[..name.len()].copy_from_slice(name.as_bytes());
    let dir = File::open(dir)?;
    // SAFETY: the structure is what these requests take, and outlives the call.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), request as _, &arguments) })
        .with_context(|| format!("subvolume {name}"))?;
    Ok(())
}

pub fn btrfs_create_subvolume(dir: &Path, name: &str) -> Result<()> {
    btrfs(BTRFS_IOC_SUBVOL_CREATE, dir, name, 0)
}

pub fn btrfs_snapshot(of: &Path, dir: &Path, name: &str) -> Result<()> {
    let of = File::open(of)?;
    btrfs(BTRFS_IOC_SNAP_CREATE, dir, name, of.as_raw_fd().into())
}

pub fn btrfs_destroy_subvolume(dir: &Path, name: &str) -> Result<()> {
    btrfs(BTRFS_IOC_SNAP_DESTROY, dir, name, 0)
}
