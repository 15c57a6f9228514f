// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Filesystems that a test mounts, by the new mount calls and the old one.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::failure::{Context, Errno, Outcome, Sys};
use crate::sys::{c_path, check, statfs, File};

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
const FSPICK_NO_AUTOMOUNT: u32 = 4;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

fn new_fd(result: libc::c_long) -> Sys<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel just gave us the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A filesystem context, from `fsopen` or `fspick`.
pub struct Configuration(OwnedFd);

impl From<OwnedFd> for Configuration {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsRawFd for Configuration {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl Configuration {
    pub fn open(filesystem: &str) -> Sys<Self> {
        let name = CString::new(filesystem).expect("a name without NUL");
        // SAFETY: the name is NUL-terminated and outlives the call.
        new_fd(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), 1) }).map(Self)
    }

    /// Picks a mounted filesystem, to reconfigure it.
    pub fn pick(root: &Path) -> Sys<Self> {
        let path = c_path(root);
        // SAFETY: the path is NUL-terminated and outlives the call.
        new_fd(unsafe {
            libc::syscall(
                libc::SYS_fspick,
                libc::AT_FDCWD,
                path.as_ptr(),
                1 | FSPICK_NO_AUTOMOUNT,
            )
        })
        .map(Self)
    }

    /// Gives an option with another type than string: FSCONFIG_SET_BINARY, _PATH, _FD.
    pub fn set_as(&self, command: u32, key: &str, value: Option<&str>, aux: i32) -> Sys {
        let key = CString::new(key).expect("text without NUL");
        let value = value.map(|s| CString::new(s).expect("text without NUL"));
        let value = value.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
        // SAFETY: key and value are NULL or NUL-terminated and outlive the call.
        check(unsafe {
            let fd = self.0.as_raw_fd();
            libc::syscall(libc::SYS_fsconfig, fd, command, key.as_ptr(), value, aux)
        })
        .map(|_| ())
    }

    fn call(&self, command: u32, key: Option<&str>, value: Option<&str>) -> Sys {
        let text = |s: Option<&str>| s.map(|s| CString::new(s).expect("text without NUL"));
        let (key, value) = (text(key), text(value));
        let pointer = |s: &Option<CString>| s.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
        // SAFETY: key and value are NULL or NUL-terminated and outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(&key),
                pointer(&value),
                0,
            )
        })
        .map(|_| ())
    }

    pub fn set(&self, key: &str, value: &str) -> Sys {
        self.call(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    pub fn set_flag(&self, key: &str) -> Sys {
        self.call(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Gives an option with a value, or a flag if the value is empty.
    fn give(&self, key: &str, value: &str) -> Sys {
        if value.is_empty() {
            self.set_flag(key)
        } else {
            self.set(key, value)
        }
    }

    pub fn create(&self) -> Sys {
        self.call(FSCONFIG_CMD_CREATE, None, None)
    }

    pub fn reconfigure(&self) -> Sys {
        self.call(FSCONFIG_CMD_RECONFIGURE, None, None)
    }

    /// Mounts the created filesystem.
    pub fn mount(&self, at: &Path) -> Sys {
        let path = c_path(at);
        // SAFETY: plain calls; the path is NUL-terminated and outlives them.
        unsafe {
            let mount = new_fd(libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), 1, 0))?;
            check(libc::syscall(
                libc::SYS_move_mount,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            ))?;
        }
        Ok(())
    }

    /// Returns the kernel's messages for this context, one a line. Reading removes them.
    pub fn log(&self) -> String {
        let mut log = String::new();
        let mut line = [0u8; 1024];
        while let Ok(n) = crate::sys::read_to(&self.0, line.as_mut_ptr(), line.len()) {
            log.push_str(String::from_utf8_lossy(&line[..n]).trim_end());
            log.push('\n');
        }
        log
    }
}

/// Calls `mount(2)`, with options as one string.
pub fn mount(filesystem: &str, at: &Path, flags: u64, options: &str) -> Sys {
    let (name, path) = (
        CString::new(filesystem).expect("a name without NUL"),
        c_path(at),
    );
    let options = CString::new(options).expect("options without NUL");
    // SAFETY: all strings are NUL-terminated and outlive the call.
    check(unsafe {
        libc::mount(
            c"none".as_ptr(),
            path.as_ptr(),
            name.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
    .map(|_| ())
}

/// Mounts a directory at another place, read-only.
pub fn bind_read_only(from: &Path, at: &Path) -> Sys {
    let (from, at, none) = (c_path(from), c_path(at), std::ptr::null());
    // SAFETY: NUL-terminated paths that outlive the calls.
    unsafe {
        check(libc::mount(
            from.as_ptr(),
            at.as_ptr(),
            none,
            libc::MS_BIND,
            none.cast(),
        ))?;
        let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
        check(libc::mount(none, at.as_ptr(), none, flags, none.cast()))?;
    }
    Ok(())
}

pub fn unmount(at: &Path) -> Sys {
    crate::sys::path_call!(umount2(at, 0))
}

/// Free and total blocks and inodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

impl Space {
    #[track_caller]
    pub fn of(path: &Path) -> Outcome<Self> {
        let stat = statfs(path).or_fail(format_args!("statfs {}", path.display()))?;
        Ok(Self {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            inodes: stat.f_files,
            free_inodes: stat.f_ffree,
        })
    }

    pub fn used(&self) -> u64 {
        self.blocks - self.free
    }
}

/// A filesystem that the test has mounted; unmounted when dropped.
pub struct Instance {
    pub root: PathBuf,
}

impl Instance {
    #[track_caller]
    pub fn mount(filesystem: &str, root: PathBuf, options: &[(&str, &str)]) -> Outcome<Self> {
        crate::sys::mkdir(&root, 0o755).or_fail(format_args!("mkdir {}", root.display()))?;
        let configuration =
            Configuration::open(filesystem).or_fail(format_args!("fsopen({filesystem})"))?;
        for (key, value) in options {
            configuration
                .give(key, value)
                .or_fail(format_args!("option {key}={value}"))?;
        }
        configuration
            .create()
            .or_fail(format_args!("creating {filesystem} with {options:?}"))?;
        configuration
            .mount(&root)
            .or_fail(format_args!("mounting {filesystem}"))?;
        Ok(Self { root })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    #[track_caller]
    pub fn create(&self, name: &str) -> Outcome<File> {
        File::create(self.path(name))
    }

    #[track_caller]
    pub fn create_with(&self, name: &str, bytes: &[u8]) -> Outcome<File> {
        File::create_with(self.path(name), bytes)
    }

    #[track_caller]
    pub fn space(&self) -> Outcome<Space> {
        Space::of(&self.root)
    }

    #[track_caller]
    pub fn used(&self) -> Outcome<u64> {
        Ok(self.space()?.used())
    }

    /// Writes a file until only `leave` blocks are free. Returns the file.
    #[track_caller]
    pub fn fill(&self, leave: u64) -> Outcome<File> {
        let file = self.create("filler")?;
        let free = self.space()?.free;
        let data = vec![0xee; 64 * 4096];
        let mut offset = 0;
        let end = free.saturating_sub(leave) * 4096;
        while offset < end {
            let len = data.len().min((end - offset) as usize);
            file.write_at(&data[..len], offset)?;
            offset += len as u64;
        }
        crate::failure::expect_eq(self.space()?.free, leave, "free blocks after filling")?;
        Ok(file)
    }

    #[track_caller]
    pub fn unmount(self) -> Outcome {
        let result = unmount(&self.root);
        if result.is_ok() {
            std::mem::forget(self);
        }
        result.or_fail("umount")
    }

    /// Changes options of the mounted filesystem; an error comes with the context's log.
    pub fn reconfigure(&self, options: &[(&str, &str)]) -> Result<(), (Errno, String)> {
        let configuration = Configuration::pick(&self.root).map_err(|e| (e, "fspick".into()))?;
        let result = options
            .iter()
            .try_for_each(|(key, value)| configuration.give(key, value))
            .and_then(|()| configuration.reconfigure());
        result.map_err(|error| (error, configuration.log()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = crate::sys::path_call!(umount2(&self.root, libc::MNT_DETACH));
        let _ = crate::sys::rmdir(&self.root);
    }
}

/// Returns the options in /proc/self/mounts for a mount point.
pub fn shown_options(root: &Path) -> Outcome<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").or_fail("read /proc/self/mounts")?;
    let root = root.to_string_lossy();
    let line = mounts
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(1) == Some(&root))
        .ok_or("not there")
        .or_fail(format_args!("{root} in /proc/self/mounts"))?;
    let options = line.split(' ').nth(3).unwrap_or_default();
    Ok(options.split(',').map(str::to_owned).collect())
}
