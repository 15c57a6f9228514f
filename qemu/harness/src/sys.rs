// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The system calls under test, with their own arguments and results, and the files to make them
//! on.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use reflink_sys::FileDedupeRangeInfo;
use reflink_sys::FILE_DEDUPE_RANGE_DIFFERS;

use crate::failure::{expect_bytes, expect_eq, Context, Errno, Outcome, Sys};

/// Converts the result of a call that returns -1 and sets errno.
pub fn check(result: impl Into<i64>) -> Sys<usize> {
    let result = result.into();
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result as usize)
    }
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without NUL")
}

/// Calls a libc function on a path.
macro_rules! path_call {
    ($call:ident($path:expr $(, $arg:expr)*)) => {{
        let path = $crate::sys::c_path($path.as_ref());
        // SAFETY: the path is NUL-terminated and outlives the call.
        $crate::sys::check(unsafe { libc::$call(path.as_ptr() $(, $arg)*) }).map(|_| ())
    }};
}
pub(crate) use path_call;

/// Calls a libc function on two paths.
macro_rules! two_path_call {
    ($call:ident($one:expr, $other:expr)) => {{
        let one = $crate::sys::c_path($one.as_ref());
        let other = $crate::sys::c_path($other.as_ref());
        // SAFETY: both paths are NUL-terminated and outlive the call.
        $crate::sys::check(unsafe { libc::$call(one.as_ptr(), other.as_ptr()) }).map(|_| ())
    }};
}

pub fn mkdir(path: impl AsRef<Path>, mode: u32) -> Sys {
    path_call!(mkdir(path, mode))
}

pub fn rmdir(path: impl AsRef<Path>) -> Sys {
    path_call!(rmdir(path))
}

pub fn unlink(path: impl AsRef<Path>) -> Sys {
    path_call!(unlink(path))
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Sys {
    two_path_call!(rename(from, to))
}

pub fn link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Sys {
    two_path_call!(link(from, to))
}

pub fn symlink(target: impl AsRef<Path>, at: impl AsRef<Path>) -> Sys {
    two_path_call!(symlink(target, at))
}

pub fn readlink(path: impl AsRef<Path>) -> Sys<PathBuf> {
    std::fs::read_link(path).map_err(Errno::from)
}

pub fn chmod(path: impl AsRef<Path>, mode: u32) -> Sys {
    path_call!(chmod(path, mode))
}

pub fn chown(path: impl AsRef<Path>, uid: u32, gid: u32) -> Sys {
    path_call!(chown(path, uid, gid))
}

pub fn truncate(path: impl AsRef<Path>, size: i64) -> Sys {
    path_call!(truncate(path, size))
}

pub fn access(path: impl AsRef<Path>, mode: i32) -> Sys {
    path_call!(access(path, mode))
}

pub fn lstat(path: impl AsRef<Path>) -> Sys<libc::stat> {
    // SAFETY: a stat of zeros is a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    path_call!(lstat(path, &mut stat)).map(|()| stat)
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    lstat(path).is_ok()
}

pub fn statfs(path: impl AsRef<Path>) -> Sys<libc::statfs> {
    // SAFETY: a statfs of zeros is a valid value.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    path_call!(statfs(path, &mut stat)).map(|()| stat)
}

/// The modification, change and access times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    pub modified: i128,
    pub changed: i128,
    pub accessed: i128,
}

impl Times {
    pub fn of(stat: &libc::stat) -> Self {
        let time =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
            accessed: time(stat.st_atime, stat.st_atime_nsec),
        }
    }
}

/// Sets access and modification time; `tv_nsec` may be `UTIME_NOW` or `UTIME_OMIT`.
pub fn set_times(path: impl AsRef<Path>, times: [libc::timespec; 2]) -> Sys {
    let path = c_path(path.as_ref());
    // SAFETY: path and times are valid for the call.
    check(unsafe {
        libc::utimensat(
            libc::AT_FDCWD,
            path.as_ptr(),
            times.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })
    .map(|_| ())
}

pub fn timespec(tv_sec: i64, tv_nsec: i64) -> libc::timespec {
    libc::timespec { tv_sec, tv_nsec }
}

pub fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}

