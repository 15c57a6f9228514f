// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Inodes in the kernel's cache: emptying it, and seeing which have left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::case::Test;
use crate::failure::{expect, Context, Outcome};
use crate::filesystem::{Reflinkfs, Tmpfs};
use crate::notification::{Group, FAN_MARK_DONT_FOLLOW, FAN_MARK_EVICTABLE, FAN_OPEN_EXEC};
use crate::sys::{c_path, check, lstat, sleep_ms, File};

const FAN_UNLIMITED_MARKS: u32 = 0x20;

/// How often the cache is emptied before an inode counts as stuck. Each time spares what was used
/// since, and others may look an inode up.
const ROUNDS: usize = 100;

/// Inodes of one filesystem that are watched for leaving the cache: with a mark of fanotify(7) each,
/// which does not keep it there, and goes with it.
pub struct Watched {
    group: Group,
    paths: Vec<(u64, PathBuf)>,
}

impl Watched {
    /// Watches what is there under these names, not followed.
    #[track_caller]
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Outcome<Self> {
        let group = Group::new(FAN_UNLIMITED_MARKS).or_fail("fanotify_init")?;
        let mut watched = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let flags = FAN_MARK_EVICTABLE | FAN_MARK_DONT_FOLLOW;
            // An event that nobody makes here.
            group
                .mark(path, flags, FAN_OPEN_EXEC)
                .or_fail(format_args!("fanotify_mark {}", path.display()))?;
            let number = lstat(path).or_fail("lstat")?.st_ino;
            watched.push((number, path.to_owned()));
        }
        let watched = Self {
            group,
            paths: watched,
        };
        Ok(watched)
    }

    /// Returns the names of those that have not left since.
    pub fn cached(&self) -> Outcome<Vec<&Path>> {
        let marked: BTreeSet<_> = self.group.marked()?.into_iter().collect();
        let here = self.paths.iter().filter(|(ino, _)| marked.contains(ino));
        Ok(here.map(|(_, path)| path.as_path()).collect())
    }

    /// Empties the cache until they have left. On tmpfs they never do.
    #[track_caller]
    pub fn evict(&self, t: &Test) -> Outcome {
        drop_caches(t)?;
        for _ in 0..ROUNDS {
            if t.filesystem == Tmpfs || self.cached()?.is_empty() {
                return Ok(());
            }
            sleep_ms(10);
            drop_caches(t)?;
        }
        let cached = self.cached()?;
        expect(
            cached.is_empty(),
            format_args!(
                "all inodes have left the cache, but not {} of them: {:?}",
                cached.len(),
                &cached[..cached.len().min(5)]
            ),
        )
    }
}

/// Empties the cache until these inodes have left it.
#[track_caller]
pub fn evict<P: AsRef<Path>>(t: &Test, paths: impl IntoIterator<Item = P>) -> Outcome {
    Watched::new(paths)?.evict(t)
}

/// Empties the cache of whatever has no user.
#[track_caller]
pub fn drop_caches(t: &Test) -> Outcome {
    // What is on a disk leaves when it is written there, and after its pages.
    let what = if t.filesystem == Reflinkfs { "2" } else { "3" };
    for dir in [&t.dir, &t.elsewhere] {
        sync(dir)?;
    }
    std::fs::write("/proc/sys/vm/drop_caches", what).or_fail("write drop_caches")
}

fn sync(dir: &Path) -> Outcome {
    use std::os::fd::AsRawFd;
    let dir = File::open(dir, libc::O_RDONLY).or_fail("open")?;
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::syncfs(dir.as_raw_fd()) }).or_fail("syncfs")?;
    Ok(())
}

/// Returns what statx(2) says, without following, by the names of its fields.
#[track_caller]
pub fn statx_fields(path: impl AsRef<Path>) -> Outcome<Vec<(&'static str, i128)>> {
    let path = c_path(path.as_ref());
    const STATX_DIOALIGN: u32 = 0x2000;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID | STATX_DIOALIGN;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: a statx of zeros is a valid value; path and buffer outlive the call.
    let seen = unsafe {
        let mut seen: libc::statx = std::mem::zeroed();
        let dir = libc::AT_FDCWD;
        check(libc::statx(dir, path.as_ptr(), flags, mask, &mut seen)).or_fail("statx")?;
        seen
    };
    let time = |time: libc::statx_timestamp| {
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    Ok(vec![
        ("mask", seen.stx_mask.into()),
        ("block size", seen.stx_blksize.into()),
        ("attributes", seen.stx_attributes.into()),
        ("known attributes", seen.stx_attributes_mask.into()),
        ("links", seen.stx_nlink.into()),
        ("user", seen.stx_uid.into()),
        ("group", seen.stx_gid.into()),
        ("mode", seen.stx_mode.into()),
        ("number", seen.stx_ino.into()),
        ("size", seen.stx_size.into()),
        ("blocks", seen.stx_blocks.into()),
        ("accessed", time(seen.stx_atime)),
        ("created", time(seen.stx_btime)),
        ("changed", time(seen.stx_ctime)),
        ("modified", time(seen.stx_mtime)),
        ("device's major number", seen.stx_rdev_major.into()),
        ("device's minor number", seen.stx_rdev_minor.into()),
        ("major number", seen.stx_dev_major.into()),
        ("minor number", seen.stx_dev_minor.into()),
        ("mount", seen.stx_mnt_id.into()),
        ("alignment of memory", seen.stx_dio_mem_align.into()),
        ("alignment of offsets", seen.stx_dio_offset_align.into()),
    ])
}
