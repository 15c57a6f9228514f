// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Quotas: `quotactl_fd(2)`, and instances with users that have limits.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::path::Path;

use crate::case::Test;
use crate::failure::{expect_eq, Context, Outcome, Sys};
use crate::instance::Instance;
use crate::pattern::BLOCK64;
use crate::process::as_user;
use crate::sys::{check, chmod, lstat, File};
use std::os::fd::AsRawFd;

/// The type of a quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    User = 0,
    Group = 1,
}

pub use Kind::{Group, User};

pub const Q_QUOTAON: i32 = 0x80_0002;
pub const Q_QUOTAOFF: i32 = 0x80_0003;
const Q_GETFMT: i32 = 0x80_0004;
const Q_GETINFO: i32 = 0x80_0005;
const Q_SETINFO: i32 = 0x80_0006;
const Q_GETQUOTA: i32 = 0x80_0007;
const Q_SETQUOTA: i32 = 0x80_0008;
const Q_GETNEXTQUOTA: i32 = 0x80_0009;
const QIF_BLIMITS: u32 = 1;
const QIF_ILIMITS: u32 = 4;
const QIF_BTIME: u32 = 16;
const QIF_ITIME: u32 = 32;
const IIF_BGRACE: u32 = 1;
const IIF_IGRACE: u32 = 2;

/// `struct if_nextdqblk`, which begins as `struct if_dqblk`. Space is in bytes, its limits in KiB.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    pub space_hard: u64,
    pub space_soft: u64,
    pub space: u64,
    pub inodes_hard: u64,
    pub inodes_soft: u64,
    pub inodes: u64,
    pub space_time: u64,
    pub inodes_time: u64,
    pub valid: u32,
    pub id: u32,
}

/// `struct if_dqinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Info {
    pub space_grace: u64,
    pub inodes_grace: u64,
    pub flags: u32,
    valid: u32,
}

/// Calls `quotactl_fd(2)` on the filesystem of `root`.
pub fn quotactl<T>(root: &Path, command: i32, kind: Kind, id: u32, argument: &mut T) -> Sys {
    let root = File::open(root, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let argument: *mut T = argument;
    // SAFETY: the callers pass the structure that the kernel reads or fills in for the command.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            root.as_raw_fd(),
            (command << 8) | kind as i32,
            id,
            argument.cast::<c_void>(),
        )
    })
    .map(|_| ())
}

pub fn get(root: &Path, kind: Kind, id: u32) -> Sys<Quota> {
    let mut quota = Quota::default();
    quotactl(root, Q_GETQUOTA, kind, id, &mut quota)?;
    Ok(Quota {
        valid: 0,
        id,
        ..quota
    })
}

/// Returns the first id at or after `id` with any usage or limits.
pub fn get_next(root: &Path, kind: Kind, id: u32) -> Sys<Quota> {
    let mut quota = Quota::default();
    quotactl(root, Q_GETNEXTQUOTA, kind, id, &mut quota)?;
    Ok(Quota { valid: 0, ..quota })
}

pub fn format(root: &Path, kind: Kind) -> Sys<u32> {
    let mut format = 0u32;
    quotactl(root, Q_GETFMT, kind, 0, &mut format)?;
    Ok(format)
}

pub fn info(root: &Path, kind: Kind) -> Sys<Info> {
    let mut info = Info::default();
    quotactl(root, Q_GETINFO, kind, 0, &mut info)?;
    Ok(info)
}

/// Sets the grace times, in seconds.
pub fn set_grace(root: &Path, kind: Kind, space: u64, inodes: u64) -> Sys {
    let mut info = Info {
        space_grace: space,
        inodes_grace: inodes,
        flags: 0,
        valid: IIF_BGRACE | IIF_IGRACE,
    };
    quotactl(root, Q_SETINFO, kind, 0, &mut info)
}

/// Sets all four limits.
pub fn set_limits(root: &Path, kind: Kind, id: u32, limits: Quota) -> Sys {
    let mut quota = Quota {
        valid: QIF_BLIMITS | QIF_ILIMITS,
        ..limits
    };
    quotactl(root, Q_SETQUOTA, kind, id, &mut quota)
}