/// Waits until the clock of file times, which advances in ticks, has passed this moment. On a busy
/// machine a tick may be late.
pub fn wait_for_the_clock() {
    let read = |clock| {
        let mut now = timespec(0, 0);
        // SAFETY: plain call; the time is valid during it.
        unsafe { libc::clock_gettime(clock, &mut now) };
        (now.tv_sec, now.tv_nsec)
    };
    let moment = read(libc::CLOCK_REALTIME);
    while read(libc::CLOCK_REALTIME_COARSE) <= moment {
        sleep_ms(1);
    }
}

/// Creates a pipe; returns the reading end and the writing end.
pub fn pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }).or_fail("pipe2")?;
    // SAFETY: the kernel just gave us both.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Calls `write(2)` with any address, valid or not.
pub fn write_from(fd: &impl AsRawFd, buffer: *const u8, len: usize) -> Sys<usize> {
    // SAFETY: the kernel checks the buffer itself and answers EFAULT.
    check(unsafe { libc::write(fd.as_raw_fd(), buffer.cast(), len) } as i64)
}

/// Calls `read(2)` with any address, valid or not, that no reference points to.
pub fn read_to(fd: &impl AsRawFd, buffer: *mut u8, len: usize) -> Sys<usize> {
    // SAFETY: the kernel checks the buffer itself; the caller gives memory it owns, or none.
    check(unsafe { libc::read(fd.as_raw_fd(), buffer.cast(), len) } as i64)
}

pub fn pwrite_from(fd: &impl AsRawFd, buffer: *const u8, len: usize, offset: i64) -> Sys<usize> {
    // SAFETY: as in `write_from`.
    check(unsafe { libc::pwrite(fd.as_raw_fd(), buffer.cast(), len, offset) } as i64)
}

pub fn pread_to(fd: &impl AsRawFd, buffer: *mut u8, len: usize, offset: i64) -> Sys<usize> {
    // SAFETY: as in `read_to`.
    check(unsafe { libc::pread(fd.as_raw_fd(), buffer.cast(), len, offset) } as i64)
}

/// Writes all of `data` to a pipe or socket.
pub fn write_all(fd: &impl AsRawFd, mut data: &[u8]) -> Outcome {
    while !data.is_empty() {
        let written = write_from(fd, data.as_ptr(), data.len()).or_fail("write")?;
        data = &data[written..];
    }
    Ok(())
}

/// Reads `len` bytes, or fewer at the end.
pub fn read_all(fd: &impl AsRawFd, len: usize) -> Outcome<Vec<u8>> {
    let mut data = vec![0; len];
    let mut have = 0;
    while have < len {
        match read_to(fd, data[have..].as_mut_ptr(), len - have).or_fail("read")? {
            0 => break,
            n => have += n,
        }
    }
    data.truncate(have);
    Ok(data)
}

