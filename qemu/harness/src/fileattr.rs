// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The flags of files and directories that chattr(1) sets, by each call that gets or sets them.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Outcome, Sys};
use crate::sys::{c_path, check, File};

pub const SYNC: u32 = 0x8;
pub const IMMUTABLE: u32 = 0x10;
pub const APPEND: u32 = 0x20;
pub const NODUMP: u32 = 0x40;
pub const NOATIME: u32 = 0x80;
pub const DIRSYNC: u32 = 0x1_0000;

const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;

pub fn get_flags(file: &impl AsRawFd) -> Sys<u32> {
    let mut flags = 0u64;
    // SAFETY: the kernel stores an int; there is room for a long.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, &mut flags) })?;
    Ok(flags as u32)
}

pub fn set_flags(file: &impl AsRawFd, flags: u32) -> Sys {
    let flags = u64::from(flags);
    // SAFETY: the kernel reads an int; a long is there.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &flags) }).map(|_| ())
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extended {
    pub xflags: u32,
    pub extsize: u32,
    pub nextents: u32,
    pub projid: u32,
    pub cowextsize: u32,
    pub padding: [u8; 8],
}

/// The `FS_XFLAG_` of each flag.
pub const EXTENDED: [(u32, u32); 5] = [
    (SYNC, 0x20),
    (IMMUTABLE, 0x08),
    (APPEND, 0x10),
    (NOATIME, 0x40),
    (NODUMP, 0x80),
];

pub fn get_extended(file: &impl AsRawFd) -> Sys<Extended> {
    let mut extended = Extended::default();
    // SAFETY: `extended` has the layout that the kernel fills in.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &mut extended) })?;
    Ok(extended)
}

pub fn set_extended(file: &impl AsRawFd, extended: Extended) -> Sys {
    // SAFETY: `extended` has the layout that the kernel reads.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &extended) }).map(|_| ())
}

/// `struct file_attr`, of file_getattr(2) and file_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attributes {
    pub xflags: u64,
    pub extsize: u32,
    pub nextents: u32,
    pub projid: u32,
    pub cowextsize: u32,
}

fn attributes_call(number: i64, path: &Path, attributes: *mut Attributes) -> Sys {
    let path = c_path(path);
    // SAFETY: path and attributes are valid during the call, and their size is given.
    check(unsafe {
        let size = size_of::<Attributes>();
        libc::syscall(number, libc::AT_FDCWD, path.as_ptr(), attributes, size, 0)
    })
    .map(|_| ())
}

/// file_getattr(2)
pub fn get_attributes(path: impl AsRef<Path>) -> Sys<Attributes> {
    let mut attributes = Attributes::default();
    attributes_call(468, path.as_ref(), &mut attributes)?;
    Ok(attributes)
}

/// file_setattr(2)
pub fn set_attributes(path: impl AsRef<Path>, mut attributes: Attributes) -> Sys {
    attributes_call(469, path.as_ref(), &mut attributes)
}

/// A file or directory with flags, which are cleared when dropped, so that it can be removed.
pub struct Flagged(PathBuf);

impl Flagged {
    #[track_caller]
    pub fn new(path: impl AsRef<Path>, flags: u32) -> Outcome<Self> {
        let path = path.as_ref();
        let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
        set_flags(&file, flags).or_fail(format_args!("FS_IOC_SETFLAGS({flags:#x})"))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        let _ = File::open(&self.0, libc::O_RDONLY).and_then(|file| set_flags(&file, 0));
    }
}