/// Sets the times at which the grace periods end, in seconds since 1970.
pub fn set_times(root: &Path, kind: Kind, id: u32, space: u64, inodes: u64) -> Sys {
    let mut quota = Quota {
        space_time: space,
        inodes_time: inodes,
        valid: QIF_BTIME | QIF_ITIME,
        ..Quota::default()
    };
    quotactl(root, Q_SETQUOTA, kind, id, &mut quota)
}

/// Returns hard limits in blocks of 4096 bytes, and inodes. 0 is no limit.
pub fn hard(blocks: u64, inodes: u64) -> Quota {
    Quota {
        space_hard: blocks * BLOCK64 / 1024,
        inodes_hard: inodes,
        ..Quota::default()
    }
}

/// An ordinary user of the tests, and their group.
pub const ALICE: u32 = 1000;
pub const BOB: u32 = 1001;

/// Mounts an instance with both quotas, in which every user may create files.
#[track_caller]
pub fn mount(t: &Test, options: &[(&str, &str)]) -> Outcome<Instance> {
    let options = [&[("quota", ""), ("size", "64M")], options].concat();
    let fs = t.mount(&options)?;
    chmod(&fs.root, 0o1777).or_fail("chmod")?;
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    Ok(fs)
}

/// Mounts an instance with limits for Alice, in blocks and inodes.
#[track_caller]
pub fn mount_for_alice(t: &Test, blocks: u64, inodes: u64) -> Outcome<Instance> {
    let fs = mount(t, &[])?;
    limit(&fs, ALICE, blocks, inodes)?;
    Ok(fs)
}

/// Sets a user's limits, in blocks and inodes.
#[track_caller]
pub fn limit(fs: &Instance, user: u32, blocks: u64, inodes: u64) -> Outcome {
    set_limits(&fs.root, User, user, hard(blocks, inodes)).or_fail("Q_SETQUOTA")
}

/// Runs a step as this user, in the group of the same number.
#[track_caller]
pub fn as_one(user: u32, step: impl FnOnce() -> Outcome) -> Outcome {
    as_user(user, user, step)
}

/// Returns the charge of a user or group: blocks of 4096 bytes, and inodes.
#[track_caller]
pub fn used(fs: &Instance, kind: Kind, id: u32) -> Outcome<(u64, u64)> {
    let quota = get(&fs.root, kind, id).or_fail("Q_GETQUOTA")?;
    expect_eq(
        quota.space % BLOCK64,
        0,
        "bytes charged beyond whole blocks",
    )?;
    Ok((quota.space / BLOCK64, quota.inodes))
}

/// Expects a user and the user's group to be charged these blocks and inodes.
#[track_caller]
pub fn expect_used(fs: &Instance, user: u32, expected: (u64, u64), what: &str) -> Outcome {
    for kind in [User, Group] {
        expect_eq(
            used(fs, kind, user)?,
            expected,
            format_args!("{what}: blocks and inodes of {kind:?} {user}"),
        )?;
    }
    Ok(())
}

/// From this length on, in bytes, the target of a symbolic link is charged.
const LONG_TARGET: i64 = 128;

/// Expects a user to be charged exactly for the root and the files in it, which have no attributes.
#[track_caller]
pub fn expect_charged(fs: &Instance, user: u32) -> Outcome {
    let (mut have, mut seen) = ((0, 0), BTreeSet::new());
    let mut add = |path: &Path| -> Outcome {
        let stat = lstat(path).or_fail("lstat")?;
        if stat.st_uid == user && seen.insert(stat.st_ino) {
            let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
            let target = u64::from(is_link && stat.st_size >= LONG_TARGET);
            have = (have.0 + stat.st_blocks as u64 / 8 + target, have.1 + 1);
        }
        Ok(())
    };
    add(&fs.root)?;
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        add(&entry.or_fail("readdir")?.path())?;
    }
    expect_eq(
        used(fs, User, user)?,
        have,
        format_args!("blocks and inodes that user {user} is charged"),
    )
}