/// An open file and its path.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    pub path: PathBuf,
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl File {
    pub fn open(path: impl AsRef<Path>, flags: i32) -> Sys<Self> {
        Self::open_mode(path, flags, 0o644)
    }

    pub fn open_mode(path: impl AsRef<Path>, flags: i32, mode: u32) -> Sys<Self> {
        let path = path.as_ref();
        let c = c_path(path);
        // SAFETY: the path is NUL-terminated and outlives the call.
        let fd = check(unsafe { libc::open(c.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
        Ok(Self {
            // SAFETY: the kernel just gave us the descriptor.
            fd: unsafe { OwnedFd::from_raw_fd(fd as RawFd) },
            path: path.to_owned(),
        })
    }

    /// Creates an empty file, open for reading and writing.
    #[track_caller]
    pub fn create(path: impl AsRef<Path>) -> Outcome<Self> {
        let path = path.as_ref();
        Self::open(path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC)
            .or_fail(format_args!("create {}", path.display()))
    }

    #[track_caller]
    pub fn create_with(path: impl AsRef<Path>, bytes: &[u8]) -> Outcome<Self> {
        let file = Self::create(path)?;
        file.write_at(bytes, 0)?;
        Ok(file)
    }

    /// Opens the same file again.
    #[track_caller]
    pub fn reopen(&self, flags: i32) -> Outcome<Self> {
        Self::open(&self.path, flags).or_fail(format_args!("open {}", self.path.display()))
    }

    fn name(&self) -> String {
        match self.path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => self.path.display().to_string(),
        }
    }

    pub fn try_pwrite(&self, data: &[u8], offset: u64) -> Sys<usize> {
        pwrite_from(self, data.as_ptr(), data.len(), offset as i64)
    }

    pub fn try_pread(&self, data: &mut [u8], offset: u64) -> Sys<usize> {
        pread_to(self, data.as_mut_ptr(), data.len(), offset as i64)
    }

    /// Writes all of `data` at `offset`, in one call, which must not be short.
    #[track_caller]
    pub fn write_at(&self, data: &[u8], offset: u64) -> Outcome {
        let len = data.len();
        let seen = self.try_pwrite(data, offset).or_fail(format_args!(
            "pwrite of {len} bytes at {offset} of {}",
            self.name()
        ))?;
        expect_eq(
            seen,
            len,
            format_args!("pwrite of {len} bytes at {offset} of {}", self.name()),
        )
    }

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    #[track_caller]
    pub fn read_at(&self, offset: u64, len: usize) -> Outcome<Vec<u8>> {
        let mut data = vec![0xa5; len];
        let mut have = 0;
        while have < len {
            let n = self
                .try_pread(&mut data[have..], offset + have as u64)
                .or_fail(format_args!(
                    "pread of {} bytes at {} of {}",
                    len - have,
                    offset + have as u64,
                    self.name()
                ))?;
            if n == 0 {
                break;
            }
            have += n;
        }
        data.truncate(have);
        Ok(data)
    }

    /// Returns the contents of the whole file.
    #[track_caller]
    pub fn contents(&self) -> Outcome<Vec<u8>> {
        // Asks for one byte more than the size, so that bytes beyond it show.
        let size = self.size()? as usize;
        self.read_at(0, size + 1)
    }

    #[track_caller]
    pub fn expect_contents(&self, expected: &[u8], what: &str) -> Outcome {
        expect_eq(
            self.size()?,
            expected.len() as u64,
            format_args!("{what}: size of {}", self.name()),
        )?;
        expect_bytes(
            &self.contents()?,
            expected,
            format_args!("{what}: contents of {}", self.name()),
        )
    }

    #[track_caller]
    pub fn stat(&self) -> Outcome<libc::stat> {
        // SAFETY: a stat of zeros is a valid value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is valid for writing.
        check(unsafe { libc::fstat(self.as_raw_fd(), &mut stat) })
            .or_fail(format_args!("fstat of {}", self.name()))?;
        Ok(stat)
    }

    #[track_caller]
    pub fn times(&self) -> Outcome<Times> {
        Ok(Times::of(&self.stat()?))
    }

    #[track_caller]
    pub fn size(&self) -> Outcome<u64> {
        Ok(self.stat()?.st_size as u64)
    }

    /// Returns `st_blocks` in blocks of 4096 bytes.
    #[track_caller]
    pub fn data_blocks(&self) -> Outcome<u64> {
        Ok(self.stat()?.st_blocks as u64 / 8)
    }

    pub fn try_truncate(&self, size: u64) -> Sys {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::ftruncate(self.as_raw_fd(), size as i64) }).map(|_| ())
    }

    #[track_caller]
    pub fn truncate(&self, size: u64) -> Outcome {
        self.try_truncate(size)
            .or_fail(format_args!("ftruncate of {} to {size}", self.name()))
    }

    pub fn seek(&self, offset: i64, whence: i32) -> Sys<u64> {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::lseek(self.as_raw_fd(), offset, whence) }).map(|n| n as u64)
    }

    #[track_caller]
    pub fn position(&self) -> Outcome<u64> {
        self.seek(0, libc::SEEK_CUR).or_fail("lseek(0, SEEK_CUR)")
    }

    #[track_caller]
    pub fn sync(&self) -> Outcome {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::fsync(self.as_raw_fd()) }).or_fail("fsync")?;
        Ok(())
    }

    /// Returns the ranges that `SEEK_DATA` and `SEEK_HOLE` report as data: (start, end) in bytes.
    #[track_caller]
    pub fn data_ranges(&self) -> Outcome<Vec<(u64, u64)>> {
        let mut ranges = Vec::new();
        let mut at = 0;
        loop {
            let start = match self.seek(at as i64, libc::SEEK_DATA) {
                Ok(start) => start,
                Err(Errno(libc::ENXIO)) => return Ok(ranges),
                Err(error) => return Err(error).or_fail(format_args!("SEEK_DATA from {at}")),
            };
            let end = self
                .seek(start as i64, libc::SEEK_HOLE)
                .or_fail(format_args!("SEEK_HOLE from {start}"))?;
            crate::failure::expect(
                end > start && start >= at,
                format_args!(
                    "SEEK_DATA from {at} gave {start} and SEEK_HOLE from there gave {end}"
                ),
            )?;
            ranges.push((start, end));
            at = end;
        }
    }
}

