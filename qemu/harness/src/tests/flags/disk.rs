// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A new filesystem of any type, small enough to fill it.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::case::Test;
use crate::failure::{expect_eq, Context, Outcome, Sys};
use crate::filesystem::{Btrfs, Ext4, Filesystem, Reflinkfs, Tmpfs, Xfs};
use crate::process::{run_program, End};
use crate::sys::{check, path_call, statfs, File};
use crate::wait::eventually;

/// Runs a program that must succeed.
#[track_caller]
pub fn run(words: &[&str]) -> Outcome<String> {
    let (end, said) = run_program(words[0].as_ref(), &words[1..])?;
    expect_eq(
        end,
        End::Exited(0),
        format_args!("{}: {said}", words.join(" ")),
    )?;
    Ok(said)
}

/// A mounted filesystem, unmounted when dropped.
pub struct Disk {
    pub root: PathBuf,
    filesystem: Filesystem,
}

impl Disk {
    /// Mounts a filesystem of the type under test: in memory, or on a disk that is a file in
    /// memory.
    pub fn new(t: &Test) -> Outcome<Self> {
        Self::of(t, t.filesystem, "disk", "loop")
    }

    /// Mounts a filesystem; options are those of mount(8) for a disk.
    pub fn of(t: &Test, filesystem: Filesystem, name: &str, options: &str) -> Outcome<Self> {
        let root = t.elsewhere.join(name);
        crate::sys::mkdir(&root, 0o755).or_fail("mkdir")?;
        let image = t.elsewhere.join(format!("{name}.image"));
        let (at, image_text) = (root.to_string_lossy(), image.to_string_lossy());
        match filesystem {
            Reflinkfs | Tmpfs => {
                crate::instance::mount(filesystem.name(), &root, 0, "size=4M").or_fail("mount")?;
                return Ok(Self { root, filesystem });
            }
            // mkfs makes no smaller one.
            Xfs | Btrfs => File::create(&image)?.truncate(300 << 20)?,
            Ext4 => File::create(&image)?.truncate(32 << 20)?,
        }
        let mkfs = format!("/sbin/mkfs.{}", filesystem.name());
        match filesystem {
            Ext4 => run(&[&mkfs, "-q", "-F", "-b", "4096", "-m", "0", &image_text])?,
            _ => run(&[&mkfs, "-q", &image_text])?,
        };
        if !std::path::Path::new("/sys/module/loop").exists() {
            run(&["/sbin/modprobe", "loop"])?;
        }
        run(&[
            "/bin/mount",
            "-t",
            filesystem.name(),
            "-o",
            options,
            &image_text,
            &at,
        ])?;
        Ok(Self { root, filesystem })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn create_with(&self, name: &str, bytes: &[u8]) -> Outcome<File> {
        File::create_with(self.path(name), bytes)
    }

    /// Fills it with a file, except for about this much. Returns the file.
    pub fn fill(&self, leave: u64) -> Outcome<File> {
        // Leaves one extent: btrfs frees nothing when a part of an extent is removed.
        let room = File::create(self.path("room"))?;
        if leave > 0 {
            self.grow(&room, 0, leave).or_fail("making room")?;
        }
        let file = File::create(self.path("filler"))?;
        let mut end = 0;
        let mut step: u64 = 64 << 20;
        while step >= 4096 {
            match self.grow(&file, end, step) {
                Ok(()) => end += step,
                Err(_) => step /= 2,
            }
        }
        crate::sys::unlink(&room.path).or_fail("unlink")?;
        drop(room);
        self.settle(&file, leave)?;
        Ok(file)
    }

    /// Waits until freed blocks can be allocated again: btrfs keeps them until the disk has its
    /// changes.
    pub fn settle(&self, file: &File, room: u64) -> Outcome {
        eventually(format_args!("there is room of {room} bytes"), || {
            // SAFETY: plain call on an open descriptor.
            check(unsafe { libc::syncfs(file.as_raw_fd()) }).or_fail("syncfs")?;
            let stat = statfs(&self.root).or_fail("statfs")?;
            Ok(stat.f_bfree * stat.f_bsize as u64 >= room)
        })
    }

    fn grow(&self, file: &File, end: u64, step: u64) -> Sys {
        match self.filesystem {
            // The filesystem has no fallocate.
            Reflinkfs => {
                let step = step as usize;
                let written = file.try_pwrite(&vec![0xee; step], end)?;
                if written == step {
                    return Ok(());
                }
                file.try_truncate(end)?;
                Err(crate::failure::Errno(libc::ENOSPC))
            }
            _ => {
                // SAFETY: plain call on an open descriptor.
                check(unsafe { libc::fallocate(file.as_raw_fd(), 0, end as i64, step as i64) })
                    .map(|_| ())
            }
        }
    }

    pub fn unmount(self) -> Outcome {
        let result = path_call!(umount2(&self.root, 0));
        std::mem::forget(self);
        result.or_fail("umount")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = path_call!(umount2(&self.root, libc::MNT_DETACH));
    }
}