/// Calls `copy_file_range(2)`; `None` is a NULL offset.
pub fn copy_file_range(
    fd_in: &impl AsRawFd,
    off_in: Option<&mut i64>,
    fd_out: &impl AsRawFd,
    off_out: Option<&mut i64>,
    len: usize,
    flags: u32,
) -> Sys<usize> {
    Ok(reflink_sys::copy_file_range(
        fd_in, off_in, fd_out, off_out, len, flags,
    )?)
}

/// Calls `copy_file_range(2)` with any descriptors and pointers.
pub fn copy_file_range_raw(
    fd_in: RawFd,
    off_in: *mut i64,
    fd_out: RawFd,
    off_out: *mut i64,
    len: usize,
    flags: u32,
) -> Sys<usize> {
    // SAFETY: the kernel checks the pointers itself and answers EFAULT.
    check(unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            fd_in,
            off_in,
            fd_out,
            off_out,
            len,
            flags,
        )
    })
}

/// Calls `copy_file_range(2)` once, without flags, with both offsets.
pub fn copy_once(from: &File, off_in: u64, to: &File, off_out: u64, len: usize) -> Sys<usize> {
    copy_file_range(
        from,
        Some(&mut (off_in as i64)),
        to,
        Some(&mut (off_out as i64)),
        len,
        0,
    )
}

/// Copies as `cp` does: until everything is copied or a call returns 0. Returns the number of
/// bytes.
#[track_caller]
pub fn copy_loop(from: &File, off_in: u64, to: &File, off_out: u64, len: usize) -> Outcome<usize> {
    let mut done = 0;
    while done < len {
        let (at_in, at_out) = (off_in + done as u64, off_out + done as u64);
        let n = copy_once(from, at_in, to, at_out, len - done).or_fail(format_args!(
            "copy_file_range of {} bytes from {at_in} to {at_out}",
            len - done
        ))?;
        if n == 0 {
            break;
        }
        done += n;
    }
    Ok(done)
}

pub fn clone_file(from: &impl AsRawFd, to: &impl AsRawFd) -> Sys {
    Ok(reflink_sys::ficlone(to, from)?)
}

pub fn clone_range(from: &impl AsRawFd, src: u64, len: u64, to: &impl AsRawFd, dest: u64) -> Sys {
    Ok(reflink_sys::ficlonerange(to, dest, from, src, len)?)
}

/// Calls `FICLONERANGE` with any pointer.
pub fn clone_range_raw(to: &impl AsRawFd, argument: *const u8) -> Sys {
    // SAFETY: the kernel checks the pointer itself and answers EFAULT.
    check(unsafe { libc::ioctl(to.as_raw_fd(), reflink_sys::FICLONERANGE, argument) }).map(|_| ())
}

/// Creates a clone of the whole file at `path`.
#[track_caller]
pub fn new_clone(from: &File, path: impl AsRef<Path>) -> Outcome<File> {
    let to = File::create(path)?;
    clone_file(from, &to).or_fail(format_args!("FICLONE to {}", to.path.display()))?;
    Ok(to)
}

/// The result of `FIDEDUPERANGE` for one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deduped {
    Same(u64),
    Differs,
    Failed(Errno),
}

impl From<FileDedupeRangeInfo> for Deduped {
    fn from(target: FileDedupeRangeInfo) -> Self {
        match target.status {
            0 => Self::Same(target.bytes_deduped),
            FILE_DEDUPE_RANGE_DIFFERS => Self::Differs,
            error => Self::Failed(Errno(-error)),
        }
    }
}

/// Calls `FIDEDUPERANGE` on any number of destinations, and fills in their results.
pub fn dedupe_many(
    from: &impl AsRawFd,
    src: u64,
    len: u64,
    targets: &mut [FileDedupeRangeInfo],
) -> Sys {
    Ok(reflink_sys::fideduperange(from, src, len, targets)?)
}

/// Calls `FIDEDUPERANGE` on one destination.
pub fn dedupe(from: &File, src: u64, len: u64, to: &File, dest: u64) -> Sys<Deduped> {
    let mut targets = [FileDedupeRangeInfo::new(to, dest)];
    dedupe_many(from, src, len, &mut targets)?;
    Ok(targets[0].into())
}
